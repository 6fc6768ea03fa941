"""A tiny model's folder, pairs and configurations for trainings of a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tenfold.align.config import TrainingConfig, config_of
from tenfold.align.trainer import LOG, PreferenceTrainer, Result

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def model_folder(folder: Path, *, seed: int = 0, shift: int = 0, context: int = 96) -> Path:
    """A random Llama over bytes; `shift` turns the bytes' ids around: another tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<pad>", "<s>", "</s>"]
    spelled = special + alphabet[shift:] + alphabet[:shift]
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(spelled)}, []))
    tokenizer.add_special_tokens(special)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(spelled),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=context,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def pairs_file(path: Path, count: int = 12, start: int = 0) -> Path:
    """Sums with a right and a wrong answer, of different lengths."""
    rows = [
        {
            "prompt": f"What is {i} and {i % 5}?",
            "chosen": f" It is {i + i % 5}" + "." * (i % 7 + 1),
            "rejected": f" It is {i + i % 5 + 1}, I am sure."[: 9 + 2 * (i % 8)],
        }
        for i in range(start, start + count)
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def config(root: Path, **changes: Any) -> TrainingConfig:
    """Of a training under `root`, whose model and pairs are made where they are missing."""
    if not (root / "model").is_dir():
        model_folder(root / "model")
        pairs_file(root / "pairs.jsonl")
        pairs_file(root / "held.jsonl", 5, 40)
    plain: dict[str, Any] = {
        "model": str(root / "model"),
        "data": str(root / "pairs.jsonl"),
        "output": str(root / "run"),
        "batch": 2,
        "accumulation": 2,
        "steps": 7,
        "checkpoint_every": 3,
        "learning_rate": 0.01,
        "lora": {"r": 2, "alpha": 4},
        "monitor": {"every": 2},
        "device": "cpu",
    }
    return config_of({**plain, **changes})


def train(root: Path, **changes: Any) -> Result:
    return PreferenceTrainer(config(root, **changes)).run()


def lines(folder: Path, *kinds: str) -> list[dict[str, Any]]:
    """The log's lines of some kinds, or of all but `run`."""
    found = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    return [f for f in found if (f["kind"] in kinds if kinds else f["kind"] != "run")]
