"""Lineage names all that came of an event and nothing of others; pages and previews add up."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tenfold.errors import InvalidRequest
from tenfold.memory import lineage, timeline
from tenfold.memory.events import Kind, NewEvent, Scope
from tenfold.memory.memory import Memory
from tenfold.memory.store import Selection

MAY = datetime(2026, 5, 1, 12, tzinfo=UTC)
SHARED = Scope("shared")


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    opened = Memory.open(tmp_path, member="ada", embedder="words")
    yield opened
    opened.close()


def traced(memory: Memory, ulid: str) -> lineage.Lineage:
    found = lineage.lineage(memory, ulid)
    assert found is not None
    return found


def talk(memory: Memory) -> list[str]:
    said = [
        "I live in Porto, near the harbour with the old boats.",
        "My sister Anna paints boats and sells them in a little shop.",
        "The shop opens at nine in the morning and closes at noon.",
        "My sister Anna paints boats and sells them in a little shop!",
        "I no longer live in Porto.",
    ]
    events = [
        NewEvent(text, conversation="tea", valid_at=MAY + timedelta(hours=n))
        for n, text in enumerate(said)
    ]
    return [e.id for e in memory.add_all(events)]


def test_what_came_of_an_event_is_named_with_all_that_it_came_from(memory: Memory) -> None:
    home, boats, _, again, gone = talk(memory)
    found = traced(memory, home)
    assert (found.state, found.words) == (lineage.State.DERIVED, True)
    assert [(v.kind, v.events) for v in found.vectors] == [("turn", (home,)), ("window", (home,))]
    assert [v.deriver for v in found.vectors] == ["hashed-words-512/1"] * 2
    (ended,) = (f for f in found.facts if f.valid_to is not None and f.recorded_to is None)
    assert (ended.object, ended.events) == ("Porto", (home, gone))
    window = traced(memory, boats).vectors[1]
    assert window.events == (home, boats)
    kinds = {t.derived.kind: t for t in traced(memory, again).things}
    assert kinds["duplicate"].derived.events == (boats, again)
    assert set(kinds["summary"].derived.events) == {e.id for e in memory.history()}
    assert "anna" in {
        str(t.derived.value["value"])
        for t in traced(memory, boats).things
        if t.derived.kind == "entity"
    }


def test_recalls_and_feedback_are_linked_in_both_directions(memory: Memory) -> None:
    home, *_ = talk(memory)
    packed = memory.recall("where do I live in Porto", 200, lambda text: len(text.split()))
    assert home in packed.citations.values()
    useful = memory.add("useful", kind=Kind.FEEDBACK, sources=(home,))
    found = traced(memory, home)
    (recall,) = found.recalls
    assert [e.id for e in found.feedback] == [useful.id]
    of_recall = traced(memory, recall.id)
    assert of_recall.state is lineage.State.NEVER
    assert not of_recall.vectors
    assert not of_recall.things
    assert {e.id for e in of_recall.sources} == set(packed.citations.values())


def test_what_waits_and_what_failed_say_so(tmp_path: Path) -> None:
    memory = Memory.open(tmp_path, member="ada", embedder=None)
    home = memory.add("I live in Porto.")
    found = traced(memory, home.id)
    assert (found.state, found.vectors, found.words) == (lineage.State.WAITING, (), True)
    assert [f.object for f in found.facts] == ["Porto"]
    memory.tenant.fail([home.id], "ValueError: no")
    found = traced(memory, home.id)
    assert (found.state, found.reason) == (lineage.State.FAILED, "ValueError: no")
    memory.close()


def test_the_lineage_of_an_event_names_nothing_that_the_member_cannot_read(memory: Memory) -> None:
    hidden = [memory.add(t, conversation="tea").id for t in ("I live in Porto.", "I like figs.")]
    open_one = memory.add("I like figs.", conversation="tea", scope=SHARED)
    secret = memory.add("useful", kind=Kind.FEEDBACK, sources=(open_one.id, hidden[0]))
    told = memory.add("quoted", kind=Kind.RECALL, scope=SHARED, sources=(open_one.id, *hidden))
    bob = memory.of("bob")
    for ulid in (*hidden, secret.id, "0" * 26):
        assert lineage.lineage(bob, ulid) is None
    seen = str([traced(bob, open_one.id), traced(bob, told.id).sources])
    assert open_one.id in seen
    assert secret.id not in seen
    found = traced(bob, told.id)
    assert [e.id for e in found.sources] == [open_one.id]
    assert all(ulid not in str(traced(bob, open_one.id).things) for ulid in hidden)
    assert not [f for f in lineage.beliefs(bob) if f.object == "Porto"]


def test_facts_of_all_times_are_those_that_were_believed_at_that_time(memory: Memory) -> None:
    talk(memory)
    before = datetime.now(UTC)
    memory.add("I live in Lisbon.", valid_at=MAY + timedelta(days=9))
    home = [f for f in lineage.beliefs(memory, datetime.now(UTC)) if f.predicate == "lives in"]
    assert {(f.object, f.denied) for f in home} >= {("Porto", False), ("Lisbon", False)}
    assert not [f for f in lineage.beliefs(memory, before) if f.object == "Lisbon"]


@pytest.mark.parametrize("seed", range(4))
def test_pages_by_valid_time_are_the_whole_memory_once(memory: Memory, seed: int) -> None:
    rng = random.Random(seed)
    far = [timedelta(hours=rng.choice((0, 1, 5, 30, 900, 50_000, 900_000))) for _ in range(60)]
    memory.add_all([NewEvent(f"event {n}", valid_at=MAY - ago) for n, ago in enumerate(far)])
    since, until = MAY - timedelta(days=400), MAY
    for selection in (Selection(), Selection(since=since, until=until), Selection(as_of=since)):
        expected = sorted(
            memory.history(selection), key=lambda e: (e.valid_at, e.sequence), reverse=True
        )
        seen, before, pages = [], None, 0
        while True:
            events, place = timeline.page(memory, selection, before, 7)
            seen += events
            pages += 1
            if place is None:
                break
            before = timeline.Place.parse(str(place))
        assert seen == expected
        assert pages == max(1, -(-len(expected) // 7))


@pytest.mark.parametrize("text", ["", "x/1", "2026-05-01T00:00:00/3", "2026-05-01T00:00:00+00:00"])
def test_a_place_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="no place in a timeline"):
        timeline.Place.parse(text)


@pytest.mark.parametrize(
    "selection",
    [
        Selection(conversation="tea"),
        Selection(kinds=(Kind.RECALL,)),
        Selection(since=MAY + timedelta(hours=2)),
        Selection(subject="ada", until=MAY + timedelta(hours=1)),
    ],
)
def test_a_preview_counts_what_the_erasure_then_takes(memory: Memory, selection: Selection) -> None:
    talk(memory)
    for query in ("boats", "Porto"):
        memory.recall(query, 60, lambda text: len(text.split()))
    first, *_, last = (e.id for e in memory.history(Selection(kinds=(Kind.OBSERVATION,))))
    for n, ulid in enumerate((first, last, first)):
        memory.add(f"useful {n}", kind=Kind.FEEDBACK, sources=(ulid,))
    expected = lineage.preview(memory, selection)
    assert len(list(memory.history())) == 10  # nothing went
    receipt = memory.erase(selection)
    assert expected.events + expected.recalls + expected.feedback == receipt.events
    assert expected.others == 0


def test_a_preview_says_what_is_not_the_members_to_erase(memory: Memory) -> None:
    memory.add("I live in Porto.", scope=SHARED, conversation="tea")
    memory.add("Bob likes figs.", scope=SHARED, conversation="tea", subject="bob")
    memory.add("Nobody else reads this.", conversation="tea")
    bob = memory.of("bob")
    found = lineage.preview(bob, Selection(conversation="tea"))
    assert (found.events, found.others) == (1, 1)
    assert bob.erase(Selection(conversation="tea")).events == 1
    with pytest.raises(InvalidRequest, match="needs a selection"):
        lineage.preview(bob, Selection())


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59.999999+00:00", "9999-12-31T00:00+00:00"])
def test_a_timeline_from_the_end_of_time_is_the_whole_one(memory: Memory, moment: str) -> None:
    memory.add("The bus is late.")
    shown, end = timeline.page(memory, Selection(), timeline.Place.parse(f"{moment}/1"))
    assert (shown, end) == timeline.page(memory, Selection())
    assert shown
