"""Names in text: capitalised words that their place in a sentence does not explain."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from tenfold.memory.derive.dates import MONTHS, WEEKDAYS
from tenfold.memory.derive.sentences import sentence_spans

# Words that stand capitalised at the start of a sentence, and are no names there or elsewhere.
_NO_NAMES = """
i a an the this that these those it he she we you they my your his her its our their me him us
them who what when where which why how whose whom is are am was were be been being do does did
have has had having can could will would shall should may might must not no nor yes yeah yep nope
ok okay well so oh ah hey hi hello thanks thank please sorry wow great good nice cool sure right
alright awesome congrats congratulations dear bye goodbye welcome happy merry also and but or if
then else because since while though although as at by for from in into of off on onto out over to
under up with without within about after before during until till between through against around
near just only even still again now here there today tonight tomorrow yesterday soon later maybe
perhaps actually really honestly basically anyway besides however therefore meanwhile finally
first second third last next another any all some many much most more few each every both either
neither one two three four five six seven eight nine ten everyone everybody someone somebody
anyone anybody nobody nothing something anything everything people let lets get got go going come
look listen see say tell ask call give take make keep put use try remember note reminder hope
hoping glad love like want need think know guess feel old same such than too very never always
often sometimes usually once yet ago mr mrs ms dr prof sir madam ma'am tv pm am user assistant
system tool customer guest client im ive dont its thats whats lol omg haha btw fyi
"""
NO_NAMES = frozenset([*_NO_NAMES.split(), *WEEKDAYS, *MONTHS])
_WORD = re.compile(r"[A-HJ-Z]\.(?=\s[A-Z])|[^\W\d_](?:[\w&]|[-.'’](?=\w))*")
_LINK = re.compile(r"\s+(?:(?:of|de|da|di|del|della|van|von|der|den|la|le|bin|al|the)\s+)*")
_POSSESSIVE = re.compile(r"['’]s?$")


class Name(NamedTuple):
    """A name at `start` to `end`. Of a `known` one only the names seen before tell that it is."""

    start: int
    end: int
    known: bool


def find_names(text: str, known: Collection[str] = ()) -> list[Name]:
    """The names in a text, in order.

    Within a sentence a capitalised span is one. At its start a single word is one only when it is
    `known` (in lower case) from elsewhere; in a text in capitals every name must be.
    """
    starts = {start for start, _ in sentence_spans(text)}
    tokens = list(_WORD.finditer(text))
    capitalised = [t for t in tokens if t[0][0].isupper()]
    loud = sum(t[0].isupper() for t in tokens)
    shouted = loud > 3 and loud * 3 > len(tokens) * 2
    found: list[Name] = []
    i = 0
    while i < len(capitalised):
        span = [capitalised[i]] if shouted else _span(text, capitalised, i)
        i += len(span)
        while span and _plain(span[0]):
            span = span[1:]
        while span and _plain(span[-1]):
            span = span[:-1]
        if not span:
            continue
        start, last = span[0].start(), span[-1]
        end = last.start() + len(_POSSESSIVE.sub("", last[0]))
        sure = not shouted and (len(span) > 1 or not _opens(text, start, starts))
        if sure or text[start:end].casefold() in known:
            found.append(Name(start, end, not sure))
    return found


def _span(text: str, capitalised: list[re.Match[str]], i: int) -> list[re.Match[str]]:
    """Capitalised words that follow each other, or are linked as in "Lake of Constance"."""
    span = [capitalised[i]]
    for token in capitalised[i + 1 :]:
        if not _LINK.fullmatch(text, span[-1].end(), token.start()):
            break
        if "\n" in text[span[-1].end() : token.start()] or _POSSESSIVE.search(span[-1][0]):
            break
        span.append(token)
    return span


def _plain(token: re.Match[str]) -> bool:
    word = token[0].casefold().replace("’", "'")
    return word in NO_NAMES or word.split("'")[0] in NO_NAMES


def _opens(text: str, at: int, starts: set[int]) -> bool:
    """Whether a sentence or what follows a colon starts here, quotes and list marks left out."""
    before = len(text[:at].rstrip(" \t\"'“”‘(*-–—•#>"))
    return before == 0 or text[before - 1] in ":\n" or any(before <= s <= at for s in starts)
