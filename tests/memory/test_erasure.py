"""Erasing takes everything along: rows, derivations, recalls, vocabularies and bytes."""

from __future__ import annotations

import operator
import random
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tenfold.cli.benchmarks.memory_soundness import held_in_memory
from tenfold.errors import InvalidRequest
from tenfold.memory.events import SHARED, Kind, NewEvent, Scope, new_id
from tenfold.memory.query import read_query
from tenfold.memory.retrieval import Weighted, rank
from tenfold.memory.rows import all_said
from tenfold.memory.store import Derived, MemoryStore, Selection, Tenant
from tests.memory.stores import Opener, unit_vectors


@pytest.fixture
def tenant(store: MemoryStore) -> Tenant:
    return store.tenant("acme")


def texts(events) -> list[str]:
    return [e.text for e in events]


def say(tenant: Tenant, name: str, *lines: str, **given) -> list:
    return tenant.member(name).append([NewEvent(line, **given) for line in lines])


def test_an_erased_event_is_gone_from_every_call(tenant: Tenant):
    gone, kept = say(tenant, "ada", "zebra tea", "rain", conversation="c", key="")
    tenant.put_vectors("e/1", "turn", [gone.id, kept.id], unit_vectors(2))
    tenant.put([Derived("entity", "e/1", (gone.id,), {"name": "zebra"})], done=[gone.id, kept.id])
    ada = tenant.member("ada")
    ada.find("zebra", unit_vectors(1)[0])  # caches are warm
    receipt = ada.erase(Selection(ids=(gone.id,)))
    assert (receipt.events, receipt.derived) == (1, 3)  # an index row, a vector, an entity
    assert ada.get([gone.id, kept.id]) == [kept]
    assert texts(ada.history()) == ["rain"]
    assert texts(ada.find("zebra", unit_vectors(1)[0]).events) == ["rain"]
    assert not ada.find("zebra").events
    assert not list(ada.derived("entity"))
    assert tenant.status().events == 1
    assert tenant.verify_erasure(["zebra", "zebra tea"]) == []


@pytest.mark.parametrize(
    ("selection", "left"),
    [
        (Selection(subject="guest"), ["two", "three", "four"]),
        (Selection(conversation="c2"), ["one", "three", "four"]),
        (Selection(author="bob"), ["one", "two", "three"]),
        (Selection(kinds=(Kind.TOOL,)), ["one", "two", "four"]),
        (Selection(until=datetime(2026, 5, 1, tzinfo=UTC)), ["one", "two", "four"]),
        (Selection(scope=SHARED), ["one", "two", "three"]),
    ],
)
def test_a_tenant_erases_by_each_part_of_a_selection(tenant: Tenant, selection, left):
    say(tenant, "ada", "one", subject="guest")
    say(tenant, "ada", "two", conversation="c2")
    say(tenant, "ada", "three", kind=Kind.TOOL, valid_at=datetime(2026, 4, 1, tzinfo=UTC))
    say(tenant, "bob", "four", scope=SHARED)
    receipt = tenant.erase(selection)
    assert texts(tenant.member("ada").history()) == left
    assert set(receipt.selection) < {"subject", "conversation", "author", "kinds", "until", "scope"}
    assert not {"guest", "c2", "bob"} & set(receipt.selection.values())


@pytest.mark.parametrize("selection", [Selection(), Selection(ids=(new_id(),))])
def test_an_erasure_of_nothing_or_of_everything_is_refused(tenant: Tenant, selection: Selection):
    say(tenant, "ada", "tea")
    for erase in (tenant.erase, tenant.member("ada").erase):
        with pytest.raises(InvalidRequest) as e:
            erase(selection)
        assert e.value.param == "selection"
    assert tenant.status().events == 1


def test_a_member_erases_what_it_wrote_and_what_it_sees_about_itself(tenant: Tenant):
    tenant.grant("ada", "red")
    tenant.grant("bob", "red")
    own = say(tenant, "ada", "own")
    about = say(tenant, "bob", "about ada", subject="ada", scope=Scope("team:red"))
    hidden = say(tenant, "bob", "bob's note about ada", subject="ada")
    others = say(tenant, "bob", "shared by bob", scope=SHARED)
    every = tuple(e.id for e in own + about + hidden + others)
    receipt = tenant.member("ada").erase(Selection(ids=every))
    assert receipt.events == 2
    assert texts(tenant.member("bob").history()) == ["bob's note about ada", "shared by bob"]
    with pytest.raises(InvalidRequest):
        tenant.member("ada").erase(Selection(ids=every))
    assert tenant.erase(Selection(subject="ada")).events == 1


def test_recalls_of_an_erased_event_go_too_and_recalls_of_those(tenant: Tenant):
    (tea,) = say(tenant, "ada", "zebra", scope=SHARED)
    (first,) = say(tenant, "bob", "you said zebra", kind=Kind.RECALL, sources=(tea.id,))
    say(tenant, "bob", "again zebra", kind=Kind.RECALL, sources=(first.id,))
    (answer,) = say(tenant, "bob", "I like it", sources=(tea.id, first.id))
    (other,) = say(tenant, "bob", "about the answer", kind=Kind.RECALL, sources=(answer.id,))
    receipt = tenant.member("ada").erase(Selection(ids=(tea.id,)))
    assert receipt.events == 1  # bob's recalls are not for her to know
    left = list(tenant.member("bob").history())
    assert texts(left) == ["I like it", "about the answer"]
    assert [e.sources for e in left] == [(), (answer.id,)]
    assert other.id == left[1].id
    assert tenant.verify_erasure(["zebra", tea.id]) == []


def test_what_came_from_several_events_goes_and_the_others_are_derived_again(tenant: Tenant):
    a, b, c = say(tenant, "ada", "a", "b", "c")
    tenant.put(
        [
            Derived("meeting", "m/1", (a.id, b.id), {"text": "a and b"}),
            Derived("summary", "s/1", (a.id, c.id), {"text": "made when asked for"}),
            Derived("entity", "e/1", (c.id,), {"name": "c"}),
        ],
        done=[a.id, b.id, c.id],
    )
    receipt = tenant.erase(Selection(ids=(a.id,)))
    assert receipt.rederived == 1
    assert tenant.waiting(10) == [b]
    for kind in ("meeting", "summary"):
        assert not list(tenant.member("ada").derived(kind))
    assert len(list(tenant.member("ada").derived("entity"))) == 1


def test_the_next_window_of_each_audience_goes_and_is_derived_again(tenant: Tenant):
    say(tenant, "ada", "a", conversation="c")
    (gone,) = say(tenant, "ada", "b", conversation="c", scope=SHARED)
    (private,) = say(tenant, "ada", "c", conversation="c")
    (shared,) = say(tenant, "bob", "d", conversation="c", scope=SHARED)
    say(tenant, "ada", "e", conversation="c")
    events = list(tenant.member("ada").history())
    vectors = unit_vectors(len(events))
    for kind in ("turn", "window"):
        tenant.put_vectors(f"{kind}/1", kind, [e.id for e in events], vectors)
    tenant.put([], done=[e.id for e in events])
    tenant.erase(Selection(ids=(gone.id,)))
    assert tenant.waiting(10) == [private, shared]
    found = tenant.member("ada").find("", vectors[0])
    scores = dict(zip(texts(found.events), found.window.tolist(), strict=True))
    assert scores["c"] == scores["d"] == 0
    assert all(scores[t] != 0 for t in "ae")
    assert found.turn.all()


def test_what_was_derived_while_an_erasure_came_between_is_not_taken(tenant: Tenant):
    a, b = say(tenant, "ada", "a", "b", conversation="c")
    assert tenant.waiting(10) == [a, b]  # a deriver starts
    tenant.erase(Selection(ids=(a.id,)))
    vectors = unit_vectors(2)
    tenant.put_vectors("w/1", "window", [a.id, b.id], vectors)  # b's window has a's text
    tenant.put_vectors("e/1", "turn", [a.id, b.id], vectors)
    tenant.put([Derived("summary", "s/1", (a.id, b.id), {"text": "a, b"})], done=[a.id, b.id])
    assert tenant.waiting(10) == [b]
    found = tenant.member("ada").find("", vectors[1])
    assert texts(found.events) == ["b"]
    assert found.turn[0] == pytest.approx(1)
    assert found.window[0] == 0
    assert not list(tenant.member("ada").derived("summary"))
    tenant.put_vectors("w/1", "window", [b.id], vectors[1:])
    tenant.put([], done=[b.id])
    assert tenant.waiting(10) == []


def test_a_key_is_free_again_after_its_event_was_erased(tenant: Tenant):
    (event,) = say(tenant, "ada", "tea", key="k")
    tenant.member("ada").erase(Selection(ids=(event.id,)))
    (other,) = say(tenant, "ada", "coffee", key="k")
    assert other.sequence > event.sequence  # places in the log are never used again


def test_residue_is_found_while_it_is_there_and_never_told(tenant: Tenant):
    say(tenant, "ada", "Zebra crossing at noon", conversation="kiwi", subject="okapi")
    probes = ["ZEBRA", "crossing at noon", "kiwi", "okapi", "nothing of this"]
    places = tenant.verify_erasure(probes)
    assert {p.probe for p in places} == {0, 1, 2, 3}
    assert not any(word in p.where.lower() for p in places for word in ("zebra", "kiwi", "okapi"))


def test_after_many_random_erasures_nothing_is_left_of_any(opener: Opener):
    rng = random.Random(5)
    tenant = opener().tenant("acme")
    vocabulary = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(3, 9))) for _ in range(900)]
    alive: dict[str, list[str]] = {}
    erased: list[str] = []
    number = 0
    for _ in range(6):
        for _ in range(14):
            batch, probes = [], []
            for _ in range(rng.choice((1, 1, 6))):
                number += 1
                mark = [
                    f"{kind}{number:05d}zq" for kind in ("text", "conv", "subj", "keyy", "note")
                ]
                line = [*rng.choices(vocabulary, k=rng.randint(2, 40)), mark[0]]
                rng.shuffle(line)
                probes.append(mark)
                batch.append(
                    NewEvent(" ".join(line), conversation=mark[1], subject=mark[2], key=mark[3],
                             provenance={"note": mark[4]}, scope=SHARED)
                )  # fmt: skip
            events = tenant.member(rng.choice(("ada", "bob"))).append(batch)
            ids = [e.id for e in events]
            tenant.put_vectors("e/1", "turn", ids, unit_vectors(len(ids), seed=number))
            tenant.put(
                [Derived("fact", "f/1", (i,), {"of": m[0]})
                 for i, m in zip(ids, probes, strict=True)], done=ids
            )  # fmt: skip
            alive.update(zip(ids, probes, strict=True))
        for _ in range(5):
            gone = tuple(rng.sample(sorted(alive), rng.choice((1, 1, 5))))
            tenant.erase(Selection(ids=gone))
            erased += [mark for i in gone for mark in (i, *alive.pop(i))]
        assert tenant.verify_erasure(erased) == []
    assert len(erased) > 200
    kept = [mark for marks in alive.values() for mark in marks]
    assert {p.probe for p in tenant.verify_erasure(kept)} == set(range(len(kept)))
    assert len(list(tenant.member("ada").history())) == len(alive)


def test_vectors_of_erased_events_leave_the_cache(tenant: Tenant):
    events = say(tenant, "ada", *(f"turn {i}" for i in range(8)))
    vectors = unit_vectors(8)
    tenant.put_vectors("e/1", "turn", [e.id for e in events], vectors)
    ada = tenant.member("ada")
    ada.find("", vectors[3])
    ada.erase(Selection(ids=(events[3].id,)))
    found = ada.find("", vectors[3])
    assert found.turn.max() == pytest.approx(np.max(np.delete(vectors, 3, 0) @ vectors[3]))


def test_an_erasure_back_in_time_reaches_what_was_known_then(tenant: Tenant):
    (old,) = say(tenant, "ada", "old", valid_at=datetime.now(UTC) - timedelta(days=9))
    say(tenant, "ada", "new")
    tenant.erase(Selection(as_of=old.recorded_at))
    assert texts(tenant.member("ada").history()) == ["new"]


def test_what_is_erased_between_finding_and_ranking_is_not_shown(tenant: Tenant):
    events = say(tenant, "ada", *(f"zebra tea {i}" for i in range(5)), scope=SHARED)
    rank(tenant.member("bob").find("zebra"), read_query("zebra"), Weighted())  # keeps what was said
    found = tenant.member("bob").find("zebra")
    tenant.erase(Selection(ids=(events[2].id,)))
    left = [e for e in events if e != events[2]]
    assert [h.event for h in rank(found, read_query("zebra"), Weighted())] == left
    assert tenant.verify_erasure([events[2].id, "zebra tea 2"]) == []


def test_what_was_said_is_kept_per_member_until_something_is_erased(tenant: Tenant):
    (event,) = say(tenant, "zebulon", "zebra tea", scope=SHARED)
    say(tenant, "ada", "zebra milk", scope=SHARED)
    by_name = {}
    for name in ("ada", "bob"):
        first, again = (all_said(tenant.member(name).find("zebra").events, [0, 1]) for _ in "12")
        assert all(map(operator.is_, first, again)), "read again"
        by_name[name] = first
    assert not any(map(operator.is_, *by_name.values())), "one sees what another looked at"
    del first, again, by_name
    assert held_in_memory(tenant, ["zebulon"]) > 0
    tenant.erase(Selection(ids=(event.id,)))
    assert held_in_memory(tenant, ["zebulon"]) == 0


def test_what_a_member_may_no_longer_read_is_not_shown_from_what_it_found(tenant: Tenant):
    tenant.grant("ada", "red")
    tenant.grant("bob", "red")
    say(tenant, "ada", "zebra of the team", scope=Scope("team:red"))
    own = say(tenant, "bob", "own zebra")
    rank(tenant.member("bob").find("zebra"), read_query("zebra"), Weighted())
    found = tenant.member("bob").find("zebra")
    tenant.revoke("bob", "red")
    assert [h.event for h in rank(found, read_query("zebra"), Weighted())] == own


def test_a_receipt_does_not_count_what_its_holder_cannot_read(tenant: Tenant):
    (gone,) = say(tenant, "ada", "a", conversation="c", scope=SHARED)
    (own,) = say(tenant, "ada", "mine", conversation="c")
    for name in ("bob", "carl", "dora"):
        say(tenant, name, f"{name}'s secret", conversation="c")
    ids = [e.id for name in ("ada", "bob", "carl", "dora") for e in tenant.member(name).history()]
    ids = list(dict.fromkeys(ids))
    for kind in ("turn", "window"):
        tenant.put_vectors(f"{kind}/1", kind, ids, unit_vectors(len(ids)))
    tenant.put([], done=ids)
    receipt = tenant.member("ada").erase(Selection(ids=(gone.id,)))
    # Its index row, its two vectors, the window of what she said next; that is derived again.
    assert (receipt.derived, receipt.rederived) == (4, 1)
    assert len(tenant.waiting(10)) == 4  # the others' too
    assert tenant.member("ada").get([own.id]) == [own]


def test_what_was_derived_from_an_erased_event_too_is_derived_again_from_the_others(
    tenant: Tenant,
):
    a, b = say(tenant, "ada", "a", "b")
    tenant.waiting(10)  # a deriver starts
    tenant.put([], done=[b.id])
    tenant.erase(Selection(ids=(a.id,)))
    tenant.put([Derived("meeting", "m/1", (a.id, b.id), {"text": "a, b"})], done=[a.id, b.id])
    assert tenant.waiting(10) == [b]


def test_feedback_does_not_wait_because_something_of_it_was_erased(tenant: Tenant):
    (a,) = say(tenant, "ada", "a")
    (right,) = say(tenant, "ada", "that was right", kind=Kind.FEEDBACK)
    tenant.put([Derived("gauge", "g/1", (a.id, right.id), {"of": "a"})], done=[a.id])
    receipt = tenant.erase(Selection(ids=(a.id,)))
    assert receipt.rederived == 0
    assert tenant.waiting(10) == []
    assert not list(tenant.member("ada").derived("gauge"))


def test_to_look_at_what_waits_is_not_to_derive_it(tenant: Tenant):
    """A window made before its neighbour was erased must not pass for one made after."""
    tenant.grant("ada", "red")
    old, new = say(tenant, "ada", "zanzibar", "hello", conversation="c")
    (other,) = say(tenant, "bob", "bob's own")
    ada = tenant.member("ada")
    assert tenant.waiting(10) == [old, new, other]  # a deriver starts
    ada.erase(Selection(ids=(old.id,)))
    assert (ada.waiting(10), ada.waiting(1)) == ([new.id], [new.id])
    assert tenant.member("bob").waiting(10) == [other.id]
    vector = unit_vectors(1)
    tenant.put_vectors("w/1", "window", [new.id], vector)  # it still has the old words
    tenant.put([], done=[new.id])
    assert not ada.find("hello", vector[0]).window.any()
    assert new in tenant.waiting(10)
    with pytest.raises(InvalidRequest):
        ada.waiting(0)


def test_a_receipt_does_not_tell_whether_others_recalled_or_judged_what_was_erased(tenant: Tenant):
    def receipt(bob_uses_it: bool) -> tuple[int, int, int]:
        (shared,) = say(tenant, "ada", "Porto in May", scope=SHARED)
        if bob_uses_it:
            bob = tenant.member("bob")
            given = bob.append(
                [
                    NewEvent("porto?", kind=Kind.FEEDBACK, sources=(shared.id,)),
                    NewEvent("Porto", role="memory", kind=Kind.RECALL, sources=(shared.id,)),
                    NewEvent("Porto it is"),
                ]
            )
            made = [
                Derived(kind, f"{kind}/1", (shared.id, given[at].id), {"x": 1.0})
                for kind, at in (("weights", 0), ("claim", 2))
            ]
            tenant.put(made, done=[given[2].id])
        tenant.put([Derived("claim", "c/1", (shared.id,), {"x": 2.0})], done=[shared.id])
        done = tenant.member("ada").erase(Selection(ids=(shared.id,)))
        assert not list(tenant.member("bob").derived("weights"))
        return done.events, done.derived, done.rederived

    assert receipt(False) == receipt(True) == (1, 2, 0)  # an index row, and a claim
    (shared,) = say(tenant, "ada", "Porto in June", scope=SHARED)
    say(tenant, "bob", "June", kind=Kind.RECALL, sources=(shared.id,))
    assert tenant.erase(Selection(ids=(shared.id,))).events == 2  # the tenant sees all
