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
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from tenfold.memory.query import WORD, Query, stem
from tenfold.memory.rows import Said, said
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
_APART = {c: chr(c) if chr(c).isalnum() else " " for c in range(128)}
PAUSE = timedelta(hours=6)  # a longer silence begins a new talk

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

    def __init__(self, said: Mapping[int, Said], query: Query) -> None:
        self.texts = {p: s.text for p, s in said.items()}
        self._folded = {p: t.casefold() for p, t in self.texts.items()}
        self._words: dict[int, list[str]] = {}
        # A word begins like its stem, but for the last letter (stories, story): few texts have
        # to be split for it, and few words stemmed.
        begins = tuple({s[:-1] for s in query.stems})
        stems: dict[str, str] = {}
        self.stems: dict[int, frozenset[str]] = {}
        for place, text in self._folded.items():
            self.stems[place] = frozenset()
            if any(b in text for b in begins):
                like = [w for w in self.words(place) if w.startswith(begins)]
                stems |= {w: stem(w) for w in like if w not in stems}
                self.stems[place] = frozenset([stems[w] for w in like]).intersection(query.stems)

    def words(self, place: int) -> list[str]:
        """The text's words, folded: what WORD finds, and three times as fast in plain English."""
        words = self._words.get(place)
        if words is None:
            text = self._folded[place]
            words = text.translate(_APART).split() if text.isascii() else WORD.findall(text)
            self._words[place] = words
        return words

    def asks(self, place: int) -> float:
        """The share of the text that stands in questions."""
        text = self.texts[place]
        if "?" not in text:
            return 0.0
        return sum(len(s) for s in _SENTENCE.findall(text) if s.endswith("?")) / len(text)

    def tells_time(self, place: int) -> bool:
        """Whether it says when something was or will be."""
        words = self.words(place)
        if _TIME_WORDS.isdisjoint(words) and not any(map(str.isdigit, words)):
            return False
        return _TIME.search(self.texts[place]) is not None

    def first_person(self, place: int) -> float:
        """How much the author speaks of themselves."""
        return min(1.0, sum(map(FIRST_PERSON.__contains__, self.words(place))) / 4)


def _text_features(found: Found, query: Query, chosen: Places) -> dict[str, Values]:
    before, here = found.before.tolist(), chosen.tolist()
    following = after(found.before).tolist()
    around = [[p for p in (c, before[c], following[c]) if p >= 0] for c in here]
    everything = said(found.events, {p for places in around for p in places})
    texts = _Texts(everything, query)
    weights = _weights(query.stems, [texts.stems[c] for c in here])
    read = [everything[c] for c in here]
    authors = {author: _named(author, query) for author in {s.author for s in read}}
    named = _array([authors[s.author] for s in read])
    asks = {p: texts.asks(p) for p in {*here, *(before[c] for c in here)} - {-1}} | {-1: 0.0}
    return {
        "covered_around": _array(
            [sum(map(weights.__getitem__, _joined(texts.stems, a))) for a in around]
        ),
        "author_named": named,
        "another_named": (1 - named) * named.any(),
        "asks": _array([asks[c] for c in here]),
        "answers": _array([asks[before[c]] for c in here]),
        "first_person": _array([texts.first_person(c) for c in here]),
        "long": np.minimum(1.0, np.log1p([len(texts.words(c)) for c in here]) / 5),
        "opening": _array([_opens(everything, c, before[c]) for c in here]),
        **_asked(texts, here, query),
        **_timely([s.valid_at for s in read], query),
    }


def _joined(stems: Mapping[int, frozenset[str]], places: Sequence[int]) -> frozenset[str]:
    return frozenset().union(*[stems[p] for p in places])


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


def _opens(said: Mapping[int, Said], here: int, before: int) -> bool:
    return before >= 0 and said[here].valid_at - said[before].valid_at > PAUSE


def _timely(moments: Sequence[datetime], query: Query) -> dict[str, Values]:
    """Whether an event lies in a time that the query names; how soon after it, fading by days."""
    if not query.spans:
        return {}
    inside, near = np.zeros(len(moments)), np.zeros(len(moments))
    for i, moment in enumerate(moments):
        days = [_days_outside(moment, span) for span in query.spans]
        inside[i] = 0.0 in days
        near[i] = max(math.exp(-d / FADE_DAYS) if d >= 0 else 0.0 for d in days)
    return {"in_time": inside, "soon_after": near}


def _days_outside(moment: datetime, span: tuple[datetime, datetime]) -> float:
    """Days after the span, negative before it, 0 inside."""
    start, end = span
    if moment < start:
        return (moment - start).total_seconds() / 86_400
    return max(0.0, (moment - end).total_seconds() / 86_400)
