"""Finding: BM25 over the index, cosines over all vectors, and neighbours in the conversation.

All numbers are about the events that one member can find within one selection. Counting words over
the others' texts as well would tell, by the scores, which words occur in them.
"""

from __future__ import annotations

import math
import sqlite3

import numpy as np
from numpy.typing import NDArray

from tenfold.errors import InvalidRequest
from tenfold.memory.events import Event
from tenfold.memory.sqlite.cache import Cache, Matrix, View
from tenfold.memory.sqlite.log import read
from tenfold.memory.sqlite.visibility import Viewer, one_of
from tenfold.memory.sqlite.words import MOST_WORDS, Stemmer, occurrences
from tenfold.memory.store import Found, Selection, Vectors

K1, B = 1.2, 0.75  # BM25: how soon a word's repetition stops counting; how much length does
COMMON = 4_000  # rows of a view from which a word is a common one
Scores = NDArray[np.float64]
Places = NDArray[np.int64]


class Lookup:
    """Finds events in one tenant's file."""

    def __init__(self) -> None:
        self.cache = Cache()
        self.stems = Stemmer()

    def find(
        self,
        db: sqlite3.Connection,
        viewer: Viewer,
        text: str,
        vector: Vectors | None,
        selection: Selection,
        limit: int,
    ) -> Found:
        """See `Member.find`; the transaction that is open decides what there is."""
        view = self.cache.view(db, viewer, selection)
        whole = self.cache.view(db, viewer, Selection())
        lexical = self._lexical(db, view, text)
        query = None if vector is None else _unit(vector)
        turn, window = (
            _cosines(view, self.cache.matrix(db, kind), kind, query) for kind in ("turn", "window")
        )
        hits = _best(lexical, limit)
        rows = np.unique(
            np.concatenate(
                [hits, _around(view, whole, hits), _best(turn, limit), _best(window, limit)]
            )
        )
        events, rows = _readable(db, viewer, view, rows)
        order = np.lexsort((rows, -turn[rows], -lexical[rows]))
        rows = rows[order]
        return Found(
            events=tuple(events[i] for i in order),
            lexical=lexical[rows],
            turn=turn[rows],
            window=window[rows],
            before=_places_before(view, whole, rows),
        )

    def _lexical(self, db: sqlite3.Connection, view: View, text: str) -> Scores:
        stems = list(self.stems(text))[:MOST_WORDS]
        return bm25(view, [rows_with(view, *occurrences(db, stem)) for stem in stems])

    def close(self) -> None:
        self.cache.forget()
        self.stems.close()


def rows_with(view: View, documents: Places, times: Places) -> tuple[Places, Places]:
    """The rows of the view with a word, and how often each has it."""
    near = documents < len(view.place)
    rows = view.place[documents[near]]
    return rows[rows >= 0], times[near][rows >= 0]


def bm25(view: View, postings: list[tuple[Places, Places]]) -> Scores:
    """The score of every row of the view; 0 where no word matches.

    A common word (COMMON rows or more) is left out where a rarer one matches at all: it says little
    and would put thousands of events before the scan of neighbours. What is common is decided
    within the view: counted over the tenant it would tell what stands in texts of others.
    """
    total = len(view.sequences)
    scores = np.zeros(total)
    if not total:
        return scores
    rare = [found for found in postings if 0 < len(found[0]) < COMMON]
    norm = K1 * (1 - B + B * view.words / max(view.words.mean(), 1.0))
    for rows, times in rare or postings:
        rarity = math.log(1 + (total - len(rows) + 0.5) / (len(rows) + 0.5))
        scores[rows] += rarity * times * (K1 + 1) / (times + norm[rows])
    return scores


def _unit(vector: Vectors) -> Vectors:
    vector = np.asarray(vector, dtype=np.float32)
    if vector.ndim != 1 or not np.isfinite(vector).all() or not (length := np.linalg.norm(vector)):
        raise InvalidRequest(
            f"a query's vector is finite and not zero, and not of shape {vector.shape}",
            param="vector",
        )
    return np.asarray(vector / length, dtype=np.float32)


def _cosines(view: View, matrix: Matrix, kind: str, query: Vectors | None) -> Scores:
    """The cosine of every row of the view; 0 of rows without a vector."""
    cosines = np.zeros(len(view.sequences))
    if query is None or not matrix.count:
        return cosines
    if matrix.width != len(query):
        raise InvalidRequest(
            f"the query's vector has {len(query)} numbers, the {kind} vectors have {matrix.width}",
            param="vector",
            hint="query with the embedder that the memory was built with, or rebuild the memory",
        )
    inside = view.sequences < len(matrix.place)
    found = np.full(len(view.sequences), -1, dtype=np.int64)
    found[inside] = matrix.place[view.sequences[inside]]
    rows = np.flatnonzero(found >= 0)
    if 8 * len(rows) < matrix.count:  # few of many: take them out instead of scanning all
        cosines[rows] = matrix.vectors[found[rows]] @ query
    else:
        cosines[rows] = (matrix.vectors[: matrix.count] @ query)[found[rows]]
    return cosines


def _best(scores: Scores, limit: int) -> Places:
    """The rows with the `limit` highest scores that are not 0, in any order."""
    rows = np.flatnonzero(scores)
    if len(rows) > limit:
        rows = rows[np.argpartition(-scores[rows], limit - 1)[:limit]]
    return rows


def _neighbours(view: View, whole: View, rows: Places, side: Places) -> Places:
    """The neighbour's row for each row, -1 where it is not in the view."""
    sequences = view.sequences[rows]
    neighbour = side[whole.place[sequences]]
    there = whole.sequences[np.maximum(neighbour, 0)]
    inside = (neighbour >= 0) & (there < len(view.place))
    return np.where(inside, view.place[np.where(inside, there, 0)], -1)


def _around(view: View, whole: View, rows: Places) -> Places:
    if not len(rows):
        return rows
    both = np.concatenate(
        [_neighbours(view, whole, rows, side) for side in (whole.before, whole.after)]
    )
    return both[both >= 0]


def _readable(
    db: sqlite3.Connection, viewer: Viewer, view: View, rows: Places
) -> tuple[list[Event], Places]:
    """The events of rows, asked for once more under the member's clause, and their rows."""
    sequences = view.sequences[rows].tolist()
    events = read(db, one_of("e.sequence", sequences) & viewer.sees()) if sequences else []
    return events, view.place[np.array([e.sequence for e in events], dtype=np.int64)]


def _places_before(view: View, whole: View, rows: Places) -> Places:
    """For each of the rows, where among them the event before it is."""
    if not len(rows):
        return rows
    place = np.full(len(view.sequences), -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    before = _neighbours(view, whole, rows, whole.before)
    return np.where(before >= 0, place[np.maximum(before, 0)], -1)
