"""Extractive summaries: the sentences of a conversation that say most, verbatim.

Maximal marginal relevance: each next sentence is near the centre of the conversation and far from
those that were taken before it. No word is made up, and each sentence names its event.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tenfold.errors import InvalidRequest
from tenfold.memory.derive.sentences import sentence_spans
from tenfold.memory.derive.sources import audience, learnt
from tenfold.memory.derive.wording import words
from tenfold.memory.events import Event
from tenfold.memory.store import Derived, Vectors

KIND, DERIVER = "summary", "summaries/2"
SENTENCES, MOST_SENTENCES = 3, 12  # of one summary
EVENTS_A_SENTENCE = 8  # beyond the first three
SEGMENT = 100  # events that one summary stands for at most
SHORTEST = 4  # words of a sentence that can stand for others
TWICE = 0.95  # how alike sentences are that say the same
NEAR = 0.7  # weight of nearness to the centre; the rest is distance from the sentences taken

# How alike sentence i is to each: [sentences].
_Likeness = Callable[[int], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of an event, at `start` to `end` of its text."""

    event: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Summary:
    """A summary as it is kept: its text, and the events that it stands for, in their order.

    `said` has the event and the words of each sentence that was taken; a summary in words of its
    own has none. `deriver` is who made it.
    """

    conversation: str
    text: str
    events: tuple[str, ...]
    said: tuple[tuple[str, str], ...]
    deriver: str


def summary_of(row: Derived) -> Summary:
    """A summary as the store has it."""
    text, sources = str(row.value["text"]), str(row.value["sources"]).split()
    said = tuple(zip(sources, text.split("\n"), strict=True)) if sources else ()
    return Summary(str(row.value["conversation"]), text, row.events, said, row.deriver)


def sentences(events: Sequence[Event]) -> list[Sentence]:
    """The sentences of events in the order of the log; a row of vectors is made for each."""
    return [
        Sentence(event.id, event.text[start:end], start, end)
        for event in learnt(events)
        for start, end in sentence_spans(event.text)
    ]


def summarise(
    candidates: Sequence[Sentence], k: int = SENTENCES, vectors: Vectors | None = None
) -> list[Sentence]:
    """At most k of the sentences, in their own order.

    `vectors` are of the sentences, [sentences, width] in unit length; without them tf-idf of their
    words is compared. Raises InvalidRequest when there are not as many vectors as sentences.
    """
    if k < 1:
        raise InvalidRequest(
            f"a summary of {k} sentences says nothing", param="k", hint="at least 1"
        )
    if vectors is not None and len(vectors) != len(candidates):
        raise InvalidRequest(
            f"{len(vectors)} vectors for {len(candidates)} sentences",
            param="vectors",
            hint="one row for each sentence, in the order of sentences()",
        )
    long = [i for i, s in enumerate(candidates) if len(s.text.split()) >= SHORTEST]
    chosen = long or list(range(len(candidates)))
    if not chosen:
        return []
    if vectors is None:
        centre, like = _by_words([words(candidates[i].text) for i in chosen])
    else:
        centre, like = _by_vectors(vectors[chosen].astype(np.float64))
    return [candidates[chosen[i]] for i in sorted(_pick(centre, like, k))]


def derive_summaries(events: Sequence[Event]) -> list[Derived]:
    """One summary for each conversation and audience in it, of all events that it stands for.

    `value` has the `text`, a sentence a line, the `sources`, the event of each, and the
    `conversation`. Since each sentence was weighed against all events, it comes from all of them.
    Of more than SEGMENT events there are several.
    """
    rows = []
    for group in segments(events):
        most = min(MOST_SENTENCES, max(SENTENCES, len(group) // EVENTS_A_SENTENCE))
        said = summarise(sentences(group), most)
        if said and len(group) > len(said):  # else the conversation is as short as its summary
            lines = [" ".join(s.text.split()) for s in said]
            rows.append(row_of(group, "\n".join(lines), DERIVER, [s.event for s in said]))
    return rows


def segments(events: Sequence[Event]) -> list[list[Event]]:
    """Events that one summary may stand for: of one conversation and audience, SEGMENT at most."""
    groups: dict[tuple[str, tuple[str, str]], list[Event]] = defaultdict(list)
    for event in learnt(events):
        if event.conversation:
            groups[event.conversation, audience(event)].append(event)
    return [g[i : i + SEGMENT] for g in groups.values() for i in range(0, len(g), SEGMENT)]


def row_of(
    events: Sequence[Event], text: str, deriver: str, sources: Sequence[str] = ()
) -> Derived:
    """A summary of events for the store, with the event of each line where it quotes them."""
    value = {
        "conversation": events[0].conversation,
        "text": text,
        "sources": " ".join(sources),
    }
    return Derived(KIND, deriver, tuple(e.id for e in events), value)


def _pick(centre: NDArray[np.float64], like: _Likeness, k: int) -> list[int]:
    """Which k of the sentences, the best first; the earlier one of two that are as good.

    Fewer where all others say the same as one that is picked.
    """
    picked: list[int] = []
    nearest = np.zeros_like(centre)  # to those picked
    free = np.ones(len(centre), dtype=bool)
    while len(picked) < k and free.any():
        score = np.where(free, NEAR * centre - (1 - NEAR) * nearest, -np.inf)
        best = int(np.argmax(np.round(score, 12)))
        picked.append(best)
        alike = like(best)
        free &= alike < TWICE
        free[best] = False
        nearest = np.maximum(nearest, alike)
    return picked


def _by_vectors(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], _Likeness]:
    centre = vectors.mean(axis=0)
    centre /= max(float(np.linalg.norm(centre)), 1e-12)
    return vectors @ centre, lambda i: vectors @ vectors[i]


def _by_words(texts: Sequence[Sequence[str]]) -> tuple[NDArray[np.float64], _Likeness]:
    """Cosines of tf-idf vectors, kept as dictionaries: a conversation has many words, each few."""
    frequency = Counter(word for text in texts for word in set(text))
    rows: list[dict[str, float]] = []
    containing: dict[str, list[int]] = defaultdict(list)
    middle: dict[str, float] = defaultdict(float)
    for i, text in enumerate(texts):
        row = {w: n * math.log((1 + len(texts)) / frequency[w]) for w, n in Counter(text).items()}
        length = math.sqrt(sum(x * x for x in row.values())) or 1.0
        rows.append({word: x / length for word, x in row.items()})
        for word, x in rows[-1].items():
            containing[word].append(i)
            middle[word] += x
    length = math.sqrt(sum(x * x for x in middle.values())) or 1.0

    def like(i: int) -> NDArray[np.float64]:
        alike = np.zeros(len(rows))
        for word, x in rows[i].items():
            for j in containing[word]:
                alike[j] += x * rows[j][word]
        return alike

    centre = np.array([sum(x * middle[w] for w, x in row.items()) / length for row in rows])
    return centre, like
