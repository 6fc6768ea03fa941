"""What a text names: people and places, dates and times, amounts, addresses and numbers to call."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from tenfold.memory.derive.dates import WEEKDAYS, find_dates
from tenfold.memory.derive.names import NO_NAMES, find_names
from tenfold.memory.derive.sources import audience, learnt, speaker
from tenfold.memory.events import Event
from tenfold.memory.store import Derived

DERIVER = "entities/1"

_URL = re.compile(r"\b(?:https?://|www\.)[^\s<>\"']*[^\s<>\"'.,;:!?)\]}]", re.IGNORECASE)
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}(?![\w-])")
# Numbers to call begin with + or 0, or are parted as such; other runs of digits may be anything.
_PHONE = re.compile(
    r"(?<![\w.+-])(?:\+\d[\d\s().-]{6,18}\d|\(\d{2,4}\)\s?\d{3,4}[\s.-]?\d{3,4}"
    r"|\d{3}[-.\s]\d{3}[-.\s]\d{4}|0\d{2,4}[\s/-]\d[\d\s-]{4,10}\d)(?![\w-]|[.,]\d)"
)
_TIME = re.compile(
    r"(?<![\w:.])(?:(?P<hour>[01]?\d|2[0-3])(?::(?P<minute>[0-5]\d))(?::[0-5]\d)?\s*"
    r"(?P<half>[ap]\.?m\.?)?|(?P<oclock>1[0-2]|0?[1-9])\s*(?P<part>[ap]\.?m\b\.?|o'clock))(?![\w:])"
    r"|\b(?P<word>noon|midnight)\b",
    re.IGNORECASE,
)
_CURRENCIES = {"$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY", "₹": "INR"}
_UNITS = {
    "dollar": "USD", "buck": "USD", "usd": "USD", "euro": "EUR", "eur": "EUR", "pound": "GBP",
    "gbp": "GBP", "%": "%", "percent": "%", "km": "km", "kilometer": "km", "kilometre": "km",
    "m": "m", "meter": "m", "metre": "m", "cm": "cm", "mm": "mm", "mile": "mi", "foot": "ft",
    "feet": "ft", "inch": "in", "inche": "in", "kg": "kg", "kilo": "kg", "gram": "g", "g": "g",
    "lb": "lb", "liter": "l", "litre": "l", "ml": "ml", "second": "s", "minute": "min",
    "min": "min", "hour": "h", "hr": "h", "day": "d", "week": "wk", "month": "mo", "year": "yr",
    "gb": "GB", "mb": "MB", "tb": "TB", "kb": "KB", "ms": "ms", "°c": "°C", "°f": "°F",
}  # fmt: skip
_COUNTED = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50,
    "hundred": 100,
}  # fmt: skip
_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_AMOUNT = re.compile(
    rf"(?P<sign>[$€£¥₹])\s?(?P<money>{_NUMBER})(?P<scale>[kKmM]\b)?"
    rf"|(?<![\w.,])(?:(?P<number>{_NUMBER})|\b(?P<counted>{'|'.join(_COUNTED)})\b)"
    r"(?:[\s-]?(?P<unit>%|°[CF]\b|[A-Za-z]+\b))?",
    re.IGNORECASE,
)
_WEEKDAY = re.compile(rf"\b(?:{'|'.join(WEEKDAYS)})\b", re.IGNORECASE)


_Candidate = tuple[str, str | None, int, int, bool]


@dataclass(frozen=True, slots=True)
class Entity:
    """Something named at `start` to `end` of a text; `value` is its one spelling.

    Types: name, date, weekday, time, amount, number, email, phone, url. Dates are ISO 8601 (see
    `dates`), times 24-hour, amounts `NUMBER UNIT`, phones digits, names in lower case.
    """

    type: str
    surface: str
    value: str
    start: int
    end: int
    known: bool = False  # a name that only names seen before tell to be one


def entities(text: str, said: datetime, known: Collection[str] = ()) -> list[Entity]:
    """What a text names, in order, none within another. `known` are names in lower case."""
    found: list[Entity] = []
    taken = bytearray(len(text))
    for kind, value, start, end, by_name in _candidates(text, said, known):
        if value and not any(taken[start:end]):
            taken[start:end] = b"\1" * (end - start)
            found.append(Entity(kind, text[start:end], value, start, end, by_name))
    return sorted(found, key=lambda e: e.start)


def _candidates(text: str, said: datetime, known: Collection[str]) -> Iterator[_Candidate]:
    """Type, value, span and whether only `known` tells it; the surest first."""
    for match in _URL.finditer(text):
        yield "url", match[0], *match.span(), False
    for match in _EMAIL.finditer(text):
        yield "email", match[0].lower(), *match.span(), False
    for date in find_dates(text, said):
        yield "date", date.value, date.start, date.end, False
    for match in _WEEKDAY.finditer(text):
        yield "weekday", match[0].lower(), *match.span(), False
    for match in _PHONE.finditer(text):
        yield "phone", _phone(match[0]), *match.span(), False
    for match in _TIME.finditer(text):
        yield "time", _time(match), *match.span(), False
    for match in _AMOUNT.finditer(text):
        kind, value, end = _amount(match)
        yield kind, value, match.start(), end, False
    for start, end, by_name in find_names(text, known):
        yield "name", _one_spelling(text[start:end]), start, end, by_name


def derive_entities(events: Sequence[Event]) -> list[Derived]:
    """The entities of events, which also teach each other names.

    A word at the start of a sentence is taken for a name when an earlier event of the same audience
    had it elsewhere, or was by or about somebody of that name; the entity then comes from both.
    """
    seen: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)  # audience: name: event
    rows: list[Derived] = []
    for event in learnt(events):
        names = seen[audience(event)]
        for who in (event.author, event.subject, speaker(event)):
            if who and who.casefold() not in NO_NAMES:
                names.setdefault(_one_spelling(who), event.id)
        for entity in entities(event.text, event.valid_at, names):
            taught = names.get(entity.value) if entity.known else None
            if entity.type == "name":
                names.setdefault(entity.value, event.id)
            sources = (event.id,) if taught in (None, event.id) else (event.id, str(taught))
            rows.append(Derived("entity", DERIVER, sources, _as_value(entity)))
    return rows


def _as_value(entity: Entity) -> dict[str, str | float | None]:
    return {
        "type": entity.type,
        "surface": entity.surface,
        "value": entity.value,
        "start": float(entity.start),
        "end": float(entity.end),
    }


def _one_spelling(name: str) -> str:
    return " ".join(name.split()).casefold().replace("’", "'")


def _phone(text: str) -> str | None:
    digits = re.sub(r"\D", "", text)
    if not 7 <= len(digits) <= 15:
        return None
    return f"+{digits}" if text.startswith("+") else digits


def _time(match: re.Match[str]) -> str | None:
    if match["word"]:
        return "12:00" if match["word"].lower() == "noon" else "00:00"
    hour = int(match["hour"] or match["oclock"])
    half = (match["half"] or match["part"] or "").lower()[:1]
    if half == "o":
        return None  # five o'clock, in the morning or the evening
    if half in ("a", "p"):
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half == "p" else 0)
    return f"{hour:02}:{match['minute'] or '00'}"


def _amount(match: re.Match[str]) -> tuple[str, str, int]:
    """Type, value and end of an amount, or of a number where no unit follows."""
    if match["sign"]:
        scale = {"k": 1_000, "m": 1_000_000}.get((match["scale"] or "").lower(), 1)
        return (
            "amount",
            f"{_plain(match['money'], scale)} {_CURRENCIES[match['sign']]}",
            match.end(),
        )
    number = _plain(match["number"]) if match["number"] else str(_COUNTED[match["counted"].lower()])
    unit = match["unit"]
    if unit:
        word = unit.lower()
        known = _UNITS.get(word) or _UNITS.get(word.removesuffix("s"))
        if known:
            return "amount", f"{number} {known}", match.end()
    end = match.end("number") if match["number"] else match.end("counted")
    return "number", number, end


def _plain(number: str, scale: int = 1) -> str:
    """Without separators of thousands and without zeros at the end of a fraction."""
    whole, _, fraction = number.replace(",", "").partition(".")
    if scale > 1:
        return f"{Decimal(f'{whole}.{fraction or 0}') * scale:.0f}"
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole
