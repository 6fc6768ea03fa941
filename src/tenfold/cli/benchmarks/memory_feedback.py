"""Does retrieval learn from feedback? LoCoMo's questions, told which shown turns were evidence.

A reader asks the questions of all conversations but one, is shown what the fixed fusion ranks
first, and says which of it was evidence. What is learnt from that ranks the conversation left out.
A second reader says the same with the labels shuffled among what was shown: it learns nothing, or
the first one's gain is no sign of learning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tenfold.cli.benchmarks import Report
from tenfold.cli.benchmarks.memory_locomo import (
    AT_10,
    KS,
    Numbers,
    Ranked,
    Told,
    interval,
    ranked,
)
from tenfold.memory.events import NewEvent
from tenfold.memory.features import FEATURES
from tenfold.memory.fusion import Judged
from tenfold.memory.learning import Learner, Learnt, Shown, feedback, lesson
from tenfold.memory.retrieval import Weighted
from tenfold.memory.store import Vectors

COUNTS = (0, 25, 50, 75, 100, 150, 200, 300, 400, 600)


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


@dataclass(frozen=True, slots=True)
class Curve:
    """Recall at 10, in percent, after so many feedback, mean over the questions.

    Each question is of a conversation that no feedback is about. `feedback` 0 is the fixed fusion.
    `promoted` is the share of the conversations for which the gate let weights pass.
    """

    feedback: tuple[int, ...]
    recall: tuple[float, ...]
    limits: tuple[tuple[float, float], ...]  # 95 % of the gain over the fixed fusion
    promoted: tuple[float, ...]


def curves(told: Told, report: Report, seed: int = 0) -> dict[str, Curve]:
    """How recall grows with feedback, and with `shuffled` labels, which should teach nothing.

    Features are read once and weights applied to them, by the `lesson` that `Memory.learn` takes.
    """
    asked = [_asked(told, number, report) for number in range(len(told.conversations))]
    return {
        "useful": _curve(asked, None, report, seed),
        "shuffled": _curve(asked, np.random.default_rng(seed), report, seed),
    }


def _curve(
    asked: Sequence[Sequence[_Asked]],
    labels: np.random.Generator | None,
    report: Report,
    seed: int,
) -> Curve:
    rng = np.random.default_rng(seed)
    most = sum(map(len, asked)) - max(map(len, asked))
    counts = (*(n for n in COUNTS if n < most), most)
    recall: dict[int, list[Numbers]] = {n: [] for n in counts}
    promoted = dict.fromkeys(counts, 0)
    for number, left_out in enumerate(asked):
        others = [one.shown for n, rest in enumerate(asked) if n != number for one in rest]
        if labels is not None:
            others = [_shuffled(one, labels) for one in others]
        order = rng.permutation(len(others))
        for n in counts:
            learnt, weights = lesson([others[i] for i in order[:n]])
            promoted[n] += learnt.promoted
            ranker = Weighted(weights) if learnt.promoted else None
            recall[n].append(np.array([one.recall(ranker) for one in left_out]))
        stage = "feedback, curve" if labels is None else "shuffled feedback, curve"
        report(stage, (number + 1) / len(asked))
    rows = {n: np.concatenate(recall[n]) for n in counts}
    return Curve(
        counts,
        tuple(float(100 * rows[n].mean()) for n in counts),
        tuple(interval(100 * (rows[n] - rows[0])) for n in counts),
        tuple(promoted[n] / len(asked) for n in counts),
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question: its candidates, best by the fixed fusion first, and what is said of the first."""

    pool: Judged
    evidence: int  # turns that answer it, found or not
    shown: Shown

    def recall(self, ranker: Weighted | None) -> float:
        right = self.pool.evidence
        if ranker is not None:
            weights = [ranker.weights.get(name, 0.0) for name in FEATURES]
            right = right[np.argsort(-(self.pool.features @ weights), kind="stable")]
        return float(right[: KS[AT_10]].sum() / self.evidence)


def _asked(told: Told, number: int, report: Report) -> list[_Asked]:
    asked: list[_Asked] = []
    conversation = told.conversations[number]
    for question in conversation.questions:
        pool = told.judged(conversation, question)
        first = slice(0, max(KS))
        judged = Judged(pool.features[first], pool.evidence[first])
        base = -np.arange(len(judged.evidence), dtype=np.float64)
        asked.append(_Asked(pool, len(question.evidence), Shown(len(asked), judged, base)))
    report("feedback, candidates", (number + 1) / len(told.conversations))
    return asked


def _shuffled(one: Shown, rng: np.random.Generator) -> Shown:
    labels = rng.permutation(one.judged.evidence)
    return replace(one, judged=Judged(one.judged.features, labels))


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
