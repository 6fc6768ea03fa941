"""Groups: a prompt with many graded answers, as tokens, with what the verifier says of each.

A reward model learns from all answers of a prompt at once: the prompt is read once, every answer
is a branch behind it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tenfold.rewards.facts import Requirement, facts_of
from tenfold.rewards.verifier import FactsVerifier
from tenfold.types import as_messages

from .negatives import CHANGES, Changer, Values

STRIDE = 6  # tokens between two looks of the verifier at what was said so far
LONGEST = 768  # tokens of a prompt with one answer, as the concierge was trained
END = "<|end|>"


@dataclass(slots=True)
class Graded:
    """One answer. `kind` is "reference", "sample" or a kind of CHANGES.

    `begins` is the first token that the error could be seen at: before it a changed answer is like
    its original, and says nothing about what it will come to. `running` are (token, right, bad)
    so far, bad = wrong + invented.
    """

    ids: list[int]
    text: str
    kind: str
    errors: int  # missing + wrong + invented
    score: float
    finished: bool
    begins: int = 0
    original: int = -1  # the answer that this one is a change of
    running: list[tuple[int, int, int]] | None = None


@dataclass(slots=True)
class Group:
    """A prompt and its answers."""

    id: str
    family: str
    kind: str
    prompt_ids: list[int]
    answers: list[Graded]


class Grader:
    """Builds groups of rows that `samples` wrote."""

    def __init__(
        self, tokenizer: Tokenizer, lexicon: frozenset[str], values: Values,
        others: Sequence[str], running: bool = True,
    ) -> None:  # fmt: skip
        self._tokenizer, self._lexicon, self._values = tokenizer, lexicon, values
        self._others, self._running = others, running
        self._end = tokenizer.token_to_id(END)

    def group(self, row: Mapping[str, Any], changes: int, rng: random.Random) -> Group:
        """The samples of a row without doubles, its reference, and `changes` changed answers."""
        messages = as_messages(row["messages"])
        required = [Requirement(*r) for r in row["required"]]
        verifier = FactsVerifier(messages, required, self._lexicon)
        answers = [self._graded(row["reference"], "reference", verifier)]
        seen = {tuple(answers[0].ids)}
        for sample in row["samples"]:
            ids = _without(sample["ids"], self._end)
            if tuple(ids) not in seen and ids:
                seen.add(tuple(ids))
                answers.append(
                    self._graded(sample["text"], "sample", verifier, ids, sample["finished"])
                )
        right = [i for i, a in enumerate(answers) if a.errors == 0 and a.finished]
        earlier = [m["content"] for m in row["messages"] if m["role"] == "assistant"]
        said = "\n".join(m["content"] for m in row["messages"])
        changer = Changer(
            facts_of(messages), required, verifier, self._values, said, earlier, self._others
        )
        first = rng.randrange(len(CHANGES))
        for number in range(changes):
            kind = CHANGES[(first + number) % len(CHANGES)]
            base = rng.choice(right) if right else 0
            text = changer.change(answers[base].text, kind, rng)
            if text is not None:
                changed = self._graded(text, kind, verifier)
                changed.original = base
                if kind != "other_request":
                    changed.begins = _shared(changed.ids, answers[base].ids)
                answers.append(changed)
        return Group(row["id"], row["family"], row["kind"], row["prompt_ids"], answers)

    def _graded(
        self, text: str, kind: str, verifier: FactsVerifier, ids: list[int] | None = None,
        finished: bool = True,
    ) -> Graded:  # fmt: skip
        if ids is None:
            ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        verdict = verifier.check(text)
        running = None
        if self._running:
            running = []
            for at in range(STRIDE, len(ids), STRIDE):
                begun = self._tokenizer.decode(ids[:at]).rstrip("\ufffd")
                so_far = verifier.check(begun, finished=False)
                bad = len(so_far.wrong) + len(so_far.invented)
                running.append((at - 1, so_far.right, bad))
            bad = len(verdict.wrong) + len(verdict.invented)
            running.append((len(ids) - 1, verdict.right, bad))
        return Graded(
            ids, text, kind, verdict.slot_errors, round(verdict.score, 4), finished,
            running=running,
        )  # fmt: skip


def _without(ids: Sequence[int], end: int) -> list[int]:
    return [i for i in ids if i != end]


def _shared(one: Sequence[int], two: Sequence[int]) -> int:
    """How many tokens two answers begin with alike."""
    return next(
        (i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b),
        min(len(one), len(two)),
    )


def write_group(group: Group) -> str:
    """A group as a line."""
    return json.dumps(asdict(group), ensure_ascii=False, separators=(",", ":")) + "\n"


def read_groups(path: Path) -> Iterator[Group]:
    """The groups of a file."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            raw = json.loads(line)
            yield Group(**{**raw, "answers": [Graded(**a) for a in raw["answers"]]})
