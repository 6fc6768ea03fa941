"""Erasing: rows, indices, derivations, recalls, leftover bytes; and looking whether it worked."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from tenfold.memory.contract import check_erasable, forms_of, holding, nothing_to_erase, receipt_of
from tenfold.memory.events import Kind
from tenfold.memory.sqlite.database import Database
from tenfold.memory.sqlite.derivations import remove
from tenfold.memory.sqlite.log import advance
from tenfold.memory.sqlite.pages import index_levels, is_segment_leaf, leftovers, segment_terms
from tenfold.memory.sqlite.schema import NAMED_INDICES
from tenfold.memory.sqlite.visibility import (
    Viewer,
    array,
    microseconds,
    moment,
    one_of,
    selected,
)
from tenfold.memory.sqlite.words import Stemmer
from tenfold.memory.store import Receipt, Residue, Selection

BATCH = 4096  # rows that are looked through at a time
MOST_LEVELS = 48  # of the text index; FTS5 has 64 at most, or 2,000 in older versions


def erase(db: sqlite3.Connection, viewer: Viewer, selection: Selection) -> Receipt:
    """Erases in the transaction that is open; see `Member.erase`. `scrub` comes after it."""
    check_erasable(selection)
    clause = viewer.may_erase() & selected(selection)
    chosen = _sequences(db, f"SELECT e.sequence FROM events e WHERE {clause.sql}", clause.values)
    if not chosen:
        raise nothing_to_erase()
    chosen = _with_what_repeats(db, chosen)
    gone = array(chosen)
    where = "sequence IN (SELECT value FROM json_each(?))"
    indexed = db.execute(
        "INSERT INTO words(words, rowid, text)"
        f" SELECT 'delete', sequence, text FROM findable WHERE {where}",
        (gone,),
    ).rowcount
    # What was others' and goes or is queued again with this is none of a member's business.
    visible = one_of("e.sequence", chosen) & viewer.sees()
    told = len(
        _sequences(db, f"SELECT e.sequence FROM events e WHERE {visible.sql}", visible.values)
    )
    removed = remove(db, viewer, chosen, advance(db, "epoch"))
    _forget_sources(db, gone)
    db.execute(f"DELETE FROM events WHERE {where}", (gone,))
    for index in NAMED_INDICES:
        db.execute(f"REINDEX {index}")
    _rewrite_index(db)
    advance(db, "unscrubbed")
    touched = one_of("e.sequence", sorted(removed.queued | removed.windows)) & viewer.sees()
    sql = f"SELECT e.sequence FROM events e WHERE {touched.sql}"
    seen = set(_sequences(db, sql, touched.values))
    rows = max(indexed, 0) + removed.rows + len(removed.windows & seen)
    receipt = receipt_of(selection, told, rows, len(removed.queued & seen))
    _keep(db, receipt)
    return receipt


def scrub(database: Database, *, wait: bool) -> bool:
    """Gets erased bytes out of the files, also after a crash between the two; whether it could.

    It cannot while somebody reads the state before, which `wait` gives them some time to end. The
    rows are erased then; the bytes go with the next erasure, or when the tenant is opened again.
    """
    with database.outside(wait=wait) as db:
        waiting = unscrubbed(db)
        if not waiting:
            return True
        try:
            if not _truncate(db):
                return False
            if any(True for _ in leftovers(database.files.read(database.path))):
                db.execute("VACUUM")
                if not _truncate(db):
                    return False
            db.execute(
                "UPDATE counters SET value = value - ? WHERE name = 'unscrubbed'", (waiting,)
            )
        except sqlite3.OperationalError as e:
            if e.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            return False
    return True


def unscrubbed(db: sqlite3.Connection) -> int:
    """How many of the last erasures may have left bytes in the files."""
    row = db.execute("SELECT value FROM counters WHERE name = 'unscrubbed'").fetchone()
    return int(row[0])


def receipts(db: sqlite3.Connection) -> list[Receipt]:
    """All erasures, oldest first."""
    rows = db.execute(
        "SELECT id, erased_at, events, derived, rederived, selection FROM receipts ORDER BY rowid"
    ).fetchall()
    scrubbed = len(rows) - unscrubbed(db)
    return [
        Receipt(i, moment(at), events, derived, rederived, json.loads(selection), n < scrubbed)
        for n, (i, at, events, derived, rederived, selection) in enumerate(rows)
    ]


def residue(database: Database, stems: Stemmer, probes: Sequence[str]) -> list[Residue]:
    """Where probes are in the files' bytes, in tables, in index vocabularies and in segments."""
    forms = [forms_of(probe) for probe in probes]
    places: list[Residue] = []
    for suffix in ("", "-wal", "-shm"):
        path = database.path.with_name(database.path.name + suffix)
        data = database.files.read(path)
        places += [Residue(path.name, i) for i in holding(data, forms)]
    with database.reading() as db:
        places += _in_tables(db, forms)
        places += _in_index(db, stems, probes)
    return places


def _sequences(db: sqlite3.Connection, sql: str, values: Iterable[str | int]) -> list[int]:
    return [place for (place,) in db.execute(sql, tuple(values))]


def _with_what_repeats(db: sqlite3.Connection, chosen: list[int]) -> list[int]:
    """Also the recalls that repeat them, the feedback given on them, and what repeats those."""
    all_of_them, last = set(chosen), chosen
    while last:
        clause = one_of("l.source", last)
        last = [
            place
            for place in _sequences(
                db,
                "SELECT e.sequence FROM links l JOIN events e ON e.sequence = l.event"
                f" WHERE e.kind IN ('{Kind.RECALL}', '{Kind.FEEDBACK}') AND {clause.sql}",
                clause.values,
            )
            if place not in all_of_them
        ]
        all_of_them.update(last)
    return sorted(all_of_them)


def _rewrite_index(db: sqlite3.Connection) -> None:
    """Drops what is deleted from the index's segments, where only merging them all does.

    Each merge of all puts its result a level higher. SQLite 3.40 does so until it takes the index
    for damaged (seen at the thousandth erasure), so it is made anew from the log long before.
    """
    (structure,) = db.execute("SELECT block FROM words_data WHERE id = 10").fetchone()
    how = "rebuild" if index_levels(structure) > MOST_LEVELS else "optimize"
    db.execute("INSERT INTO words(words) VALUES (?)", (how,))


def _forget_sources(db: sqlite3.Connection, gone: str) -> None:
    """What answered an erased event stays, and no longer says so."""
    among = "IN (SELECT value FROM json_each(?))"
    ids = {ulid for (ulid,) in db.execute(f"SELECT id FROM events WHERE sequence {among}", (gone,))}
    left = db.execute(
        "SELECT DISTINCT e.sequence, e.sources FROM links l JOIN events e ON e.sequence = l.event"
        f" WHERE l.source {among} AND l.event NOT {among}",
        (gone, gone),
    ).fetchall()
    db.executemany(
        "UPDATE events SET sources = ? WHERE sequence = ?",
        [(" ".join(s for s in sources.split() if s not in ids), place) for place, sources in left],
    )
    db.execute(f"DELETE FROM links WHERE source {among} OR event {among}", (gone, gone))


def _keep(db: sqlite3.Connection, receipt: Receipt) -> None:
    db.execute(
        "INSERT INTO receipts VALUES (?, ?, ?, ?, ?, ?)",
        (
            receipt.id,
            microseconds(receipt.erased_at),
            receipt.events,
            receipt.derived,
            receipt.rederived,
            json.dumps(dict(receipt.selection)),
        ),
    )


def _truncate(db: sqlite3.Connection) -> bool:
    """Empties the log into the file; false where a reader of an older state needs it."""
    busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def _in_tables(db: sqlite3.Connection, forms: Sequence[Sequence[bytes]]) -> list[Residue]:
    """Rows may be split over pages in the file's bytes; here they are whole."""
    names = [
        name
        for (name,) in db.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0"
        )
    ]
    places: list[Residue] = []
    for name in names:
        seen: set[int] = set()
        rows = db.execute(f'SELECT * FROM "{name}"')
        while some := rows.fetchmany(BATCH):
            seen.update(holding(b"\0".join(_cells(some)), forms))
        places += [Residue(f"table {name}", i) for i in sorted(seen)]
    return places


def _cells(rows: Iterable[Iterable[object]]) -> Iterator[bytes]:
    for row in rows:
        for cell in row:
            if isinstance(cell, str):
                yield cell.encode()
            elif isinstance(cell, bytes):
                yield cell


def _in_index(db: sqlite3.Connection, stems: Stemmer, probes: Sequence[str]) -> list[Residue]:
    """A probe of one word: its stem among the index's terms. Of several: the phrase."""
    live = {term for (term,) in db.execute("SELECT term FROM vocabulary")}
    stored = {bytes(term)[1:] for (term,) in db.execute("SELECT term FROM words_idx") if term}
    for number, block in db.execute("SELECT id, block FROM words_data"):
        if is_segment_leaf(number):
            stored.update(term[1:] for term in segment_terms(block))
    places: list[Residue] = []
    for i, probe in enumerate(probes):
        terms = list(stems(probe))
        if len(terms) > 1:
            phrase = '"' + probe.replace('"', '""') + '"'
            if db.execute("SELECT 1 FROM words WHERE words MATCH ? LIMIT 1", (phrase,)).fetchone():
                places.append(Residue("index words", i))
            continue
        if set(terms) & live:
            places.append(Residue("vocabulary of words", i))
        if any(term.encode() in stored for term in terms):
            places.append(Residue("segments of words", i))
    return places
