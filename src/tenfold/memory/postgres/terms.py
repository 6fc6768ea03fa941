"""The text index: which events have a word, with words as hashes that the server cannot read.

Words are those of SQLite's tokenizer (`porter unicode61`), so that both stores find the same. Each
segment of the log hashes them under a key of its own; after an erasure what is left of the segment
is indexed anew under a new key, and the old one is destroyed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from tenfold.memory.postgres.database import Transaction
from tenfold.memory.postgres.schema import SEGMENT
from tenfold.memory.postgres.sealing import mark, term
from tenfold.memory.postgres.statements import insert
from tenfold.memory.sqlite.words import Stemmer

Places = NDArray[np.int64]
_POSTING = np.dtype([("sequence", ">i8"), ("times", ">i4")])
_SEEN = "tenfold index key"  # what is hashed to know a key again


class KeysMoved(Exception):
    """A segment's key is not the one that the transaction sees: an erasure replaced it since."""


def add(db: Transaction, texts: Sequence[tuple[int, str]], stems: Stemmer) -> None:
    """Puts texts, by the sequence of their event, into the index."""
    known = _keys(db)
    keys: dict[int, bytes] = {}
    for segment in {sequence // SEGMENT for sequence, _ in texts}:
        keys[segment] = known.get(segment) or _new_key(db, segment, 0)
    counts = stems.counts([text for _, text in texts])
    insert(
        db,
        "terms",
        {"term": "bigint", "sequence": "bigint", "times": "int"},
        [
            (term(keys[sequence // SEGMENT], stem), sequence, times)
            for (sequence, _), found in zip(texts, counts, strict=True)
            for stem, times in found.items()
        ],
    )


def occurrences(db: Transaction, stems: Sequence[str]) -> list[tuple[Places, Places]]:
    """For each stem the events that have it, and how often each does, in the whole tenant.

    Raises KeysMoved when the caller's transaction is too old for the keys.
    """
    keys = list(_keys(db).values())
    found = [np.empty(0, dtype=_POSTING)] * len(stems)
    if keys and stems:
        rows = db.execute(
            "SELECT asked.stem, string_agg(int8send(t.sequence) || int4send(t.times), '')"
            " FROM unnest(?::bigint[], ?::int[]) asked(term, stem)"
            " JOIN terms t ON t.term = asked.term GROUP BY asked.stem",
            (
                [term(key, stem) for stem in stems for key in keys],
                [place for place in range(len(stems)) for _ in keys],
            ),
        )
        for place, postings in rows:
            found[place] = np.sort(np.frombuffer(postings, dtype=_POSTING), order="sequence")
    return [(f["sequence"].astype(np.int64), f["times"].astype(np.int64)) for f in found]


def segments_of(sequences: Collection[int]) -> list[int]:
    """The segments in which these events are."""
    return sorted({sequence // SEGMENT for sequence in sequences})


def replace(
    db: Transaction, segment: int, texts: Sequence[tuple[int, str]], stems: Stemmer
) -> None:
    """Indexes a segment anew, under a new key, with the texts that are left of it."""
    generation = db.number("SELECT generation FROM segments WHERE number = ?", (segment,))
    db.execute(
        "DELETE FROM terms WHERE sequence BETWEEN ? AND ?",
        (segment * SEGMENT, (segment + 1) * SEGMENT - 1),
    )
    _new_key(db, segment, generation + 1)
    add(db, texts, stems)


def _keys(db: Transaction) -> dict[int, bytes]:
    """The key of each segment; raises KeysMoved."""
    keys: dict[int, bytes] = {}
    for number, generation, seen in db.execute(
        "SELECT number, generation, mark FROM segments ORDER BY number"
    ):
        keys[number] = db.vault.keys.of_index(number, generation)
        if mark(keys[number], _SEEN) != seen:
            raise KeysMoved
    return keys


def _new_key(db: Transaction, segment: int, generation: int) -> bytes:
    key = db.vault.keys.make_index(segment, generation)
    db.execute(
        "INSERT INTO segments(number, generation, mark) VALUES (?, ?, ?) ON CONFLICT"
        " (tenant, number) DO UPDATE SET generation = excluded.generation, mark = excluded.mark",
        (segment, generation, mark(key, _SEEN)),
    )
    return key
