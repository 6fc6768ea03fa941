"""What a process remembers of a tenant's file between queries: readable rows, and vectors.

Both are brought up to date from the file at every query, so that they are exact whoever wrote. New
events and vectors are added; after something was erased or rights changed (the file's epoch) rows
are read anew and vectors that are gone are dropped. Snapshots are never changed in place: a query
that runs in another thread keeps its own.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from dataclasses import replace

import numpy as np

from tenfold.memory.nearest import Graph
from tenfold.memory.rows import Matrix, View, empty_view, extended, with_fresh, without_gone
from tenfold.memory.sqlite.log import counters
from tenfold.memory.sqlite.schema import FOUND, VECTORS
from tenfold.memory.sqlite.visibility import Clause, Viewer, one_of, selected
from tenfold.memory.store import Selection

MOST_VIEWS = 64  # views (a member and a selection) remembered per tenant


class Cache:
    """The views and matrices of one tenant in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._views: OrderedDict[tuple[Viewer, Selection], View] = OrderedDict()
        self._matrices: dict[str, Matrix] = {}
        self._let_go = 0  # views of an epoch before it hold what was erased
        self.graphs = {kind: Graph() for kind in VECTORS}

    def view(self, db: sqlite3.Connection, viewer: Viewer, selection: Selection) -> View:
        """The view as of the transaction that is open, or a later one."""
        last, epoch, _ = counters(db)
        with self._lock:
            key = (viewer, selection)
            known = self._views.get(key)
            if known is None or known.epoch < epoch:
                known = empty_view(epoch)
            if known.last < last and known.epoch == epoch:
                known = _extended(known, db, viewer, selection, last)
            if known.epoch < self._let_go:  # of a transaction that began before the erasure
                return known
            self._views[key] = known
            self._views.move_to_end(key)
            while len(self._views) > MOST_VIEWS:
                self._views.popitem(last=False)
            return known

    def matrix(self, db: sqlite3.Connection, kind: str) -> Matrix:
        """The vectors of a kind as of the transaction that is open, or a later one."""
        _, epoch, stamp = counters(db)
        with self._lock:
            known = self._matrices.get(kind)
            if known is None or (known.epoch, known.stamp) < (epoch, stamp):
                known = _synchronised(known, db, kind, epoch, stamp)
                self._matrices[kind] = known
            return known

    def let_go(self, db: sqlite3.Connection) -> None:
        """Drops erased events and their vectors from memory now, not at the next query."""
        with self._lock:
            self._views.clear()
            self._let_go = counters(db)[1]
            kinds = list(self._matrices)
        for graph in self.graphs.values():
            graph.drop()
        for kind in kinds:
            self.matrix(db, kind)

    def forget(self) -> None:
        """Drops everything: the next query reads the file."""
        with self._lock:
            self._views.clear()
            self._matrices.clear()
        for graph in self.graphs.values():
            graph.drop()


def _extended(
    view: View, db: sqlite3.Connection, viewer: Viewer, selection: Selection, last: int
) -> View:
    """The view with what the log got since."""
    clause = (
        Clause("e.sequence > ? AND e.sequence <= ?", (view.last, last))
        & one_of("e.kind", [str(kind) for kind in FOUND])
        & viewer.sees()
        & selected(selection)
    )
    rows = db.execute(
        f"SELECT e.sequence, e.words, e.conversation FROM events e WHERE {clause.sql}"
        " ORDER BY e.sequence",
        clause.values,
    ).fetchall()
    return extended(view, rows, last)


def _synchronised(
    known: Matrix | None, db: sqlite3.Connection, kind: str, epoch: int, stamp: int
) -> Matrix:
    """The matrix without the rows that are gone and with those that are new."""
    parity = VECTORS[kind]
    found = db.execute("SELECT width FROM spaces WHERE kind = ?", (kind,)).fetchone()
    width = int(found[0]) if found else 0
    if known is None or known.width != width:
        none = np.empty(0, dtype=np.int64)
        known = Matrix(epoch, 0, none, none, np.empty((0, width), dtype=np.float32))
    if known.epoch != epoch:
        gone = db.execute("SELECT id / 2 FROM vectors WHERE id % 2 = ?", (parity,)).fetchall()
        known = without_gone(known, np.array([row[0] for row in gone], dtype=np.int64))
    rows = db.execute(
        "SELECT id / 2, vector FROM vectors WHERE stamp > ? AND id % 2 = ? ORDER BY id",
        (known.stamp, parity),
    ).fetchall()
    sequences = np.array([row[0] for row in rows], dtype=np.int64)
    vectors = np.frombuffer(b"".join(row[1] for row in rows), dtype=np.float32)
    return with_fresh(
        replace(known, epoch=epoch, stamp=stamp), sequences, vectors.reshape(len(rows), width)
    )
