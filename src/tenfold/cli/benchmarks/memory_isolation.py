"""Random calls by members of several tenants, held against a model of who may read what.

The model is plain Python, written from the contract; it shares nothing with a store.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tenfold.cli.benchmarks import Report
from tenfold.errors import InvalidRequest, TenfoldError
from tenfold.memory.embedding import HashedWords
from tenfold.memory.events import PRIVATE, SHARED, Event, Kind, NewEvent, Scope
from tenfold.memory.memory import Memory
from tenfold.memory.sqlite import SqliteStore
from tenfold.memory.store import Selection

TENANTS, MEMBERS, TEAMS = ("acme", "other", "third"), ("ada", "bob", "cleo", "dan"), ("red", "blue")
PLACES = ("Porto", "Lyon", "Turin", "Cork", "Ghent")
CONVERSATIONS = ("", "c1", "c2")
MOST = (
    300  # events of a tenant; beyond them the oldest are erased by the tenant, and calls stay fast
)


@dataclass
class Model:
    """What one tenant has, and who is in which team."""

    events: dict[str, Event] = field(default_factory=dict)
    grants: set[tuple[str, str]] = field(default_factory=set)

    def may_read(self, who: str, event: Event) -> bool:
        """By the contract: one's own private events, one's teams' events, shared events."""
        match event.scope.name.split(":", 1):
            case ["private"]:
                return event.author == who
            case ["team", team]:
                return (who, team) in self.grants
            case _:
                return True

    def readable(self, who: str) -> set[str]:
        """Ids of what a member may read."""
        return {i for i, e in self.events.items() if self.may_read(who, e)}

    def erase(self, ids: set[str]) -> None:
        """Takes events out, and recalls that repeat them."""
        while ids:
            for ulid in ids:
                self.events.pop(ulid, None)
            ids = {
                i for i, e in self.events.items() if e.kind is Kind.RECALL and set(e.sources) & ids
            }


@dataclass(slots=True)
class Played:
    """What the calls returned: how many events in all, and how many that were not theirs."""

    calls: int = 0
    returned: int = 0
    leaks: int = 0
    missing: int = 0  # events that should have been returned and were not
    refused: int = 0  # calls that were refused, as they should be


class Player:
    """Makes one random call after another and compares each answer with the model."""

    def __init__(self, store: SqliteStore, seed: int) -> None:
        self._rng = random.Random(seed)
        self._store = store
        self._models = {name: Model() for name in TENANTS}
        self._memories = {
            (tenant, who): Memory(store.tenant(tenant), who, embedder=HashedWords(64))
            for tenant in TENANTS
            for who in MEMBERS
        }
        self.played = Played()

    def play(self, calls: int, report: Report) -> Played:
        """Makes that many calls."""
        moves = {
            self._add: 6, self._grant: 1, self._revoke: 1, self._get: 3, self._history: 3,
            self._search: 5, self._recall: 1, self._facts: 2, self._derived: 1, self._erase: 1,
        }  # fmt: skip
        for call in range(calls):
            self._tenant, self._who = self._rng.choice(TENANTS), self._rng.choice(MEMBERS)
            self._model = self._models[self._tenant]
            self._memory = self._memories[self._tenant, self._who]
            self._rng.choices(list(moves), list(moves.values()))[0]()
            self._trim()
            self.played.calls += 1
            if call % 100 == 0:
                report("random calls", call / calls)
        return self.played

    def _returned(self, ids: Iterable[str], expected: set[str] | None = None) -> None:
        """Counts an answer; `expected` where it should be exactly these."""
        got, readable = set(ids), self._model.readable(self._who)
        self.played.returned += len(got)
        self.played.leaks += len(got - readable)
        if expected is not None:
            self.played.leaks += len((got & readable) - expected)
            self.played.missing += len(expected - got)

    def _any_ids(self, most: int) -> list[str]:
        """Ids of any tenant and any member: a guess at what is not one's own."""
        every = [i for model in self._models.values() for i in model.events]
        return self._rng.sample(every, min(len(every), self._rng.randint(1, most)))

    def _add(self) -> None:
        scope = self._rng.choice((PRIVATE, SHARED, *(Scope(f"team:{t}") for t in TEAMS)))
        sources = tuple(self._any_ids(1)) if self._rng.random() < 0.2 else ()
        new = NewEvent(
            f"I live in {self._rng.choice(PLACES)}.",
            scope=scope,
            sources=sources,
            subject=self._rng.choice(("", *MEMBERS)),
            conversation=self._rng.choice(CONVERSATIONS),
        )
        allowed = scope.team is None or (self._who, scope.team) in self._model.grants
        if self._refused(allowed and set(sources) <= self._model.readable(self._who), new):
            return
        (event,) = self._memory.add_all([new])
        self._model.events[event.id] = event

    def _refused(self, allowed: bool, new: NewEvent) -> bool:
        if allowed:
            return False
        try:
            self._memory.add_all([new])
        except InvalidRequest:
            self.played.refused += 1
        else:
            self.played.leaks += 1  # wrote into a team, or knew of a source, that is not theirs
        return True

    def _grant(self) -> None:
        team = self._rng.choice(TEAMS)
        self._store.tenant(self._tenant).grant(self._who, team)
        self._model.grants.add((self._who, team))

    def _revoke(self) -> None:
        team = self._rng.choice(TEAMS)
        self._store.tenant(self._tenant).revoke(self._who, team)
        self._model.grants.discard((self._who, team))

    def _get(self) -> None:
        ids = self._any_ids(20) if any(m.events for m in self._models.values()) else []
        expected = set(ids) & self._model.readable(self._who)
        self._returned((e.id for e in self._memory.get(*ids)), expected)

    def _history(self) -> None:
        author = self._rng.choice(("", *MEMBERS))
        expected = {
            i
            for i in self._model.readable(self._who)
            if author in ("", self._model.events[i].author)
        }
        found = self._memory.history(Selection(author=author))
        self._returned((e.id for e in found), expected)

    def _search(self) -> None:
        hits = self._memory.search(f"Who lives in {self._rng.choice(PLACES)}?", 20)
        self._returned(h.event.id for h in hits)

    def _recall(self) -> None:
        packed = self._memory.recall(
            f"Is {self._rng.choice(PLACES)} far?", 60, lambda t: len(t.split())
        )
        self._returned(packed.citations.values())
        for event in self._memory.history(limit=1):
            self._model.events.setdefault(event.id, event)

    def _facts(self) -> None:
        self._returned(i for fact in self._memory.facts() for i in fact.events)

    def _derived(self) -> None:
        member = self._store.tenant(self._tenant).member(self._who)
        self._returned(i for row in member.derived("claim") for i in row.events)

    def _erase(self) -> None:
        ids = self._any_ids(3)
        own = {
            i
            for i in self._model.readable(self._who) & set(ids)
            if self._who in (self._model.events[i].author, self._model.events[i].subject)
        }
        try:
            self._memory.erase(Selection(ids=tuple(ids)))
        except InvalidRequest:
            self.played.refused += 1
            self.played.missing += len(own)
        else:
            self.played.leaks += not own  # something of others was erased
            self._model.erase(own)

    def _trim(self) -> None:
        if len(self._model.events) > MOST:
            oldest = set(list(self._model.events)[: MOST // 2])
            self._store.tenant(self._tenant).erase(Selection(ids=tuple(oldest)))
            self._model.erase(oldest)


def play(folder: Path, calls: int, report: Report, seed: int = 0) -> Played:
    """That many random calls. Raises TenfoldError if nothing could have leaked."""
    store = SqliteStore(folder)
    try:
        played = Player(store, seed).play(calls, report)
    finally:
        store.close()
    if not played.returned:
        raise TenfoldError("no call returned anything: nothing was tested")
    return played
