"""A second opinion on the first hits: a model of the caller's that reads query and texts together.

A cross-encoder or a language model judges better than sums of reasons do, and costs too much for
all candidates. It decides the order of the first FIRST hits and of no others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from tenfold.errors import InvalidRequest
from tenfold.memory.retrieval import Hit

FIRST = 40  # hits that it reads
PART = "rerank"


class Reranker(Protocol):
    """Says of texts how well each answers a query."""

    def __call__(self, query: str, texts: Sequence[str], /) -> Sequence[float]:
        """A number for each text, [texts]; higher is better, on whatever scale."""
        ...


def reranked(hits: Sequence[Hit], query: str, rerank: Reranker) -> list[Hit]:
    """The hits with the first FIRST in the order of the re-ranker; equal ones stay as they were.

    Scales of re-rankers differ and mean nothing beside ours. So each hit gets the score that
    belongs to its new place, and what that adds or takes is its part "rerank". Raises
    InvalidRequest for other than one finite number a text.
    """
    first = hits[:FIRST]
    if not first:
        return []
    said = [float(score) for score in rerank(query, [hit.event.text for hit in first])]
    if len(said) != len(first) or not all(map(math.isfinite, said)):
        raise InvalidRequest(
            f"the re-ranker gave {len(said)} scores for {len(first)} texts, or one is no number",
            param="rerank",
            hint="one finite number for each text, in their order",
        )
    order = sorted(range(len(first)), key=lambda i: -said[i])
    moved = [_scored(first[i], place.score) for i, place in zip(order, first, strict=True)]
    return [*moved, *hits[FIRST:]]


def _scored(hit: Hit, score: float) -> Hit:
    if score == hit.score:
        return hit
    parts = {**hit.parts, PART: score - hit.score}
    return replace(hit, score=sum(parts.values()), parts=parts)
