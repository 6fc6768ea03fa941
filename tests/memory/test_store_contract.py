"""What every store of memories must do, whatever it keeps them in."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from tenfold.errors import InvalidRequest, UnknownName
from tenfold.memory.events import PRIVATE, SHARED, Kind, NewEvent, Scope, new_id
from tenfold.memory.store import ON_DEMAND, Derived, MemoryStore, Selection, Tenant
from tests.memory.stores import Opener, unit_vectors

RED = Scope("team:red")
MAY = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def tenant(store: MemoryStore) -> Tenant:
    return store.tenant("acme")


def texts(events) -> list[str]:
    return [e.text for e in events]


def say(tenant: Tenant, name: str, *lines: str, **given) -> list:
    return tenant.member(name).append([NewEvent(line, **given) for line in lines])


# --- the log


def test_an_event_comes_back_as_it_was_handed_in(opener: Opener):
    ada = opener().tenant("acme").member("ada")
    (source,) = ada.append([NewEvent("what do you like?")])
    new = NewEvent(
        "naïve tea — 茶, two cups",
        role="assistant",
        subject="guest-7",
        to="bob",
        conversation="c1",
        kind=Kind.TOOL,
        scope=SHARED,
        valid_at=MAY,
        key="k1",
        sources=(source.id,),
        provenance={"model": 'a "quoted" name', "tür": "ja"},
    )
    (event,) = ada.append([new])
    assert (event.author, event.sequence) == ("ada", source.sequence + 1)
    for part in ("text", "role", "subject", "to", "conversation", "kind", "scope", "valid_at"):
        assert getattr(event, part) == getattr(new, part), part
    assert (event.key, event.sources, event.provenance) == ("k1", (source.id,), new.provenance)
    assert abs(event.recorded_at - datetime.now(UTC)) < timedelta(minutes=1)
    again = opener().tenant("acme").member("ada")
    assert again.get([event.id, source.id]) == [event, source]
    assert list(again.history()) == [source, event]


def test_the_subject_is_the_author_and_the_time_is_now_where_none_is_given(tenant: Tenant):
    (event,) = say(tenant, "ada", "tea")
    assert event.subject == "ada"
    assert event.valid_at == event.recorded_at


def test_ids_sort_in_the_order_of_the_log(tenant: Tenant):
    events = say(tenant, "ada", *(f"turn {i}" for i in range(50)))
    assert [e.id for e in events] == sorted(e.id for e in events)
    assert [e.sequence for e in events] == list(range(1, 51))


def test_the_same_event_under_the_same_key_is_written_once(tenant: Tenant):
    ada = tenant.member("ada")
    first, second = ada.append([NewEvent("tea", key="k"), NewEvent("tea", key="k")])
    (third,) = ada.append([NewEvent("tea", key="k")])
    assert first == second == third
    assert len(list(ada.history())) == 1


@pytest.mark.parametrize(
    "other",
    [
        NewEvent("coffee", key="k"),
        NewEvent("tea", key="k", role="assistant"),
        NewEvent("tea", key="k", scope=SHARED),
        NewEvent("tea", key="k", valid_at=MAY),
        NewEvent("tea", key="k", provenance={"a": "b"}),
    ],
)
def test_another_event_under_the_same_key_is_refused_and_nothing_is_written(tenant, other):
    ada = tenant.member("ada")
    ada.append([NewEvent("tea", key="k")])
    with pytest.raises(InvalidRequest, match="holds another event") as e:
        ada.append([NewEvent("before it"), other])
    assert e.value.param == "key"
    assert texts(ada.history()) == ["tea"]


def test_keys_of_two_authors_do_not_meet(tenant: Tenant):
    say(tenant, "ada", "tea", key="k", scope=SHARED)
    say(tenant, "bob", "coffee", key="k", scope=SHARED)
    assert texts(tenant.member("ada").history()) == ["tea", "coffee"]


def test_history_gives_the_newest_in_the_order_of_the_log(tenant: Tenant):
    say(tenant, "ada", *(f"turn {i}" for i in range(1203)))
    ada = tenant.member("ada")
    assert texts(ada.history()) == [f"turn {i}" for i in range(1203)]
    assert texts(ada.history(limit=3)) == ["turn 1200", "turn 1201", "turn 1202"]
    assert len(list(ada.history(limit=900))) == 900


def test_history_that_is_read_slowly_neither_blocks_writers_nor_sees_their_events(tenant: Tenant):
    say(tenant, "ada", *(f"turn {i}" for i in range(1200)))
    reading = tenant.member("ada").history()
    seen = [next(reading)]
    say(tenant, "ada", "later")
    tenant.member("ada").erase(Selection(ids=(list(tenant.member("ada").history())[700].id,)))
    seen += list(reading)
    assert len(seen) == 1199
    assert "later" not in texts(seen)
    assert "turn 700" not in texts(seen)


def test_a_selection_restricts_history_by_each_of_its_parts(tenant: Tenant):
    tenant.grant("ada", "red")
    tea, rain, tool = tenant.member("ada").append(
        [
            NewEvent("tea", subject="guest", conversation="c1", valid_at=MAY),
            NewEvent("rain", conversation="c2", scope=RED, valid_at=MAY + timedelta(days=1)),
            NewEvent("42", kind=Kind.TOOL, role="tool", valid_at=MAY + timedelta(days=2)),
        ]
    )
    ask = tenant.member("ada").history
    assert list(ask(Selection(ids=(tool.id, tea.id)))) == [tea, tool]
    assert list(ask(Selection(subject="guest"))) == [tea]
    assert list(ask(Selection(conversation="c2"))) == [rain]
    assert list(ask(Selection(author="bob"))) == []
    assert list(ask(Selection(kinds=(Kind.TOOL,)))) == [tool]
    assert list(ask(Selection(scope=RED))) == [rain]
    assert list(ask(Selection(scope=PRIVATE))) == [tea, tool]
    assert list(ask(Selection(since=rain.valid_at))) == [rain, tool]
    assert list(ask(Selection(until=rain.valid_at))) == [tea]
    assert list(ask(Selection(since=rain.valid_at, until=tool.valid_at))) == [rain]


def test_going_back_in_time_shows_what_was_recorded_and_valid_by_then(tenant: Tenant):
    (old,) = say(tenant, "ada", "tea in may", valid_at=MAY)
    (now,) = say(tenant, "ada", "tea now")
    ada = tenant.member("ada")
    between = old.recorded_at
    assert list(ada.history(Selection(as_of=between))) == [old]
    assert list(ada.history(Selection(as_of=now.recorded_at))) == [old, now]
    assert list(ada.history(Selection(as_of=MAY))) == []  # valid then, and recorded later
    assert texts(ada.find("tea", selection=Selection(as_of=between)).events) == ["tea in may"]


# --- who may read


def test_private_is_the_author_s_shared_is_everybody_s_and_a_team_s_is_its_members(tenant: Tenant):
    tenant.grant("ada", "red")
    tenant.grant("cleo", "red")
    for scope in (PRIVATE, SHARED, RED):
        say(tenant, "ada", f"{scope.name} words", scope=scope)
    seen = {name: texts(tenant.member(name).history()) for name in ("ada", "bob", "cleo")}
    assert seen == {
        "ada": ["private words", "shared words", "team:red words"],
        "bob": ["shared words"],
        "cleo": ["shared words", "team:red words"],
    }
    assert texts(tenant.member("bob").find("words").events) == ["shared words"]


def test_a_revoked_team_is_closed_at_once_for_reading_and_for_writing(tenant: Tenant):
    bob = tenant.member("bob")
    tenant.grant("ada", "red")
    tenant.grant("bob", "red")
    (event,) = say(tenant, "ada", "red words", scope=RED)
    assert bob.teams == {"red"}
    assert texts(bob.find("words").events) == ["red words"]
    tenant.revoke("bob", "red")
    assert bob.teams == frozenset()
    assert not bob.find("words").events
    assert not bob.get([event.id])
    with pytest.raises(InvalidRequest, match="not in team 'red'"):
        bob.append([NewEvent("fine"), NewEvent("more red words", scope=RED)])
    assert list(bob.history()) == []


def test_a_source_that_the_author_cannot_read_is_refused_like_one_that_does_not_exist(tenant):
    (hidden,) = say(tenant, "ada", "mine")
    messages = []
    for source in (hidden.id, new_id()):
        with pytest.raises(InvalidRequest) as e:
            say(tenant, "bob", "so you said", sources=(source,))
        messages.append(str(e.value).replace(source, "ID"))
    assert messages[0] == messages[1]


def test_scores_do_not_depend_on_what_a_member_cannot_read(tenant: Tenant):
    say(tenant, "ada", "green tea", "black coffee", "rain", scope=SHARED)
    bob = tenant.member("bob")
    before = bob.find("tea").lexical.tolist()
    say(tenant, "ada", *["tea tea"] * 30)
    assert bob.find("tea").lexical.tolist() == before


def test_tenants_are_apart(store: MemoryStore):
    (event,) = say(store.tenant("acme"), "ada", "zebra", scope=SHARED)
    other = store.tenant("other").member("ada")
    assert not other.get([event.id])
    assert not list(other.history())
    assert not other.find("zebra").events


# --- derivations


def test_events_wait_until_they_are_done_or_failed(tenant: Tenant):
    a, b, c = say(tenant, "ada", "a", "b", "c")
    assert tenant.waiting(2) == [a, b]
    tenant.put([Derived("entity", "entities/3", (a.id,), {"name": "A"})], done=[a.id])
    tenant.fail([b.id], "no such model")
    assert tenant.waiting(10) == [c]
    assert tenant.failures() == [(b.id, "no such model")]
    status = tenant.status()
    assert (status.events, status.waiting, status.failed) == (3, 1, 1)
    assert status.derivers == {"entities": "3"}


def test_deriving_again_after_a_crash_writes_nothing_twice(tenant: Tenant):
    a, b = say(tenant, "ada", "a", "b")
    made = [
        Derived("fact", "facts/1", (a.id,), {"subject": "x", "weight": 1.5, "until": None}),
        Derived("fact", "facts/1", (a.id, b.id), {"subject": "x", "weight": 1.5, "until": None}),
        Derived("fact", "facts/1", (a.id,), {"subject": "y"}),
    ]
    for _ in range(3):
        tenant.put(made)
    assert list(tenant.member("ada").derived("fact")) == made


def test_derived_from_something_hidden_is_hidden(tenant: Tenant):
    (mine,) = say(tenant, "ada", "mine")
    (ours,) = say(tenant, "ada", "ours", scope=SHARED)
    tenant.put(
        [
            Derived("entity", "e/1", (ours.id,), {"name": "ours"}),
            Derived("entity", "e/1", (mine.id, ours.id), {"name": "both"}),
        ]
    )
    names = {
        who: [d.value["name"] for d in tenant.member(who).derived("entity")]
        for who in ("ada", "bob")
    }
    assert names == {"ada": ["ours", "both"], "bob": ["ours"]}


def test_derived_is_selected_by_one_of_its_events_and_in_time_by_all(tenant: Tenant):
    (old,) = say(tenant, "ada", "old", conversation="c1")
    (new,) = say(tenant, "ada", "new", conversation="c2")
    tenant.put([Derived("summary", "s/1", (old.id, new.id), {"text": "both"})])
    ada = tenant.member("ada")
    assert len(list(ada.derived("summary", Selection(conversation="c1")))) == 1
    assert len(list(ada.derived("summary", Selection(ids=(new.id,))))) == 1
    assert not list(ada.derived("summary", Selection(conversation="c3")))
    assert not list(ada.derived("summary", Selection(as_of=old.recorded_at)))
    assert not list(ada.derived("entity"))


def test_what_was_said_before_has_the_same_audience(tenant: Tenant):
    tenant.grant("ada", "red")
    (a,) = say(tenant, "ada", "private", conversation="c")
    (b,) = say(tenant, "ada", "shared", conversation="c", scope=SHARED)
    (c,) = say(tenant, "bob", "bob's private", conversation="c")
    (d,) = say(tenant, "bob", "shared again", conversation="c", scope=SHARED)
    (e,) = say(tenant, "ada", "private again", conversation="c")
    (f,) = say(tenant, "ada", "red", conversation="c", scope=RED)
    (g,) = say(tenant, "ada", "private elsewhere", conversation="d")
    (h,) = say(tenant, "ada", "private nowhere")
    asked = [a, b, c, d, e, f, g, h]
    assert tenant.previous([x.id for x in asked]) == [None, None, None, b, a, None, None, None]


def test_rebuilding_drops_what_was_derived_and_queues_everything(tenant: Tenant):
    a, b = say(tenant, "ada", "tea", "rain", conversation="c")
    tenant.put_vectors("e/1", "turn", [a.id, b.id], unit_vectors(2))
    tenant.put([Derived("entity", "e/1", (a.id,), {"name": "A"})], done=[a.id])
    tenant.fail([b.id], "broken")
    status = tenant.rebuild()
    assert (status.waiting, status.failed, status.derivers) == (2, 0, {})
    found = tenant.member("ada").find("tea", unit_vectors(1)[0])
    assert texts(found.events) == ["tea", "rain"]
    assert not found.turn.any()
    assert not list(tenant.member("ada").derived("entity"))


def test_rebuilding_keeps_the_kinds_that_the_queue_does_not_bring_back(tenant: Tenant):
    (a,) = say(tenant, "ada", "tea")
    summary, weights = (Derived(kind, f"{kind}/1", (a.id,), {"x": 1.5}) for kind in ("s", "w"))
    tenant.put([summary, weights, Derived("entity", "e/1", (a.id,), {})])
    status = tenant.rebuild(keep=("s", "w"))
    assert (status.waiting, set(status.derivers)) == (1, {"s", "w"})
    ada = tenant.member("ada")
    assert [*ada.derived("s"), *ada.derived("w"), *ada.derived("entity")] == [summary, weights]
    tenant.erase(Selection(ids=(a.id,)))  # and they still go with what they came from
    assert [*ada.derived("s"), *ada.derived("w")] == []


def test_feedback_goes_with_what_it_was_given_on_and_answers_stay(tenant: Tenant):
    tea, rain = say(tenant, "ada", "tea at four", "rain at five", scope=SHARED)
    bob = tenant.member("bob")
    given, answer = bob.append(
        [
            NewEvent("when is tea?", kind=Kind.FEEDBACK, sources=(tea.id, rain.id)),
            NewEvent("at four, then", sources=(tea.id,)),
        ]
    )
    tenant.put([Derived("weights", "w/1", (given.id,), {"x": 1.0})])
    receipt = tenant.member("ada").erase(Selection(ids=(rain.id,)))
    assert receipt.events == 1  # that bob judged it is not for her to know
    assert texts(bob.history()) == ["tea at four", "at four, then"]
    assert list(bob.derived("weights")) == []
    assert bob.get([answer.id])[0].sources == (tea.id,)
    assert tenant.verify_erasure(["when is tea?", given.id]) == []


def test_what_was_made_on_demand_goes_with_an_event_and_queues_no_other(tenant: Tenant):
    a, b = say(tenant, "ada", "tea", "rain")
    for kind in sorted(ON_DEMAND):
        tenant.put([Derived(kind, f"{kind}/1", (a.id, b.id), {"x": 1.0})], done=[a.id, b.id])
    receipt = tenant.erase(Selection(ids=(a.id,)))
    assert (receipt.rederived, tenant.waiting(9)) == (0, [])
    assert [list(tenant.member("ada").derived(kind)) for kind in ON_DEMAND] == [[], []]
    c, d = say(tenant, "ada", "sun", "snow")
    tenant.put([Derived("entity", "e/1", (c.id, d.id), {})], done=[c.id, d.id])
    tenant.erase(Selection(ids=(c.id,)))
    assert [e.id for e in tenant.waiting(9)] == [d.id]


def test_a_tenant_reads_the_history_of_all_its_members(tenant: Tenant):
    say(tenant, "ada", "tea")
    say(tenant, "bob", "rain", scope=SHARED)
    say(tenant, "bob", "coffee")
    assert texts(tenant.history()) == ["tea", "rain", "coffee"]
    assert texts(tenant.history(limit=1)) == ["coffee"]
    assert texts(tenant.history(Selection(author="ada"))) == ["tea"]


def test_settings_stay_until_they_are_taken_back(opener: Opener):
    tenant = opener().tenant("acme")
    (a,) = say(tenant, "ada", "tea")
    assert tenant.settings() == {}
    tenant.set("retention", '{"a": "ä"}')
    tenant.set("other", "1")
    tenant.set("other", "2")
    tenant.erase(Selection(ids=(a.id,)))
    tenant.rebuild()
    again = opener().tenant("acme")
    assert dict(again.settings()) == {"retention": '{"a": "ä"}', "other": "2"}
    again.set("retention", "")
    again.set("unknown", "")
    assert dict(again.settings()) == {"other": "2"}


def test_the_epoch_grows_when_something_is_taken_away_or_rights_change(tenant: Tenant):
    (a,) = say(tenant, "ada", "tea")
    seen = [tenant.epoch()]
    say(tenant, "ada", "rain")
    assert tenant.epoch() == seen[0]
    for change in (
        lambda: tenant.grant("bob", "red"),
        lambda: tenant.revoke("bob", "red"),
        lambda: tenant.erase(Selection(ids=(a.id,))),
        tenant.rebuild,
    ):
        change()
        seen.append(tenant.epoch())
    assert sorted(set(seen)) == seen


# --- tenants


def test_tenants_are_listed_dropped_and_not_made_by_accident(store: MemoryStore):
    names = ["acme", "Acme", "a b/../c", "ümlaut", ".hidden", "con", "x" * 60, "%41"]
    for name in names:
        say(store.tenant(name), "ada", f"of {name}")
    assert store.tenants() == sorted(names)
    for name in names:
        assert texts(store.tenant(name).member("ada").history()) == [f"of {name}"]
    store.drop("acme")
    assert "acme" not in store.tenants()
    with pytest.raises(UnknownName) as e:
        store.tenant("acme", create=False)
    assert "ümlaut" not in str(e.value)  # other tenants' names are not told
    with pytest.raises(UnknownName):
        store.drop("acme")
    assert not list(store.tenant("acme").member("ada").history())


@pytest.mark.parametrize("name", ["", "a\nb", "a\0b", "x" * 300, "茶" * 100])
def test_a_name_that_cannot_be_a_tenant_s_is_refused(store: MemoryStore, name: str):
    with pytest.raises(InvalidRequest):
        store.tenant(name)
    assert store.tenants() == []


def test_members_and_teams_need_names(tenant: Tenant):
    for call in (
        lambda: tenant.member(""),
        lambda: tenant.grant("", "red"),
        lambda: tenant.grant("ada", ""),
        lambda: tenant.member("a\nb"),
    ):
        with pytest.raises(InvalidRequest):
            call()


def test_closing_twice_is_harmless_and_the_store_opens_it_again(store: MemoryStore):
    tenant = store.tenant("acme")
    say(tenant, "ada", "tea")
    tenant.close()
    tenant.close()
    assert texts(store.tenant("acme").member("ada").history()) == ["tea"]


def test_many_threads_write_and_find_at_once(tenant: Tenant):
    errors: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for i in range(20):
                say(tenant, name, f"{name} tea {i}", scope=SHARED)
                assert f"{name} tea {i}" in texts(tenant.member("reader").find(f"{i}").events)
        except BaseException as e:  # noqa: BLE001 - handed to the test
            errors.append(e)

    threads = [threading.Thread(target=work, args=(f"m{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    events = list(tenant.member("reader").history())
    assert [e.sequence for e in events] == list(range(1, 81))
