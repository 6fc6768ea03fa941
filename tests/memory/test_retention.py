"""Retention: what policies want erased, that they stay, and that erasing obeys them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.errors import InvalidRequest
from tenfold.memory.events import PRIVATE, SHARED, Event, Kind, NewEvent, Scope
from tenfold.memory.memory import Memory
from tenfold.memory.retention import Retention, drop_policy, due, policies, set_policy
from tenfold.memory.store import Selection, StoreError

from .made_up import events_at

NOW = datetime(2024, 3, 15, tzinfo=UTC)
event = events_at(lambda _: NOW, conversation="c")


def aged(days: int, sequence: int, **other: object) -> Event:
    return event("x", sequence, recorded_at=NOW - timedelta(days=days), **other)


def gone(events: list[Event], *policies: Retention) -> list[int]:
    found = {i for _, ids in due(events, policies, NOW) for i in ids}
    return [e.sequence for e in events if e.id in found]


def test_the_old_and_the_surplus_of_a_scope_and_kind_are_due() -> None:
    events = [
        aged(50, 1), aged(40, 2, kind=Kind.TOOL), aged(3, 3), aged(2, 4),
        aged(50, 5, scope=SHARED), aged(1, 6, author="bob"),
    ]  # fmt: skip
    days = timedelta(days=1)
    assert gone(events, Retention("private", max_age=45 * days)) == [1]
    assert gone(events, Retention("private", max_age=35 * days)) == [1, 2]
    assert gone(events, Retention("private", Kind.TOOL, max_age=35 * days)) == [2]
    assert gone(events, Retention(max_age=45 * days)) == [1, 5]
    assert gone(events, Retention("private", max_events=1)) == [1, 2, 3]  # bob has one of his own
    assert gone(events, Retention(max_events=1)) == [1, 2, 3]  # for each scope by itself
    assert gone(events, Retention("shared", max_age=50 * days)) == []  # not longer than that
    both = Retention("shared", max_age=45 * days), Retention(kind=Kind.TOOL, max_events=9)
    assert gone(events, *both) == [5]
    assert gone(events) == []


SCOPES = (PRIVATE, SHARED, Scope("team:red"))
one_event = st.tuples(
    st.integers(0, 9), st.sampled_from(SCOPES), st.sampled_from(list(Kind)), st.sampled_from("ab")
)
one_policy = st.builds(
    Retention,
    st.sampled_from(["", "private", "shared", "team:red"]),
    st.sampled_from([None, *Kind]),
    st.one_of(st.none(), st.integers(1, 9).map(lambda d: timedelta(days=d))),
    st.integers(1, 4),
)


@given(st.lists(one_event, max_size=25), st.lists(one_policy, max_size=3))
@settings(deadline=None, max_examples=100)
def test_what_is_left_obeys_every_policy_and_nothing_goes_without_one(
    drawn: list[tuple[int, Scope, Kind, str]], chosen: list[Retention]
) -> None:
    events = [
        aged(d, i, scope=s, kind=k, author=a) for i, (d, s, k, a) in enumerate(drawn, 1)
    ]  # fmt: skip
    left = [e for e in events if e.sequence not in gone(events, *chosen)]
    for p in chosen:
        mine = [e for e in left if p.scope in ("", e.scope.name) and p.kind in (None, e.kind)]
        assert all(p.max_age is None or NOW - e.recorded_at <= p.max_age for e in mine)
        for scope in SCOPES:
            for author in "ab" if scope == PRIVATE else ("",):
                some = [e for e in mine if e.scope == scope and author in ("", e.author)]
                assert len(some) <= p.max_events
    for e in (e for e in events if e not in left):
        reasons = [p for p in chosen if p.concerns(e)]
        assert any(
            (p.max_age and NOW - e.recorded_at > p.max_age)
            or sum(p.concerns(x) and x.scope == e.scope for x in events if x.sequence > e.sequence)
            >= p.max_events
            for p in reasons
        )


@pytest.fixture
def memory(tmp_path: Path):
    memory = Memory.open(tmp_path, member="ada", embedder="words")
    yield memory
    memory.close()


def test_policies_stay_with_the_tenant_and_replace_one_another(
    memory: Memory, tmp_path: Path
) -> None:
    month = timedelta(days=30)
    set_policy(memory.tenant, Retention("private", Kind.TOOL, max_age=month))
    set_policy(memory.tenant, Retention(max_events=500))
    set_policy(memory.tenant, Retention("private", Kind.TOOL, max_age=2 * month, max_events=7))
    memory.add("x")
    memory.erase(Selection(author="ada"), all_members=True)
    memory.rebuild()
    memory.close()
    again = Memory.open(tmp_path, member="bob", embedder="none")
    assert again.retention() == [
        Retention(max_events=500),
        Retention("private", Kind.TOOL, 2 * month, 7),
    ]
    drop_policy(again.tenant)
    assert [p.about for p in policies(again.tenant)] == [("private", Kind.TOOL)]
    with pytest.raises(InvalidRequest, match="no policy about events of every scope"):
        drop_policy(again.tenant)
    again.close()


def test_applying_erases_what_is_due_of_all_members_with_what_came_of_it(memory: Memory) -> None:
    bob = memory.of("bob")
    for n in range(4):
        memory.add(f"kettle number {n} is here", conversation="c")
        bob.add(f"harbour number {n} is there")
    memory.recall("kettle number 0", 100, len)
    memory.recall("kettle number 0", 400, lambda text: len(text.split()))
    set_policy(memory.tenant, Retention("private", Kind.OBSERVATION, max_events=2))
    before = list(memory.tenant.history())
    dry = memory.retain(dry_run=True)
    assert (dry.events, [n for _, n in dry.due], dry.receipt) == (4, [4], None)
    assert list(memory.tenant.history()) == before
    done = memory.retain()
    assert done.receipt is not None
    assert done.receipt.events >= done.events == 4  # recalls of what went are among them
    left = [e.text for e in memory.tenant.history(Selection(kinds=(Kind.OBSERVATION,)))]
    assert left == [f"{what} number {n} is {where}" for n in (2, 3)
                    for what, where in (("kettle", "here"), ("harbour", "there"))]  # fmt: skip
    assert memory.tenant.verify_erasure(["kettle number 0", "harbour number 1"]) == []
    assert memory.retain().receipt is None


def test_what_applying_takes_from_a_summary_is_summed_up_anew(memory: Memory) -> None:
    texts = [f"The fence number {n} needs paint soon." for n in range(9)]
    memory.add_all([NewEvent(t, conversation="c") for t in texts])
    memory.consolidate("c")
    set_policy(memory.tenant, Retention(max_events=6))
    memory.retain()
    (row,) = memory.tenant.member("ada").derived("summary")
    assert [e.text for e in memory.get(*row.events)] == texts[3:]


def test_policies_that_cannot_be_read_erase_nothing(memory: Memory) -> None:
    memory.add("x")
    for setting in ('{"a"', '[{"scope": "private"}]', '[{"scope": "no", "kind": "", "seconds": 1,'
                    ' "events": null}]'):  # fmt: skip
        memory.tenant.set("retention", setting)
        with pytest.raises(StoreError, match="cannot be read"):
            memory.retain()
    assert memory.status().events == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_events": 0}, "keep 0 events"),
        ({"max_age": timedelta(0)}, "keep none"),
        ({}, "needs a limit"),
        ({"scope": "everybody", "max_events": 1}, "no scope"),
    ],
)
def test_a_policy_that_keeps_nothing_or_limits_nothing_is_refused(given: dict, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        Retention(**given)
