"""Derives what waits: vectors, facts, entities, restatements. Safe to stop at any point.

A batch is written in one transaction per table and marked done last, so that after a crash it is
derived again and nothing half-made is served. What fails is recorded with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence

from tenfold.errors import InvalidRequest, TenfoldError
from tenfold.memory.derive import Deriver, Reach
from tenfold.memory.derive.duplicates import Clusters
from tenfold.memory.derive.windows import turn_text
from tenfold.memory.embedding import Embedder
from tenfold.memory.events import Event
from tenfold.memory.store import Derived, Selection, Tenant

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
        self._derivers = [d for d in derivers if d.reach in (Reach.EVENT, Reach.LOG)]
        self._clusters: dict[str, Clusters] = {}

    def run(self, limit: int = 0) -> int:
        """Derives from waiting events, from `limit` of them if not 0; returns from how many."""
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
                f"this memory has vectors of {there!r}, not of {self._label or 'none'!r}",
                param="embedder",
                hint="open it with that embedder, or rebuild the memory",
            )

    def forget(self) -> None:
        """Lets go of what is kept in memory between batches, after an erasure."""
        self._clusters.clear()

    def _derive(self, events: Sequence[Event]) -> None:
        try:
            self._embed(events)
            made = [row for deriver in self._derivers for row in deriver(events)]
            made += self._restatements(events)
        except (TenfoldError, ValueError, RuntimeError) as error:
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
        windows = [
            turn if b is None else f"{turn_text(b)}\n{turn}"
            for b, turn in zip(before, turns, strict=True)
        ]
        vectors = self._embedder.embed([*turns, *windows])
        self._tenant.put_vectors(self._label, TURN, ids, vectors[: len(ids)])
        self._tenant.put_vectors(self._label, WINDOW, ids, vectors[len(ids) :])

    def _restatements(self, events: Sequence[Event]) -> list[Derived]:
        made = []
        for event in events:
            clusters = self._clusters_of(event)
            row = clusters.add(event)
            if row is not None:
                made.append(row)
        return made

    def _clusters_of(self, event: Event) -> Clusters:
        """The clusters of what the author said before this event."""
        known = self._clusters.get(event.author)
        if known is None:
            known = self._clusters[event.author] = Clusters()
            said = self._tenant.member(event.author).history(Selection(author=event.author))
            for earlier in said:
                if earlier.sequence >= event.sequence:
                    break
                known.add(earlier)
        return known
