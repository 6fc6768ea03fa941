"""The nearest of very many vectors, by a graph of near ones (HNSW, 1603.09320) from `usearch`.

Below THRESHOLD all vectors are scanned, which is exact. Above it a graph is made in the background,
and scanning goes on until it is there. It lives in memory alone: there is no file of it that an
erasure would have to find, and one that meets an erased vector drops the whole graph.
"""

from __future__ import annotations

import importlib.util
import threading
from typing import Any

import numpy as np

from tenfold.memory.rows import Matrix, Places, Scores, View, products
from tenfold.memory.store import Vectors

THRESHOLD = 200_000  # vectors of one kind; scanning so many takes some 25 ms
WIDER = 4  # times as many neighbours are asked for as are wanted: the graph misses some
BEHIND = 0.1  # share of the vectors that may be scanned beside the graph before it is made anew
DEGREE, BREADTH = 32, 256  # of the graph: edges of a vector, candidates kept while building
CHUNK = 4096  # vectors added between two looks at whether the graph is still wanted


def installed() -> bool:
    """Whether there can be graphs at all."""
    return importlib.util.find_spec("usearch") is not None


def scanning(vectors: int) -> tuple[str, ...]:
    """What a memory's status says where so many vectors are scanned for want of a graph."""
    if vectors < THRESHOLD or installed():
        return ()
    return (f"{vectors:,} vectors are scanned one by one at each search: pip install usearch",)


class Graph:
    """The graph of one kind of vectors, for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._index: Any = None
        self._rows = 0  # the first rows of the matrix are in the graph
        self._sequences: Places = np.empty(0, dtype=np.int64)
        self._maker: threading.Thread | None = None
        self._wanted = 0  # which making is the last one that was asked for

    def nearest(self, matrix: Matrix, query: Vectors, count: int) -> Places | None:
        """Sequence numbers of about `count` of the nearest, and of all that the graph lacks.

        None where it cannot say: scan them all.
        """
        if matrix.count < THRESHOLD or not installed():
            self.drop()
            return None
        with self._lock:
            if self._index is not None and not self._fits(matrix):
                self._drop()
            fresh = matrix.count - self._rows
            if fresh > BEHIND * matrix.count and self._maker is None:
                self._start(matrix)
            index, rows = self._index, self._rows
        if index is None:
            return None
        keys = index.search(query, min(count, rows), threads=1).keys.astype(np.int64)
        return np.concatenate([keys, matrix.sequences[rows:]])

    def wait(self) -> None:
        """Until a graph that is being made is there."""
        with self._lock:
            maker = self._maker
        if maker is not None:
            maker.join()

    def drop(self) -> None:
        """Forgets all vectors."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        self._index, self._rows = None, 0
        self._sequences = np.empty(0, dtype=np.int64)
        self._maker = None
        self._wanted += 1

    def _fits(self, matrix: Matrix) -> bool:
        """Whether the graph holds the first rows of the matrix and nothing that is gone."""
        return np.array_equal(matrix.sequences[: self._rows], self._sequences)

    def _start(self, matrix: Matrix) -> None:
        self._wanted += 1
        self._maker = threading.Thread(
            target=self._make, args=(matrix, self._wanted), name="tenfold-graph", daemon=True
        )
        self._maker.start()

    def _make(self, matrix: Matrix, number: int) -> None:
        from usearch.index import Index

        index = Index(
            ndim=matrix.width, metric="ip", dtype="f32", connectivity=DEGREE,
            expansion_add=BREADTH, expansion_search=BREADTH,
        )  # fmt: skip
        for at in range(0, matrix.count, CHUNK):
            if self._wanted != number:
                return
            rows = slice(at, min(at + CHUNK, matrix.count))
            index.add(matrix.sequences[rows].astype(np.uint64), matrix.vectors[rows], threads=1)
        with self._lock:
            if self._wanted == number:
                self._index, self._rows = index, matrix.count
                self._sequences = matrix.sequences
                self._maker = None


def near(
    graph: Graph, view: View, matrix: Matrix, query: Vectors | None, limit: int
) -> Places | None:
    """The rows of a view whose vectors are the nearest, `limit` at least; None: scan them all."""
    if not matrix.count or not len(view.sequences):
        return None  # all is erased, or nothing is readable
    if query is None or matrix.width != len(query) or 8 * len(view.sequences) < matrix.count:
        return None
    share = len(view.sequences) / matrix.count
    sequences = graph.nearest(matrix, query, int(WIDER * limit / share))
    if sequences is None:
        return None
    rows = view.place[sequences[sequences < len(view.place)]]
    rows = rows[rows >= 0]
    return rows if len(rows) >= min(limit, len(view.sequences)) else None


def cosines_of(view: View, matrix: Matrix, rows: Places, query: Vectors) -> Scores:
    """The cosine of every row of the view; 0 where it is none of `rows` or has no vector."""
    cosines = np.zeros(len(view.sequences))
    sequences = view.sequences[rows]
    inside = sequences < len(matrix.place)
    rows, places = rows[inside], matrix.place[sequences[inside]]
    there = places >= 0
    cosines[rows[there]] = products(matrix.vectors[places[there]], query)
    return cosines
