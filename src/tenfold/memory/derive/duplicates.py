"""Near duplicates: the same statement made again in almost the same words.

Two texts are duplicates when the Jaccard similarity of their character 4-grams is at least .72 and
three guards let them pass: the words of one come in the same order in the other (mistyped ones are
forgiven), what the other says more is no number, name, negation or condition, and both ask or both
state. "I eat meat" and "I do not eat meat" are .72 alike in a longer sentence and must both be kept
(hermes-agent #88471).

A cluster has a leader, its earliest statement; whatever is alike to the leader joins it. Since
members are never compared with members, a cluster cannot drift from one statement to another.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from tenfold.memory.derive.dates import find_dates
from tenfold.memory.derive.sentences import sentence_spans
from tenfold.memory.derive.sources import audience, learnt
from tenfold.memory.derive.wording import is_number, words
from tenfold.memory.events import Event
from tenfold.memory.store import Derived

DERIVER = "duplicates/1"
ALIKE = 0.72  # Jaccard similarity of character 4-grams from which texts are compared further
_GRAM = 4
_HITS = 8  # rare grams that alike texts must share to be compared
_TYPED = 6  # letters of a word in which one may be mistyped
# Words that, said on one side only, change what is said.
_CUE_WORDS = """
not no never none nobody nothing nor neither without cannot hardly barely almost nearly stopped
quit formerly used longer anymore if unless except until maybe perhaps would should could might
and or but with plus too both false wrong instead only every all
"""
_CUES = frozenset(_CUE_WORDS.split())
_ASKING = re.compile(
    r"\s*(?:what|who|whom|whose|when|where|which|why|how|is|are|am|was|were|do|does|did|can|could"
    r"|will|would|shall|should|has|have|had|may)\s+(?:i|you|he|she|it|we|they|the|a|an|my|your|this"
    r"|that|there|is|are|was|were|do|does|did|many|much|long|old|far|often)\b",
    re.IGNORECASE,
)
_TELLS_A_DAY = re.compile(
    r"day|\bto(?:night|morrow)\b|\bago\b|\b(?:last|next|this|now)\b", re.IGNORECASE
)
_WORD = re.compile(r"(?<![\w'’])[^\W\d_]\w*")
# English letters, the most frequent first: a gram of rare letters is rare.
_RANK = {letter: i for i, letter in enumerate(" etaoinshrdlucmfwygpbvk'xqjz")}


@dataclass(frozen=True, slots=True)
class Wording:
    """What of an event is compared: see `wording_of`."""

    words: tuple[str, ...]
    vocabulary: frozenset[str]
    names: frozenset[str]  # capitalised within a sentence, here in lower case
    asks: bool
    days: tuple[str, ...]  # "yesterday" said on another day is another day

    @property
    def text(self) -> str:
        return " ".join(self.words)


def wording_of(event: Event) -> Wording:
    """An event's text in the form that is compared."""
    text = event.text
    days: tuple[str, ...] = ()
    if _TELLS_A_DAY.search(text):
        days = tuple(d.value for d in find_dates(text, event.valid_at) if d.relative)
    asks = text.rstrip(" \t\n\"'”’)*_").endswith("?") or _ASKING.match(text) is not None
    said = words(text)
    return Wording(said, frozenset(said), _names(text), asks, days)


def grams(text: str) -> frozenset[str]:
    """The character 4-grams of a text with a space before and after it."""
    padded = f" {text} "
    return frozenset(padded[i : i + _GRAM] for i in range(max(1, len(padded) - _GRAM + 1)))


def similarity(a: frozenset[str], b: frozenset[str]) -> float:
    """Jaccard similarity, 0 to 1."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


def says_the_same(a: Wording, b: Wording) -> bool:
    """Whether the guards let two texts pass that look alike."""
    if a.asks != b.asks or a.days != b.days:
        return False
    short, long = (a, b) if len(a.words) <= len(b.words) else (b, a)
    if any(len(word) < _TYPED for word in short.vocabulary - long.vocabulary):
        return False  # most pairs end here
    names = a.names | b.names
    more: list[str] = []
    rest = iter(long.words)
    for word in short.words:
        for other in rest:
            if word == other or _mistyped(word, other, names):
                break
            more.append(other)
        else:
            return False
    more.extend(rest)
    return not any(is_number(w) or w in _CUES or w in names for w in more)


class Clusters:
    """The clusters of a growing log. `add` takes events in the order of the log.

    Events of different audiences, authors or subjects are never compared: "I like tea" of two
    people is two facts, and a private event must not tell on a shared one.
    """

    def __init__(self) -> None:
        self._leaders: list[tuple[str, Wording, int]] = []  # event, wording, number of grams
        self._exact: dict[tuple[object, str], list[int]] = defaultdict(list)
        self._by_gram: dict[tuple[object, str], list[int]] = defaultdict(list)

    def __len__(self) -> int:
        return len(self._leaders)

    def add(self, event: Event) -> Derived | None:
        """The event's place in the cluster it joins. None when it leads a new one."""
        group = (audience(event), event.author, event.subject or event.author)
        wording = wording_of(event)
        for i in self._exact[group, wording.text]:
            if says_the_same(wording, self._leaders[i][1]):
                return _member(event, self._leaders[i][0], 1.0)
        own = grams(wording.text)
        prefix = _prefix(own)
        shared = Counter(chain.from_iterable(self._by_gram.get((group, g), ()) for g in prefix))
        best, leader = 0.0, -1
        for i, count in sorted(shared.items()):
            _, other, size = self._leaders[i]
            least = _shared_at_least(max(size, len(own)))
            if count < min(_HITS, least) or min(size, len(own)) < least:
                continue
            if says_the_same(wording, other):
                alike = similarity(own, grams(other.text))
                if alike >= ALIKE and alike > best:
                    best, leader = alike, i
        if leader >= 0:
            return _member(event, self._leaders[leader][0], best)
        self._exact[group, wording.text].append(len(self._leaders))
        for gram in prefix:
            self._by_gram[group, gram].append(len(self._leaders))
        self._leaders.append((event.id, wording, len(own)))
        return None


def duplicates(events: Sequence[Event]) -> list[Derived]:
    """A row for each event that says again what the leader of its cluster said.

    `value` has the `leader` and the `similarity`; the row comes from both events.
    """
    clusters = Clusters()
    rows = (clusters.add(event) for event in learnt(events))
    return [row for row in rows if row is not None]


def clusters_of(events: Sequence[Event]) -> dict[str, list[str]]:
    """Each leader with the events that say the same, itself first."""
    rows = {row.events[0]: row.events[1] for row in duplicates(events)}
    members: dict[str, list[str]] = {}
    for event in learnt(events):
        members.setdefault(rows.get(event.id, event.id), []).append(event.id)
    return members


def _member(event: Event, leader: str, alike: float) -> Derived:
    value: dict[str, str | float | None] = {"leader": leader, "similarity": round(alike, 4)}
    return Derived("duplicate", DERIVER, (event.id, leader), value)


def _names(text: str) -> frozenset[str]:
    """Capitalised words within sentences, in lower case; none where everything is capitalised."""
    starts = {start for start, _ in sentence_spans(text)}
    capitalised = [m for m in _WORD.finditer(text) if m[0][0].isupper() and m[0] != "I"]
    found = [m for m in capitalised if m.start() not in starts]
    if len(found) * 2 > len(text.split()) + 1:
        return frozenset()
    return frozenset(m[0].casefold() for m in found)


def _mistyped(a: str, b: str, names: frozenset[str]) -> bool:
    """Whether two long words differ by one letter or two swapped ones, neither first nor last.

    At the ends letters make another word ("arrive", "arrived"; "typical", "atypical").
    """
    if abs(len(a) - len(b)) > 1 or min(len(a), len(b)) < _TYPED or a in names or b in names:
        return False
    if a[0] != b[0] or a[-1] != b[-1] or not (a.isalpha() and b.isalpha()):
        return False
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), 0)
    rest, other = a[start:], b[start:]
    if len(a) == len(b):
        return rest[1:] == other[1:] or (rest[2:] == other[2:] and rest[:2] == other[1::-1])
    return rest[1:] == other or rest == other[1:]


def _commonness(gram: str) -> int:  # not cached: a cache would keep pieces of erased texts
    return -sum(_RANK.get(letter, len(_RANK)) for letter in gram)


def _prefix(own: frozenset[str]) -> list[str]:
    """The rarest grams: so many that alike texts share _HITS of theirs, or all that they share.

    Of n grams at least s are shared. In one order of all grams, rarest first, the _HITS first of
    the shared ones are followed by s - _HITS others, so they are among the n - s + _HITS first.
    """
    keep = len(own) - _shared_at_least(len(own)) + _HITS
    return sorted(own, key=lambda gram: (_commonness(gram), gram))[:keep]


@lru_cache(maxsize=1 << 12)
def _shared_at_least(size: int) -> int:
    """How many of its grams a set shares with an alike one: at least ALIKE of them, rounded up."""
    return math.ceil(round(ALIKE * size, 9))  # .72 * 25 is 18.000000000000004 and means 18
