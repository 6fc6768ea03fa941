"""Forgetting without erasing: how age lowers a rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from tenfold.errors import InvalidRequest
from tenfold.memory.events import Event, Kind
from tenfold.memory.retrieval import Hit

PART = "age"


@dataclass(frozen=True, slots=True)
class HalfLives:
    """After how long an event counts half, by its kind and its scope; None is never.

    Where both say something the shorter one holds. `floor` is what always remains of a score, so
    that old memories stay reachable.
    """

    default: timedelta | None = None
    kinds: Mapping[Kind, timedelta | None] = field(default_factory=dict)
    scopes: Mapping[str, timedelta | None] = field(default_factory=dict)
    floor: float = 0.1

    def __post_init__(self) -> None:
        for life in (self.default, *self.kinds.values(), *self.scopes.values()):
            if life is not None and life <= timedelta():
                raise InvalidRequest(
                    f"a half-life of {life} is none",
                    param="half_life",
                    hint="longer than 0, or None for what does not fade",
                )
        if not 0 <= self.floor <= 1:
            raise InvalidRequest(f"a floor of {self.floor} is not within 0 and 1", param="floor")

    def of(self, event: Event) -> timedelta | None:
        """The half-life of an event."""
        said = []
        if event.kind in self.kinds:
            said.append(self.kinds[event.kind])
        if event.scope.name in self.scopes:
            said.append(self.scopes[event.scope.name])
        if not said:
            return self.default
        return min((life for life in said if life is not None), default=None)


def decay(
    events: Sequence[Event], now: datetime, half_lives: HalfLives = HalfLives()
) -> NDArray[np.float64]:
    """What to multiply each event's score by, floor to 1: [events]. What is yet to come counts 1.

    `floor + (1 - floor) * 2 ** (-age / half-life)`, of the age of what is told (`valid_at`).
    """
    factors = np.ones(len(events))
    for i, event in enumerate(events):
        life = half_lives.of(event)
        age = now - event.valid_at
        if life is not None and age > timedelta():
            factors[i] = half_lives.floor + (1 - half_lives.floor) * 0.5 ** (age / life)
    return factors


def aged(hits: Sequence[Hit], now: datetime, half_lives: HalfLives) -> list[Hit]:
    """The hits by their scores times `decay`, best first; what age takes is a part, "age".

    A score below zero is divided: age must not lift what fits badly.
    """
    factors = decay([hit.event for hit in hits], now, half_lives).tolist()
    faded = [_faded(hit, factor) for hit, factor in zip(hits, factors, strict=True)]
    return sorted(faded, key=lambda hit: -hit.score)


def _faded(hit: Hit, factor: float) -> Hit:
    if factor == 1:
        return hit
    loss = hit.score * (factor if hit.score > 0 else 1 / max(factor, 1e-6)) - hit.score
    parts = {**hit.parts, PART: loss}
    return replace(hit, score=sum(parts.values()), parts=parts)
