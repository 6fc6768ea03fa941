"""Dates in text, absolute or told from the day they were said: "yesterday", "last Friday".

Values are ISO 8601: `2023-05-07` a day, `2023-W18` a week, `2023-05` a month, `2023` a year,
`2023-05-06/2023-05-07` a weekend, and `--05-07` or `--05` where no year was said. A day is one in
UTC. Where English is loose we settle on: last Friday is the latest one before the day, next Friday
the first one after it, this Friday the first from the day on; last week is the calendar week
before.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
COUNTS = {
    "a": 1, "an": 1, "one": 1, "two": 2, "a couple of": 2, "three": 3, "four": 4, "five": 5,
    "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12,
    "fifteen": 15, "twenty": 20, "thirty": 30,
}  # fmt: skip

# "may" and "march" are also verbs, "mar" and "sep" short for them only before a number.
_MONTH = (
    r"(?P<month>[Jj]an(?:uary)?|[Ff]eb(?:ruary)?|March|Mar|[Aa]pr(?:il)?|May|[Jj]une?|[Jj]uly?"
    r"|[Aa]ug(?:ust)?|[Ss]ept?(?:ember)?|[Oo]ct(?:ober)?|[Nn]ov(?:ember)?|[Dd]ec(?:ember)?)\b\.?"
)
_WEEKDAY = r"(?P<weekday>(?i:monday|tuesday|wednesday|thursday|friday|saturday|sunday))"
_YEAR = r"(?P<year>(?:1[89]|20|21)\d\d)"
_DAY = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th)?"
_COUNT = rf"(?P<count>\d{{1,4}}|{'|'.join(sorted(COUNTS, key=len, reverse=True))})"


@dataclass(frozen=True, slots=True)
class Date:
    """A date said at `start` to `end` of a text; `relative` ones depend on when it was said."""

    value: str
    start: int
    end: int
    relative: bool = False


def find_dates(text: str, said: datetime) -> list[Date]:
    """The dates in a text in the order they are said, none within another. Impossible ones
    (30 February) and those that can be read in two ways (5/7/2023) are left out."""
    found: list[Date] = []
    for pattern, resolve, relative in _PATTERNS:
        for match in pattern.finditer(text):
            start, end = match.span("at") if "at" in pattern.groupindex else match.span()
            if any(start < d.end and d.start < end for d in found):
                continue
            try:
                value = resolve(match, said.date())
            except (ValueError, OverflowError):  # no such day, or none that a calendar has
                continue
            if value:
                found.append(Date(value, start, end, relative))
    return sorted(found, key=lambda d: d.start)


def days_of(value: str) -> tuple[date, date] | None:
    """First and last day of a value of `find_dates`. None where no year was said."""
    if value.startswith("--"):
        return None
    first, _, last = value.partition("/")
    if last:
        return date.fromisoformat(first), date.fromisoformat(last)
    if "W" in first:
        monday = date.fromisoformat(f"{first}-1")
        return monday, monday + timedelta(days=6)
    parts = [int(p) for p in first.split("-")]
    if len(parts) == 3:
        return date(*parts), date(*parts)
    if len(parts) == 2:
        following = date(parts[0] + parts[1] // 12, parts[1] % 12 + 1, 1)
        return date(parts[0], parts[1], 1), following - timedelta(days=1)
    return date(parts[0], 1, 1), date(parts[0], 12, 31)


def _month(match: re.Match[str]) -> int:
    name = match["month"].lower()[:3]
    return next(i for i, month in enumerate(MONTHS, 1) if month.startswith(name))


def _calendar(match: re.Match[str], said: date) -> str | None:
    """A day, month or year that is written out; without its year where none is."""
    has = {name for name, value in match.groupdict().items() if value}
    month = 0
    if "month" in has:
        month = _month(match)
    elif "number" in has:
        month = int(match["number"])
    if "day" in has:
        day = date(int(match["year"]) if "year" in has else 2000, month, int(match["day"]))
        return day.isoformat() if "year" in has else f"--{day:%m-%d}"
    if month:
        return f"{match['year']}-{month:02}" if "year" in has else f"--{month:02}"
    return match["year"]


def _slashed(match: re.Match[str], said: date) -> str | None:
    first, second = int(match["first"]), int(match["second"])
    if first != second and first <= 12 and second <= 12:
        return None  # the fifth of July, or the seventh of May
    month, day = (first, second) if first <= 12 else (second, first)
    return date(int(match["year"]), month, day).isoformat()


def _days(shift: int) -> Callable[[re.Match[str], date], str]:
    return lambda match, said: (said + timedelta(days=shift)).isoformat()


def _shift_month(said: date, months: int) -> str:
    index = said.year * 12 + said.month - 1 + months
    return f"{date(index // 12, index % 12 + 1, 1):%Y-%m}".rjust(7, "0")


def _shift_year(said: date, years: int) -> str:
    return f"{date(said.year + years, 1, 1).year:04}"


def _distance(match: re.Match[str], said: date) -> str:
    """Some days or weeks away: a day; months: a month; years: a year."""
    word = " ".join(match["count"].lower().split())
    count = COUNTS.get(word) or int(word)
    count = -count if match["way"].lower() == "ago" else count
    unit = match["unit"].lower()
    if unit == "month":
        return _shift_month(said, count)
    if unit == "year":
        return _shift_year(said, count)
    return (said + timedelta(days=count * (7 if unit == "week" else 1))).isoformat()


_STEP = {"last": -1, "past": -1, "this": 0, "next": 1}


def _beside(match: re.Match[str], said: date) -> str:
    step, unit = _STEP[match["step"].lower()], match["unit"].lower()
    if unit == "month":
        return _shift_month(said, step)
    if unit == "year":
        return _shift_year(said, step)
    monday = said - timedelta(days=said.weekday()) + timedelta(weeks=step)
    if unit == "week":
        year, week, _ = monday.isocalendar()
        return f"{year:04}-W{week:02}"
    saturday = monday + timedelta(days=5)
    return f"{saturday.isoformat()}/{(saturday + timedelta(days=1)).isoformat()}"


def _weekday(match: re.Match[str], said: date) -> str:
    ahead = (WEEKDAYS.index(match["weekday"].lower()) - said.weekday()) % 7
    step = _STEP[match["step"].lower()]
    if step < 0:
        return (said - timedelta(days=7 - ahead)).isoformat()
    return (said + timedelta(days=ahead or (7 if step else 0))).isoformat()


def _named_month(match: re.Match[str], said: date) -> str:
    month, step = _month(match), _STEP[match["step"].lower()]
    years = {-1: 0 if month < said.month else -1, 0: 0, 1: 0 if month > said.month else 1}
    return f"{said.year + years[step]:04}-{month:02}"


_Resolve = Callable[[re.Match[str], date], str | None]


def _written(pattern: str) -> tuple[re.Pattern[str], _Resolve, bool]:
    return re.compile(pattern), _calendar, False


def _told(pattern: str, resolve: _Resolve) -> tuple[re.Pattern[str], _Resolve, bool]:
    return re.compile(pattern, re.IGNORECASE), resolve, True


_PART = r"(?:\s+(?:morning|afternoon|evening|night))?"
# "over the last year" is a stretch up to now and "the last week of May" one of May.
_LAST = r"(?<!the )(?<!of )\b(?P<step>last|this|next)"
# In this order: what an earlier one found, a later one leaves alone.
_PATTERNS: tuple[tuple[re.Pattern[str], _Resolve, bool], ...] = (
    _written(r"(?<![\w-])(?P<year>\d{4})([-/])(?P<number>\d{2})\2(?P<day>\d{2})(?![\d/-])"),
    _written(r"(?<![\w.])(?P<day>\d{1,2})\.(?P<number>\d{1,2})\.(?P<year>\d{4})(?!\w|\.\d)"),
    (re.compile(r"(?<![\w/])(?P<first>\d{1,2})/(?P<second>\d{1,2})/(?P<year>\d{4})(?![\w/])"),
     _slashed, False),
    _written(rf"\b{_MONTH}\s+{_DAY}(?:,?\s+{_YEAR})?(?![\w:])"),
    _written(rf"(?<![\w:.]){_DAY}\s+(?:of\s+)?{_MONTH}(?:,?\s+{_YEAR}\b)?"),
    _written(rf"(?<!\d )\b{_MONTH},?\s+{_YEAR}\b"),
    _told(r"\b(?:the\s+)?day\s+before\s+yesterday\b", _days(-2)),
    _told(r"\b(?:the\s+)?day\s+after\s+tomorrow\b", _days(2)),
    _told(rf"\byesterday\b{_PART}|\blast\s+night\b", _days(-1)),
    _told(rf"\btomorrow\b{_PART}", _days(1)),
    _told(r"\btoday\b|\btonight\b|\bthis\s+(?:morning|afternoon|evening)\b", _days(0)),
    _told(rf"\b{_COUNT}\s+(?P<unit>day|week|month|year)s?\s+(?P<way>ago|from\s+(?:now|today))\b",
          _distance),
    _told(rf"{_LAST}\s+(?P<unit>weekend|week|month|year)\b(?!\s+of\b)", _beside),
    _told(rf"{_LAST}\s+{_WEEKDAY}\b", _weekday),
    (re.compile(rf"(?<!the )\b(?P<step>[Ll]ast|[Tt]his|[Nn]ext)\s+{_MONTH}"), _named_month, True),
    _written(rf"\b(?:[Ii]n|[Ss]ince|[Uu]ntil|[Dd]uring|[Bb]y)\s+(?P<at>{_MONTH})"),
    _written(rf"\b(?:[Ii]n|[Ss]ince|[Uu]ntil|[Dd]uring|[Bb]y|[Ff]rom|[Bb]ack in)\s+(?P<at>{_YEAR})"
             r"(?![\w-])(?!\s+(?:years|days|hours|steps|people|words|miles|km|m)\b)(?![.,:]\d)"),
)  # fmt: skip
