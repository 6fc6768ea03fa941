"""Derives what waits: vectors and facts. Safe to stop at any point.

A batch is written in one transaction per table and marked done last, so that after a crash it is
derived again and nothing half-made is served. What fails is recorded with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence

from tenfold.errors import InvalidRequest
from tenfold.memory.derive import Deriver
from tenfold.memory.derive.windows import turn_text, window_text
from tenfold.memory.embedding import Embedder
from tenfold.memory.events import Event
from tenfold.memory.store import StoreError, Tenant

BATCH = 128  # events: embedding is fastest in batches, and a crash costs at most one
TURN, WINDOW = "turn", "window"
VECTORS = "1"  # version of what is embedded: "speaker: text", after the turn before for a window


class Deriving:
    """What makes the derivations of one tenant; not for two threads at once."""

    def __init__(
        self, tenant: Tenant, embedder: Embedder | None, derivers: Sequence[Deriver] = ()
    ) -> None:
        self._tenant = tenant
        self._embedder = embedder
        self._label = f"{embedder.name}/{VECTORS}" if embedder is not None else ""
        self._derivers = list(derivers)

    def run(self, limit: int = 0) -> int:
        """Derives from waiting events, from `limit` of them if not 0; returns from how many."""
        if self._embedder is None:
            return 0  # all waits for an embedder: what is done without vectors would never get any
        self._check_embedder()
        count = 0
        while not limit or count < limit:
            events = self._tenant.waiting(min(BATCH, limit - count) if limit else BATCH)
            if not events:
                break
            self._derive(events)
            count += len(events)
        return count

    def _check_embedder(self) -> None:
        """Vectors of two embedders do not compare, and half a memory with vectors misleads."""
        there = self._tenant.embedder()
        if there and there != self._label:
            raise InvalidRequest(
                f"this memory has vectors of {there!r}, not of {self._label!r}",
                param="embedder",
                hint="open it with that embedder, or rebuild the memory",
            )

    def _derive(self, events: Sequence[Event]) -> None:
        try:
            self._embed(events)
            made = [row for deriver in self._derivers for row in deriver(events)]
        except (StoreError, OSError):
            raise  # a lock, a full disk, an embedder out of reach: later it may work
        except Exception as error:
            if isinstance(error, InvalidRequest) and error.param == "deriver":
                raise  # another embedder's vectors are there: that is no event's fault
            if len(events) == 1:
                self._tenant.fail([events[0].id], f"{type(error).__name__}: {error}")
                return
            for event in events:  # the others of the batch must not fail with it
                self._derive([event])
            return
        self._tenant.put(made, done=[e.id for e in events])

    def _embed(self, events: Sequence[Event]) -> None:
        if self._embedder is None:
            return
        ids = [e.id for e in events]
        before = self._tenant.previous(ids)
        turns = [turn_text(e) for e in events]
        windows = [window_text(b, e) for b, e in zip(before, events, strict=True)]
        vectors = self._embedder.embed([*turns, *windows])
        self._tenant.put_vectors(self._label, TURN, ids, vectors[: len(ids)])
        self._tenant.put_vectors(self._label, WINDOW, ids, vectors[len(ids) :])
