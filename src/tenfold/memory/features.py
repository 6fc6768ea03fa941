"""What speaks for an event as an answer to a query: one number per reason, most within 0 to 1.

The reasons come from what the store found (words, vectors, and those of the neighbours in the
conversation) and from the texts themselves (who is speaking, is it a question, does it tell a
time; see `traits`). Texts are read only for the best candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tenfold.memory.query import WORD, Query
from tenfold.memory.rows import all_said, each_once
from tenfold.memory.store import Found
from tenfold.memory.traits import NOTHING, Said, hashes
from tenfold.memory.visibility import microseconds

Values = NDArray[np.float64]
Places = NDArray[np.int64]
Flags = NDArray[np.bool_]

FADE_DAYS = 7.0  # how fast a named time stops speaking for what was said after it
HOUR = 3_600_000_000  # microseconds
PAUSE = 6 * HOUR  # a longer silence begins a new talk

FEATURES = (
    "lexical",  # words in common (BM25), scaled over what was found
    "lexical_rank",  # the place among those
    "lexical_before",  # the same of the event before in the conversation,
    "lexical_after",  # of the one after,
    "lexical_far",  # and of both at distance two: the talk is about it
    "turn",  # nearness in meaning, scaled
    "window",  # nearness of the event and the one before, taken together
    "window_rank",
    "covered_around",  # the query's keywords found here or next to it, by rarity
    "author_named",  # the query names who said it
    "another_named",  # or somebody else than who said it
    "asks",  # the share of it that is questions
    "answers",  # the share of questions in the event before
    "first_person",
    "long",
    "opening",  # begins a talk, where news is told
    "time_asked",  # tells a time, and the query asks for one
    "number_asked",
    "in_time",  # was said in a time that the query names
    "soon_after",  # or soon after it
)


def scaled(values: Values) -> Values:
    """Values moved to 0 to 1; all zero where they do not differ."""
    if not len(values) or values.max() <= values.min():
        return np.zeros(len(values))
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low)


def shifted(values: Values, places: Places) -> Values:
    """The value at another place for each event, 0 where that place is -1."""
    return np.where(places >= 0, values[places], 0.0)


def after(before: Places) -> Places:
    """The place of the event after each one in its conversation, -1 where it is not here."""
    following = np.full(len(before), -1, dtype=np.int64)
    known = before >= 0
    following[before[known]] = np.flatnonzero(known)
    return following


def _by_rank(values: Values) -> Values:
    """1 for the best, a half for the tenth after it, 0 for what has no value at all."""
    ranks = np.empty(len(values))
    ranks[np.argsort(-values, kind="stable")] = np.arange(len(values))
    return np.where(values > 0, 10.0 / (10.0 + ranks), 0.0)


def features(found: Found, query: Query, chosen: Places) -> Values:
    """The reasons for the chosen events [chosen, FEATURES]; neighbours count though not chosen."""
    columns = {n: values[chosen] for n, values in _found_features(found).items()}
    columns |= _text_features(found, query, chosen)
    nothing = np.zeros(len(chosen))
    return np.stack([columns.get(name, nothing) for name in FEATURES], axis=1)


def _found_features(found: Found) -> dict[str, Values]:
    before, following = found.before, after(found.before)
    lexical, window = scaled(found.lexical), scaled(found.window)
    earlier, later = shifted(lexical, before), shifted(lexical, following)
    return {
        "lexical": lexical,
        "lexical_rank": _by_rank(lexical),
        "lexical_before": earlier,
        "lexical_after": later,
        "lexical_far": shifted(earlier, before) + shifted(later, following),
        "turn": scaled(found.turn),
        "window": window,
        "window_rank": _by_rank(window),
    }


def _text_features(found: Found, query: Query, chosen: Places) -> dict[str, Values]:
    before, following = found.before[chosen], after(found.before)[chosen]
    sides = [side[side >= 0] for side in (before, following)]
    places = each_once([chosen, *sides], len(found.events))
    read = [*all_said(found.events, places.tolist()), NOTHING]
    row = np.full(len(found.events) + 1, len(places))  # that of NOTHING, also at -1
    row[places] = np.arange(len(places))
    here, earlier, later = row[chosen], row[before], row[following]
    columns = [(s.words, s.asks, s.first_person, s.tells_time, s.tells_number) for s in read]
    words, asks, first_person, tells_time, tells_number = np.array(columns, dtype=np.float64).T
    moments = np.array([s.moment for s in read], dtype=np.int64)
    authors = {author: _named(author, query) for author in {s.author for s in read}}
    named = np.array([authors[s.author] for s in read], dtype=np.float64)[here]
    have = _matches(read, query.stems)
    around = have[here] | have[earlier] | have[later]
    return {
        "covered_around": (around * _weights(have[here])).sum(axis=1),
        "author_named": named,
        "another_named": (1 - named) * named.any(),
        "asks": asks[here],
        "answers": asks[earlier],
        "first_person": first_person[here],
        "long": np.minimum(1.0, np.log1p(words[here]) / 5),
        "opening": ((before >= 0) & (moments[here] - moments[earlier] > PAUSE)).astype(np.float64),
        **({"time_asked": tells_time[here]} if query.asks_when else {}),
        **({"number_asked": tells_number[here]} if query.asks_number else {}),
        **_timely(moments[here], query),
    }


def _matches(read: Sequence[Said], stems: Sequence[str]) -> Flags:
    """Which of the query's stems each text has [texts, stems]."""
    have = np.zeros((len(read), len(stems)), dtype=np.bool_)
    if stems:
        wanted = np.frombuffer(hashes(stems), dtype=np.int64)
        order = np.argsort(wanted)
        said = np.frombuffer(b"".join([s.stems for s in read]), dtype=np.int64)
        near = np.minimum(np.searchsorted(wanted[order], said), len(stems) - 1)
        hits = np.flatnonzero(wanted[order][near] == said)
        ends = np.cumsum([len(s.stems) // said.itemsize for s in read])
        have[np.searchsorted(ends, hits, side="right"), order[near[hits]]] = True
    return have


def _weights(have: Flags) -> Values:
    """How much each of the query's stems says, from how few candidates have it; they sum to 1."""
    rarity = np.log1p((len(have) + 0.5) / (0.5 + have.sum(axis=0)))
    weights: Values = rarity / (rarity.sum() or 1.0)
    return weights


def _named(author: str, query: Query) -> bool:
    return not query.words.isdisjoint(w.casefold() for w in WORD.findall(author))


def _timely(moments: Places, query: Query) -> dict[str, Values]:
    """Whether an event lies in a time that the query names; how soon after it, fading by days."""
    if not query.spans:
        return {}
    starts, ends = np.array([[microseconds(m) for m in span] for span in query.spans]).T
    at = moments[:, None]  # [events, 1], against [spans]
    outside = np.where(at < starts, at - starts, np.maximum(0, at - ends)) / (24 * HOUR)
    fading = np.where(outside >= 0, np.exp(-np.maximum(outside, 0.0) / FADE_DAYS), 0.0)
    inside: Flags = (outside == 0).any(axis=1)
    return {"in_time": inside.astype(np.float64), "soon_after": fading.max(axis=1)}
