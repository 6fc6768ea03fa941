"""What an event says of itself, whatever is asked: the numbers of its text that ranking weighs.

They are read off a text once and kept beside the view of who may read it (`rows.View`), since
splitting hundreds of texts took longer than all else of a search but embedding the query. The text
is not among them: words are there as hashes with the process's own key, which only a query's words
are held against.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable
from typing import NamedTuple

from tenfold.memory.query import WORD, stem

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
_NUMBER_WORDS = "two three four five six seven eight nine ten dozen twice once first second third"
_NUMBER = re.compile(rf"\b(?:\d+|{'|'.join(_NUMBER_WORDS.split())})\b", re.I)
_NUMBERS = frozenset(_NUMBER_WORDS.split())
_SENTENCE = re.compile(r"[^.!?]+[.!?]*")
_FIRST_PERSON = frozenset(("i", "my", "me", "we", "our", "us"))
_APART = {c: chr(c) if chr(c).isalnum() else " " for c in range(128)}


class Said(NamedTuple):
    """Who said something and when, and what ranking weighs of the text."""

    author: str
    moment: int  # valid_at, microseconds since 1970
    stems: bytes  # hashes of the words' stems, each once, as `hashes` has them
    words: int
    asks: float  # the share of the text that stands in questions
    first_person: float  # how much the author speaks of themselves
    tells_time: bool  # whether it says when something was or will be
    tells_number: bool


NOTHING = Said("", 0, b"", 0, 0.0, 0.0, False, False)


def said(author: str, text: str, moment: int) -> Said:
    """Reads a text."""
    words = _words(text.casefold())
    distinct = set(words)
    digits = any(map(str.isdigit, distinct))
    return Said(
        author,
        moment,
        hashes({stem(word) for word in distinct}),
        len(words),
        _asks(text) if "?" in text else 0.0,
        min(1.0, sum(map(_FIRST_PERSON.__contains__, words)) / 4),
        (digits or not _TIME_WORDS.isdisjoint(distinct)) and _TIME.search(text) is not None,
        (digits or not _NUMBERS.isdisjoint(distinct)) and _NUMBER.search(text) is not None,
    )


def hashes(stems: Iterable[str]) -> bytes:
    """A number of 64 bits for each stem, in their order."""
    return array("q", map(hash, stems)).tobytes()


def _words(folded: str) -> list[str]:
    """The words of a folded text: what WORD finds, and three times as fast in plain English."""
    return folded.translate(_APART).split() if folded.isascii() else WORD.findall(folded)


def _asks(text: str) -> float:
    return sum(len(s) for s in _SENTENCE.findall(text) if s.endswith("?")) / len(text)
