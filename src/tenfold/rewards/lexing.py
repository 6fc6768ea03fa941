"""Texts as tokens whose keys are equal when what is written means the same.

"7:30 pm", "7:30pm" and "19:30" have one key, and so have "$50" and "50 dollars", "March 3rd" and
"the 3rd of March", "two" and "2". Punctuation has no token: it lies in the gaps between them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_MONTH_NAMES = """
    january february march april may june july august september october november december
"""
_MONTHS = _MONTH_NAMES.split()
MONTHS = {name: i + 1 for i, name in enumerate(_MONTHS)}
_COUNTING = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen
"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
NUMBER_WORDS = {word: str(i) for i, word in enumerate(_COUNTING.split())}
NUMBER_WORDS |= {word: str(10 * i) for i, word in enumerate(_TENS.split(), 2)}
# "twenty", "twenty-five", and "twenty dollars".
_WORDED = rf"(?:(?:{'|'.join(_TENS.split())})[-\s](?:{'|'.join(_COUNTING.split()[1:10])})"
_WORDED += rf"|{'|'.join(NUMBER_WORDS)})\b"
_OTHER_MONTHS = "|".join(
    f"{m[:3]}(?:{m[3:]})?" for m in _MONTHS if m not in ("march", "may", "june", "july")
)
# "may" and "march" are verbs too: in lower case they are months beside an ordinal only.
_MONTH = rf"(?:{_OTHER_MONTHS}|sept|june?|july?|(?-i:Mar|March|May|MARCH|MAY))\b"
_ANY_MONTH = rf"(?:{_OTHER_MONTHS}|sept|june?|july?|mar|march|may)\b"
_NTH = r"\d{1,2}(?:st|nd|rd|th)\b"
_NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?"
_TOKEN = re.compile(
    rf"""
    (?P<iso>(?<![\w-])\d{{4}}-\d\d-\d\d(?![\w-]))
    |(?P<month_first>\b{_ANY_MONTH}\.?\s+(?:the\s+)?{_NTH}
        |\b{_MONTH}\.?\s+\d{{1,2}}(?![\w:%]|[.,]\d|\s*(?:[ap]\.?m\b|-?\d)))
    |(?P<day_first>\b{_NTH}\s+(?:of\s+)?{_ANY_MONTH}|\b\d{{1,2}}\s+(?:of\s+)?{_MONTH}(?!\s+\d))
    |(?P<time>(?<![\w$])\d{{1,2}}(?:[:.]\d\d)?\s*(?:[ap]m\b|[ap]\.m\b\.?)
        |(?<![\w$])\d{{1,2}}:\d\d(?![\d:]))
    |(?P<price>[$£€]\s?{_NUMBER}|(?<![\w$]){_NUMBER}\s?(?:dollars?|bucks|usd)\b)
    |(?P<word_price>\b{_WORDED}\s(?:dollars?|bucks)\b)
    |(?P<phone>(?:\+\d{{1,3}}[\s-]?)?(?:\(\d{{3}}\)\s?|(?<!\w)\d{{3}}[-.\s])\d{{3}}[-.\s]\d{{4}}(?![\w-]))
    |(?P<ordinal>(?<!\w){_NTH})
    |(?P<number>(?<![\w.]){_NUMBER}(?!\w))
    |(?P<code>\w*\d\w*)
    |(?P<worded>\b{_WORDED}(?!['’](?!s\b)))
    |(?P<own>['’]s\b)
    |(?P<word>[^\W\d_]+(?:['’](?!s\b)[^\W\d_]+)*)
    """,
    re.IGNORECASE | re.VERBOSE,
)
_DIGITS = re.compile(r"\d+")
_MONTH_NAME = re.compile(_ANY_MONTH, re.IGNORECASE)


class Token(NamedTuple):
    """A word or a typed value. Keys of typed values begin with "#" and a letter for the type:
    n(umber), p(rice), t(ime), T(ime of an unknown half of the day), d(ate), o(rdinal), f(phone),
    c(ode)."""

    key: str
    start: int
    end: int

    @property
    def typed(self) -> bool:
        return self.key[0] == "#"


def lex(text: str) -> list[Token]:
    """The tokens of a text, from left to right."""
    found = []
    for match in _TOKEN.finditer(text):
        kind, written = str(match.lastgroup), match[0]
        if kind == "word":
            key = written.lower().replace("’", "'")
        elif kind == "own":
            key = "'s"
        else:
            key = _typed_key(kind, written)
        found.append(Token(key, match.start(), match.end()))
    return found


def keys(text: str) -> tuple[str, ...]:
    """The keys of a text's tokens."""
    return tuple(token.key for token in lex(text))


def other_keys(key: str) -> tuple[str, ...]:
    """Keys of shorter or vaguer ways to write a typed value: the hour without its half of the day,
    the price without its currency, a phone number's bare digits, the day without its month."""
    kind, rest = key[:2], key[2:]
    if kind == "#t":
        hour, minute = map(int, rest.split(":"))
        return (f"#T{hour % 12 or 12}:{minute:02d}",)
    if kind == "#T":
        hour, minute = map(int, rest.split(":"))
        return (f"#t{hour % 12}:{minute:02d}", f"#t{hour % 12 + 12}:{minute:02d}")
    if kind in ("#p", "#f"):
        return (f"#n{rest}",)
    if kind == "#d":
        parts = rest.split("-")
        vaguer = (f"#o{parts[-1]}",)
        return (f"#d{parts[1]}-{parts[2]}", *vaguer) if len(parts) == 3 else vaguer
    return ()


def _typed_key(kind: str, written: str) -> str:
    if kind == "time":
        return _time_key(written)
    if kind == "iso":
        return "#d" + "-".join(str(int(part)) for part in written.split("-"))
    if kind in ("month_first", "day_first"):
        day = _DIGITS.search(written)
        month = _MONTH_NAME.search(written)
        assert day is not None
        assert month is not None
        return f"#d{_month_number(month[0])}-{int(day[0])}"
    if kind == "price":
        foreign = written[0] if written[0] in "£€" else ""
        return f"#p{foreign}{_plain(re.sub(r'[^0-9.]', '', written))}"
    if kind in ("word_price", "worded"):
        words = re.split(r"[-\s]", written.lower())
        number = sum(int(NUMBER_WORDS[word]) for word in words if word in NUMBER_WORDS)
        return f"#{'p' if kind == 'word_price' else 'n'}{number}"
    if kind == "phone":
        return "#f" + "".join(_DIGITS.findall(written))[-10:]
    if kind == "ordinal":
        return f"#o{int(written[:-2])}"
    if kind == "number":
        return f"#n{_plain(written.replace(',', ''))}"
    return f"#c{written.lower()}"


def _plain(number: str) -> str:
    return number.rstrip("0").rstrip(".") if "." in number else number


def _month_number(written: str) -> int:
    return next(i for name, i in MONTHS.items() if name.startswith(written.lower()[:3]))


def _time_key(written: str) -> str:
    numbers = _DIGITS.findall(written)
    hour, minute = int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else 0
    half = written.lower().lstrip("0123456789:. ")[:1]
    if half:
        return f"#t{hour % 12 + (12 if half == 'p' else 0)}:{minute:02d}"
    unknown_half = 1 <= hour <= 12 and numbers[0][0] != "0"
    return f"#{'T' if unknown_half else 't'}{hour}:{minute:02d}"
