"""Does a bank of solved cases get better with experience? A stream of BANKING77 queries.

Queries come one after another; what was wanted is known only DELAY queries later, and is a case
then. All arms have the same cases and the same frozen embeddings. After CASES of them the test set
is answered: by plain nearest neighbours, by the case bank, by neighbours of adapted queries, by
both, and by a linear model fitted to the cases, for reference. The first two are compared over
ORDERS streams, each its own draw of the training rows.

BANKING77: PolyAI, CC BY 4.0; read by path.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenfold.cli.benchmarks import Report
from tenfold.errors import InvalidRequest
from tenfold.memory.cases import CaseBank, Places, Readout, adapter, nearest, plain_votes
from tenfold.memory.embedding import Embedder
from tenfold.memory.store import Vectors

CASES, DELAY, LEARN_EVERY = 5_000, 50, 1_000
ORDERS = 5
KS = (1, 3, 5, 7, 10, 15, 20)
PENALTIES = (1e-6, 1e-5, 1e-4)
BATCH = 512  # texts between two reports
Right = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Texts:
    """Queries and what each wanted."""

    queries: tuple[str, ...]
    wanted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Streamed:
    """Which test queries each arm answers right after all cases; how the stream went meanwhile."""

    right: dict[str, Right]
    k: int  # of plain neighbours, chosen by leaving each case out
    stream: tuple[tuple[float, float], ...]  # accuracy of each LEARN_EVERY: plain, case bank


def load(file: Path) -> Texts:
    """The rows of a BANKING77 file. Raises InvalidRequest for what is none."""
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = [(row["text"], row["category"]) for row in csv.DictReader(lines)]
    except (OSError, KeyError, ValueError) as e:
        raise InvalidRequest(f"{file} is no BANKING77 file: {e!r}", param="data") from None
    return Texts(tuple(t for t, _ in rows), tuple(c for _, c in rows))


def order_of(rows: int, cases: int, seed: int = 0) -> Places:
    """Which rows come in a stream of so many cases, in their order [cases]."""
    return np.random.default_rng(seed).permutation(rows)[:cases]


def embedded(texts: Texts, embedder: Embedder, report: Report) -> Vectors:
    """Vectors of the queries [queries, width]."""
    parts = []
    for at in range(0, len(texts.queries), BATCH):
        parts.append(embedder.embed(texts.queries[at : at + BATCH]))
        report("embedding BANKING77", (at + BATCH) / len(texts.queries))
    vectors: Vectors = np.concatenate(parts)
    return vectors


def streamed(
    cases: Vectors, answers: Sequence[str], test: Vectors, wanted: Sequence[str], report: Report
) -> Streamed:
    """Plays the stream, then answers the test set with every arm."""
    names = sorted({*answers, *wanted})
    number = {name: i for i, name in enumerate(names)}
    labels, asked = (np.array([number[a] for a in s], dtype=np.int64) for s in (answers, wanted))
    bank, shares = _played(cases, answers, labels, len(names), report)
    k = tuned(cases, labels, len(names))
    near, _ = nearest(test @ cases.T, max(KS))
    right = {"knn": plain_votes(near, labels, len(names), k) == asked}
    right["case_memory"] = _solved(bank, test) == np.array(wanted)
    report("BANKING77's adapter", 0.0)
    matrix = adapter(cases, labels)
    turned, turned_cases = _turned(test, matrix), _turned(cases, matrix)
    near, _ = nearest(turned @ cases.T, max(KS))
    right["adapter"] = (
        plain_votes(near, labels, len(names), tuned(cases, labels, len(names), turned_cases))
        == asked
    )
    both = _bank(cases, answers)
    both.learn(turned_cases)
    right["both"] = _solved(both, turned) == np.array(wanted)
    report("BANKING77's linear model", 0.5)
    right["linear"] = _linear(cases, labels, len(names), test) == asked
    return Streamed(right, k, shares)


def compared(
    train: Vectors,
    answers: Sequence[str],
    test: Vectors,
    wanted: Sequence[str],
    cases: int,
    report: Report,
) -> dict[str, NDArray[np.bool_]]:
    """Which test queries plain neighbours and the case bank answer right, by stream [ORDERS, test].

    Only the end of each stream: the bank learns from all its cases at once, k is tuned on them.
    """
    names, said = np.unique(np.array(answers), return_inverse=True)
    right: dict[str, list[Right]] = {"knn": [], "case_memory": []}
    for seed in range(ORDERS):
        order = order_of(len(train), cases, seed)
        vectors, labels = train[order], said[order].astype(np.int64)
        near, _ = nearest(test @ vectors.T, max(KS))
        plain = plain_votes(near, labels, len(names), tuned(vectors, labels, len(names)))
        right["knn"].append(names[plain] == np.array(wanted))
        bank = _bank(vectors, [answers[i] for i in order])
        bank.learn()
        right["case_memory"].append(_solved(bank, test) == np.array(wanted))
        report("streams of BANKING77 in other orders", (seed + 1) / ORDERS)
    return {name: np.stack(rows) for name, rows in right.items()}


def _played(
    cases: Vectors, answers: Sequence[str], labels: Places, count: int, report: Report
) -> tuple[CaseBank, tuple[tuple[float, float], ...]]:
    """The bank after the stream, and how many of each LEARN_EVERY queries were answered right."""
    bank = CaseBank(cases.shape[1])
    shares: list[tuple[float, float]] = []
    plain, ours = [], []
    for at in range(0, len(cases), DELAY):  # what came within the delay is not known yet
        now = cases[at : at + DELAY]
        if len(bank):
            known = len(bank)
            near, _ = nearest(now @ cases[:known].T, min(known, 3))
            told = plain_votes(near, labels[:known], count, min(known, 3))
            plain += (told == labels[at : at + DELAY]).tolist()
            ours += (_solved(bank, now) == np.array(answers[at : at + DELAY])).tolist()
        for i in range(at, min(at + DELAY, len(cases))):
            bank.add(str(i), cases[i], answers[i])
        if len(bank) % LEARN_EVERY == 0 or len(bank) == len(cases):
            bank.learn()
            shares.append((float(np.mean(plain or [0])), float(np.mean(ours or [0]))))
            plain, ours = [], []
        report("a stream of BANKING77", len(bank) / len(cases))
    return bank, tuple(shares)


def _bank(cases: Vectors, answers: Sequence[str]) -> CaseBank:
    bank = CaseBank(cases.shape[1])
    for i, (vector, answer) in enumerate(zip(cases, answers, strict=True)):
        bank.add(str(i), vector, answer)
    return bank


def _solved(bank: CaseBank, queries: Vectors) -> NDArray[np.str_]:
    return np.array([solution.answer for solution in bank.solve(queries)])


def tuned(cases: Vectors, labels: Places, count: int, queries: Vectors | None = None) -> int:
    """The k that answers most cases right from the others; `queries` are the cases, adapted."""
    similar = (cases if queries is None else queries) @ cases.T
    np.fill_diagonal(similar, -np.inf)
    near, _ = nearest(similar, min(max(KS), len(cases) - 1))
    return max(
        (k for k in KS if k <= near.shape[1]),
        key=lambda k: ((plain_votes(near, labels, count, k) == labels).mean(), -k),
    )


def _turned(vectors: Vectors, matrix: Vectors) -> Vectors:
    turned = vectors @ matrix
    unit: Vectors = turned / np.linalg.norm(turned, axis=1, keepdims=True)
    return unit


def _linear(cases: Vectors, labels: Places, count: int, test: Vectors) -> Places:
    """Multinomial logistic regression; its penalty is chosen on a fifth of the cases."""
    held = np.random.default_rng(0).random(len(cases)) < 0.2
    names = [str(i) for i in range(count)]

    def right(penalty: float) -> float:
        fitted = Readout.fit(cases[~held], labels[~held], names, penalty)
        return float((fitted(cases[held], names).argmax(axis=1) == labels[held]).mean())

    best = Readout.fit(cases, labels, names, max(PENALTIES, key=right))
    told: Places = best(test, names).argmax(axis=1)
    return told
