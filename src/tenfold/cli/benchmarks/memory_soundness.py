"""What memory must never do: lose what it acknowledged, keep what was erased, grow by repetition.

Each measure counts violations, and has a probe of its own that shows it can find one.
"""

from __future__ import annotations

import gc
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType

from tenfold.cli.benchmarks import Report
from tenfold.cli.benchmarks import memory_writer as writer
from tenfold.errors import TenfoldError
from tenfold.memory.derive.sources import learnt
from tenfold.memory.embedding import HashedWords
from tenfold.memory.events import NewEvent
from tenfold.memory.memory import Memory
from tenfold.memory.sqlite import SqliteStore
from tenfold.memory.sqlite.tenant import SqliteTenant
from tenfold.memory.store import Selection

LONGEST_LIFE = 0.5  # seconds a writer lives at most


@dataclass(slots=True)
class Killed:
    """What became of what a killed writer said.

    lost: acknowledged events that are not there; undead: erased ones that are; half: events that
    are neither waiting nor wholly derived, or done ones that wait.
    """

    rounds: int = 0
    acknowledged: int = 0
    lost: int = 0
    undead: int = 0
    half: int = 0


def killed_writers(
    folder: Path, rounds: int, seed: int = 0, report: Report = lambda stage, done: None
) -> Killed:
    """Kills a writer with SIGKILL at random points, again and again on one file."""
    rng = random.Random(seed)
    counts = Killed()
    kept: set[str] = set()
    done: set[str] = set()
    gone: set[str] = set()
    for turn in range(rounds):
        said = _killed_after(folder, seed * 1000 + turn, rng.uniform(0.02, LONGEST_LIFE))
        kept |= said["kept"]
        done |= said["done"]
        gone |= said["erased"]
        unsure = said["erasing"] - said["erased"]
        store = SqliteStore(folder)
        tenant = store.tenant(writer.TENANT)
        tenant.check()
        there = {e.id for e in tenant.member(writer.MEMBER).history()}
        gone |= unsure - there
        counts.lost += len(kept - gone - unsure - there)
        counts.undead += len(gone & there)
        counts.half += _half_derived(tenant, there, done - gone)
        store.close()
        counts.rounds += 1
        counts.acknowledged = len(kept)
        report("kill -9", (turn + 1) / rounds)
    return counts


def _half_derived(tenant: SqliteTenant, there: set[str], done: set[str]) -> int:
    waiting = {e.id for e in tenant.waiting(1_000_000)}
    derived = {i for d in tenant.member(writer.MEMBER).derived(writer.FACT) for i in d.events}
    return len(there - waiting - derived) + len((done & there) & waiting) + len(derived - there)


def _killed_after(folder: Path, seed: int, seconds: float) -> dict[str, set[str]]:
    command = [sys.executable, "-m", writer.__name__, str(folder), str(seed)]
    said: dict[str, set[str]] = {"kept": set(), "done": set(), "erasing": set(), "erased": set()}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    with running, running.stdout as lines:
        first = lines.readline()  # the clock starts when it writes
        time.sleep(seconds)
        running.kill()
        for line in [first, *lines]:
            if line.endswith("\n"):  # the last one may be cut off
                verb, *ids = line.split()
                said[verb].update(ids)
    if not first:
        raise TenfoldError("the writer to be killed did not start", hint=" ".join(command))
    return said


@dataclass(frozen=True, slots=True)
class Erased:
    """Probes of erased events that were found anywhere afterwards, and how that was looked for."""

    residue: int
    erasures: int
    events: int  # that they erased
    looks: int
    seconds: float


def erase_at_random(
    folder: Path, turns: int, erasures: int, looks: int, report: Report, seed: int = 0
) -> Erased:
    """Erases events of a memory with everything derived, one or a few at a time.

    Every event says a word that is nowhere else, in a sentence that facts and entities are derived
    from; some are recalled, and the recall repeats them. Now and then, and at the end, all erased
    words are looked for: in the bytes of all files, tables and index vocabularies, and in what the
    memory's objects hold in this process. Raises TenfoldError if a word that is kept is not found.
    """
    rng = random.Random(seed)
    store = SqliteStore(folder)
    try:
        memory = Memory(store.tenant("erased"), "ada", embedder=HashedWords(64))
        events = memory.add_all(
            [NewEvent(_sentence(i), conversation=f"c{i // 50}") for i in range(turns)]
        )
        left = {e.id: number for number, e in enumerate(events)}
        memory.derive()
        report("derived what is erased later", 1.0)
        residue, gone, began = 0, list[str](), time.perf_counter()
        for number in range(erasures):
            few = rng.sample(list(left), min(rng.choice([1, 1, 1, 1, 1, 1, 1, 3]), len(left) - 1))
            words = [_probe(left.pop(ulid)) for ulid in few]
            if number % 5 == 0:
                memory.recall(f"What is {words[0]}?", 100, lambda text: len(text.split()))
            memory.erase(Selection(ids=tuple(few)))
            gone += words
            if (number + 1) % max(1, erasures // looks) == 0:
                residue += _look(memory, gone, _probe(next(iter(left.values()))))
            report("erasing", (number + 1) / erasures)
        return Erased(residue, erasures, len(gone), looks, time.perf_counter() - began)
    finally:
        store.close()


def _look(memory: Memory, gone: Sequence[str], kept: str) -> int:
    """Where erased words are still found: after erasing, and after deriving again and searching."""
    found = len(memory.tenant.verify_erasure(gone)) + held_in_memory(memory, gone)
    memory.search("Who moved to town?")
    found += len(memory.tenant.verify_erasure(gone)) + held_in_memory(memory, gone)
    if not memory.tenant.verify_erasure([kept]):
        raise TenfoldError(f"the search for residue did not find {kept}, which is not erased")
    return found


def held_in_memory(root: object, probes: Sequence[str]) -> int:
    """How many strings that can be reached from an object hold one of the probes."""
    seen, todo, held = {id(root)}, [root], 0
    while todo:
        one = todo.pop()
        keys = list(one) if isinstance(one, dict) else []  # the collector passes over strings
        for item in keys + gc.get_referents(one):
            if id(item) in seen or isinstance(item, type | ModuleType | FunctionType):
                continue
            seen.add(id(item))
            if isinstance(item, str | bytes):
                text = item.decode(errors="replace") if isinstance(item, bytes) else item
                held += any(p.casefold() in text.casefold() for p in probes)
            else:
                todo.append(item)
    return held


def _probe(number: int) -> str:
    return f"Zq{number:06d}xw"


def _sentence(number: int) -> str:
    place = _probe(number)
    return (
        f"I live in {place}.",
        f"My sister moved to {place} last May, and she likes it there.",
        f"We met Mr {place} at the station on 3 May 2023.",
        f"My favourite street is {place} Road.",
    )[number % 4]


@dataclass(frozen=True, slots=True)
class Repeated:
    """What memory takes for different statements before and after all of them are said again."""

    statements: int
    before: int
    after: int
    facts_before: int
    facts_after: int


RESTATED: tuple[Callable[[str], str], ...] = (
    lambda text: text,
    lambda text: text.lower(),
    lambda text: text.rstrip(".") + "!",
    lambda text: text.replace(" ", "  "),
    lambda text: text.replace(" really ", " "),
)


def restate(folder: Path, statements: int, seed: int = 0) -> Repeated:
    """Says everything again in each way of RESTATED, and recalls in between.

    What memory recalled is written to its log; it must not become statements of its own.
    """
    rng = random.Random(seed)
    store = SqliteStore(folder)
    try:
        memory = Memory(store.tenant("restated"), "ada", embedder=HashedWords())
        said = [_statement(i, rng) for i in range(statements)]
        memory.add_all([NewEvent(text) for text in said])
        before, facts_before = _distinct(memory), len(memory.facts())
        for way in RESTATED:
            memory.add_all([NewEvent(way(text)) for text in said])
            memory.recall(rng.choice(said), 200, lambda text: len(text.split()))
        return Repeated(statements, before, _distinct(memory), facts_before, len(memory.facts()))
    finally:
        store.close()


def _distinct(memory: Memory) -> int:
    """Statements without those that only restate another one, as the audit counts them."""
    return len(learnt(memory.history())) - memory.audit().duplicated.count


_NAMES = ("Maria", "Tomas", "Aisha", "Pavel", "Ingrid", "Kofi", "Lucia", "Henrik", "Yuki", "Omar")
_DOES = (
    "works as a {0} in {1}",
    "bought a {0} from a shop in {1}",
    "lost the old {0} on the way to {1}",
    "wants to show us the {0} that was made in {1}",
)
_THINGS = ("lamp", "piano", "tractor", "kettle", "violin", "helmet", "carpet", "mirror", "kite")
_TOWNS = ("Porto", "Lyon", "Gdansk", "Turin", "Bergen", "Cork", "Split", "Malmo", "Ghent")


def _statement(number: int, rng: random.Random) -> str:
    """A sentence that no other number makes; the number in it is part of what is said."""
    does = rng.choice(_DOES).format(rng.choice(_THINGS), rng.choice(_TOWNS))
    return f"{rng.choice(_NAMES)} really {does}, and paid {number + 2} crowns."
