"""All that is derived from events without a language model, by pure and versioned functions.

Each names the events that its results came from, so that they can be erased with them and made
again, and its own name and version (`Derived.deriver`), which changes when the results of the same
events would. The same events always yield the same, in whatever order they are given; recalls and
feedback among them yield nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tenfold.memory.derive.facts import derive_claims
from tenfold.memory.events import Event
from tenfold.memory.store import Derived

Deriver = Callable[[Sequence[Event]], list[Derived]]

# What is kept of every event by itself. What looks beyond the event would depend on how batches
# fall: duplicates and entities are worked out where they are read, summaries when asked for.
DERIVERS: dict[str, Deriver] = {"facts": derive_claims}
