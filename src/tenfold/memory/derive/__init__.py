"""All that is derived from events without a language model, as pure and versioned functions.

Each names the events that its results came from, so that they can be erased with them and made
again. A language model plugs in as another `Deriver`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from tenfold.memory.derive import duplicates, entities, facts, summaries
from tenfold.memory.events import Event
from tenfold.memory.store import Derived


class Reach(StrEnum):
    """Which events bear on a result: what must be derived again when one of them goes.

    The event alone; its conversation; those of its author; or all that come before it.
    """

    EVENT = "event"
    CONVERSATION = "conversation"
    AUTHOR = "author"
    LOG = "log"


class Deriver(Protocol):
    """Makes something of events; the same events always yield the same, in the same order.

    `version` changes when the results of the same events would.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def reach(self) -> Reach: ...

    def __call__(self, events: Sequence[Event]) -> list[Derived]:
        """What comes of these events; recalls and feedback among them yield nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Pure:
    """A function as a deriver. `label` is its name and version, such as "entities/1"."""

    label: str
    reach: Reach
    function: Callable[[Sequence[Event]], list[Derived]]

    @property
    def name(self) -> str:
        return self.label.partition("/")[0]

    @property
    def version(self) -> str:
        return self.label.partition("/")[2]

    def __call__(self, events: Sequence[Event]) -> list[Derived]:
        return self.function(events)


DERIVERS: dict[str, Deriver] = {
    d.name: d
    for d in (
        Pure(duplicates.DERIVER, Reach.AUTHOR, duplicates.duplicates),
        Pure(entities.DERIVER, Reach.LOG, entities.derive_entities),
        Pure(facts.DERIVER, Reach.EVENT, facts.derive_claims),
        Pure(summaries.DERIVER, Reach.CONVERSATION, summaries.derive_summaries),
    )
}
