"""Write the playground's example prompts: held-out questions, drawn by lot.

``python -m recipes.concierge.examples --model FOLDER`` reads ``FOLDER/questions.jsonl.gz`` and
writes ``FOLDER/examples.json``. The seed alone decides, not whether a model answers them right:
what a visitor sees first is a fair sample of what the model can do.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenfold.cli.held_out import FILE, HeldOut, HeldOutFile, read_held_out
from tenfold.rewards.facts import GUEST, facts_of

SEED = 1
FACTS = 1200  # characters of facts that are still easily looked over


@dataclass(frozen=True, slots=True)
class Wish:
    """An example to find: its set, its kinds, and a title with ``{noun}``."""

    set: str
    kinds: tuple[str, ...]
    title: str


WISHES = (
    Wish("short_seen", ("inform",), "A question about a {noun}"),
    Wish("short_seen", ("offer",), "A suggestion: a {noun}"),
    Wish("short_unseen", ("confirm", "offer"), "A {noun}, of a service never trained on"),
    Wish("long_seen", ("options",), "All the options: {noun}"),
    Wish("long_seen", ("compare",), "Two compared: {noun}"),
    Wish("long_seen", ("recap", "multi"), "The details of a {noun}"),
    Wish("long_seen", ("itinerary",), "The whole plan"),
)
NO_FACTS = {"title": "No facts yet", "messages": [{"role": "user", "content": "I need a hotel."}]}


def noun_of(question: HeldOut) -> str:
    """Return the noun of the first record that is asked about."""
    nouns = {r.name: r.noun for r in facts_of(question.messages).records if r.name != GUEST}
    asked = (nouns[need.record] for need in question.required if need.record in nouns)
    return next(asked, next(iter(nouns.values()), "guest's wish"))


def draw(questions: Sequence[HeldOut], wish: Wish, rng: random.Random) -> HeldOut | None:
    """Return a question by lot, of those with moderate facts where there are any."""
    found = [q for q in questions if q.set == wish.set and q.kind in wish.kinds]
    moderate = [q for q in found if len(q.messages[0].content or "") <= FACTS]
    return rng.choice(moderate or found) if found else None


def titled(title: str, noun: str) -> str:
    """Put the noun into a title."""
    article = "an {noun}" if noun[0] in "aeiou" else "a {noun}"
    text = title.replace("a {noun}", article).replace("{noun}", noun)
    return text.replace("A " + noun, article.replace("{noun}", noun).capitalize())


def examples(asked: HeldOutFile, seed: int) -> list[dict[str, Any]]:
    """Return the prompts of ``seed``, and one without facts."""
    rng = random.Random(seed)
    made: list[dict[str, Any]] = []
    for wish in WISHES:
        question = draw(asked.questions, wish, rng)
        if question is None:
            continue
        chat = [{"role": m.role, "content": m.content} for m in question.messages]
        made.append({"title": titled(wish.title, noun_of(question)), "messages": chat})
    return [*made, NO_FACTS]


def main() -> None:
    """Write the examples."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="the model's folder")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    made = examples(read_held_out(options.model / FILE), options.seed)
    text = json.dumps(made, indent=2, ensure_ascii=False)
    (options.model / "examples.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
