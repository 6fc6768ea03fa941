"""Words to look up: what SQLite's own tokenizer and stemmer make of a text, and where they occur.

A query never reaches FTS5's query language as it was typed. Its words are stemmed by an empty index
in memory, and stems are looked up in the index's vocabulary, where they are plain values.
"""

from __future__ import annotations

import sqlite3
import threading
import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MOST_WORDS = 64  # of a query; a page of text pasted as a query is cut there
_LONGEST = 16_384  # characters of a query that are read at all

Places = NDArray[np.int64]


class Stemmer:
    """The tokenizer of the index (`porter unicode61`), on its own; usable from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._db.execute("CREATE VIRTUAL TABLE t USING fts5(x, tokenize='porter unicode61')")
        self._db.execute("CREATE VIRTUAL TABLE v USING fts5vocab(t, instance)")

    def __call__(self, text: str) -> dict[str, str]:
        """The stems of a text's words as the index has them, each with a word it came from."""
        text = unicodedata.normalize("NFC", text[:_LONGEST]).replace("\0", " ")
        parts = text.encode(errors="replace").decode().split()
        with self._lock:
            self._db.execute("BEGIN")
            try:
                self._db.executemany("INSERT INTO t(rowid, x) VALUES (?, ?)", enumerate(parts))
                rows = self._db.execute('SELECT term, doc FROM v ORDER BY doc, "offset"').fetchall()
            finally:
                self._db.execute("ROLLBACK")
        stems: dict[str, str] = {}
        for term, place in rows:
            stems.setdefault(term, parts[place])
        return stems

    def counts(self, texts: Sequence[str]) -> list[dict[str, int]]:
        """How often each text has each of its stems, for an index that is not FTS5's."""
        found: list[dict[str, int]] = [{} for _ in texts]
        with self._lock:
            self._db.execute("BEGIN")
            try:
                self._db.executemany("INSERT INTO t(rowid, x) VALUES (?, ?)", enumerate(texts))
                for doc, term, times in self._db.execute(
                    "SELECT doc, term, count(*) FROM v GROUP BY doc, term"
                ):
                    found[doc][term] = times
            finally:
                self._db.execute("ROLLBACK")
        return found

    def close(self) -> None:
        self._db.close()


def occurrences(db: sqlite3.Connection, stem: str) -> tuple[Places, Places]:
    """The events with a stem, and how often each has it, in the whole tenant."""
    (found,) = db.execute(
        "SELECT group_concat(doc) FROM occurrences WHERE term = ?", (stem,)
    ).fetchone()
    places = np.fromstring(found or "", dtype=np.int64, sep=",")
    documents, times = np.unique(places, return_counts=True)
    return documents, times.astype(np.int64)
