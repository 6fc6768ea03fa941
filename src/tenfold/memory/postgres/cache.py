"""What a process remembers of a tenant between queries: readable rows, and vectors, opened.

As in `tenfold.memory.sqlite.cache`: brought up to date at every query, and never changed in place.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace

import numpy as np

from tenfold.memory.postgres.database import Transaction
from tenfold.memory.postgres.log import counters
from tenfold.memory.postgres.visibility import Clause, Viewer, one_of, selected
from tenfold.memory.rows import Matrix, View, empty_view, extended, with_fresh, without_gone
from tenfold.memory.sqlite.schema import FOUND
from tenfold.memory.store import Selection

MOST_VIEWS = 64  # views (a member and a selection) remembered per tenant


class Cache:
    """The views and matrices of one tenant in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._views: OrderedDict[tuple[Viewer, Selection], View] = OrderedDict()
        self._matrices: dict[str, Matrix] = {}
        self._let_go = 0  # views of an epoch before it hold what was erased

    def view(self, db: Transaction, viewer: Viewer, selection: Selection) -> View:
        """The view as of the transaction that is open, or a later one."""
        last, epoch, _ = counters(db)
        with self._lock:
            key = (viewer, selection)
            known = self._views.get(key)
            if known is None or known.epoch < epoch:
                known = empty_view(epoch)
            if known.last < last and known.epoch == epoch:
                rows = _rows(db, viewer, selection, known.last, last)
                known = extended(known, rows, last)
            if known.epoch < self._let_go:  # of a transaction that began before the erasure
                return known
            self._views[key] = known
            self._views.move_to_end(key)
            while len(self._views) > MOST_VIEWS:
                self._views.popitem(last=False)
            return known

    def matrix(self, db: Transaction, kind: str) -> Matrix:
        """The vectors of a kind as of the transaction that is open, or a later one."""
        _, epoch, stamp = counters(db)
        with self._lock:
            known = self._matrices.get(kind)
            if known is None or (known.epoch, known.stamp) < (epoch, stamp):
                known = _synchronised(known, db, kind, epoch, stamp)
                self._matrices[kind] = known
            return known

    def let_go(self, db: Transaction) -> None:
        """Drops erased events and their vectors from memory now, not at the next query."""
        with self._lock:
            self._views.clear()
            self._let_go = counters(db)[1]
            kinds = list(self._matrices)
        for kind in kinds:
            self.matrix(db, kind)

    def forget(self) -> None:
        """Drops everything: the next query reads the database."""
        with self._lock:
            self._views.clear()
            self._matrices.clear()


def _rows(
    db: Transaction, viewer: Viewer, selection: Selection, first: int, last: int
) -> list[tuple[int, float, bytes]]:
    clause = (
        Clause("e.sequence > ? AND e.sequence <= ?", (first, last))
        & one_of("e.kind", [str(kind) for kind in FOUND])
        & viewer.sees()
        & selected(selection)
    )
    return db.execute(
        f"SELECT e.sequence, e.words, e.conversation FROM events e WHERE {clause.sql}"
        " ORDER BY e.sequence",
        clause.values,
    ).fetchall()


def _synchronised(
    known: Matrix | None, db: Transaction, kind: str, epoch: int, stamp: int
) -> Matrix:
    """The matrix without the rows that are gone and with those that are new."""
    width = db.number("SELECT width FROM spaces WHERE kind = ?", (kind,))
    if known is None or known.width != width:
        none = np.empty(0, dtype=np.int64)
        known = Matrix(epoch, 0, none, none, np.empty((0, width), dtype=np.float32))
    if known.epoch != epoch:
        there = db.execute("SELECT sequence FROM vectors WHERE kind = ?", (kind,)).fetchall()
        known = without_gone(known, np.array([row[0] for row in there], dtype=np.int64))
    sequences, vectors = [], []
    for sequence, previous, sealed in db.execute(
        "SELECT sequence, previous, sealed FROM vectors WHERE kind = ? AND stamp > ?"
        " ORDER BY sequence",
        (kind, known.stamp),
    ):
        opened = db.vault.open(f"{kind} vector", origins(sequence, previous), sealed)
        if opened is not None:
            sequences.append(sequence)
            vectors.append(opened)
    fresh = np.frombuffer(b"".join(vectors), dtype=np.float32).reshape(len(vectors), width)
    synchronised = replace(known, epoch=epoch, stamp=stamp)
    return with_fresh(synchronised, np.array(sequences, dtype=np.int64), fresh)


def origins(sequence: int, previous: int) -> tuple[int, ...]:
    """The events whose text a vector holds."""
    return (previous, sequence) if previous else (sequence,)
