"""Pairs for `tenfold bench preference`: made of what is shipped, and of TENFOLD_DATA where it is.

The pairs on which figures are judged are held-out questions of the concierge: a true composed
answer against the same answer with one value of another record, as early as one can be wrong. They
share most of their tokens, and what follows the wrong value is as it was.
"""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tenfold.align.encoding import EncodedPair, PairEncoder, encode
from tenfold.align.pairs import Pair, read_pairs
from tenfold.cli.held_out import HeldOut, HeldOutFile, read_held_out, shipped
from tenfold.rewards.facts import facts_of

LONG, SHORT = ("long_seen", "long_unseen"), ("short_seen", "short_unseen")
_SOLVERS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")


def damaged(sets: tuple[str, ...] = LONG) -> list[Pair]:
    """True answers against their damaged selves, one a question where there is a way."""
    asked = read_held_out(shipped("concierge"))
    found: list[Pair] = []
    for question in (q for q in asked.questions if q.set in sets):
        wrong = _damaged(asked, question)
        if wrong is not None:
            row = len(found) + 1
            found.append(Pair(row, question.messages, question.reference, wrong, question.kind))
    return found


def _damaged(asked: HeldOutFile, question: HeldOut) -> str | None:
    """The answer with one value of another record, as early as one can be wrong."""
    records, verifier = facts_of(question.messages).records, asked.verifier(question)
    drawn = random.Random(question.id)
    for start, end in question.starts:
        value, text = question.reference[start:end], question.reference
        slots = {slot for r in records for slot, v in r.fields if v == value}
        others = sorted({v for r in records for s, v in r.fields if s in slots and v != value})
        drawn.shuffle(others)
        for other in others:
            wrong = text[:start] + other + text[end:]
            if verifier.check(wrong).slot_errors:
                return wrong
    return None


def others_answers() -> list[Pair]:
    """True answers against those of a simpler method, which say the same in other words."""
    found = [
        (q, q.baselines["nearest"])
        for q in read_held_out(shipped("concierge")).questions
        if q.set in SHORT and q.baselines.get("nearest", q.reference) != q.reference
    ]
    return [Pair(n, q.messages, q.reference, wrong) for n, (q, wrong) in enumerate(found, 1)]


def tail(pair: EncodedPair, tokens: int | None) -> EncodedPair:
    """The pair from where its answers part: what they share before it becomes prompt, and `tokens`
    are left of either answer. None: the pair as it is."""
    if tokens is None:
        return pair
    both = zip(pair.chosen, pair.rejected, strict=False)
    start = next(i for i, (a, b) in enumerate(both) if a != b)
    chosen, rejected = (a[start : start + tokens] for a in (pair.chosen, pair.rejected))
    return EncodedPair(pair.row, pair.prompt + pair.chosen[:start], chosen, rejected)


def from_data() -> dict[str, list[Pair]]:
    """Real pairs under TENFOLD_DATA, by where they come from; none where it is not set."""
    root = os.environ.get("TENFOLD_DATA")
    if not root:
        return {}
    data = Path(root)
    return {
        "gsm8k": _solutions(data / "maths" / "gsm8k-model-solutions.jsonl.gz"),
        "hh_harmless": read_pairs(data / "preference" / "hh-harmless-test.jsonl.gz", strict=False),
        "taskmaster": _actions(data / "preference" / "taskmaster4-reward.jsonl.gz"),
    }


def _lines(file: Path) -> Iterator[Mapping[str, Any]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _solutions(file: Path) -> list[Pair]:
    """A right and a wrong solution of one problem, by models (GSM8K, MIT). Never an evaluation."""
    found: list[Pair] = []
    for row in _lines(file):
        by = [row[name] for name in _SOLVERS]
        right = [s["solution"] for s in by if s["is_correct"]]
        wrong = [s["solution"] for s in by if not s["is_correct"]]
        if right and wrong:
            found.append(Pair(len(found) + 1, row["question"] + "\n", right[0], wrong[0]))
    return found


def _actions(file: Path) -> list[Pair]:
    """An action judged good against one judged bad after the same words (Taskmaster-4)."""
    by_context: dict[str, dict[bool, str]] = {}
    for row in _lines(file):
        context = "\n".join(json.dumps(turn, ensure_ascii=False) for turn in row["context"])
        said = json.dumps(row["generation"], ensure_ascii=False)
        by_context.setdefault(context, {}).setdefault(row["reward"] > 0.5, said)
    both = [(c, v[True], v[False]) for c, v in by_context.items() if len(v) == 2]
    return [Pair(n, c + "\n", good, bad) for n, (c, good, bad) in enumerate(both, 1) if good != bad]


def encoded(
    pairs: list[Pair], model: str = "concierge", *, most: int = 400, seed: int = 0
) -> list[EncodedPair]:
    """The tokens of pairs of at most `most` tokens, shuffled."""
    encoder = PairEncoder.of(model)
    usable = [p for p in pairs if p.chosen != p.rejected]
    found = [e for e in encode(usable, encoder) if e.tokens <= most]
    random.Random(seed).shuffle(found)
    return found
