"""Finding: BM25 over the index, cosines over all vectors, and neighbours in the conversation.

All numbers are about the events that one member can find within one selection. Counting words over
the others' texts as well would tell, by the scores, which words occur in them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import numpy as np

from tenfold.memory.nearest import cosines_of, near
from tenfold.memory.rows import (
    Rows,
    Scores,
    View,
    around,
    best,
    bm25,
    cosines,
    each_once,
    places_before,
    rows_with,
    unit,
)
from tenfold.memory.sqlite.cache import Cache
from tenfold.memory.sqlite.database import Database
from tenfold.memory.sqlite.log import SEQUENCE, Row, counters, event_of, read_rows, said_of
from tenfold.memory.sqlite.schema import VECTORS
from tenfold.memory.sqlite.visibility import Viewer, one_of
from tenfold.memory.sqlite.words import MOST_WORDS, Stemmer, occurrences
from tenfold.memory.store import Found, Selection, Vectors


class Lookup:
    """Finds events in one tenant's file."""

    def __init__(self, database: Database) -> None:
        self.cache = Cache()
        self._database = database
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
        query = None if vector is None else unit(vector)
        hits = best(lexical, limit)
        chosen = [hits, around(view, whole, hits)]
        spaces = []
        for kind in VECTORS:
            matrix = self.cache.matrix(db, kind)
            rows = near(self.cache.graphs[kind], view, matrix, query, limit)
            if rows is None or query is None:
                values = cosines(view, matrix, kind, query)
            else:
                values = cosines_of(view, matrix, rows, query)
            chosen.append(best(values, limit))
            spaces.append((matrix, values, rows is not None))
        rows = each_once(chosen, len(view.sequences))
        turn, window = (
            cosines_of(view, matrix, rows, query) if partly and query is not None else values
            for matrix, values, partly in spaces
        )
        rows = rows[np.lexsort((rows, -turn[rows], -lexical[rows]))]
        sequences = view.sequences[rows].tolist()

        def read(wanted: Sequence[int]) -> dict[int, Row]:
            """What the log has of found events, asked for once more under the member's clause."""
            with self._database.reading() as db:
                found = read_rows(db, one_of("e.sequence", wanted) & viewer.sees())
            return {row[SEQUENCE]: row for row in found}

        def stands() -> bool:
            with self._database.reading() as db:
                return counters(db)[1] == whole.epoch

        return Found(
            events=Rows(sequences, read, event_of, said_of, whole.said, stands),
            lexical=lexical[rows],
            turn=turn[rows],
            window=window[rows],
            before=places_before(view, whole, rows),
        )

    def _lexical(self, db: sqlite3.Connection, view: View, text: str) -> Scores:
        stems = list(self.stems(text))[:MOST_WORDS]
        return bm25(view, [rows_with(view, *occurrences(db, stem)) for stem in stems])

    def close(self) -> None:
        self.cache.forget()
        self.stems.close()
