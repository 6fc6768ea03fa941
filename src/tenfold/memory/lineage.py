"""Where things in a memory come from, and what goes with them: looking before one erases.

Everything here is about what one member may read. An event of another is answered like one that
does not exist, and nothing that is named in an answer is beyond the member's reach.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

import numpy as np

from tenfold.errors import InvalidRequest
from tenfold.memory.derive.duplicates import DERIVER as CLUSTERING
from tenfold.memory.derive.duplicates import clusters_of
from tenfold.memory.derive.entities import derive_entities
from tenfold.memory.derive.facts import Fact, as_of, claim_of, claims, facts
from tenfold.memory.derive.sources import LEARNT
from tenfold.memory.derive.summaries import derive_summaries
from tenfold.memory.deriving import TURN, WINDOW
from tenfold.memory.events import Event, Kind
from tenfold.memory.memory import Memory
from tenfold.memory.store import Derived, Member, Selection

T = TypeVar("T")
CITING = (Kind.RECALL, Kind.FEEDBACK)  # they go with the events that they cite
CITED = 5_000  # the newest of these that are looked through
AROUND = 1_000  # events of a conversation or an author from which is worked out what is not kept


class State(StrEnum):
    """How far an event is derived from. Recalls and feedback never are."""

    DERIVED = "derived"
    WAITING = "waiting"
    FAILED = "failed"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Vector:
    """A vector of an event: `kind` turn or window, by whom, and the events whose text it holds."""

    kind: str
    deriver: str
    events: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that comes from events: an entity, a cluster, a summary, weights of a search.

    `kept` says whether it is in the store; the others are worked out whenever they are asked for.
    """

    derived: Derived
    kept: bool


@dataclass(frozen=True, slots=True)
class Lineage:
    """An event, what it repeats or answers, and all that came of it.

    `complete` is false where there is more to look through than CITED or AROUND.
    """

    event: Event
    state: State
    reason: str  # of a failure
    words: bool  # in the text index
    vectors: tuple[Vector, ...]
    facts: tuple[Fact, ...]  # of all times, those believed no longer among them
    things: tuple[Thing, ...]
    sources: tuple[Event, ...]  # what it repeats or answers
    recalls: tuple[Event, ...]
    feedback: tuple[Event, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class Preview:
    """What an erasure would take: own `events`, and the readable recalls and feedback on them.

    `others` are selected and readable but not the member's to erase. `examples` are ids.
    """

    events: int
    recalls: int
    feedback: int
    others: int
    examples: tuple[str, ...] = field(default=())


def lineage(memory: Memory, ulid: str) -> Lineage | None:
    """What came of an event and what it came from; None where the member can read no such event.

    Derives what waits first, as `Memory.facts` does. Raises InvalidRequest for what is no id.
    """
    if not (found := memory.get(ulid)):
        return None
    (event,) = found
    member = memory.tenant.member(memory.member)
    citing = list(member.history(Selection(kinds=CITING), CITED))
    cited = [e for e in citing if ulid in e.sources]
    learnt = event.kind in LEARNT
    memory.derive()
    believed = tuple(f for f in beliefs(memory) if ulid in f.events) if claims(found) else ()
    words, vectors = _indexed(memory, member, event) if learnt else (False, ())
    state, reason = _state(memory, event, vectors)
    things, whole = _things(member, event)
    return Lineage(
        event=event,
        state=state,
        reason=reason,
        words=words,
        vectors=vectors,
        facts=believed,
        things=things,
        sources=tuple(memory.get(*event.sources)),
        recalls=tuple(e for e in cited if e.kind is Kind.RECALL),
        feedback=tuple(e for e in cited if e.kind is Kind.FEEDBACK),
        complete=whole and len(citing) < CITED,
    )


def beliefs(memory: Memory, recorded: datetime | None = None) -> list[Fact]:
    """Facts of all times, ended ones too, as they were believed at `recorded`.

    Without it also those that were believed once and are no more. In the order of their topics.
    """
    memory.derive()
    if memory.status().waiting:  # without an embedder nothing is kept
        claimed = claims(list(_going(memory, memory.history())))
    else:
        rows = memory.tenant.member(memory.member).derived("claim")
        claimed = [claim_of(row) for row in _going(memory, rows)]
    return facts(claimed) if recorded is None else as_of(facts(claimed), recorded=recorded)


def preview(memory: Memory, selection: Selection, examples: int = 5) -> Preview:
    """What `Memory.erase` would take, without taking it.

    Raises InvalidRequest for an empty selection, as the erasure would.
    """
    if selection.is_everything():
        raise InvalidRequest(
            "an erasure needs a selection",
            param="selection",
            hint="say a conversation, a subject, an author, a kind, a scope, a time, or ids",
        )
    own: list[str] = []
    others = 0
    for event in _going(memory, memory.history(selection)):
        if memory.member in (event.author, event.subject):
            own.append(event.id)
        else:
            others += 1
    gone, along = set(own), Counter[Kind]()
    citing = memory.history(Selection(kinds=CITING)) if own else ()
    for event in _going(memory, citing):
        # In the order of the log: a recall of a recall comes after it.
        if event.id not in gone and not gone.isdisjoint(event.sources):
            gone.add(event.id)
            along[event.kind] += 1
    return Preview(
        len(own), along[Kind.RECALL], along[Kind.FEEDBACK], others, tuple(own[:examples])
    )


def _going(memory: Memory, many: Iterable[T]) -> Iterator[T]:
    """One by one, for as long as the memory may go on."""
    for one in many:
        memory.pause()
        yield one


def _indexed(memory: Memory, member: Member, event: Event) -> tuple[bool, tuple[Vector, ...]]:
    """Whether the text index has the event, and its vectors: the store is asked, not the plan.

    A vector is there when it is not at right angles to a random one, which never happens by chance.
    """
    width = memory.embedder.width if memory.embedder is not None else 0
    probe = np.random.default_rng(0).standard_normal(width).astype(np.float32) if width else None
    found = member.find(event.text, probe, selection=Selection(ids=(event.id,)), limit=1)
    if not found.events:
        return False, ()
    before = memory.tenant.previous([event.id])[0]
    near = memory.get(before.id) if before is not None else []
    label = memory.tenant.embedder()
    own = (event.id,)
    made = ((TURN, found.turn[0], own), (WINDOW, found.window[0], (*(e.id for e in near), *own)))
    vectors = tuple(Vector(kind, label, ids) for kind, cosine, ids in made if cosine)
    return bool(found.lexical[0]), vectors


def _state(memory: Memory, event: Event, vectors: Sequence[Vector]) -> tuple[State, str]:
    if event.kind not in LEARNT:
        return State.NEVER, ""
    failed = dict(memory.tenant.failures())
    if event.id in failed:
        return State.FAILED, failed[event.id]
    return (State.DERIVED if vectors else State.WAITING), ""


def _things(member: Member, event: Event) -> tuple[tuple[Thing, ...], bool]:
    """Entities, clusters and summaries: what is kept, and what is worked out where none is."""
    mine = Selection(ids=(event.id,))
    ways: dict[str, Callable[[], tuple[Iterable[Derived], bool]]] = {
        "entity": lambda: (derive_entities([event]), True),
        "duplicate": lambda: _cluster(member, event),
        "summary": lambda: _summary(member, event),
        "weights": lambda: ((), True),
    }
    things: list[Thing] = []
    complete = True
    for kind, work_out in ways.items():
        kept = list(member.derived(kind, mine))
        made, whole = ((), True) if kept or event.kind not in LEARNT else work_out()
        things += [Thing(one, True) for one in kept] + [Thing(one, False) for one in made]
        complete &= whole
    return tuple(things), complete


def _cluster(member: Member, event: Event) -> tuple[list[Derived], bool]:
    """The events of its author that say the same, as one thing from all of them."""
    meant = Selection(author=event.author, subject=event.subject, scope=event.scope)
    events = list(member.history(meant, AROUND))
    whole = len(events) < AROUND
    for leader, ids in clusters_of(events).items():
        if event.id in ids and len(ids) > 1:
            value: dict[str, str | float | None] = {"leader": leader, "size": float(len(ids))}
            return [Derived("duplicate", CLUSTERING, tuple(ids), value)], whole
    return [], whole


def _summary(member: Member, event: Event) -> tuple[list[Derived], bool]:
    """The summary of its conversation, where the event bears on it."""
    if not event.conversation:
        return [], True
    events = list(member.history(Selection(conversation=event.conversation), AROUND))
    return [s for s in derive_summaries(events) if event.id in s.events], len(events) < AROUND
