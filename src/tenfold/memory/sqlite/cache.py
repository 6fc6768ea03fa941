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
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tenfold.memory.sqlite.log import counters
from tenfold.memory.sqlite.schema import FOUND, VECTORS
from tenfold.memory.sqlite.visibility import Clause, Viewer, one_of, selected
from tenfold.memory.store import Selection

MOST_VIEWS = 64  # views (a member and a selection) remembered per tenant
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class View:
    """The events one member can find within one selection, in the order of the log.

    `place` is the row of a sequence number, -1 for those that are not here; `before` and `after`
    are rows of neighbours in the conversation, -1 where there is none.
    """

    epoch: int
    last: int  # the log is seen up to here
    sequences: Places  # [rows]
    words: NDArray[np.float64]  # [rows] length of each text
    place: Places  # [last + 1]
    before: Places  # [rows]
    after: Places  # [rows]
    ends: dict[str, int]  # the last row of each conversation


@dataclass(frozen=True, slots=True)
class Matrix:
    """The vectors of one kind; `vectors` may have spare rows after `count`."""

    epoch: int
    stamp: int
    sequences: Places  # [count]
    place: Places  # row of a sequence number, -1 without a vector
    vectors: NDArray[np.float32]  # [count or more, width]

    @property
    def count(self) -> int:
        return len(self.sequences)

    @property
    def width(self) -> int:
        """0 where there are no vectors."""
        return int(self.vectors.shape[1])


class Cache:
    """The views and matrices of one tenant in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._views: OrderedDict[tuple[Viewer, Selection], View] = OrderedDict()
        self._matrices: dict[str, Matrix] = {}

    def view(self, db: sqlite3.Connection, viewer: Viewer, selection: Selection) -> View:
        """The view as of the transaction that is open, or a later one."""
        last, epoch, _ = counters(db)
        with self._lock:
            key = (viewer, selection)
            known = self._views.get(key)
            if known is None or known.epoch < epoch:
                known = _empty_view(epoch)
            if known.last < last and known.epoch == epoch:
                known = _extended(known, db, viewer, selection, last)
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
            kinds = list(self._matrices)
        for kind in kinds:
            self.matrix(db, kind)

    def forget(self) -> None:
        """Drops everything: the next query reads the file."""
        with self._lock:
            self._views.clear()
            self._matrices.clear()


def _empty_view(epoch: int) -> View:
    none = np.empty(0, dtype=np.int64)
    return View(epoch, 0, none, np.empty(0), np.full(1, -1, dtype=np.int64), none, none, {})


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
    start = len(view.sequences)
    fresh = np.array([row[0] for row in rows], dtype=np.int64)
    place = np.concatenate([view.place, np.full(last - view.last, -1, dtype=np.int64)])
    place[fresh] = np.arange(start, start + len(fresh))
    before = np.concatenate([view.before, np.full(len(fresh), -1, dtype=np.int64)])
    after = np.concatenate([view.after, np.full(len(fresh), -1, dtype=np.int64)])
    ends = dict(view.ends)
    for row, (_, _, conversation) in enumerate(rows, start):
        if conversation:
            end = ends.get(conversation, -1)
            before[row] = end
            if end >= 0:
                after[end] = row
            ends[conversation] = row
    words = np.array([row[1] for row in rows], dtype=np.float64)
    return replace(
        view,
        last=last,
        sequences=np.concatenate([view.sequences, fresh]),
        words=np.concatenate([view.words, words]),
        place=place,
        before=before,
        after=after,
        ends=ends,
    )


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
        known = _without_gone(known, db, parity)
    rows = db.execute(
        "SELECT id / 2, vector FROM vectors WHERE stamp > ? AND id % 2 = ? ORDER BY id",
        (known.stamp, parity),
    ).fetchall()
    sequences = np.array([row[0] for row in rows], dtype=np.int64)
    vectors = np.frombuffer(b"".join(row[1] for row in rows), dtype=np.float32)
    return _with_fresh(
        replace(known, epoch=epoch, stamp=stamp), sequences, vectors.reshape(len(rows), width)
    )


def _without_gone(matrix: Matrix, db: sqlite3.Connection, parity: int) -> Matrix:
    """Copies what is still in the file, so that the memory of what is not becomes free."""
    rows = db.execute("SELECT id / 2 FROM vectors WHERE id % 2 = ?", (parity,)).fetchall()
    there = np.array([row[0] for row in rows], dtype=np.int64)
    keep = np.isin(matrix.sequences, there)
    if keep.all():
        return matrix
    vectors = matrix.vectors[: matrix.count][keep]
    return _placed(matrix, matrix.sequences[keep], vectors)


def _with_fresh(matrix: Matrix, sequences: Places, vectors: NDArray[np.float32]) -> Matrix:
    if not len(sequences):
        return matrix
    inside = sequences < len(matrix.place)
    rows = (
        np.where(inside, matrix.place[np.where(inside, sequences, 0)], -1)
        if len(matrix.place)
        else np.full(len(sequences), -1, dtype=np.int64)
    )
    old = rows >= 0
    if old.any():  # derived again: a copy, because another query may be reading the old ones
        changed = matrix.vectors.copy()
        changed[rows[old]] = vectors[old]
        matrix = replace(matrix, vectors=changed)
    added, total = vectors[~old], matrix.count + int((~old).sum())
    room = matrix.vectors
    if total > len(room):
        room = np.empty((max(total, 2 * len(room)), vectors.shape[1]), dtype=np.float32)
        room[: matrix.count] = matrix.vectors[: matrix.count]
    room[matrix.count : total] = added
    return _placed(matrix, np.concatenate([matrix.sequences, sequences[~old]]), room)


def _placed(matrix: Matrix, sequences: Places, vectors: NDArray[np.float32]) -> Matrix:
    place = np.full(int(sequences.max(initial=0)) + 1, -1, dtype=np.int64)
    place[sequences] = np.arange(len(sequences))
    return replace(matrix, sequences=sequences, place=place, vectors=vectors)
