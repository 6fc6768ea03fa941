"""Measure an exported model on held-out conversations.

``python -m recipes.concierge.evaluate --work build/concierge --model FOLDER`` prints a table:
teacher-forced value_start_accuracy by records, perplexity of the assistant's tokens, and the slot
error rate of greedy answers. ``--show 10 --seed 0`` prints answers unedited instead.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from .batches import Batch, collate, encode
from .data import Corpus, held_out_episodes, load_corpus
from .episodes import Episode
from .probes import value_start_accuracy
from .tokenizer import MAX_POSITIONS
from .train import Settings, token_losses

FAMILIES = ("lookup", "seen", "unseen")
LONG_RECORDS = 7  # facts of this many records go beyond the length of training
PROPER_OR_NUMBER = re.compile(r"(?<=[a-z,;] )[A-Z][\w'&-]+|\$?\d+(?:[:.,-]\d+)*")


@dataclass(slots=True)
class Asked:
    """One held-out question: the conversation so far, the human or composed answer, its values."""

    family: str
    records: int
    chat: list[dict[str, str]]
    reference: str
    required: list[str]


def questions(episodes: list[Episode]) -> list[Asked]:
    """Return one question for each assistant turn that must state a value."""
    out = []
    for episode in episodes:
        chat = episode.chat()
        for position, message in enumerate(episode.messages):
            if message.values:
                required = sorted({message.text[a:b] for a, b in message.values})
                out.append(
                    Asked(episode.family, episode.records, chat[:position], message.text, required)
                )
    return out


def render(chat: list[dict[str, str]]) -> str:
    """Render a conversation as the chat template does, ready for the assistant's turn."""
    turns = "".join(f"<|{m['role']}|>{m['content']}<|end|>" for m in chat)
    return f"<|bos|>{turns}<|assistant|>"


@torch.no_grad()
def greedy_answers(
    model: LlamaForCausalLM,
    tokenizer: Tokenizer,
    chats: list[list[dict[str, str]]],
    batch: int = 16,
    new_tokens: int = 120,
) -> list[str]:
    """Answer each conversation greedily; prompts are padded on the left."""
    prompts = [tokenizer.encode(render(chat), add_special_tokens=False).ids for chat in chats]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers = [""] * len(prompts)
    for begin in range(0, len(order), batch):
        chosen = order[begin : begin + batch]
        length = max(len(prompts[i]) for i in chosen)
        tokens = torch.tensor([[0] * (length - len(prompts[i])) + prompts[i] for i in chosen])
        out = model.generate(
            tokens,
            attention_mask=(tokens != 0).long(),
            max_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=2,
        )
        for i, row in zip(chosen, out[:, length:].tolist(), strict=True):
            answers[i] = tokenizer.decode([t for t in row if t > 2], skip_special_tokens=True)
    return answers


def states(text: str, value: str) -> bool:
    """Tell whether ``value`` stands in ``text`` as a whole."""
    return re.search(rf"(?<![\w$]){re.escape(value)}(?!\w|[:.]\d)", text, re.IGNORECASE) is not None


def slot_errors(asked: Asked, answer: str) -> tuple[int, int]:
    """Return (missing, invented): values left out, names or numbers found nowhere before."""
    missing = sum(not states(answer, value) for value in asked.required)
    known = " ".join(m["content"] for m in asked.chat).lower()
    found = {m.group().lower() for m in PROPER_OR_NUMBER.finditer(answer)}
    invented = sum(not states(known, word) and word not in known for word in found - {"i"})
    return missing, invented


def perplexity(model: LlamaForCausalLM, batches: list[Batch]) -> float:
    """Return the perplexity of assistant tokens."""
    total = count = 0.0
    with torch.no_grad():
        for batch in batches:
            losses, _ = token_losses(model, model.model, batch)
            total, count = total + losses.sum().item(), count + len(losses)
    return math.exp(total / count)


def measure_family(
    model: LlamaForCausalLM, tokenizer: Tokenizer, episodes: list[Episode]
) -> dict[str, object]:
    """Return every figure for one family of held-out episodes."""
    limit = model.config.max_position_embeddings
    rows = sorted((encode(tokenizer, e) for e in episodes), key=lambda row: len(row.tokens))
    rows = [row for row in rows if len(row.tokens) <= limit]
    batches = [collate(rows[i : i + 16], 0.0) for i in range(0, len(rows), 16)]
    tally = value_start_accuracy(model, batches)
    by_records: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for (records, _), (right, total) in tally.items():
        by_records[records][0] += right
        by_records[records][1] += total
    asked = questions(episodes)
    answers = greedy_answers(model, tokenizer, [q.chat for q in asked])
    required = sum(len(q.required) for q in asked)
    errors = [slot_errors(q, a) for q, a in zip(asked, answers, strict=True)]
    reference = [slot_errors(q, q.reference) for q in asked]
    missing, invented = (sum(e[i] for e in errors) for i in (0, 1))
    return {
        "value_start_accuracy": ratio(*(sum(c[i] for c in by_records.values()) for i in (0, 1))),
        "value_starts": sum(c[1] for c in by_records.values()),
        "by_records": {str(r): ratio(*cell) for r, cell in sorted(by_records.items())},
        "perplexity": round(perplexity(model, batches), 3),
        "questions": len(asked),
        "required_values": required,
        "missing": ratio(missing, required),
        "invented": ratio(invented, required),
        "slot_error_rate": ratio(missing + invented, required),
        "exact_turns": ratio(sum(e == (0, 0) for e in errors), len(errors)),
        "reference_slot_error_rate": ratio(sum(map(sum, reference)), required),
    }


def long_episodes(corpus: Corpus, tokenizer: Tokenizer, count: int, seed: int) -> list[Episode]:
    """Return look-ups longer than any row of training but within the positions of the model."""
    drawn = held_out_episodes(corpus, "lookup", 30 * count, seed, records=LONG_RECORDS)
    longer = [
        episode
        for episode in drawn
        if Settings().max_length < len(encode(tokenizer, episode).tokens) < MAX_POSITIONS - 64
    ]
    return longer[:count]


def ratio(part: float, whole: float) -> float:
    """Return ``part / whole`` to three places, 0 where there is nothing."""
    return round(part / whole, 3) if whole else 0.0


def show(
    model: LlamaForCausalLM, tokenizer: Tokenizer, corpus: Corpus, count: int, seed: int
) -> None:
    """Print random held-out questions with the model's greedy answer, unedited."""
    rng = random.Random(seed)
    asked = [q for f in FAMILIES for q in questions(held_out_episodes(corpus, f, 40, 77))]
    chosen = rng.sample(asked, count)
    answers = greedy_answers(model, tokenizer, [q.chat for q in chosen])
    for number, (question, answer) in enumerate(zip(chosen, answers, strict=True), 1):
        missing, invented = slot_errors(question, answer)
        print(f"{number}. [{question.family}, {question.records} records] ", end="")
        print(f"missing {missing}/{len(question.required)}, invented {invented}")
        for message in question.chat:
            if message["role"] == "system" or message is question.chat[-1]:
                print(f"   {message['role']}: " + message["content"].replace("\n", "\n     "))
        print(f"   reference: {question.reference}\n   model: {answer}\n")


def main() -> None:
    """Print the figures of all families as JSON, or some answers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--episodes", type=int, default=120)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--show", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    corpus = load_corpus(options.work / "corpus.json.gz")
    tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    if options.show:
        show(model, tokenizer, corpus, options.show, options.seed)
        return
    figures = {
        family: measure_family(
            model, tokenizer, held_out_episodes(corpus, family, options.episodes, options.seed)
        )
        for family in FAMILIES
    }
    beyond = long_episodes(corpus, tokenizer, options.episodes // 4, options.seed)
    figures["longer than trained"] = measure_family(model, tokenizer, beyond)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
