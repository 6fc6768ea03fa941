"""What stands nowhere: numbers, names and, given a lexicon, words that nobody has said before."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from tenfold.rewards.catalogue import Meaning
from tenfold.rewards.lexing import MONTHS, Token, keys, lex
from tenfold.rewards.phrases import Found
from tenfold.rewards.sentences import Sentence

# Words that answers begin sentences with: before a name they are no part of it.
_OPENER_WORDS = """
    a about additionally after all alright also an and another any anything are as at awesome
    based because before both but by can certainly confirm could dear did do does done each
    either enjoy even excellent finally first for found from good got great have he hello here
    hey hi how however i i'd i'll i'm i've if in is it it's its just later let let's looking
    may maybe meanwhile my next no not now of oh ok okay on once one only or our perfect
    please right second shall she should so some sorry still sure thank thanks that that's the
    their them then there there's these they they're third this those to try under
    unfortunately very was we we'll we're we've welcome well were what what's when where which
    while who why will with would yeah yep yes you you'll you're your
"""
_OPENERS = frozenset(_OPENER_WORDS.split())
FUNCTION_WORDS = _OPENERS | {"to", "from", "her", "his", "him", "us", "me", "be", "up", "out"}
_DAYS = "monday tuesday wednesday thursday friday saturday sunday"
_EVERYWHERE = {
    *_DAYS.split(), *MONTHS, "i", "i'm", "i'll", "i've", "i'd", "ok", "okay", "am", "pm", "tv",
    "wifi", "wi", "fi", "usd", "us", "id", "atm", "mr", "mrs", "ms", "dr",
}  # fmt: skip
_COUNTED = {
    "stops", "stop", "people", "seats", "rooms", "nights", "tickets", "bedrooms", "bathrooms",
    "guests", "persons", "adults", "beds", "stars", "dollars", "percent",
}  # fmt: skip
_STARTS_SENTENCE = re.compile(r"[:\n\"“(•*]|(?:^|\s)[-–]\s")
_APART = re.compile(r"[^\s&.'’/-]|\.\s|\n")
_NAME_END = re.compile(r"[^\W\d_]$")


class Known:
    """What the conversation so far holds."""

    def __init__(
        self,
        texts: Iterable[str],
        said: Iterable[str],
        *,
        counts: Collection[int],
        nouns: Iterable[str],
        lexicon: Collection[str] | None,
    ) -> None:
        """`texts` are all messages, `said` those besides the facts: numbers may be taken from the
        latter only, since a number in the facts belongs to a value."""
        self._stream = _stream(texts)
        self._said = {key for text in said for key in keys(text)}
        self._words = set(self._stream.split())
        self._counts = {f"#n{n}" for n in counts} | {"#n1", "#c3d", "#c2d"}
        self._nouns = {key for noun in nouns for key in keys(noun)}
        self._lexicon = frozenset(w.lower() for w in lexicon) if lexicon is not None else None

    def holds(self, phrase: Sequence[str]) -> bool:
        """Whether the words stand somewhere, in this order."""
        return f" {' '.join(phrase)} " in self._stream

    def number(self, token: Token, written: str, following: str | None) -> bool:
        """Whether a number or another typed value is nothing to doubt."""
        if token.key in self._said or token.key in self._counts:
            return True
        if token.key[:2] == "#n" and written[0].isalpha():
            return following not in _COUNTED  # "two of them" is talk; "two stops" is a value
        return token.key[:2] == "#o" and int(token.key[2:]) <= 10 and following in _ORDERED

    def word(self, key: str) -> bool:
        """Whether a word in lower case is nothing to doubt."""
        if self._lexicon is None or key in self._words or key in _EVERYWHERE:
            return True
        return key in self._lexicon or key in _OPENERS or len(key) == 1

    def name(self, words: Sequence[str]) -> bool:
        """Whether capitalised words are nothing to doubt."""
        if all(w in _OPENERS for w in words):  # a slip of the shift key
            return True
        new = [w for w in words if w not in _EVERYWHERE and w not in self._nouns]
        return not new or self.holds(words) or self.holds(new)

    def opener(self, key: str) -> bool:
        """Whether a word that opens a sentence is no part of the name that follows."""
        if key in _OPENERS:
            return True
        return self._lexicon is not None and key in self._lexicon


_ORDERED = {"one", "option", "choice", "floor", "#n1", None}


def _stream(texts: Iterable[str]) -> str:
    return " " + " \n ".join(" ".join(token.key for token in lex(t)) for t in texts) + " "


def passages(text: str, tokens: Sequence[Token], doubtful: Collection[int]) -> list[str]:
    """The invented passages of an answer; adjacent words are one."""
    passages: list[tuple[int, int]] = []
    for i in sorted(doubtful):
        if passages and passages[-1][1] == i and not _apart(text, tokens, i):
            passages[-1] = (passages[-1][0], i + 1)
        else:
            passages.append((i, i + 1))
    return [text[tokens[a].start : tokens[b - 1].end] for a, b in passages]


def inventions(
    text: str,
    tokens: Sequence[Token],
    found: Sequence[Found[Meaning]],
    sentences: Sequence[Sentence],
    known: Known,
) -> set[int]:
    """The tokens of an answer that stand nowhere in the conversation."""
    covered = {
        i
        for phrase in found
        if any(m.kind in ("name", "value", "flag") for m in phrase.meanings)
        for i in range(phrase.start, phrase.end)
    }
    # Text that a value runs on into: "Blue Door" in "Blue Door Palace".
    name_ends = {
        phrase.end: phrase.start
        for phrase in found
        if any(m.kind in ("name", "value") and not m.shy for m in phrase.meanings)
    }
    doubtful: set[int] = set()
    for sentence in sentences:
        i = sentence.start
        while i < sentence.end:
            if i in covered:
                i += 1
                continue
            end = _capitalised(text, tokens, i, sentence.end, covered)
            if end > i:
                first = i == sentence.start or bool(_STARTS_SENTENCE.search(_gap(text, tokens, i)))
                doubtful.update(_doubtful_name(text, tokens, i, end, first, name_ends, known))
                i = end
                continue
            token = tokens[i]
            following = tokens[i + 1].key if i + 1 < sentence.end else None
            written = text[token.start : token.end]
            if token.typed:
                if not known.number(token, written, following) and not _scale(text, tokens, i):
                    doubtful.add(i)
            elif not known.word(token.key):
                doubtful.add(i)
            i += 1
    return doubtful


def _doubtful_name(
    text: str,
    tokens: Sequence[Token],
    start: int,
    end: int,
    first: bool,
    name_ends: dict[int, int],
    known: Known,
) -> range:
    words = [t.key for t in tokens[start:end]]
    nothing = range(0)
    if first:
        while words and known.opener(words[0]):
            words, start = words[1:], start + 1
        new = [w for w in words if w not in _EVERYWHERE]
        lonely = len(new) == 1 and known.word(new[0])
        if not words or lonely:
            return nothing
    elif start in name_ends and not _apart(text, tokens, start):
        before = [t.key for t in tokens[name_ends[start] : start]]
        if not text[tokens[name_ends[start]].start].isupper() or not _NAME_END.search(
            text[: tokens[start - 1].end]
        ):
            before = []
        if before and not known.name(words):
            return range(start, end)
        new = [w for w in words if w not in _EVERYWHERE]
        if before and new and not known.name([*words]):
            return range(start, end)
    return nothing if known.name(words) else range(start, end)


def _capitalised(
    text: str, tokens: Sequence[Token], start: int, limit: int, covered: Collection[int]
) -> int:
    """Where the run of capitalised words from `start` ends."""
    end = start
    while (
        end < limit
        and end not in covered
        and not tokens[end].typed
        and text[tokens[end].start].isupper()
        and (end == start or not _apart(text, tokens, end))
    ):
        end += 1
    return end


def _gap(text: str, tokens: Sequence[Token], i: int) -> str:
    return text[tokens[i - 1].end if i else 0 : tokens[i].start]


def _apart(text: str, tokens: Sequence[Token], i: int) -> bool:
    return _APART.search(_gap(text, tokens, i)) is not None


def _scale(text: str, tokens: Sequence[Token], i: int) -> bool:
    """Whether a number is the scale of a rating: "4.5 out of 5", "4/5"."""
    if "/" in _gap(text, tokens, i):
        return True
    return i >= 2 and tokens[i - 1].key == "of" and tokens[i - 2].key == "out"
