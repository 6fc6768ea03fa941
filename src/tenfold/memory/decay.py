"""Forgetting without erasing: how age lowers a rank, and what summaries take over in recall.

Nothing here deletes. Retention says which events are to be erased; erasing them is the store's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from tenfold.errors import InvalidRequest
from tenfold.memory.events import Event, Kind
from tenfold.memory.store import Derived


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


def ripe(events: Iterable[Event], now: datetime, rest: timedelta) -> list[str]:
    """The conversations in which nothing has been said for `rest`: to be summed up."""
    last: dict[str, datetime] = {}
    for event in events:
        if event.conversation:
            last[event.conversation] = max(
                event.valid_at, last.get(event.conversation, event.valid_at)
            )
    return sorted(name for name, moment in last.items() if now - moment >= rest)


@dataclass(frozen=True, slots=True)
class Recalled:
    """A place in what is recalled: an event, or a summary that stands for `events`."""

    score: float
    events: tuple[str, ...]
    summary: Derived | None = None


def prefer_summaries(
    ranked: Sequence[tuple[str, float]], summaries: Iterable[Derived]
) -> list[Recalled]:
    """The ranking, events with scores best first, with summaries in the place of their events.

    A summary stands where the best of its events stood. One that only a single ranked event calls
    for does not take over: that event says it better. An event of several summaries goes to the one
    that most ranked events call for, then to the first.
    """
    given = list(summaries)
    places = {event for event, _ in ranked}
    calls = [len(places.intersection(summary.events)) for summary in given]
    order = sorted(range(len(given)), key=lambda i: -calls[i])
    stands: dict[str, int] = {}
    for i in order:
        for event in given[i].events:
            if event in places and calls[i] > 1:
                stands.setdefault(event, i)
    covered: dict[int, list[str]] = defaultdict(list)
    for event, _ in ranked:
        if event in stands:
            covered[stands[event]].append(event)
    recalled: list[Recalled] = []
    taken: set[int] = set()
    for event, score in ranked:
        i = stands.get(event, -1)
        if i < 0 or len(covered[i]) == 1:
            recalled.append(Recalled(score, (event,)))
        elif i not in taken:
            taken.add(i)
            recalled.append(Recalled(score, tuple(covered[i]), given[i]))
    return recalled


@dataclass(frozen=True, slots=True)
class Retention:
    """How long and how many events of a scope are kept; None does not limit."""

    max_age: timedelta | None = None
    max_events: int | None = None

    def __post_init__(self) -> None:
        if self.max_age is not None and self.max_age <= timedelta():
            raise InvalidRequest(
                f"to keep events for {self.max_age} is to keep none",
                param="max_age",
                hint="longer than 0; erase the scope to empty it",
            )
        if self.max_events is not None and self.max_events < 1:
            raise InvalidRequest(
                f"to keep {self.max_events} events is to keep none",
                param="max_events",
                hint="at least 1; erase the scope to empty it",
            )


def expired(
    events: Iterable[Event], policies: Mapping[str, Retention], now: datetime
) -> tuple[str, ...]:
    """The events to erase, in the order of the log, by the policies of their scopes.

    Age counts from when an event was recorded: how long it has been held. Of private events each
    author has a number of their own. There may be none, and a Selection without ids selects all:
    erase nothing then.
    """
    groups: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in events:
        scope = event.scope.name
        if scope in policies:
            groups[scope, event.author if scope == "private" else ""].append(event)
    gone: list[Event] = []
    for (scope, _), group in groups.items():
        policy = policies[scope]
        group.sort(key=lambda e: e.sequence)
        surplus = 0 if policy.max_events is None else max(0, len(group) - policy.max_events)
        for i, event in enumerate(group):
            old = policy.max_age is not None and now - event.recorded_at > policy.max_age
            if old or i < surplus:
                gone.append(event)
    return tuple(e.id for e in sorted(gone, key=lambda e: e.sequence))
