"""A memory by the time at which things were said, newest first, page by page.

The log is in the order of recording; a memory that was filled from old conversations has another
one. Pages are found by spans of valid time, so that a page costs about what it shows.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from tenfold.errors import InvalidRequest
from tenfold.memory.events import AHEAD, Event
from tenfold.memory.memory import Memory
from tenfold.memory.store import Selection

BEGINNING = datetime.min.replace(tzinfo=UTC)
# How far back each look goes; each costs a pass over an index, and the last has no end.
SPANS = (*(timedelta(days=8**look) for look in range(6)), timedelta.max)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a page ends: the valid time and the place in the log of its last event."""

    valid_at: datetime
    sequence: int

    @classmethod
    def parse(cls, text: str) -> Place:
        """What `str` made of a place. Raises InvalidRequest."""
        try:
            moment, _, sequence = text.partition("/")
            place = cls(datetime.fromisoformat(moment), int(sequence))
        except ValueError:
            place = None
        if place is None or place.valid_at.tzinfo is None:
            raise InvalidRequest(
                f"{text!r} is no place in a timeline",
                param="before",
                hint="the `next` of the page before",
            )
        return place

    def __str__(self) -> str:
        return f"{self.valid_at.isoformat()}/{self.sequence}"


def page(
    memory: Memory, selection: Selection, before: Place | None = None, limit: int = 50
) -> tuple[list[Event], Place | None]:
    """The last `limit` readable events before a place, latest first, and where they end.

    The next page is before that; None where there is no more.
    Raises InvalidRequest for a limit below 1.
    """
    if limit < 1:
        raise InvalidRequest(f"limit is {limit}, at least 1", param="limit")
    end = datetime.now(UTC) + 2 * AHEAD  # nothing is later
    if before is not None and before.valid_at < end:
        # One microsecond on: the others of the same moment come by their places in the log.
        end = before.valid_at + timedelta(microseconds=1)
    if selection.until is not None:
        end = min(end, selection.until)
    first = selection.since or BEGINNING
    found: list[Event] = []
    for span in SPANS:
        start = max(first, end - span) if span < end - BEGINNING else first
        within = replace(selection, since=start, until=end)
        found += [e for e in memory.history(within) if before is None or _place(e) < before]
        if start == first or len(found) > limit:
            break
        end = start
    newest = heapq.nlargest(limit + 1, found, key=_place)
    shown = newest[:limit]
    return shown, _place(shown[-1]) if len(newest) > limit else None


def _place(event: Event) -> Place:
    return Place(event.valid_at, event.sequence)
