"""Finding, as in `tenfold.memory.sqlite.lookup`, over what the database keeps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tenfold.memory.events import Event
from tenfold.memory.postgres.cache import Cache
from tenfold.memory.postgres.database import Database, Transaction
from tenfold.memory.postgres.log import counters, read
from tenfold.memory.postgres.terms import occurrences
from tenfold.memory.postgres.visibility import Viewer, one_of
from tenfold.memory.rows import (
    Rows,
    around,
    best,
    bm25,
    cosines,
    each_once,
    places_before,
    rows_with,
    unit,
)
from tenfold.memory.sqlite.words import MOST_WORDS, Stemmer
from tenfold.memory.store import Found, Selection, Vectors
from tenfold.memory.traits import Said, said
from tenfold.memory.visibility import microseconds


class Lookup:
    """Finds events of one tenant."""

    def __init__(self, database: Database, stems: Stemmer) -> None:
        self.cache = Cache()
        self._database = database
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
        rows = each_once([hits, around(view, whole, hits), *near], len(view.sequences))
        rows = rows[np.lexsort((rows, -turn[rows], -lexical[rows]))]
        sequences = view.sequences[rows].tolist()

        def read_at(wanted: Sequence[int]) -> dict[int, Event]:
            """Found events, asked for once more under the member's clause, and opened."""
            with self._database.reading() as later:
                events = read(later, one_of("e.sequence", wanted) & viewer.sees())
            return {e.sequence: e for e in events}

        def stands() -> bool:
            with self._database.reading() as later:
                return counters(later)[1] == whole.epoch

        return Found(
            events=Rows(sequences, read_at, lambda event: event, _said, whole.said, stands),
            lexical=lexical[rows],
            turn=turn[rows],
            window=window[rows],
            before=places_before(view, whole, rows),
        )


def _said(event: Event) -> Said:
    return said(event.author, event.text, microseconds(event.valid_at))
