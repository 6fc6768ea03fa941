"""Extractive summaries, and how age lowers a rank."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tenfold.errors import InvalidRequest
from tenfold.memory.decay import HalfLives, decay
from tenfold.memory.derive.summaries import (
    MOST_SENTENCES,
    NEAR,
    SEGMENT,
    TWICE,
    Sentence,
    derive_summaries,
    sentences,
    summarise,
    summary_of,
)
from tenfold.memory.derive.wording import words
from tenfold.memory.events import PRIVATE, SHARED, Kind

from .made_up import events_at

NOW = datetime(2024, 3, 15, tzinfo=UTC)


event = events_at(lambda _: NOW, conversation="c")


TALK = [
    "Hi there! How are you?",
    "We want to paint the garden fence this summer. The fence is old.",
    "Which colour shall the garden fence have? I would paint the fence green.",
    "Green paint for the garden fence it is. By the way, my train was late again today.",
    "Buy ten litres of green paint for the fence.",
    "Thanks!",
]
EVENTS = [event(text, i) for i, text in enumerate(TALK, 1)]


def by_definition(vectors: np.ndarray, k: int) -> list[int]:
    """Maximal marginal relevance as it is written down, all pairs at once."""
    centre = vectors.mean(axis=0)
    centre = centre / np.linalg.norm(centre)
    chosen: list[int] = []
    while len(chosen) < k:
        scores = {
            i: NEAR * (v @ centre) - (1 - NEAR) * max([0.0, *(v @ vectors[j] for j in chosen)])
            for i, v in enumerate(vectors)
            if i not in chosen and all(v @ vectors[j] < TWICE for j in chosen)
        }
        if not scores:
            break
        chosen.append(max(scores, key=lambda i: (round(scores[i], 12), -i)))
    return sorted(chosen)


def test_sentences_are_verbatim_and_name_their_event() -> None:
    by_id = {e.id: e for e in EVENTS}
    for sentence in summarise(sentences(EVENTS), 3):
        assert by_id[sentence.event].text[sentence.start : sentence.end] == sentence.text


def test_the_summary_is_of_what_the_talk_is_about() -> None:
    said = [s.text for s in summarise(sentences(EVENTS), 3)]
    assert len(said) == 3
    assert all("fence" in s for s in said)


def test_a_summary_does_not_say_the_same_twice() -> None:
    events = [
        event(t, i)
        for i, t in enumerate(
            ["The red boat sails on Monday morning."] * 6
            + ["The crew of the boat needs more food.", "Cats sleep a lot in winter."]
        )
    ]
    said = [s.text for s in summarise(sentences(events), 2)]
    assert sum(s.startswith("The red boat") for s in said) == 1


@given(st.integers(2, 12), st.integers(1, 4), st.integers(0, 10_000))
@example(4, 4, 213)  # as many as are asked for, and two of them say the same
@settings(deadline=None)
def test_given_vectors_it_picks_what_the_definition_picks(n: int, k: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(n, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    given_sentences = [Sentence(str(i), "a sentence of five words", 0, 1) for i in range(n)]
    picked = summarise(given_sentences, min(k, n), vectors)
    expected = by_definition(vectors.astype(np.float64), min(k, n))
    assert [int(s.event) for s in picked] == expected


def test_without_vectors_it_picks_what_dense_tf_idf_picks() -> None:
    candidates = [s for s in sentences(EVENTS) if len(s.text.split()) >= 4]
    texts = [words(s.text) for s in candidates]
    vocabulary = sorted({w for text in texts for w in text})
    frequency = Counter(w for text in texts for w in set(text))
    rows = np.array(
        [
            [text.count(w) * math.log((1 + len(texts)) / frequency[w]) for w in vocabulary]
            for text in texts
        ]
    )
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for k in (1, 2, 3, 4):
        expected = [candidates[i] for i in by_definition(rows, k)]
        assert summarise(candidates, k) == expected


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="2 vectors for 10 sentences"):
        summarise(sentences(EVENTS), 3, np.zeros((2, 4), dtype=np.float32))
    with pytest.raises(InvalidRequest, match="0 sentences"):
        summarise(sentences(EVENTS), 0)


def test_a_summary_comes_from_all_events_of_its_conversation_and_audience() -> None:
    others = [event(text, i + 10, conversation="d", scope=SHARED) for i, text in enumerate(TALK)]
    recalled = event("The fence was painted green long ago.", 30, kind=Kind.RECALL)
    private, shared = derive_summaries([*EVENTS, *others, recalled])
    assert private.events == tuple(e.id for e in EVENTS)
    assert shared.events == tuple(e.id for e in others)
    assert "long ago" not in str(private.value["text"])
    assert set(str(private.value["sources"]).split()) <= set(private.events)
    assert len(str(private.value["text"]).splitlines()) == 3


def test_private_words_are_in_no_shared_summary() -> None:
    mixed = [replace(e, scope=SHARED if e.sequence % 2 else PRIVATE) for e in EVENTS]
    for summary in derive_summaries(mixed):
        assert len({e.scope for e in mixed if e.id in summary.events}) == 1


def test_a_longer_conversation_has_a_longer_summary_and_a_very_long_one_several() -> None:
    said = [event(f"The fence number {i} needs {i + 3} pots of paint.", i) for i in range(230)]
    rows = derive_summaries(said)
    assert [len(row.events) for row in rows] == [SEGMENT, SEGMENT, 30]
    assert [len(summary_of(row).said) for row in rows] == [MOST_SENTENCES, MOST_SENTENCES, 3]
    by_id = {e.id: e.text for e in said}
    for row in rows:
        summary = summary_of(row)
        assert summary.conversation == "c"
        assert all(by_id[ulid] == sentence for ulid, sentence in summary.said)


def test_what_is_as_short_as_its_summary_has_none() -> None:
    assert derive_summaries(EVENTS[:3]) == []


def test_a_half_life_halves() -> None:
    old = [event("x", valid_at=NOW - timedelta(days=d)) for d in (0, 10, 20, 30)]
    plain = HalfLives(timedelta(days=10), floor=0)
    assert decay(old, NOW, plain).tolist() == [1, 0.5, 0.25, 0.125]
    floored = HalfLives(timedelta(days=10), floor=0.2)
    assert decay(old, NOW, floored)[1] == pytest.approx(0.6)
    assert decay(old, NOW).tolist() == [1, 1, 1, 1]
    assert decay(old, NOW - timedelta(days=30), plain).tolist() == [1, 1, 1, 1]


@given(st.lists(st.integers(0, 100_000), min_size=2, max_size=20), st.floats(0, 1))
@settings(deadline=None)
def test_decay_never_prefers_the_older_and_never_forgets(ages: list[int], floor: float) -> None:
    events = [event("x", valid_at=NOW - timedelta(hours=h)) for h in sorted(ages)]
    factors = decay(events, NOW, HalfLives(timedelta(days=7), floor=floor))
    assert (np.diff(factors) <= 0).all()
    assert (factors >= floor).all()


def test_the_shorter_half_life_of_kind_and_scope_holds() -> None:
    lives = HalfLives(
        timedelta(days=30),
        kinds={Kind.TOOL: timedelta(days=1)},
        scopes={"shared": timedelta(days=5), "private": None},
    )
    assert lives.of(event("x", kind=Kind.TOOL, scope=SHARED)) == timedelta(days=1)
    assert lives.of(event("x", scope=SHARED)) == timedelta(days=5)
    assert lives.of(event("x")) is None
    with pytest.raises(InvalidRequest, match="half-life"):
        HalfLives(timedelta(0))
