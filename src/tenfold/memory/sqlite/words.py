"""Words to look up: what SQLite's own tokenizer and stemmer make of a text, and where they occur.

A query never reaches FTS5's query language as it was typed. Its words are stemmed by an empty index
in memory, and stems are looked up in the index's vocabulary, where they are plain values.
"""

from __future__ import annotations

import sqlite3
import threading
import unicodedata

import numpy as np
from numpy.typing import NDArray

COMMON = 4_000  # occurrences in the tenant from which a word is a common one
MOST_COMMON = 4  # common words that stand in where a query has no others
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

    def close(self) -> None:
        self._db.close()


class Postings:
    """Where words occur in one tenant's index."""

    def __init__(self) -> None:
        self._common: set[str] = set()
        self._epoch = -1

    def of(
        self, db: sqlite3.Connection, epoch: int, stems: dict[str, str]
    ) -> list[tuple[Places, Places]]:
        """For each stem that is worth it: the events with it, and how often each has it.

        Common words (COMMON occurrences or more) are left out where rarer ones occur at all: they
        say little, and reading where they are takes longer than all the rest. Where there are only
        common ones, their newest occurrences stand for them.
        """
        if epoch != self._epoch:  # erasures may have made a word rare
            self._common, self._epoch = set(), epoch
        found: list[tuple[Places, Places]] = []
        common: list[str] = []
        for stem in list(stems)[:MOST_WORDS]:
            places = None if stem in self._common else _occurrences(db, stem)
            if places is None:
                self._common.add(stem)
                common.append(stem)
            elif len(places):
                found.append(_counted(places))
        if found:
            return found
        return [_counted(_newest(db, stems[stem])) for stem in common[:MOST_COMMON]]


def _occurrences(db: sqlite3.Connection, stem: str) -> Places | None:
    """The event of each occurrence; None of a common word."""
    rows = db.execute(
        "SELECT doc FROM occurrences WHERE term = ? LIMIT ?", (stem, COMMON)
    ).fetchall()
    return None if len(rows) == COMMON else np.array([doc for (doc,) in rows], dtype=np.int64)


def _newest(db: sqlite3.Connection, word: str) -> Places:
    """The newest events with a word; in quotes it is no syntax."""
    rows = db.execute(
        "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rowid DESC LIMIT ?",
        ('"' + word.replace('"', '""') + '"', COMMON),
    ).fetchall()
    return np.array([doc for (doc,) in rows], dtype=np.int64)


def _counted(places: Places) -> tuple[Places, Places]:
    documents, times = np.unique(places, return_counts=True)
    return documents, times.astype(np.int64)
