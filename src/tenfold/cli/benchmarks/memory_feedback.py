"""Does retrieval learn from feedback? LoCoMo's questions, told which shown turns were evidence.

A reader asks the questions of all conversations but one, is shown what the fixed fusion ranks
first, and says which of it was evidence. What is learnt from that ranks the conversation left out.
A second reader says the same with the labels shuffled among what was shown: it learns nothing, or
the first one's gain is no sign of learning.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tenfold.cli.benchmarks import Report
from tenfold.cli.benchmarks.memory_locomo import AT_10, Numbers, Ranked, Told, ranked
from tenfold.memory.events import NewEvent
from tenfold.memory.learning import Learner, Learnt, feedback
from tenfold.memory.store import Vectors


@dataclass(frozen=True, slots=True)
class Taught:
    """Gains of recall at 10 over the fixed fusion, in percentage points [questions]."""

    gains: Numbers
    learnt: tuple[Learnt, ...]  # of each conversation left out


def taught(told: Told, fixed: Ranked, *, shuffled: bool, report: Report, seed: int = 0) -> Taught:
    """What feedback on the other conversations gains, for each conversation."""
    rng = np.random.default_rng(seed)
    stage = "shuffled feedback" if shuffled else "feedback"
    outcomes, gains = [], []
    start = 0
    for number, conversation in enumerate(told.conversations):
        name = f"{stage} without {conversation.name}"
        member = told.tenant.member(name)
        member.append(_feedback(told, fixed, number, rng if shuffled else None))
        learner = Learner(told.tenant, name, lambda text: _vector(told, text))
        outcomes.append(learner.learn())
        ranker = learner.ranker()
        after = ranked(told, lambda _, ranker=ranker: ranker, _silent, stage, number)  # type: ignore[misc]
        before = fixed.recall[start : start + len(conversation.questions)]
        gains.append(100 * (after.recall - before)[:, AT_10])
        start += len(conversation.questions)
        report(stage, (number + 1) / len(told.conversations))
    return Taught(np.concatenate(gains), tuple(outcomes))


def _feedback(
    told: Told, fixed: Ranked, left_out: int, rng: np.random.Generator | None
) -> list[NewEvent]:
    """One for each question of the other conversations; with `rng` the labels are shuffled."""
    made = []
    shown = iter(fixed.shown)
    for number, conversation in enumerate(told.conversations):
        for question in conversation.questions:
            ids = next(shown)
            if number == left_out or not ids:
                continue
            useful = told.answers(question, ids)
            if rng is not None:
                useful = [ids[i] for i in rng.choice(len(ids), len(useful), replace=False)]
            made.append(feedback(question.text, ids, useful, within=conversation.name))
    return made


def _vector(told: Told, text: str) -> Vectors:
    vector: Vectors = told.embedder.embed([text])[0]
    return vector


def _silent(stage: str, done: float) -> None:
    """Each conversation is a short stage of its own."""
