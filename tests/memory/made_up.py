"""Made-up events, for tests of what is derived from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from tenfold.memory.events import PRIVATE, Event, Kind, new_id


def events_at(when: Callable[[int], datetime], **usual: object) -> Callable[..., Event]:
    """A maker of events, `event(text, sequence=1, **fields)`, said and recorded `when(sequence)`.

    They are ada's private observations in no conversation, but for `usual` and the fields given.
    """

    def event(text: str, sequence: int = 1, **other: object) -> Event:
        plain = Event(
            id=new_id(sequence),
            author="ada",
            role="user",
            text=text,
            subject="",
            to="",
            conversation="",
            sequence=sequence,
            kind=Kind.OBSERVATION,
            scope=PRIVATE,
            valid_at=when(sequence),
            recorded_at=when(sequence),
        )
        return replace(plain, **{**usual, **other})  # type: ignore[arg-type]

    return event
