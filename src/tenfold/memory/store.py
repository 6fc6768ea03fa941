"""What a store of memories must do; the contract suite in tests/memory holds each one to it.

The only way in is a tenant, and inside it a member: `store.tenant("acme").member("ada")`. What a
member reads, finds, changes or erases is decided by that handle. No call takes a user to filter by,
so there is no filter to forget.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tenfold.errors import TenfoldError
from tenfold.memory.events import Event, Kind, NewEvent, Scope, clean_unicode, in_utc, scope_of

Vectors = NDArray[np.float32]
# Kinds that are derived when somebody asks for it. No queue brings them back: a rebuild keeps them,
# and events are not queued again because one of these went with another event.
ON_DEMAND = frozenset({"summary", "weights"})


class StoreError(TenfoldError):
    """The store cannot do it as it stands: a full disk, a damaged or newer file, a lock."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of a member's events are meant; what is left out does not restrict.

    `as_of` goes back in time: events that were recorded and valid by then. A scope may be given by
    its name. Raises InvalidRequest for a time without a zone, and for what is no text.
    """

    ids: tuple[str, ...] = ()
    subject: str = ""
    conversation: str = ""
    author: str = ""
    kinds: tuple[Kind, ...] = ()
    scope: Scope | None = None
    since: datetime | None = None  # valid_at, inclusive
    until: datetime | None = None  # valid_at, exclusive
    as_of: datetime | None = None

    def __post_init__(self) -> None:
        for ulid in self.ids:
            clean_unicode(ulid, "ids")
        for param in ("subject", "conversation", "author"):
            clean_unicode(getattr(self, param), param)
        if self.scope is not None:
            object.__setattr__(self, "scope", scope_of(self.scope))
        for param in ("since", "until", "as_of"):
            moment = getattr(self, param)
            if moment is not None:
                object.__setattr__(self, param, in_utc(moment, param))

    def is_everything(self) -> bool:
        """Whether nothing restricts it."""
        return self == Selection()


@dataclass(frozen=True, slots=True)
class Derived:
    """One thing derived from events: an entity, a fact, a summary, a cluster.

    `events` are the events it came from, all of them: when one is erased it goes too, and is
    derived again from those that are left.
    """

    kind: str
    deriver: str  # name and version, such as "entities/1"
    events: tuple[str, ...]
    value: Mapping[str, str | float | None]


@dataclass(frozen=True, slots=True)
class Found:
    """What the store itself knows of the events that may answer a query, best first by `lexical`.

    Neighbours of lexical matches in their conversations are among them, so that `before` (the place
    of the event before in the same conversation, -1 where it is not here) links them.
    `lexical` is BM25 made positive (0 where the text does not match). Vectors are unit length;
    `turn` is of the event's text, `window` of it and the one before in its conversation; rows of
    events that have none yet are zero.
    """

    events: Sequence[Event]
    lexical: NDArray[np.float64]  # [events]
    turn: NDArray[np.float64]  # [events] cosine with the query's vector
    window: NDArray[np.float64]  # [events]
    before: NDArray[np.int64]  # [events]


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof of an erasure that holds nothing of what was erased.

    It counts what its holder can read: the recalls, feedback and summaries of others that went
    along are not in it.
    """

    id: str
    erased_at: datetime
    events: int
    derived: int  # rows of indices, vectors, facts and summaries that went with them
    rederived: int  # what is derived again without them
    selection: Mapping[str, str]  # which parts of the selection restricted it, not their values
    # False while somebody reads the state before it, so that erased bytes are still in a file. They
    # go with the next erasure, or when the memory is opened again.
    scrubbed: bool = True


@dataclass(frozen=True, slots=True)
class Residue:
    """A place where something that should be gone was found."""

    where: str  # a file, a table, an index vocabulary
    probe: int  # which of the probes, by position: never its text


@dataclass(frozen=True, slots=True)
class Status:
    """How a tenant's memory stands."""

    events: int
    waiting: int  # events that are not derived yet
    failed: int  # events whose derivation failed, with the reason in `audit`
    derivers: Mapping[str, str] = field(default_factory=dict)  # name -> version
    size_bytes: int = 0
    unscrubbed: int = 0  # erasures whose bytes are still in a file: see `Receipt.scrubbed`
    notes: tuple[str, ...] = ()  # what makes it slower than it could be, and what to do


class Member(Protocol):
    """One actor's view of a tenant's memory: everything happens through it."""

    @property
    def name(self) -> str: ...

    @property
    def teams(self) -> frozenset[str]: ...

    def append(self, events: Sequence[NewEvent]) -> list[Event]:
        """Writes events in one transaction; they are on disk when it returns.

        Raises InvalidRequest: a scope of a team the member is not in, a key that holds another
        event, a source that the member cannot read. Nothing is written then.
        """
        ...

    def get(self, ids: Sequence[str]) -> list[Event]:
        """The readable ones of these events, in the order asked for."""
        ...

    def history(self, selection: Selection = Selection(), limit: int = 0) -> Iterator[Event]:
        """Readable events in the order of the log; the newest `limit` of them if not 0."""
        ...

    def find(
        self,
        text: str,
        vector: Vectors | None = None,
        *,
        selection: Selection = Selection(),
        limit: int = 200,
    ) -> Found:
        """Readable events that match the text, or whose vectors are near, `limit` of each kind.

        `text` is words, never query syntax. Recalls and feedback are not found.
        """
        ...

    def derived(self, kind: str, selection: Selection = Selection()) -> Iterator[Derived]:
        """What was derived from readable events only."""
        ...

    def waiting(self, limit: int) -> list[str]:
        """Ids of readable events whose derivations are still missing, oldest first.

        Only to look at: who derives takes them from the tenant, which remembers what it handed out.
        """
        ...

    def erase(self, selection: Selection) -> Receipt:
        """Erases the member's own events that are selected, and all that came from them.

        Recalls that repeat them and feedback that was given on them go along. One transaction;
        raises InvalidRequest for an empty selection or one that selects nothing.
        """
        ...


class Tenant(Protocol):
    """One tenant's memory: its own file, or its own rows and keys.

    What was erased is beyond every call, whatever the store. Where its bytes are differs. SQLite's
    are gone from the tenant's file when `erase` returns. A Postgres server keeps old rows in its
    write-ahead log, in dead tuples and in backups for as long as it likes; what was said is
    ciphertext there, under keys that are gone from the tenant's key file when `erase` returns. In
    those old rows can still be read: times, kinds, scopes, lengths and the numbers of events, and,
    by who holds the key file, whether a guessed name or id is that of the author, the subject, the
    conversation or the event.
    """

    @property
    def name(self) -> str: ...

    def member(self, name: str) -> Member:
        """The view of one actor, in the teams it has been granted."""
        ...

    def grant(self, member: str, team: str) -> None:
        """Lets a member read and write a team's events."""
        ...

    def revoke(self, member: str, team: str) -> None:
        """Takes that back, from the next call on.

        What the member wrote itself stays its own, recalls that quote the team's events included:
        they go when those events are erased.
        """
        ...

    def history(self, selection: Selection = Selection(), limit: int = 0) -> Iterator[Event]:
        """Events of all members as `Member.history` gives them, for retention and backups."""
        ...

    def settings(self) -> Mapping[str, str]:
        """What is set for the tenant, by name: policies, never anything that was said."""
        ...

    def set(self, name: str, value: str) -> None:
        """Sets it for good; "" takes it back. No rebuild and no erasure changes it."""
        ...

    def epoch(self) -> int:
        """Grows whenever something is taken away or rights change: caches compare it."""
        ...

    def waiting(self, limit: int) -> list[Event]:
        """Events whose derivations are still missing, oldest first, for who derives them now.

        One that an erasure queues again after it was handed out here is not done by what is put of
        it then.
        """
        ...

    def previous(self, ids: Sequence[str]) -> list[Event | None]:
        """What was said before each of these in its conversation, for the window's vector.

        The nearest event there with the same audience (the same scope, and of private ones the same
        author), so that a window never carries over what its reader must not see.
        """
        ...

    def put(self, derived: Iterable[Derived], *, done: Sequence[str] = ()) -> None:
        """Writes derivations in one transaction; those from erased events are left out.

        `done` are events that have everything now: they wait no longer. What is there already is
        not written twice, so deriving again after a crash is harmless.
        """
        ...

    def fail(self, ids: Sequence[str], reason: str) -> None:
        """Records that deriving from these events failed; they wait no longer until `rebuild`."""
        ...

    def failures(self) -> list[tuple[str, str]]:
        """The events whose derivation failed, each with the reason."""
        ...

    def put_vectors(self, deriver: str, kind: str, ids: Sequence[str], vectors: Vectors) -> None:
        """Writes the vectors of `kind` (turn or window) of events, unit length [events, width].

        Raises InvalidRequest where the kind has vectors of another deriver: they do not compare,
        `rebuild` first. Vectors of erased events are left out.
        """
        ...

    def embedder(self) -> str:
        """The deriver that the turns' vectors are of; "" where there are none yet."""
        ...

    def erase(self, selection: Selection) -> Receipt:
        """Erases selected events of all members (a guest's request to be forgotten)."""
        ...

    def verify_erasure(self, probes: Sequence[str]) -> list[Residue]:
        """Looks for texts in tables, in the vocabularies of every index and in the bytes of files.

        Of Postgres in all that the keys open, and in the server's files only where the address
        names its data directory (`data=FOLDER`) and this process may read it.
        """
        ...

    def rebuild(self, keep: Collection[str] = ()) -> Status:
        """Drops all that was derived and queues every event again; kinds in `keep` stay.

        That is for what the queue does not bring back: summaries and weights are made on demand.
        """
        ...

    def status(self) -> Status:
        """Counts."""
        ...

    def close(self) -> None:
        """Ends it; harmless when called twice."""
        ...


class MemoryStore(Protocol):
    """Where tenants live."""

    def tenant(self, name: str, *, create: bool = True) -> Tenant:
        """A tenant's memory. Raises UnknownName when it does not exist and `create` is false."""
        ...

    def tenants(self) -> list[str]:
        """All of them, sorted."""
        ...

    def drop(self, name: str) -> None:
        """Removes a tenant with everything it has. Raises UnknownName."""
        ...
