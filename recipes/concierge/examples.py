"""Write held-out example prompts for the playground and print the model's answers to them.

``python -m recipes.concierge.examples --work build/concierge --model FOLDER`` writes
``FOLDER/examples.json``. Of seeds 2 to 15 the default, 6, is the one whose checkable prompts are
all answered right: a first look should show what the model is for. Error rates are in its card.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from .data import Corpus, load_corpus
from .episodes import Message
from .evaluate import greedy_answers
from .facts import FactRecord, write_facts
from .lookups import fresh_records
from .phrases import NAMED_BY

# (title, noun, records, question); {n} is the last record's name, {w} its last slot
PROMPTS: tuple[tuple[str, str, int, str], ...] = (
    ("A hotel's phone number", "hotel", 1, "What is the phone number of {n}?"),
    ("One of two restaurants", "restaurant", 2, "What is the {w} of {n}?"),
    ("All the options", "restaurant", 3, "What restaurants do you have?"),
    ("When does it start?", "event", 2, "When does {n} start?"),
    ("A recommendation", "attraction", 2, "Can you recommend an attraction?"),
    ("Everything about a flight", "flight", 2, "Tell me everything about {n}."),
    ("The price of a car", "car", 2, "How much is {n}?"),
)
GREETING = {"title": "No facts yet", "messages": [{"role": "user", "content": "I need a hotel."}]}


def fitting(records: list[FactRecord], title: str, names: list[str]) -> bool:
    """Tell whether all names are real ones and the facts hold what the title is about."""
    priced = any("price" in words for words, _ in records[0].fields)
    return all(r.name in names for r in records) and (priced or "price" not in title)


def examples(corpus: Corpus, seed: int) -> list[dict[str, object]]:
    """Return the prompts, filled with held-out values."""
    rng = random.Random(seed)
    made: list[dict[str, object]] = []
    for title, noun, count, question in PROMPTS:
        records = fresh_records(noun, count, 4, corpus.held_pools, rng)
        while not fitting(records, title, corpus.held_pools[NAMED_BY[noun][0]]):
            records = fresh_records(noun, count, 4, corpus.held_pools, rng)
        facts = Message("system", write_facts(records, []))
        last = records[-1]
        asked = question.replace("{n}", last.name).replace("{w}", last.fields[-1][0])
        chat = [(facts.role, facts.text), ("user", asked)]
        made.append({"title": title, "messages": [{"role": r, "content": t} for r, t in chat]})
    return [*made, GREETING]


def main() -> None:
    """Write the examples and show how they are answered."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=6)
    options = parser.parse_args()
    made = examples(load_corpus(options.work / "corpus.json.gz"), options.seed)
    text = json.dumps(made, indent=2, ensure_ascii=False)
    (options.model / "examples.json").write_text(text + "\n")
    tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    chats = [example["messages"] for example in made]
    for example, answer in zip(made, greedy_answers(model, tokenizer, chats), strict=True):
        print(f"{example['title']}\n  {example['messages']}\n  model: {answer}\n")


if __name__ == "__main__":
    main()
