"""Sentences of an answer, and how much of a half-written answer can be judged already."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from tenfold.rewards.catalogue import Meaning
from tenfold.rewards.lexing import NUMBER_WORDS, Token
from tenfold.rewards.phrases import Found, PhraseTree

_SURE_END = re.compile(r"[!?\n]")
_STOP = re.compile(r"\.(?:[\s\"'”’)]|$)")
_ABBREVIATIONS = {
    "dr", "mr", "mrs", "ms", "st", "mt", "ave", "blvd", "rd", "apt", "ste", "no", "approx", "vs"
}  # fmt: skip
_TAIL = 60  # characters; no value grows from further back
_NUMBER_WORD = "|".join(NUMBER_WORDS)
# What may still grow into a longer value: "7:30" into "7:30 pm", "the 3rd" into "the 3rd of March".
_GROWING = re.compile(
    rf"(?:(?:[$£€+(#]\s*)?(?:(?<!\w)[\d(][\w.,:()$%/-]*+|\b(?:{_NUMBER_WORD}"
    r"|jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec)\w*+\.?)"
    r"(?:\s+(?:of(?:\s+the)?|the|[ap]\.?m?\.?))?\s*|[$£€+(#]\s*)+$",
    re.IGNORECASE,
)


class Sentence(NamedTuple):
    """Tokens `start` to `end`. Of an `open` one the end is not written yet."""

    start: int
    end: int
    open: bool
    question: bool


def settled(text: str, tokens: Sequence[Token], tree: PhraseTree[Meaning]) -> int:
    """How many tokens of a half-written text will stay what they are, whatever follows."""
    tail = text[-_TAIL:]
    growing = _GROWING.search(tail)
    limit = len(text) - len(tail) + growing.start() if growing else len(text)
    count = len(tokens)
    while count and (tokens[count - 1].end > limit or tokens[count - 1].end >= len(text) - 1):
        if tokens[count - 1].end <= limit and text[-1:].isspace():
            break
        count -= 1
    return count - tree.unfinished(tokens[:count])


def split_sentences(
    text: str, tokens: Sequence[Token], found: Sequence[Found[Meaning]], *, finished: bool
) -> list[Sentence]:
    """The sentences; the dots within names and values end none."""
    inside = {i for phrase in found for i in range(phrase.start, phrase.end - 1)}
    sentences: list[Sentence] = []
    start = 0
    for i, token in enumerate(tokens):
        last = i + 1 == len(tokens)
        gap = text[token.end : len(text) if last else tokens[i + 1].start]
        ends = i not in inside and _ends(text, token, gap)
        if ends or last:
            sentences.append(Sentence(start, i + 1, not ends and not finished, "?" in gap))
            start = i + 1
    return sentences


def _ends(text: str, token: Token, gap: str) -> bool:
    if _SURE_END.search(gap):
        return True
    if text[token.end - 1] == ".":  # "5 p.m. The bus" against "5 p.m. on Monday"
        return gap.lstrip() == "" and text[token.end + len(gap) :][:1].isupper()
    return _STOP.search(gap) is not None and token.key not in _ABBREVIATIONS
