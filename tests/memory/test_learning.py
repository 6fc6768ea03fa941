"""Learning from feedback: what is learnt, what the gate refuses, what an erasure takes along."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tenfold.errors import InvalidRequest
from tenfold.memory import learning
from tenfold.memory.events import SHARED, Event, Kind, NewEvent
from tenfold.memory.features import FEATURES
from tenfold.memory.learning import KIND, Learner, feedback
from tenfold.memory.query import read_query
from tenfold.memory.retrieval import Fixed, Weighted, rank
from tenfold.memory.store import Derived, MemoryStore, Selection, Tenant

TOPICS = [f"topic{i:02d}" for i in range(60)]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the feedback that the gate asks for: the differences here are large."""
    monkeypatch.setattr(learning, "LEAST", 5)


def no_vector(text: str) -> None:
    """Words are enough here."""


def told(tenant: Tenant) -> dict[str, list[Event]]:
    """Twenty turns on each topic, one of which is long and answers, while short ones only ask.

    The fixed fusion prefers the short ones: BM25 counts a word in a short text for more.
    """
    said: dict[str, list[Event]] = {}
    for topic in TOPICS:
        texts = [f"What about {topic}?"] * 15
        texts.insert(7, f"The {topic} was painted in two weeks by my uncle and his old friends.")
        member = tenant.member("ada")
        said[topic] = member.append([NewEvent(t, scope=SHARED, conversation=topic) for t in texts])
    return said


def give(tenant: Tenant, who: str, topics: list[str], *, shuffled: bool = False) -> None:
    """Feedback on what the fixed fusion shows: the long turn was useful, or a random one."""
    rng = random.Random(0)
    member = tenant.member(who)
    for topic in topics:
        hits = shown(tenant, who, topic)
        useful = [i for i, text in hits if "painted" in text]
        if shuffled:
            useful = [rng.choice(hits)[0]]
        member.append([feedback(topic, [i for i, _ in hits], useful)])


def shown(tenant: Tenant, who: str, topic: str, ranker: object = None) -> list[tuple[str, str]]:
    found = tenant.member(who).find(topic, limit=200)
    hits = rank(found, read_query(topic), ranker or Fixed(), 16)  # type: ignore[arg-type]
    return [(h.event.id, h.event.text) for h in hits]


def place(tenant: Tenant, who: str, topic: str, ranker: object) -> int:
    return next(i for i, (_, t) in enumerate(shown(tenant, who, topic, ranker)) if "painted" in t)


@pytest.fixture
def tenant(store: MemoryStore) -> Tenant:
    tenant = store.tenant("acme")
    told(tenant)
    return tenant


def test_what_was_useful_is_ranked_first_for_topics_that_were_never_asked(tenant: Tenant) -> None:
    give(tenant, "bob", TOPICS[:50])
    learner = Learner(tenant, "bob", no_vector)
    assert learner.ranker().name == "fixed"
    assert place(tenant, "bob", TOPICS[55], learner.ranker()) >= 10
    outcome = learner.learn()
    assert outcome.promoted
    assert outcome.feedback == 50
    assert 0 < outcome.low <= outcome.gain <= 1
    assert place(tenant, "bob", TOPICS[55], learner.ranker()) == 0
    again = Learner(tenant, "bob", no_vector).ranker()
    assert isinstance(again, Weighted)
    assert again == learner.ranker()  # kept in the store, not in the object


def test_shuffled_feedback_is_stopped_at_the_gate(tenant: Tenant) -> None:
    give(tenant, "bob", TOPICS, shuffled=True)
    learner = Learner(tenant, "bob", no_vector)
    outcome = learner.learn()
    assert not outcome.promoted
    assert "no better" in outcome.why
    assert learner.ranker() == Fixed()
    assert list(tenant.member("bob").derived(KIND)) == []


def test_too_little_feedback_teaches_nothing(tenant: Tenant) -> None:
    give(tenant, "bob", TOPICS[:12])
    outcome = Learner(tenant, "bob", no_vector).learn()
    assert (outcome.promoted, outcome.feedback) == (False, 12)
    assert "too little" in outcome.why
    assert not Learner(tenant, "cleo", no_vector).learn().promoted


def test_the_gate_judges_by_twenty_feedback_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    rng = np.random.default_rng(0)
    right = np.arange(12) == 11
    row = learning.Judged(rng.normal(size=(12, len(FEATURES))) + 4 * right[:, None], right)
    shown = [learning.Shown(i, row, -np.arange(12.0)) for i in range(100)]
    assert "19 to judge by: too little" in learning.lesson(shown[:99])[0].why
    learnt, weights = learning.lesson(shown)
    assert learnt.promoted
    assert learnt.gain == 1.0
    assert set(weights) == set(FEATURES)


def test_others_neither_learn_from_feedback_nor_rank_by_its_weights(tenant: Tenant) -> None:
    give(tenant, "bob", TOPICS[:50])
    Learner(tenant, "bob", no_vector).learn()
    other = Learner(tenant, "cleo", no_vector)
    assert other.ranker() == Fixed()
    assert other.learn().feedback == 0


def test_erasing_an_event_that_was_learnt_from_takes_the_weights_and_they_are_relearnt(
    tenant: Tenant,
) -> None:
    give(tenant, "bob", TOPICS[:50])
    learner = Learner(tenant, "bob", no_vector)
    learner.learn()
    gone = tenant.member("bob").history(Selection(conversation=TOPICS[3]))
    tenant.erase(Selection(ids=(next(e.id for e in gone if "painted" in e.text),)))
    assert learner.ranker() == Fixed()
    again = learner.learn()
    assert (again.promoted, again.feedback) == (True, 49)  # the feedback on it went along
    weights = list(tenant.member("bob").derived(KIND))
    assert len(weights) == 1
    tenant.member("bob").erase(Selection(ids=(weights[0].events[-1],)))  # its own feedback
    assert learner.ranker() == Fixed()


def test_weights_taken_back_stay_away_until_there_is_more_feedback(tenant: Tenant) -> None:
    give(tenant, "bob", TOPICS[:50])
    learner = Learner(tenant, "bob", no_vector)
    learner.learn()
    learnt = learner.ranker()
    assert learner.roll_back() == Fixed()
    assert learner.ranker() == Fixed()
    assert not learner.learn().promoted
    with pytest.raises(InvalidRequest, match="no learnt weights"):
        learner.roll_back()
    give(tenant, "bob", TOPICS[50:])
    assert learner.learn().promoted
    assert learner.ranker() != learnt


def test_weights_taken_back_stay_away_after_an_erasure(tenant: Tenant) -> None:
    give(tenant, "bob", TOPICS[:50])
    learner = Learner(tenant, "bob", no_vector)
    assert learner.learn().promoted
    learner.roll_back()
    for topic in (TOPICS[3], TOPICS[49]):
        tenant.erase(Selection(conversation=topic))
        assert learner.ranker() == Fixed()
        assert learner.learn().why == "no feedback since the last time"
    give(tenant, "bob", TOPICS[50:])
    assert learner.learn().promoted


def test_weights_fall_back_to_those_that_saw_nothing_of_what_was_erased(tenant: Tenant) -> None:
    learner, ranked = Learner(tenant, "bob", no_vector), []
    for start in (0, 30):
        give(tenant, "bob", TOPICS[start : start + 30])
        if start:  # the second lesson is as good as the first: let it pass
            rows = learner._rows()
            lineage = {i for e in learner._feedback() for i in (e.id, *e.sources)}
            value = {**rows[0].value, "long": 9.0, "number": 2.0, "last": 1e6}
            tenant.put([Derived(KIND, learning.DERIVER, tuple(sorted(lineage)), value)])
        else:
            assert learner.learn().promoted
        ranked.append(learner.ranker())
    assert [r.name for r in ranked] == ["learnt-1", "learnt-2"]
    tenant.erase(Selection(conversation=TOPICS[40]))
    assert learner.ranker() == ranked[0]
    tenant.erase(Selection(conversation=TOPICS[10]))
    assert learner.ranker() == Fixed()
    again = learner.learn()
    assert (again.promoted, again.feedback) == (True, 58)


def test_weights_that_lose_on_later_feedback_are_taken_back(tenant: Tenant) -> None:
    give(tenant, "bob", TOPICS[:40])
    learner = Learner(tenant, "bob", no_vector)
    assert learner.learn().promoted
    member = tenant.member("bob")
    for topic in TOPICS[40:]:  # now what the weights put behind the first ten is wanted
        before = [i for i, _ in shown(tenant, "bob", topic)]
        behind = [i for i, _ in shown(tenant, "bob", topic, learner.ranker())][10:]
        useful = next(i for i in before[:10] if i in behind)
        member.append([feedback(topic, before, [useful])])
    outcome = learner.learn()
    assert not outcome.promoted
    assert "taken back" in outcome.why
    assert learner.ranker() == Fixed()


def test_useful_events_are_among_the_shown_ones() -> None:
    ids = ["0" * 25 + str(i) for i in range(4)]
    event = feedback("tea?", [*ids, ids[0]], [ids[1]], within="c1")
    assert (event.kind, event.sources) == (Kind.FEEDBACK, tuple(ids))
    assert event.provenance == {ids[1]: "useful", "within": "c1"}
    with pytest.raises(InvalidRequest, match="was not shown"):
        feedback("tea?", ids[:1], ids[1:2])
    with pytest.raises(InvalidRequest, match="at most"):
        feedback("tea?", [f"{i:026d}" for i in range(32)], [f"{i:026d}" for i in range(32)])


def test_feedback_on_what_is_gone_is_passed_over(tenant: Tenant) -> None:
    give(tenant, "bob", TOPICS[:2])
    for conversation in TOPICS[:1]:
        tenant.erase(Selection(conversation=conversation))
    learner = Learner(tenant, "bob", no_vector)
    assert learner.learn().feedback == 1
    assert np.isfinite(learner.learn().gain)
