"""A writer that is killed: it appends, derives and erases, and says what memory acknowledged.

python -m tenfold.cli.benchmarks.memory_writer FOLDER SEED
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence

from tenfold.cli.benchmarks.memory_made_up import unit_vectors
from tenfold.memory.events import NewEvent
from tenfold.memory.sqlite import SqliteStore
from tenfold.memory.store import Derived, Selection

TENANT, MEMBER, FACT = "killed", "ada", "fact"


def write(folder: str, seed: int) -> None:
    """Until it is killed; a line is written only after memory has acknowledged it."""
    rng = random.Random(seed)
    tenant = SqliteStore(folder).tenant(TENANT)
    ada = tenant.member(MEMBER)
    mine: list[str] = []
    for turn in range(1_000_000):
        events = ada.append(
            [
                NewEvent(f"turn {turn} says {rng.random()}", conversation=f"c{turn % 3}")
                for _ in range(rng.choice([1, 1, 1, 8]))
            ]
        )
        _say("kept", [e.id for e in events])
        mine += [e.id for e in events]
        if rng.random() < 0.3:
            ids = [e.id for e in tenant.waiting(16)]
            tenant.put_vectors("e/1", "turn", ids, unit_vectors(len(ids)))
            tenant.put([Derived(FACT, "f/1", (i,), {"of": i}) for i in ids], done=ids)
            _say("done", ids)
        if rng.random() < 0.1:
            gone = mine.pop(rng.randrange(len(mine)))
            _say("erasing", [gone])
            ada.erase(Selection(ids=(gone,)))
            _say("erased", [gone])


def _say(verb: str, ids: Sequence[str]) -> None:
    sys.stdout.write(" ".join((verb, *ids)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[2]))
