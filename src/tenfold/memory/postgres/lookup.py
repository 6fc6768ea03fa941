"""Finding, as in `tenfold.memory.sqlite.lookup`, over what the database keeps."""

from __future__ import annotations

import numpy as np

from tenfold.memory.events import Event
from tenfold.memory.postgres.cache import Cache
from tenfold.memory.postgres.database import Transaction
from tenfold.memory.postgres.log import read
from tenfold.memory.postgres.terms import occurrences
from tenfold.memory.postgres.visibility import Viewer, one_of
from tenfold.memory.rows import (
    Places,
    View,
    around,
    best,
    bm25,
    cosines,
    places_before,
    rows_with,
    unit,
)
from tenfold.memory.sqlite.words import MOST_WORDS, Stemmer
from tenfold.memory.store import Found, Selection, Vectors


class Lookup:
    """Finds events of one tenant."""

    def __init__(self, stems: Stemmer) -> None:
        self.cache = Cache()
        self._stems = stems

    def find(
        self,
        db: Transaction,
        viewer: Viewer,
        text: str,
        vector: Vectors | None,
        selection: Selection,
        limit: int,
    ) -> Found:
        """See `Member.find`; the transaction that is open decides what there is."""
        view = self.cache.view(db, viewer, selection)
        whole = self.cache.view(db, viewer, Selection())
        stems = list(self._stems(text))[:MOST_WORDS]
        lexical = bm25(view, [rows_with(view, *found) for found in occurrences(db, stems)])
        query = None if vector is None else unit(vector)
        turn, window = (
            cosines(view, self.cache.matrix(db, kind), kind, query) for kind in ("turn", "window")
        )
        hits = best(lexical, limit)
        near = [best(turn, limit), best(window, limit)]
        rows = np.unique(np.concatenate([hits, around(view, whole, hits), *near]))
        events, rows = _readable(db, viewer, view, rows)
        order = np.lexsort((rows, -turn[rows], -lexical[rows]))
        rows = rows[order]
        return Found(
            events=tuple(events[i] for i in order),
            lexical=lexical[rows],
            turn=turn[rows],
            window=window[rows],
            before=places_before(view, whole, rows),
        )


def _readable(
    db: Transaction, viewer: Viewer, view: View, rows: Places
) -> tuple[list[Event], Places]:
    """The events of rows, asked for once more under the member's clause, and their rows."""
    sequences = view.sequences[rows].tolist()
    events = read(db, one_of("e.sequence", sequences) & viewer.sees()) if sequences else []
    return events, view.place[np.array([e.sequence for e in events], dtype=np.int64)]
