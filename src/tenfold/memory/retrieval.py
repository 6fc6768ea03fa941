"""Found events in order of how well they answer a query, each with the reasons for its score.

Two rankers, both sums of weighted reasons, so that a score is explained by its parts exactly:
`Fixed` is the hand-set fusion of words and vectors that needs no learning; `Weighted` weighs the
reasons of `features`, by default with weights learnt from LoCoMo's labels (`weights.LOCOMO`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from tenfold.errors import InvalidRequest
from tenfold.memory.derive.summaries import Summary
from tenfold.memory.events import Event
from tenfold.memory.features import (
    FEATURES,
    Places,
    Values,
    after,
    features,
    scaled,
    shifted,
)
from tenfold.memory.query import Query
from tenfold.memory.rows import still_there
from tenfold.memory.store import Found, Member, Selection, Vectors
from tenfold.memory.weights import LOCOMO

CANDIDATES = 200  # of each kind: matches of words, nearest turns, nearest windows
POOL = 128  # candidates whose texts are read; beyond them hardly any evidence is gained
LEXICAL, TURN, WINDOW = 0.5, 0.25, 0.25  # the fixed fusion
NEIGHBOURS = 0.3  # what a lexical match lends to the events before and after it


@dataclass(frozen=True, slots=True)
class Hit:
    """An event with its score, which is the sum of `parts` (what each reason contributed).

    `repeats` are events that say the same again. With a `summary` it stands for those of the events
    found that the summary quotes in full, `event` is the best of them; a summary in words of its
    own takes the place of `event` alone.
    """

    event: Event
    score: float
    parts: Mapping[str, float]
    repeats: tuple[str, ...] = ()
    summary: Summary | None = None


@dataclass(frozen=True, slots=True)
class Reasons:
    """What speaks for some of the found events: `parts` [places, names], a row sums to a score."""

    places: Places
    names: tuple[str, ...]
    parts: Values


class Ranker(Protocol):
    """Weighs found events against a query."""

    @property
    def name(self) -> str: ...

    def reasons(self, found: Found, query: Query, at_least: int) -> Reasons:
        """Reasons for `at_least` of the events, or for all where there are fewer."""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """Scaled words and vectors, with words lent to neighbours; weights set once by hand."""

    name: str = "fixed"

    def reasons(self, found: Found, query: Query, at_least: int) -> Reasons:
        """Reasons for all events; the query's own words do not matter beyond what was found."""
        lexical = scaled(found.lexical)
        lent = shifted(lexical, found.before) + shifted(lexical, after(found.before))
        columns = {
            "lexical": LEXICAL * lexical,
            "lexical_neighbours": LEXICAL * NEIGHBOURS * lent,
            "turn": TURN * scaled(found.turn),
            "window": WINDOW * scaled(found.window),
        }
        places = np.arange(len(found.events), dtype=np.int64)
        return Reasons(places, tuple(columns), np.stack([*columns.values()], axis=1))


@dataclass(frozen=True, slots=True)
class Weighted:
    """A weighted sum of `features` for the candidates that the fixed fusion puts first.

    Raises InvalidRequest for weights of features that do not exist; one left out weighs nothing.
    """

    weights: Mapping[str, float] = field(default_factory=lambda: LOCOMO)
    name: str = "locomo"
    pool: int = POOL

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.weights) - set(FEATURES)):
            raise InvalidRequest(
                f"there are no features {', '.join(unknown)}",
                param="weights",
                hint=", ".join(FEATURES),
            )

    def reasons(self, found: Found, query: Query, at_least: int) -> Reasons:
        """Reasons for the pool, or for `at_least` candidates where that is more."""
        first = Fixed().reasons(found, query, 0).parts.sum(axis=1)
        chosen = np.argsort(-first, kind="stable")[: max(self.pool, at_least)].astype(np.int64)
        weights = np.array([self.weights.get(name, 0.0) for name in FEATURES])
        return Reasons(chosen, FEATURES, features(found, query, chosen) * weights)


def candidates(member: Member, query: Query, vector: Vectors | None, selection: Selection) -> Found:
    """What may answer a query: its keywords go to the text index, its vector to both kinds.

    Without stop words the index finds better (recall of LoCoMo's evidence 73.8 -> 75.6).
    """
    words = " ".join(query.keywords)
    return member.find(words, vector, selection=selection, limit=CANDIDATES)


def rank(found: Found, query: Query, ranker: Ranker, limit: int = 10) -> list[Hit]:
    """The best events, best first; equal ones in the order they were found.

    Raises InvalidRequest for a limit below one.
    """
    if limit < 1:
        raise InvalidRequest(f"limit is {limit}, at least 1", param="limit")
    if not found.events:
        return []
    reasons = ranker.reasons(found, query, limit)
    order = np.argsort(-reasons.parts.sum(axis=1), kind="stable")
    row_of = dict(zip(reasons.places[order].tolist(), order.tolist(), strict=True))
    places = still_there(found.events, list(row_of), limit)
    return [_hit(found.events, reasons, row_of[place]) for place in places]


def _hit(events: Sequence[Event], reasons: Reasons, row: int) -> Hit:
    values = reasons.parts[row].tolist()
    parts = {n: v for n, v in zip(reasons.names, values, strict=True) if v}
    # Added up anew from the parts that are shown, so that they make the score to the last bit.
    return Hit(events[int(reasons.places[row])], sum(parts.values()), parts)
