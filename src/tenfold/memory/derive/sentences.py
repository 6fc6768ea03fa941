"""Where the sentences of an everyday text begin and end."""

from __future__ import annotations

import re

_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s|$)|\n+")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:dr|mr|mrs|ms|prof|st|mt|vs|approx|e\.g|i\.e|etc|no|[A-Za-z])$", re.IGNORECASE
)


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Start and end of each sentence, outer white space left out.

    A dot after an abbreviation or an initial ends none, nor does one inside a number or a name.
    """
    spans: list[tuple[int, int]] = []
    start = 0
    for match in _END.finditer(text):
        if match[0][0] == "." and match.end() < len(text):
            before = _ABBREVIATION.search(text, max(start, match.start() - 8), match.start())
            if before and before[0].strip(" (\t\n") != "I":
                continue
        _keep(text, start, match.end(), spans)
        start = match.end()
    _keep(text, start, len(text), spans)
    return spans


def _keep(text: str, start: int, end: int, spans: list[tuple[int, int]]) -> None:
    piece = text[start:end]
    if any(c.isalnum() for c in piece):
        spans.append((start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())))
