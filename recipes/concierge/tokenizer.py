"""Train the tokenizer: byte-level BPE with single digits, and the chat template.

``python -m recipes.concierge.tokenizer --out build/concierge`` writes the files transformers reads.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from .data import DataError, Lesson, draw_episode, load_corpus

BOS, END = "<|bos|>", "<|end|>"
SPECIAL = ["<|pad|>", BOS, END, "<|system|>", "<|user|>", "<|assistant|>"]
VOCABULARY = 4096
MAX_POSITIONS = 1024
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] in ['system', 'user', 'assistant'] %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% else %}"
    "{{ raise_exception('the concierge knows only system, user and assistant messages') }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
log = logging.getLogger(__name__)


def train_tokenizer(texts: list[str], size: int = VOCABULARY) -> Tokenizer:
    """Train byte-level BPE on ``texts``; every digit is a token of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def write_tokenizer(tokenizer: Tokenizer, out: Path) -> None:
    """Write tokenizer.json, its configuration, the special tokens and the chat template."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    named = {"bos_token": BOS, "eos_token": END, "pad_token": SPECIAL[0]}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": MAX_POSITIONS,
        "clean_up_tokenization_spaces": False,
        "additional_special_tokens": SPECIAL[3:],
        **named,
        "chat_template": CHAT_TEMPLATE,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    special = {**named, "additional_special_tokens": SPECIAL[3:]}
    (out / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE)


def main() -> None:
    """Train on the texts of episodes of the last lesson."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder with corpus.json.gz; receives tokenizer/"
    )
    parser.add_argument("--episodes", type=int, default=12000)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        corpus = load_corpus(options.out)
    except DataError as error:
        log.error("%s", error)
        sys.exit(2)
    rng, lesson = random.Random(11), Lesson.at(1.0)
    texts = [
        message.text
        for _ in range(options.episodes)
        for message in draw_episode(corpus, lesson, rng).messages
    ]
    tokenizer = train_tokenizer(texts)
    write_tokenizer(tokenizer, options.out / "tokenizer")
    tokens = sum(len(e.ids) for e in tokenizer.encode_batch(texts[:5000]))
    words = sum(len(text.split()) for text in texts[:5000])
    log.info("vocabulary %d, %.2f tokens per word", tokenizer.get_vocab_size(), tokens / words)


if __name__ == "__main__":
    main()
