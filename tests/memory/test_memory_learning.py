"""Learning at the surface of a memory: kept, used, undone, and gone with what it came from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tenfold.errors import InvalidRequest
from tenfold.memory import learning
from tenfold.memory.events import SHARED, Kind, NewEvent
from tenfold.memory.memory import Memory
from tenfold.memory.store import Selection

TOPICS = [f"topic{i:02d}" for i in range(34)]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the feedback that the gate asks for: the differences here are large."""
    monkeypatch.setattr(learning, "LEAST", 5)


def opened(folder: Path, member: str = "ada") -> Memory:
    return Memory.open(folder, member=member, embedder="none")


def asks(topic: str) -> str:
    return f"What about {topic}?"


@pytest.fixture
def ada(tmp_path: Path) -> Iterator[Memory]:
    """Sixteen turns on each topic; the shipped weights put the one that asks last."""
    memory = opened(tmp_path)
    for topic in TOPICS:
        texts = [f"The {topic} was painted by my {n} old friends in two weeks." for n in range(15)]
        texts.insert(7, asks(topic))
        memory.add_all([NewEvent(t, conversation=topic, scope=SHARED) for t in texts])
    yield memory
    memory.close()


def first(memory: Memory, topic: str) -> str:
    return memory.search(topic, 16)[0].event.text


def teach(memory: Memory, topics: list[str]) -> None:
    """The turn that asks is what was wanted."""
    for topic in topics:
        hits = memory.search(topic, 16, verbatim=True)
        useful = [h.event.id for h in hits if h.event.text == asks(topic)]
        memory.feedback(topic, [h.event.id for h in hits], useful)


def test_what_feedback_teaches_ranks_from_then_on_and_survives_a_rebuild(
    ada: Memory, tmp_path: Path
) -> None:
    assert ada.ranks() == "locomo"
    assert first(ada, TOPICS[-1]) != asks(TOPICS[-1])
    teach(ada, TOPICS[:30])
    learnt = ada.learn()
    assert learnt.promoted, learnt
    assert (ada.ranks(), first(ada, TOPICS[-1])) == ("learnt-1", asks(TOPICS[-1]))
    ada.rebuild()
    again = opened(tmp_path)
    assert (again.ranks(), first(again, TOPICS[-1])) == ("learnt-1", asks(TOPICS[-1]))
    bob = ada.of("bob")  # what ada teaches, ada is ranked by
    assert (bob.ranks(), bob.learn().feedback) == ("locomo", 0)
    assert first(bob, TOPICS[-1]) != asks(TOPICS[-1])
    assert not again.learn().promoted
    assert again.unlearn() == "locomo"
    assert first(again, TOPICS[-1]) != asks(TOPICS[-1])
    with pytest.raises(InvalidRequest, match="no learnt weights"):
        again.unlearn()
    again.close()


def test_an_erased_event_takes_its_feedback_and_what_it_taught_is_learnt_anew(ada: Memory) -> None:
    teach(ada, TOPICS[:30])
    assert ada.learn().promoted
    shown = next(ada.history(Selection(conversation=TOPICS[4])))
    given = [e for e in ada.history(Selection(kinds=(Kind.FEEDBACK,))) if shown.id in e.sources]
    ada.erase(Selection(ids=(shown.id,)))
    assert ada.get(given[0].id) == []
    assert ada.tenant.verify_erasure([shown.id, given[0].id]) == []
    assert list(ada.tenant.member("ada").derived("weights")) == []  # nothing is learnt meanwhile
    assert first(ada, TOPICS[-1]) != asks(TOPICS[-1])
    assert ada.learn().promoted
    (row,) = ada.tenant.member("ada").derived("weights")
    assert {shown.id, given[0].id}.isdisjoint(row.events)
    assert first(ada, TOPICS[-1]) == asks(TOPICS[-1])


def test_an_erasure_elsewhere_ends_what_was_learnt_at_once(ada: Memory, tmp_path: Path) -> None:
    teach(ada, TOPICS[:30])
    ada.learn()
    assert first(ada, TOPICS[-1]) == asks(TOPICS[-1])
    elsewhere = opened(tmp_path, "somebody")
    elsewhere.tenant.erase(Selection(conversation=TOPICS[4]))  # knows nothing of ada's weights
    assert first(ada, TOPICS[-1]) != asks(TOPICS[-1])
    assert ada.learn().feedback == 29
    assert first(ada, TOPICS[-1]) == asks(TOPICS[-1])
    elsewhere.close()


def test_an_erasure_under_another_embedder_learns_nothing_and_the_right_one_learns_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lessons: list[int] = []

    def lesson(shown: list[learning.Shown], current: object) -> object:
        lessons.append(len(shown))
        return learning.Learnt(bool(shown), len(shown), "taken for granted"), {"lexical": 1.0}

    monkeypatch.setattr(learning, "lesson", lesson)
    memory = Memory.open(tmp_path, member="ada", embedder="words")
    events = [memory.add(f"The boat number {n} is painted.") for n in range(6)]
    for event in events[:4]:
        memory.feedback("boat", [event.id, events[5].id], [event.id])
    assert memory.learn().promoted
    memory.close()
    plain = opened(tmp_path)  # as `tenfold memory erase` opens it
    plain.erase(Selection(ids=(events[1].id,)))
    assert (plain.ranks(), lessons) == ("locomo", [4])
    assert list(plain.tenant.member("ada").derived("weights")) == []
    plain.close()
    memory = Memory.open(tmp_path, member="ada", embedder="words")
    assert memory.ranks() == "locomo"
    assert memory.learn().promoted
    assert (memory.ranks(), lessons) == ("learnt-1", [4, 3])
    memory.unlearn()
    memory.erase(Selection(ids=(events[2].id,)))
    assert (memory.learn().promoted, memory.ranks(), lessons) == (False, "locomo", [4, 3])
    memory.close()


def test_feedback_names_what_was_shown_and_readable(ada: Memory) -> None:
    hits = ada.search(TOPICS[0], 3)
    with pytest.raises(InvalidRequest, match="was not shown"):
        ada.feedback(TOPICS[0], [hits[0].event.id], [hits[1].event.id])
    secret = ada.add("private")
    with pytest.raises(InvalidRequest, match="no event"):
        ada.of("bob").feedback("x", [secret.id], [])
    assert "too little, 25 are needed" in ada.learn().why
