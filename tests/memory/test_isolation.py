"""Random calls by many members of several tenants, held against a model of who may read what."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
import pytest

from tenfold.errors import InvalidRequest
from tenfold.memory.events import PRIVATE, SHARED, Event, Kind, NewEvent, Scope
from tenfold.memory.store import Derived, MemoryStore, Selection
from tests.memory.stores import unit_vectors

MEMBERS, TEAMS, TENANTS = ("ada", "bob", "cleo", "dan"), ("red", "blue"), ("acme", "other")
WORDS = ("tea", "rain", "zebra", "opera", "train")
CONVERSATIONS = ("", "c1", "c2")


@dataclass
class Model:
    """One tenant in plain Python, written from the contract and sharing no code with a store."""

    events: list[Event] = field(default_factory=list)
    grants: set[tuple[str, str]] = field(default_factory=set)
    derived: list[Derived] = field(default_factory=list)
    vectors: dict[str, np.ndarray] = field(default_factory=dict)

    def reads(self, who: str, event: Event) -> bool:
        name = event.scope.name
        if name == "shared":
            return True
        if name == "private":
            return event.author == who
        return (who, name.split(":", 1)[1]) in self.grants

    def readable(self, who: str) -> list[Event]:
        return [e for e in self.events if self.reads(who, e)]

    def erase(self, ids: set[str]) -> None:
        while (
            more := {e.id for e in self.events if e.kind is Kind.RECALL and set(e.sources) & ids}
            - ids
        ):
            ids = ids | more
        self.events = [e for e in self.events if e.id not in ids]
        self.derived = [d for d in self.derived if not set(d.events) & ids]


class Player:
    """Makes one random call after another and compares each answer with the model's."""

    def __init__(self, store: MemoryStore, seed: int) -> None:
        self.rng = random.Random(seed)
        self.store = store
        self.models = {name: Model() for name in TENANTS}
        self.calls = self.leaks = 0

    def play(self, calls: int) -> None:
        moves = {
            self.append: 5, self.grant: 1, self.revoke: 1, self.get: 3, self.history: 4,
            self.find: 6, self.derive: 1, self.ask_derived: 2, self.erase: 1,
        }  # fmt: skip
        for _ in range(calls):
            self.name = self.rng.choice(TENANTS)
            self.tenant, self.model = self.store.tenant(self.name), self.models[self.name]
            self.who = self.rng.choice(MEMBERS)
            self.member = self.tenant.member(self.who)
            self.rng.choices(list(moves), list(moves.values()))[0]()
            self.calls += 1

    def same(self, got: list[Event], expected: list[Event]) -> None:
        self.leaks += len({e.id for e in got} - {e.id for e in expected})
        assert [(e.id, e.text) for e in got] == [(e.id, e.text) for e in expected]

    def any_ids(self, most: int) -> tuple[str, ...]:
        """Ids of any tenant and any member: a guess at what is not one's own."""
        every = [e.id for model in self.models.values() for e in model.events]
        return tuple(self.rng.sample(every, min(len(every), self.rng.randint(1, most))))

    def selection(self) -> Selection:
        pick = self.rng.choice
        return Selection(
            ids=self.any_ids(30) if self.rng.random() < 0.2 else (),
            author=pick(("", "", "", *MEMBERS)),
            subject=pick(("", "", "", *MEMBERS)),
            conversation=pick(("", "", *CONVERSATIONS)),
            kinds=pick(((), (), (Kind.OBSERVATION,), (Kind.RECALL, Kind.TOOL))),
            scope=pick((None, None, None, PRIVATE, SHARED, Scope("team:red"))),
        )

    def meets(self, event: Event, chosen: Selection) -> bool:
        return (
            (not chosen.ids or event.id in chosen.ids)
            and chosen.author in ("", event.author)
            and chosen.subject in ("", event.subject)
            and chosen.conversation in ("", event.conversation)
            and (not chosen.kinds or event.kind in chosen.kinds)
            and chosen.scope in (None, event.scope)
        )

    def append(self) -> None:
        scope = self.rng.choice((PRIVATE, SHARED, *(Scope(f"team:{t}") for t in TEAMS)))
        kind = self.rng.choice((Kind.OBSERVATION, Kind.OBSERVATION, Kind.TOOL, Kind.RECALL))
        sources = self.any_ids(2) if kind is Kind.RECALL and self.rng.random() < 0.7 else ()
        new = NewEvent(
            " ".join(self.rng.choices(WORDS, k=3)),
            scope=scope,
            kind=kind,
            sources=sources,
            subject=self.rng.choice(("", *MEMBERS)),
            conversation=self.rng.choice(CONVERSATIONS),
        )
        in_team = scope.team is None or (self.who, scope.team) in self.model.grants
        known = {e.id for e in self.model.readable(self.who)}
        if in_team and set(sources) <= known:
            (event,) = self.member.append([new])
            self.model.events.append(event)
            vector = unit_vectors(1, seed=self.rng.randrange(10**6))
            self.tenant.put_vectors("e/1", "turn", [event.id], vector)
            self.model.vectors[event.id] = vector[0]
        else:
            with pytest.raises(InvalidRequest):
                self.member.append([new])

    def grant(self) -> None:
        team = self.rng.choice(TEAMS)
        self.tenant.grant(self.who, team)
        self.model.grants.add((self.who, team))

    def revoke(self) -> None:
        team = self.rng.choice(TEAMS)
        self.tenant.revoke(self.who, team)
        self.model.grants.discard((self.who, team))

    def get(self) -> None:
        ids = self.any_ids(20)
        place = {e.id: e for e in self.model.readable(self.who)}
        self.same(self.member.get(ids), [place[i] for i in ids if i in place])

    def history(self) -> None:
        chosen, limit = self.selection(), self.rng.choice((0, 0, 3))
        expected = [e for e in self.model.readable(self.who) if self.meets(e, chosen)]
        self.same(list(self.member.history(chosen, limit)), expected[-limit:])

    def find(self) -> None:
        chosen = self.selection() if self.rng.random() < 0.5 else Selection()
        words = set(self.rng.sample(WORDS, 2))
        vector = unit_vectors(1, seed=self.rng.randrange(10**6))[0]
        found = self.member.find(
            " ".join(words), vector if self.rng.random() < 0.5 else None,
            selection=chosen, limit=10_000,
        )  # fmt: skip
        may = [
            e for e in self.model.readable(self.who)
            if self.meets(e, chosen) and e.kind in (Kind.OBSERVATION, Kind.TOOL)
        ]  # fmt: skip
        ids = {e.id for e in found.events}
        self.leaks += len(ids - {e.id for e in may})
        assert ids <= {e.id for e in may}
        matching = {e.id for e in may if set(e.text.split()) & words}
        assert matching <= ids
        assert matching == {e.id for e, s in zip(found.events, found.lexical, strict=True) if s > 0}
        if found.turn.any():
            expected = [self.model.vectors[e.id] @ vector for e in found.events]
            np.testing.assert_allclose(found.turn, expected, atol=1e-5)

    def derive(self) -> None:
        ids = [i for i in self.any_ids(3) if i in {e.id for e in self.model.events}]
        if ids:
            places = {e.id: e.sequence for e in self.model.events}
            made = Derived(
                "fact", "f/1", tuple(sorted(ids, key=places.__getitem__)), {"n": float(self.calls)}
            )
            self.tenant.put([made])
            self.model.derived.append(made)

    def ask_derived(self) -> None:
        known = {e.id for e in self.model.readable(self.who)}
        got = list(self.member.derived("fact"))
        self.leaks += sum(not set(d.events) <= known for d in got)
        assert got == [d for d in self.model.derived if set(d.events) <= known]

    def erase(self) -> None:
        chosen = Selection(ids=self.any_ids(3))
        own = {
            e.id for e in self.model.readable(self.who)
            if e.id in chosen.ids and self.who in (e.author, e.subject)
        }  # fmt: skip
        if own:
            self.member.erase(chosen)
            self.model.erase(own)
        else:
            with pytest.raises(InvalidRequest):
                self.member.erase(chosen)


@pytest.mark.parametrize("seed", [1, 2])
def test_no_random_call_returns_what_its_member_may_not_read(store: MemoryStore, seed: int):
    player = Player(store, seed)
    player.play(1000)
    assert player.calls == 1000
    assert player.leaks == 0
    sizes = [len(model.events) for model in player.models.values()]
    assert min(sizes) > 30  # there was something to leak


def test_the_model_notices_a_leak():
    model = Model()
    model.events.append(
        Event("0" * 26, "ada", "user", "tea", "ada", "", "", 1, Kind.OBSERVATION, PRIVATE,
              None, None)  # type: ignore[arg-type]
    )  # fmt: skip
    assert model.readable("ada")
    assert not model.readable("bob")
