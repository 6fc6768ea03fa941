"""What speaks for an event as an answer to a query: one number per reason, most within 0 to 1.

The reasons come from what the store found (words, vectors, and those of the neighbours in the
conversation) and from the texts themselves (who is speaking, is it a question, does it tell a
time). Texts are read only for the best candidates; nothing read is kept, so that erasing an event
leaves nothing of it here.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from tenfold.memory.events import Event
from tenfold.memory.query import WORD, Query, stem
from tenfold.memory.store import Found

Values = NDArray[np.float64]
Places = NDArray[np.int64]

_TIME = re.compile(
    r"\b(?:yesterday|today|tonight|tomorrow|ago|recently|lately"
    r"|(?:last|next|this|past|the other|every) "
    r"(?:night|morning|evening|day|week|weekend|month|year|spring|summer|autumn|fall|winter"
    r"|monday|tuesday|wednesday|thursday|friday|saturday|sunday)"
    r"|(?:mon|tues|wednes|thurs|fri|satur|sun)day"
    r"|january|february|april|june|july|august|september|october|november|december"
    r"|(?:in|since|by|of) (?:march|may)|(?:19|20)\d\d"
    r"|(?:for|in|about|over) (?:a|an|\d+|two|three|four|five|six|seven|eight|ten|few|a few|some)"
    r" (?:days?|weeks?|months?|years?))\b",
    re.I,
)
# Whatever tells a time has one of these words, or digits; looking for them first is much faster.
_TIME_WORD_LIST = """
yesterday today tonight tomorrow ago recently lately night morning evening day week weekend month
year spring summer autumn fall winter monday tuesday wednesday thursday friday saturday sunday
january february march april may june july august september october november december
days weeks months years
"""
_TIME_WORDS = frozenset(_TIME_WORD_LIST.split())
_NUMBER = re.compile(
    r"\b(?:\d+|two|three|four|five|six|seven|eight|nine|ten|dozen|twice|once|first|second|third)\b",
    re.I,
)
_SENTENCE = re.compile(r"[^.!?]+[.!?]*")
FADE_DAYS = 7.0  # how fast a named time stops speaking for what was said after it
FIRST_PERSON = frozenset(("i", "my", "me", "we", "our", "us"))
PAUSE_SECONDS = 6 * 3600.0  # a longer silence begins a new talk

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


class _Texts:
    """The words of the chosen events and their neighbours, and which of the query's they have."""

    def __init__(self, events: Sequence[Event], places: set[int], query: Query) -> None:
        self.texts = {p: events[p].text for p in places}
        self.words = {p: WORD.findall(t.casefold()) for p, t in self.texts.items()}
        # Only words that begin like one of the query's can have its stem: few need stemming.
        begins = {s[:2] for s in query.stems}
        vocabulary = set[str]().union(*self.words.values())
        stems = {w: stem(w) for w in vocabulary if w[:2] in begins}
        wanted = frozenset(query.stems)
        forms = {w: s for w, s in stems.items() if s in wanted}
        known = frozenset(forms)
        self.stems = {
            p: frozenset(forms[w] for w in known.intersection(words))
            for p, words in self.words.items()
        }

    def asks(self, place: int) -> float:
        """The share of the text that stands in questions."""
        text = self.texts[place]
        if "?" not in text:
            return 0.0
        return sum(len(s) for s in _SENTENCE.findall(text) if s.endswith("?")) / len(text)

    def tells_time(self, place: int) -> bool:
        """Whether it says when something was or will be."""
        words = self.words[place]
        if _TIME_WORDS.isdisjoint(words) and not any(w.isdigit() for w in words):
            return False
        return _TIME.search(self.texts[place]) is not None

    def first_person(self, place: int) -> float:
        """How much the author speaks of themselves."""
        return min(1.0, sum(w in FIRST_PERSON for w in self.words[place]) / 4)


def _text_features(found: Found, query: Query, chosen: Places) -> dict[str, Values]:
    before, following = found.before, after(found.before)
    here = [int(c) for c in chosen]
    around = [[p for p in (c, int(before[c]), int(following[c])) if p >= 0] for c in here]
    texts = _Texts(found.events, {p for places in around for p in places}, query)
    weights = _weights(query.stems, [texts.stems[c] for c in here])
    events = [found.events[c] for c in here]
    authors = {author: _named(author, query) for author in {e.author for e in events}}
    named = _array([authors[e.author] for e in events])
    return {
        "covered_around": _array(
            [sum(weights[s] for s in {s for p in a for s in texts.stems[p]}) for a in around]
        ),
        "author_named": named,
        "another_named": (1 - named) * named.any(),
        "asks": _array([texts.asks(c) for c in here]),
        "answers": _array([texts.asks(int(b)) if (b := before[c]) >= 0 else 0 for c in here]),
        "first_person": _array([texts.first_person(c) for c in here]),
        "long": _array([min(1.0, math.log1p(len(texts.words[c])) / 5) for c in here]),
        "opening": _array([_opens(found.events, c, int(before[c])) for c in here]),
        **_asked(texts, here, query),
        **_timely(events, query),
    }


def _array(values: Sequence[float]) -> Values:
    return np.array(values, dtype=np.float64)


def _asked(texts: _Texts, places: Sequence[int], query: Query) -> dict[str, Values]:
    """What only some queries ask for: a time told, a number told."""
    asked = {}
    if query.asks_when:
        asked["time_asked"] = _array([texts.tells_time(p) for p in places])
    if query.asks_number:
        asked["number_asked"] = _array([_NUMBER.search(texts.texts[p]) is not None for p in places])
    return asked


def _weights(stems: Sequence[str], matches: Sequence[frozenset[str]]) -> dict[str, float]:
    """How much each of the query's stems says, from how few candidates have it; they sum to 1."""
    have = Counter(s for m in matches for s in m)
    rarity = {s: math.log1p((len(matches) + 0.5) / (0.5 + have[s])) for s in stems}
    total = sum(rarity.values()) or 1.0
    return {s: r / total for s, r in rarity.items()}


def _named(author: str, query: Query) -> bool:
    return not query.words.isdisjoint(w.casefold() for w in WORD.findall(author))


def _opens(events: Sequence[Event], here: int, before: int) -> bool:
    if before < 0:
        return False
    return (events[here].valid_at - events[before].valid_at).total_seconds() > PAUSE_SECONDS


def _timely(events: Sequence[Event], query: Query) -> dict[str, Values]:
    """Whether an event lies in a time that the query names; how soon after it, fading by days."""
    if not query.spans:
        return {}
    inside, near = np.zeros(len(events)), np.zeros(len(events))
    for i, event in enumerate(events):
        days = [_days_outside(event.valid_at, span) for span in query.spans]
        inside[i] = 0.0 in days
        near[i] = max(math.exp(-d / FADE_DAYS) if d >= 0 else 0.0 for d in days)
    return {"in_time": inside, "soon_after": near}


def _days_outside(moment: datetime, span: tuple[datetime, datetime]) -> float:
    """Days after the span, negative before it, 0 inside."""
    start, end = span
    if moment < start:
        return (moment - start).total_seconds() / 86_400
    return max(0.0, (moment - end).total_seconds() / 86_400)
