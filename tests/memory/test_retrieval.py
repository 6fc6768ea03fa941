"""Ranking against brute force and closed forms, on made-up conversations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.errors import InvalidRequest
from tenfold.memory.events import SHARED, Event, Kind
from tenfold.memory.features import FEATURES, after, features, scaled
from tenfold.memory.fusion import Judged, fit
from tenfold.memory.query import WORD, read_query, stem
from tenfold.memory.retrieval import Fixed, Weighted, rank
from tenfold.memory.store import Found
from tenfold.memory.weights import LOCOMO

START = datetime(2024, 3, 1, 9, tzinfo=UTC)
TALK = [
    ("Ada", "Hello Boris, did you sleep well?"),
    ("Boris", "I did. Last week I bought a red bicycle!"),
    ("Ada", "How much was the bicycle?"),
    ("Boris", "It was 300 euros, with a bell."),
    ("Ada", "I painted my kitchen blue. Are you still at the bakery?"),
    ("Boris", "No, I left the bakery in January 2024."),
]


def event(number: int, author: str, text: str, when: datetime = START) -> Event:
    return Event(
        id=f"{number:026d}",
        author=author,
        role="user",
        text=text,
        subject=author,
        to="",
        conversation="talk",
        sequence=number,
        kind=Kind.OBSERVATION,
        scope=SHARED,
        valid_at=when,
        recorded_at=when,
    )


def found(
    talk: list[tuple[str, str]],
    lexical: list[float] | None = None,
    turn: list[float] | None = None,
    window: list[float] | None = None,
    days: list[int] | None = None,
) -> Found:
    zeros = [0.0] * len(talk)
    days = days or [0] * len(talk)
    return Found(
        events=tuple(
            event(i, a, t, START + timedelta(days=days[i], minutes=i))
            for i, (a, t) in enumerate(talk)
        ),
        lexical=np.array(lexical or zeros),
        turn=np.array(turn or zeros),
        window=np.array(window or zeros),
        before=np.arange(len(talk)) - 1,
    )


def column(f: Found, question: str, name: str) -> list[float]:
    everything = np.arange(len(f.events))
    values = features(f, read_query(question), everything)[:, FEATURES.index(name)]
    return [float(v) for v in values]


@st.composite
def anything_found(draw: st.DrawFn) -> Found:
    size = draw(st.integers(1, 12))
    numbers = st.lists(st.floats(-1, 9, width=16), min_size=size, max_size=size)
    words = st.sampled_from(["ada", "bicycle?", "January", "2024", "I", "300", "painting,", "why"])
    texts = st.lists(words, min_size=1, max_size=6).map(" ".join)
    talk = [(draw(st.sampled_from(["Ada", "Boris"])), draw(texts)) for _ in range(size)]
    made = found(talk, *(draw(numbers) for _ in range(3)))
    order = draw(st.permutations(range(size)))
    before = np.full(size, -1)
    for earlier, later in pairwise(order):
        if draw(st.booleans()):
            before[later] = earlier
    return Found(made.events, made.lexical, made.turn, made.window, before)


QUESTIONS = st.sampled_from(
    [
        "When did Boris leave the bakery?",
        "How much did Ada pay in January 2024?",
        "??",
        "the",
        "What did Ada paint on 3 March 2024 or in 2023?",
    ]
)


@settings(deadline=None, max_examples=40)
@given(anything_found(), QUESTIONS, st.sampled_from([Fixed(), Weighted(), Weighted(pool=3)]))
def test_the_parts_of_a_score_sum_to_it_exactly(
    f: Found, question: str, ranker: Fixed | Weighted
) -> None:
    for hit in rank(f, read_query(question), ranker, limit=20):
        assert sum(hit.parts.values()) == hit.score


@settings(deadline=None, max_examples=40)
@given(anything_found(), QUESTIONS, st.sampled_from([Fixed(), Weighted()]))
def test_ranking_returns_each_event_once_from_high_to_low(
    f: Found, question: str, ranker: Fixed | Weighted
) -> None:
    hits = rank(f, read_query(question), ranker, limit=50)
    assert sorted(h.event.id for h in hits) == sorted(e.id for e in f.events)
    scores = [h.score for h in hits]
    assert scores == pytest.approx(sorted(scores, reverse=True))
    fewer = rank(f, read_query(question), ranker, limit=2)
    assert [h.event.id for h in fewer] == [h.event.id for h in hits[:2]]


@settings(deadline=None, max_examples=40)
@given(anything_found())
def test_the_fixed_fusion_is_the_recipe_written_as_loops(f: Found) -> None:
    def flat(values: np.ndarray) -> list[float]:
        low, high = min(values), max(values)
        return [float((v - low) / (high - low)) if high > low else 0.0 for v in values]

    lexical, turn, window = flat(f.lexical), flat(f.turn), flat(f.window)
    expected = {}
    for i, e in enumerate(f.events):
        neighbours = [j for j in range(len(f.events)) if f.before[i] == j or f.before[j] == i]
        lent = 0.3 * sum(lexical[j] for j in neighbours)
        expected[e.id] = 0.5 * (lexical[i] + lent) + 0.25 * turn[i] + 0.25 * window[i]
    for hit in rank(f, read_query("anything"), Fixed(), limit=50):
        assert hit.score == pytest.approx(expected[hit.event.id], abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(anything_found())
def test_after_undoes_before(f: Found) -> None:
    following = after(f.before)
    for here, there in enumerate(f.before):
        if there >= 0:
            assert following[there] == here
    assert (following >= 0).sum() == (f.before >= 0).sum()


@settings(deadline=None, max_examples=40)
@given(anything_found(), QUESTIONS)
def test_features_are_finite_and_between_nought_and_two(f: Found, question: str) -> None:
    values = features(f, read_query(question), np.arange(len(f.events)))
    assert values.shape == (len(f.events), len(FEATURES))
    assert np.isfinite(values).all()
    assert values.min() >= -1e-12
    assert values.max() <= 2 + 1e-12


@settings(deadline=None, max_examples=40)
@given(anything_found(), QUESTIONS)
def test_a_feature_does_not_depend_on_the_order_in_which_places_are_chosen(
    f: Found, question: str
) -> None:
    query, places = read_query(question), np.arange(len(f.events))
    forwards = features(f, query, places)
    np.testing.assert_array_equal(features(f, query, places[::-1])[::-1], forwards)


def test_scaling_what_does_not_differ_gives_noughts() -> None:
    assert scaled(np.array([3.0, 3.0])).tolist() == [0, 0]
    assert scaled(np.array([])).tolist() == []
    assert scaled(np.array([2.0, 4.0, 3.0])).tolist() == [0, 1, 0.5]


def test_who_is_named_and_who_speaks() -> None:
    f = found(TALK)
    assert column(f, "What did Boris buy?", "author_named") == [0, 1, 0, 1, 0, 1]
    assert column(f, "What did Boris buy?", "another_named") == [1, 0, 1, 0, 1, 0]
    assert column(f, "What did anyone buy?", "another_named") == [0] * 6


def test_questions_and_what_follows_them() -> None:
    asks = column(found(TALK), "bicycle", "asks")
    assert asks[:4] == [1, 0, 1, 0]
    assert 0 < asks[4] < 1  # half of it tells
    assert column(found(TALK), "bicycle", "answers") == [0, *asks[:-1]]


def test_times_and_numbers_count_only_where_they_are_asked_for() -> None:
    f = found(TALK)
    assert column(f, "When did Boris leave?", "time_asked") == [0, 1, 0, 0, 0, 1]
    assert column(f, "Why did Boris leave?", "time_asked") == [0] * 6
    assert column(f, "How much was it?", "number_asked")[3] == 1
    assert column(f, "What was it?", "number_asked") == [0] * 6


def test_a_time_in_the_query_speaks_for_what_was_said_in_it_or_soon_after() -> None:
    f = found(TALK, days=[0, 1, 2, 8, 30, 31])  # from 1 March 2024
    inside = column(f, "What happened on 2 March 2024?", "in_time")
    assert inside == [0, 1, 0, 0, 0, 0]
    soon = column(f, "What happened on 2 March 2024?", "soon_after")
    assert soon[0] == 0  # before it
    assert soon[1] == 1
    assert 1 > soon[2] > soon[3] > soon[4] > 0
    assert column(f, "What happened in March 2024?", "in_time") == [1, 1, 1, 1, 1, 0]
    assert column(f, "What happened in 2023?", "in_time") == [0] * 6


def test_keywords_next_to_an_event_count_for_it() -> None:
    covered = column(found(TALK), "red bicycles painted", "covered_around")
    # "painted" is the rarest and stands in 4, "red" in 1, "bicycle" in 1 and 2.
    assert covered[5] == covered[4] > 0
    assert covered[3] > covered[5]  # bicycle before it, painted after it
    assert covered[0] == covered[1] == covered[2]


def test_an_opening_is_what_comes_after_a_long_silence() -> None:
    assert column(found(TALK, days=[0, 0, 0, 2, 2, 9]), "x", "opening") == [0, 0, 0, 1, 0, 1]


def test_matches_lend_to_their_neighbours_in_both_directions() -> None:
    f = found(TALK, lexical=[0, 0, 6, 3, 0, 0])
    assert column(f, "x", "lexical_before") == [0, 0, 0, 1, 0.5, 0]
    assert column(f, "x", "lexical_after") == [0, 1, 0.5, 0, 0, 0]
    assert column(f, "x", "lexical_far") == [1, 0.5, 0, 0, 1, 0.5]


def test_the_shipped_ranker_prefers_the_answer_to_the_question_that_shares_its_words() -> None:
    f = found(TALK, lexical=[0, 1, 3, 0, 0, 0], turn=[0, 0.4, 0.6, 0.4, 0, 0],
              window=[0, 0.3, 0.6, 0.6, 0.2, 0])  # fmt: skip
    query = read_query("How much did Boris pay for the bicycle?")
    places = [h.event.sequence for h in rank(f, query, Weighted())]
    assert places.index(3) < places.index(4)
    assert places.index(1) < places.index(0)
    assert set(LOCOMO) <= set(FEATURES)


def test_unknown_features_and_limits_below_one_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="lexcal"):
        Weighted({"lexcal": 1.0})
    with pytest.raises(InvalidRequest, match="limit"):
        rank(found(TALK), read_query("x"), Fixed(), limit=0)


def test_nothing_found_ranks_to_nothing() -> None:
    assert rank(found([]), read_query("x"), Weighted()) == []


def test_dates_in_a_question_are_read_once_and_wrong_ones_not_at_all() -> None:
    def days(text: str) -> list[tuple[str, int]]:
        return [(s.date().isoformat(), (e - s).days) for s, e in read_query(text).spans]

    assert days("on 7 May 2023?") == [("2023-05-07", 1)]
    assert days("on May 7th, 2023?") == [("2023-05-07", 1)]
    assert days("on 2023-05-07?") == [("2023-05-07", 1)]
    assert days("in February 2024?") == [("2024-02-01", 29)]
    assert days("in 2023?") == [("2023-01-01", 365)]
    assert days("on 31 June 2023?") == []
    assert days("on 2023-13-45?") == []
    assert days("the year 9999, 1900 times, 12 may be") == [("1900-01-01", 365)]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80))
def test_any_text_can_be_read_as_a_query(text: str) -> None:
    query = read_query(text)
    assert set(query.stems) == {stem(k.casefold()) for k in query.keywords}


@pytest.mark.parametrize(
    "forms",
    ["paint paints painted painting", "plan plans planned planning", "story stories",
     "bake bakes baked baking", "glass", "go"],
)  # fmt: skip
def test_forms_of_a_word_share_a_stem(forms: str) -> None:
    assert len({stem(w) for w in forms.split()}) == 1


@settings(max_examples=300, deadline=None)
@given(
    st.text(st.characters(categories=["Ll", "Lu", "Nd", "Zs", "Po"]), max_size=30),
    st.sampled_from(["", "ing", "ies", "ied", "ed", "es", "s", "ly", "pping", "eed"]),
)
def test_a_word_begins_like_its_stem_but_for_the_last_letter(text: str, ending: str) -> None:
    for word in WORD.findall((text + ending).casefold()):
        assert word.startswith(stem(word)[:-1])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(
    ["Story", "stories", "PLANNED", "plan-ning", "plan_s", "naïve", "Käse", "tea\x1ftea", "I"]),
    max_size=9).map(" ".join))  # fmt: skip
def test_the_share_of_covered_keywords_is_that_of_a_plain_scan(text: str) -> None:
    query = read_query("stories planning naive naïve käse tea x")
    has = {stem(w) for w in WORD.findall(text.casefold())} & set(query.stems)
    got = column(found([("Ada", text)]), query.text, "covered_around")[0]
    # Of one event, each stem that it has weighs log(1 + 1.5 / 1.5), each other log(1 + 1.5 / .5).
    weigh = {s: np.log(2.0) if s in has else np.log(4.0) for s in query.stems}
    assert got == pytest.approx(sum(weigh[s] for s in has) / sum(weigh.values()))


def test_stop_words_alone_are_kept_rather_than_nothing() -> None:
    assert read_query("who is it").keywords == ("who", "is", "it")
    assert read_query("who is Ada").keywords == ("Ada",)


def _questions(rng: np.random.Generator, truth: np.ndarray, count: int) -> list[Judged]:
    judged = []
    for _ in range(count):
        values = rng.random((40, len(FEATURES)))
        values[:, -1] = 0.5  # never differs
        evidence = np.zeros(40, dtype=np.bool_)
        evidence[np.argsort(-(values @ truth))[:2]] = True
        judged.append(Judged(values, evidence))
    return judged


def test_learning_recovers_weights_that_made_the_evidence() -> None:
    rng = np.random.default_rng(7)
    truth = np.zeros(len(FEATURES))
    truth[:4] = [3, 1, -2, 0]
    weights = fit(_questions(rng, truth, 60))
    learnt = np.array([weights[n] for n in FEATURES])
    cosine = learnt @ truth / np.linalg.norm(learnt) / np.linalg.norm(truth)
    assert cosine > 0.95
    assert weights[FEATURES[-1]] == 0  # what never differs weighs nothing
    for judged in _questions(rng, truth, 20):
        best = np.argsort(-(judged.features @ learnt))[:10]
        assert judged.evidence[best].sum() == 2


def test_learning_minimises_the_loss_it_states() -> None:
    rng = np.random.default_rng(3)
    judged = _questions(rng, rng.normal(size=len(FEATURES)), 12)
    judged[0] = Judged(judged[0].features[:6], np.array([True] + [False] * 5))  # few rivals
    deviation = np.concatenate([j.features for j in judged]).std(axis=0)
    weights = fit(judged)
    learnt = np.array([weights[n] for n in FEATURES])

    def loss(w: np.ndarray) -> float:
        losses = []
        for j in judged:
            scores = j.features @ w
            others = np.sort(scores[~j.evidence])[::-1]
            rivals = others[4:10] if len(others) > 4 else others[-1:]
            losses.append(np.log1p(np.exp(rivals.mean() - scores[j.evidence])).mean())
        return float(np.mean(losses) + 1e-3 * ((w * deviation) ** 2).sum())

    best = loss(learnt)
    assert best < loss(np.zeros(len(FEATURES)))
    for _ in range(50):
        step = rng.normal(scale=0.05, size=len(FEATURES))
        step[-1] = 0
        assert loss(learnt + step) >= best - 1e-6


def test_learning_from_nothing_is_refused() -> None:
    none = Judged(np.zeros((3, len(FEATURES))), np.zeros(3, dtype=np.bool_))
    with pytest.raises(InvalidRequest, match="evidence"):
        fit([none])
