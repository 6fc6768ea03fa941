"""How every store finds: BM25, vectors and neighbours, over what the member can read."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from tenfold.errors import InvalidRequest
from tenfold.memory.events import SHARED, Kind, NewEvent
from tenfold.memory.store import MemoryStore, Selection, Tenant
from tests.memory.stores import Opener, unit_vectors


@pytest.fixture
def tenant(store: MemoryStore) -> Tenant:
    return store.tenant("acme")


def texts(events) -> list[str]:
    return [e.text for e in events]


def say(tenant: Tenant, name: str, *lines: str, **given) -> list:
    return tenant.member(name).append([NewEvent(line, **given) for line in lines])


def brute_bm25(query: str, documents: list[str]) -> list[float]:
    """The textbook formula over words that the stemmer leaves as they are."""
    split = [re.findall(r"\w+", d) for d in documents]
    mean = sum(map(len, split)) / len(split)
    scores = [0.0] * len(split)
    for word in set(query.split()):
        holding = sum(word in words for words in split)
        rarity = math.log(1 + (len(split) - holding + 0.5) / (holding + 0.5))
        for i, words in enumerate(split):
            times = words.count(word)
            scores[i] += rarity * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * len(words) / mean))
    return scores


def test_lexical_scores_are_bm25_over_what_the_member_can_read(tenant: Tenant):
    rng = np.random.default_rng(3)
    vocabulary = np.array(["tom", "jam", "fog", "zip", "hut", "map", "pin", "gum"])
    lines = [" ".join(rng.choice(vocabulary, rng.integers(1, 9))) for _ in range(60)]
    say(tenant, "bob", *["tom jam fog"] * 9)
    mine = say(tenant, "ada", *lines)
    for query in ("tom", "jam fog", "zip hut pin gum"):
        found = tenant.member("ada").find(query, limit=500)
        scores = {e.id: s for e, s in zip(found.events, found.lexical, strict=True)}
        expected = brute_bm25(query, lines)
        for event, score in zip(mine, expected, strict=True):
            assert scores.get(event.id, 0.0) == pytest.approx(score), event.text
        assert list(found.lexical) == sorted(found.lexical, reverse=True)


def test_words_match_in_any_case_form_and_with_or_without_accents(tenant: Tenant):
    say(tenant, "ada", "She PAINTED the Café")
    for query in ("painting", "cafe", "CAFÉ", "café".upper(), "paints"):
        assert texts(tenant.member("ada").find(query).events) == ["She PAINTED the Café"], query


@pytest.mark.parametrize(
    "query",
    [
        '"', '""', "tea AND", "NEAR(", "NEAR(tea rain)", "text:tea", "-tea", "tea*", "^tea",
        "{text}:tea", "(tea", "tea)", "' OR 1=1 --", "tea OR", "NOT tea", "+tea", "a\0b", "\ud800",
        "%", "_", ";", "", "   ", "?", "\\", "tea\" OR \"rain", "*" * 5000, "tea " * 9000,
    ],
)  # fmt: skip
def test_a_query_is_words_and_never_syntax(tenant: Tenant, query: str):
    say(tenant, "ada", "green tea", "heavy rain")
    found = texts(tenant.member("ada").find(query).events)
    words = re.findall(r"[a-z]+", query.lower())
    assert found == [t for t in ("green tea", "heavy rain") if set(words) & set(t.split())]


def test_the_words_of_the_query_language_are_words_too(tenant: Tenant):
    say(tenant, "ada", "near and not or", "green tea")
    assert texts(tenant.member("ada").find("NEAR").events) == ["near and not or"]


def test_recalls_and_feedback_are_neither_found_nor_derived_from(tenant: Tenant):
    tenant.member("ada").append(
        [
            NewEvent("tea", conversation="c"),
            NewEvent("tea, you said", kind=Kind.RECALL, conversation="c"),
            NewEvent("tea was right", kind=Kind.FEEDBACK, conversation="c"),
            NewEvent("rain", kind=Kind.TOOL, conversation="c"),
        ]
    )
    found = tenant.member("ada").find("tea")
    assert texts(found.events) == ["tea", "rain"]  # rain is the neighbour
    assert found.before.tolist() == [-1, 0]
    assert texts(tenant.waiting(10)) == ["tea", "rain"]
    assert len(list(tenant.member("ada").history())) == 4


def test_neighbours_in_the_conversation_come_with_a_match(tenant: Tenant):
    say(tenant, "ada", "one", "two", "tea", "four", "five", conversation="c")
    say(tenant, "ada", "elsewhere", conversation="d")
    say(tenant, "ada", "alone")
    found = tenant.member("ada").find("tea")
    place = {e.text: i for i, e in enumerate(found.events)}
    assert set(place) == {"two", "tea", "four"}
    assert found.before[place["tea"]] == place["two"]
    assert found.before[place["four"]] == place["tea"]
    assert found.before[place["two"]] == -1
    assert found.lexical[place["tea"]] > 0 == found.lexical[place["two"]]


def test_neighbours_are_only_those_that_the_member_can_read(tenant: Tenant):
    say(tenant, "ada", "shared before", conversation="c", scope=SHARED)
    say(tenant, "ada", "hidden", conversation="c")
    say(tenant, "ada", "tea", conversation="c", scope=SHARED)
    found = tenant.member("bob").find("tea")
    assert texts(found.events) == ["tea", "shared before"]
    assert found.before.tolist() == [1, -1]


def test_a_neighbour_that_is_not_selected_leaves_a_gap(tenant: Tenant):
    say(tenant, "ada", "tea one", conversation="c", subject="x")
    say(tenant, "ada", "between", conversation="c", subject="y")
    say(tenant, "ada", "tea two", conversation="c", subject="x")
    found = tenant.member("ada").find("tea", selection=Selection(subject="x"))
    assert sorted(texts(found.events)) == ["tea one", "tea two"]
    assert found.before.tolist() == [-1, -1]


def test_vectors_find_the_nearest_and_every_candidate_has_all_its_scores(tenant: Tenant):
    events = say(tenant, "ada", *(f"turn {'tea' if i % 9 == 0 else ''} {i}" for i in range(90)))
    turn, window = unit_vectors(90, seed=1), unit_vectors(90, seed=2)
    ids = [e.id for e in events]
    tenant.put_vectors("e/1", "turn", ids, turn)
    tenant.put_vectors("w/1", "window", ids[:80], window[:80])
    query = unit_vectors(1, seed=3)[0]
    found = tenant.member("ada").find("tea", query, limit=5)
    place = {e.id: i for i, e in enumerate(events)}
    rows = [place[e.id] for e in found.events]
    near, near_window = turn @ query, window @ query
    near_window[80:] = 0
    assert set(np.argsort(-near)[:5]) <= set(rows)
    assert set(np.argsort(-near_window)[:5]) <= set(rows)
    np.testing.assert_allclose(found.turn, near[rows], atol=1e-6)
    np.testing.assert_allclose(found.window, near_window[rows], atol=1e-6)
    tea = [i for i in rows if i % 9 == 0]
    assert len(tea) >= 5
    assert all(found.lexical[rows.index(i)] > 0 for i in tea)


def test_vectors_written_by_another_process_are_seen_and_replaced_ones_are_gone(opener: Opener):
    first, second = opener().tenant("acme"), opener().tenant("acme")
    ids = [e.id for e in say(first, "ada", *(f"turn {i}" for i in range(6)), scope=SHARED)]
    vectors = unit_vectors(6)

    def best(query: np.ndarray) -> str:
        found = second.member("bob").find("", query, limit=1)
        return found.events[int(np.argmax(found.turn))].text

    first.put_vectors("e/1", "turn", ids[:3], vectors[:3])
    assert best(vectors[2]) == "turn 2"
    first.put_vectors("e/1", "turn", ids[3:], vectors[3:])
    assert best(vectors[5]) == "turn 5"
    first.put_vectors("e/1", "turn", [ids[0]], vectors[5:])
    first.put_vectors("e/1", "turn", [ids[5]], vectors[:1])
    assert best(vectors[5]) == "turn 0"
    first.erase(Selection(ids=(ids[0],)))
    found = second.member("bob").find("", vectors[5])
    assert "turn 0" not in texts(found.events)
    np.testing.assert_allclose(
        found.turn.max(), np.max(vectors[[0, 1, 2, 3, 4]] @ vectors[5]), atol=1e-6
    )


def test_a_vector_of_another_width_or_none_at_all_is_refused(tenant: Tenant):
    ids = [e.id for e in say(tenant, "ada", "tea")]
    tenant.put_vectors("e/1", "turn", ids, unit_vectors(1))
    ada = tenant.member("ada")
    for vector in (unit_vectors(1, 8)[0], np.zeros(16, np.float32), unit_vectors(1) * np.nan):
        with pytest.raises(InvalidRequest) as e:
            ada.find("tea", vector)
        assert e.value.param == "vector"


@pytest.mark.parametrize(
    ("kind", "vectors", "message"),
    [
        ("sentence", unit_vectors(1), "no 'sentence' vectors"),
        ("turn", unit_vectors(2), "need vectors of shape"),
        ("turn", unit_vectors(1) * 2, "unit length"),
        ("turn", unit_vectors(1) * np.nan, "unit length"),
        ("turn", unit_vectors(1, 8), "rebuild"),
    ],
)
def test_vectors_that_would_not_compare_are_refused(tenant: Tenant, kind, vectors, message):
    old, new = (e.id for e in say(tenant, "ada", "tea", "rain"))
    tenant.put_vectors("e/1", "turn", [old], unit_vectors(1))
    with pytest.raises(InvalidRequest, match=message):
        tenant.put_vectors("e/1", kind, [new], vectors)


def test_vectors_of_another_deriver_need_a_rebuild_first(tenant: Tenant):
    ids = [e.id for e in say(tenant, "ada", "tea")]
    tenant.put_vectors("e/1", "turn", ids, unit_vectors(1))
    with pytest.raises(InvalidRequest, match="rebuild"):
        tenant.put_vectors("e/2", "turn", ids, unit_vectors(1))
    tenant.rebuild()
    tenant.put_vectors("e/2", "turn", ids, unit_vectors(1, 8))
    assert len(tenant.member("ada").find("", unit_vectors(1, 8)[0]).events) == 1


def test_nothing_is_found_after_everything_was_erased(opener: Opener):
    tenant = opener().tenant("acme")
    events = say(tenant, "ada", "green tea", "black coffee", conversation="c")
    vectors = unit_vectors(2)
    for kind in ("turn", "window"):
        tenant.put_vectors(f"{kind}/1", kind, [e.id for e in events], vectors)
    ada = tenant.member("ada")
    assert texts(ada.find("tea", vectors[0]).events)
    tenant.erase(Selection(author="ada"))
    for reader in (ada, tenant.member("bob"), opener().tenant("acme").member("ada")):
        found = reader.find("tea", vectors[0])
        assert (len(found.events), found.turn.tolist(), found.window.tolist()) == (0, [], [])
    (again,) = say(tenant, "ada", "tea again")
    assert texts(ada.find("tea", vectors[0]).events) == [again.text]
