"""An event's text with the one before it: what window vectors are made of.

A turn such as "Yes, two of them" means little alone; with the question before it, it is found.
"""

from __future__ import annotations

from tenfold.memory.derive.sources import speaker
from tenfold.memory.events import Event


def turn_text(event: Event) -> str:
    """An event as one line of a conversation: `speaker: text`.

    A text that names its speaker so itself, as chat logs do, stays as it is.
    """
    name = speaker(event)
    return event.text if names_speaker(event.text, name) else f"{name}: {event.text}"


def names_speaker(text: str, name: str) -> bool:
    """Whether a text begins with the name of who says it and a colon."""
    before, colon, _ = text.partition(":")
    return bool(colon) and before.strip().casefold() == name.casefold()


def window_text(before: Event | None, event: Event) -> str:
    """An event after the one before it, if there is one."""
    return turn_text(event) if before is None else f"{turn_text(before)}\n{turn_text(event)}"
