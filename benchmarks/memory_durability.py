"""What SQLite memory keeps through kill -9, what erasing leaves, and how fast both are.

    python -m benchmarks.memory_durability kill --rounds 200
    python -m benchmarks.memory_durability ingest --turns 6000
    python -m benchmarks.memory_durability query --turns 100000
    python -m benchmarks.memory_durability erase --turns 6000 --erasures 1000

Each prints one line of JSON. `query` times the store's own part of a search, without embedding and
ranking; the rest are parts of `tenfold bench memory`, alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tenfold.cli.benchmarks import memory_soundness as soundness
from tenfold.cli.benchmarks.memory_made_up import fill, made_up, unit_vectors
from tenfold.cli.benchmarks.memory_speed import ASKED, ingest_rate
from tenfold.memory.sqlite import SqliteStore


def killed_writers(folder: Path, rounds: int, seed: int = 0) -> dict[str, int]:
    """What became of what killed writers said, as counts."""
    return asdict(soundness.killed_writers(folder, rounds, seed))


def ingest(folder: Path, turns: int) -> dict[str, float]:
    texts = list(made_up(turns))
    return {f"turns_per_s_by_{n}": ingest_rate(folder, texts, n) for n in (1, 32, 256)}


def query(folder: Path, turns: int, queries: int = 200) -> dict[str, float]:
    """Milliseconds of the store's own part of a search: both indices, no embedding."""
    tenant = SqliteStore(folder).tenant("filled")
    fill(tenant, list(made_up(turns)), "made-up/1")
    bob = tenant.member("bob")
    asked = [" ".join(text.split()[:ASKED]) for text in made_up(queries, seed=9)]
    vectors = unit_vectors(queries, 7)
    bob.find(asked[0], vectors[0])
    times = []
    for text, vector in zip(asked, vectors, strict=True):
        start = time.perf_counter()
        bob.find(text, vector)
        times.append(1000 * (time.perf_counter() - start))
    p50, p95 = np.percentile(times, [50, 95])
    return {"turns": turns, "find_p50_ms": float(p50), "find_p95_ms": float(p95)}


def erase(folder: Path, turns: int, erasures: int) -> Mapping[str, float]:
    return asdict(soundness.erase_at_random(folder, turns, erasures, 10, lambda stage, done: None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("kill", "ingest", "query", "erase"))
    parser.add_argument("--folder", help="where to keep it; a temporary folder if not given")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--turns", type=int, default=6000)
    parser.add_argument("--erasures", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(given.folder or temporary)
        measures: dict[str, Callable[[], Mapping[str, float]]] = {
            "kill": lambda: killed_writers(folder, given.rounds, given.seed),
            "ingest": lambda: ingest(folder, given.turns),
            "query": lambda: query(folder, given.turns),
            "erase": lambda: erase(folder, given.turns, given.erasures),
        }
        print(json.dumps(measures[given.what]()))


if __name__ == "__main__":
    main()
