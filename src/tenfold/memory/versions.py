"""Things that are replaced rather than said: a member's events grouped by the thing they are of.

The log keeps every version; what counts is the last. Adapters of libraries that update what they
remember (`mem0`, `langgraph`) know their things by a key that stands in an event's provenance.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Generic, TypeVar

from tenfold.errors import InvalidRequest
from tenfold.memory.events import LONGEST_NAME, MOST_PROVENANCE, Event
from tenfold.memory.memory import Memory
from tenfold.memory.store import Selection

K = TypeVar("K", bound=Hashable)
FIRST_LOOK = 64  # of the newest events, when only those since the last look are wanted
MOST_CHUNKS = MOST_PROVENANCE - 8  # of a JSON text in provenance; the rest is for other entries


class Versions(Generic[K]):
    """The member's own events by the thing they are of, each thing's in the order of the log.

    Read once and then kept up with the log, also with what other processes write and erase. The
    events are held in this process's memory until they are erased, here or (by the next call of
    `read`) elsewhere. Not for two threads at once.
    """

    def __init__(self, memory: Memory, key_of: Callable[[Event], K | None]) -> None:
        self._memory = memory
        self._key_of = key_of
        self._own = Selection(author=memory.member)
        self._things: dict[K, list[Event]] = {}
        self._epoch, self._last = -1, 0

    def read(self) -> Mapping[K, list[Event]]:
        """All things as the log has them now."""
        epoch = self._memory.tenant.epoch()
        if epoch != self._epoch:  # something was erased: what is known here may be of it
            self._things.clear()
            self._epoch, self._last = epoch, 0
        for event in self._since():
            self._last = event.sequence
            key = self._key_of(event)
            if key is not None:
                self._things.setdefault(key, []).append(event)
        return self._things

    def _since(self) -> list[Event]:
        if not self._last:
            return list(self._memory.history(self._own))
        limit = FIRST_LOOK
        while True:
            newest = list(self._memory.history(self._own, limit))
            if len(newest) < limit or newest[0].sequence <= self._last:
                return [event for event in newest if event.sequence > self._last]
            limit *= 8


def in_provenance(name: str, value: Any, param: str) -> dict[str, str]:
    """A JSON value as entries of an event's provenance, `name` and a number each.

    Raises InvalidRequest for what is no JSON or too long for it.
    """
    try:
        text = json.dumps(value, allow_nan=False).replace("\x7f", r"\u007f")  # all printable ASCII
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{param} cannot be written as JSON: {error}", param=param) from None
    chunks = [text[at : at + LONGEST_NAME] for at in range(0, len(text), LONGEST_NAME)]
    if len(chunks) > MOST_CHUNKS:
        raise InvalidRequest(
            f"{param} has {len(text):,} characters as JSON, {MOST_CHUNKS * LONGEST_NAME:,} at most",
            param=param,
            hint="keep long texts as memories of their own",
        )
    return {f"{name}.{number:02}": chunk for number, chunk in enumerate(chunks)}


def from_provenance(name: str, provenance: Mapping[str, str]) -> Any:
    """The JSON value that `in_provenance` wrote; None where there is none."""
    keys = sorted(key for key in provenance if key.startswith(f"{name}."))
    return json.loads("".join(provenance[key] for key in keys)) if keys else None
