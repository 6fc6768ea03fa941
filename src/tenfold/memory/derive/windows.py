"""An event's text with the one before it: what window vectors are made of.

A turn such as "Yes, two of them" means little alone; with the question before it, it is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tenfold.memory.derive.sources import audience, learnt, speaker
from tenfold.memory.events import Event

DERIVER = "windows/1"


@dataclass(frozen=True, slots=True)
class Window:
    """The text to embed for the last of its events, which are one or two."""

    events: tuple[str, ...]
    text: str

    @property
    def event(self) -> str:
        """The event that the vector is of."""
        return self.events[-1]


def turn_text(event: Event) -> str:
    """An event as one line of a conversation: `speaker: text`."""
    return f"{speaker(event)}: {event.text}"


def window_text(before: Event | None, event: Event) -> str:
    """An event after the one before it, if there is one."""
    return turn_text(event) if before is None else f"{turn_text(before)}\n{turn_text(event)}"


def windows(events: Sequence[Event]) -> list[Window]:
    """One window per event, in the order of the log.

    The event before is the nearest one in the same conversation with the same audience: words of a
    private event would otherwise shape the vector of a shared one. Events of no conversation stand
    alone.
    """
    before: dict[tuple[str, tuple[str, str]], Event] = {}
    made: list[Window] = []
    for event in learnt(events):
        place = event.conversation, audience(event)
        last = before.get(place) if event.conversation else None
        parts = (event,) if last is None else (last, event)
        made.append(Window(tuple(e.id for e in parts), window_text(last, event)))
        before[place] = event
    return made
