"""What a question asks for, read from its words: whom it names, whether it asks for a time, when.

Plain rules for English; a question in another language simply has none of these signs.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

WORD = re.compile(r"[^\W_]+")
_STOP_WORDS = """
a about after an and any are as at be because been before being both but by can could d did do does
doing down during each few for from further had has have having he her hers him his how i if in into
is it its itself just ll m me more most my no nor not now of off on once only or other our out over
own re s same she should so some such t than that the their them then there these they this those
through to too under until up ve very was we were what when where which while who whom whose why
will with would you your
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
MONTHS = {name.casefold(): i for i, name in enumerate(calendar.month_name) if name}
_MONTH = "|".join(MONTHS)
# 7 May 2023 / 7th of May, 2023 / May 7, 2023 / May 2023 / 2023-05-07 / 2023
_DATES = (
    re.compile(
        rf"\b(?P<d>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? (?P<m>{_MONTH}),? (?P<y>\d{{4}})\b", re.I
    ),
    re.compile(rf"\b(?P<m>{_MONTH}) (?P<d>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<y>\d{{4}})\b", re.I),
    re.compile(r"\b(?P<y>\d{4})-(?P<m>\d{2})-(?P<d>\d{2})\b"),
    re.compile(rf"\b(?P<m>{_MONTH}),? (?P<y>\d{{4}})\b", re.I),
    re.compile(r"\b(?P<y>(?:19|20)\d{2})\b"),
)
_WHEN = re.compile(
    r"\b(?:when|how long|how often|how recently|since when"
    r"|(?:what|which) (?:day|date|week|month|year|time|season))\b",
    re.I,
)
_ENDINGS = ("ing", "ies", "ied", "ed", "es", "s", "ly")
_HOW_MANY = re.compile(r"\bhow (?:many|much|old|often)\b|\bwhat (?:number|age|price)\b", re.I)


@dataclass(frozen=True, slots=True)
class Query:
    """A question and what its words say. `spans` are the times it names, [start, end)."""

    text: str
    keywords: tuple[str, ...]  # in order, as written; without stop words unless nothing is left
    stems: tuple[str, ...]  # of the keywords, each once
    asks_when: bool
    asks_number: bool
    spans: tuple[tuple[datetime, datetime], ...]

    @property
    def words(self) -> frozenset[str]:
        """Its keywords, folded."""
        return frozenset(k.casefold() for k in self.keywords)


def read_query(text: str) -> Query:
    """Reads a question."""
    words = WORD.findall(text)
    keywords = tuple(w for w in words if w.casefold() not in STOP_WORDS) or tuple(words)
    return Query(
        text=text,
        keywords=keywords,
        stems=tuple(dict.fromkeys(stem(w.casefold()) for w in keywords)),
        asks_when=_WHEN.search(text) is not None,
        asks_number=_HOW_MANY.search(text) is not None,
        spans=tuple(_spans(text)),
    )


def stem(word: str) -> str:
    """A word without its common English endings, so that painted, paints and painting meet."""
    if len(word) < 4:
        return word
    if word[-1] in "gsdy" and not word.endswith("ss"):
        for ending in _ENDINGS:
            if word.endswith(ending) and len(word) - len(ending) >= 3:
                word = word[: -len(ending)] + ("y" if ending in ("ies", "ied") else "")
                break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiouls":
        word = word[:-1]  # planned, planning -> plan
    return word[:-1] if len(word) > 3 and word[-1] == "e" else word


def _spans(text: str) -> list[tuple[datetime, datetime]]:
    spans = []
    for pattern in _DATES:
        for match in pattern.finditer(text):
            span = _span(match.groupdict())
            if span is not None:
                spans.append(span)
        text = pattern.sub(" ", text)  # the year of a whole date is no date of its own
    return spans


def _span(parts: dict[str, str | None]) -> tuple[datetime, datetime] | None:
    year, month, day = (parts.get(k) for k in "ymd")
    assert year is not None
    number = 1 if month is None else MONTHS.get(month.casefold()) or int(month)
    try:
        start = datetime(int(year), number, int(day or 1), tzinfo=UTC)
        if day:
            return start, start + timedelta(days=1)
        if month:
            return start, start + timedelta(days=calendar.monthrange(int(year), number)[1])
        return start, start.replace(year=start.year + 1)
    except (ValueError, OverflowError):  # 31 June, the year 0000 or 9999 and beyond
        return None
