"""How fast memory writes and finds: real files, the whole way of a search, made-up turns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tenfold.cli.benchmarks import Report
from tenfold.cli.benchmarks.memory_made_up import fill, made_up
from tenfold.memory.deriving import VECTORS
from tenfold.memory.embedding import Embedder
from tenfold.memory.events import NewEvent
from tenfold.memory.memory import Memory
from tenfold.memory.sqlite import SqliteStore

ASKED = 9  # words of a question
WARM = 20  # questions before the clock counts: the first reads all vectors from the file
BATCH = 32  # turns of one call


@dataclass(frozen=True, slots=True)
class Milliseconds:
    """Of many searches: wall clock, and for comparison what the processor spent on them."""

    p50: float
    p95: float
    cpu_p50: float
    cpu_p95: float


def search_times(
    folder: Path,
    turns: int,
    questions: int,
    embedder: Embedder,
    report: Report,
    words: Sequence[str] = (),
) -> Milliseconds:
    """Searches of a member who wrote nothing: the question is embedded, words and vectors are
    looked up, the candidates weighed. No question is asked twice."""
    store = SqliteStore(folder)
    try:
        tenant = store.tenant(f"made-up-{turns}")
        report(f"{turns} made-up turns", 0.0)
        fill(tenant, list(made_up(turns, words=words)), f"{embedder.name}/{VECTORS}")
        memory = Memory(tenant, "asker", embedder=embedder)
        asked = [
            " ".join(t.split()[:ASKED]) for t in made_up(WARM + questions, seed=9, words=words)
        ]
        times, spent = [], []
        for number, question in enumerate(asked):
            start, before = time.perf_counter(), time.process_time()
            memory.search(question)
            times.append(1000 * (time.perf_counter() - start))
            spent.append(1000 * (time.process_time() - before))
            report(f"searches among {turns} turns", (number + 1) / len(asked))
    finally:
        store.close()
    marks = [np.percentile(values[WARM:], [50, 95]).tolist() for values in (times, spent)]
    return Milliseconds(*marks[0], *marks[1])


def ingest_rate(folder: Path, texts: Sequence[str], batch: int) -> float:
    """Turns per second, `batch` of them in a call that returns when they are on the disk and in the
    text index."""
    store = SqliteStore(folder)
    try:
        member = store.tenant(f"by-{batch}").member("speaker")
        start = time.perf_counter()
        for at in range(0, len(texts), batch):
            member.append([NewEvent(t, conversation="c") for t in texts[at : at + batch]])
        return len(texts) / (time.perf_counter() - start)
    finally:
        store.close()
