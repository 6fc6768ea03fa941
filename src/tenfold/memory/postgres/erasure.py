"""Erasing: rows in one transaction, then the keys; and looking whether it worked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tenfold.memory.contract import check_erasable, forms_of, holding, nothing_to_erase, receipt_of
from tenfold.memory.events import Kind
from tenfold.memory.postgres import derivations, terms
from tenfold.memory.postgres.cache import origins
from tenfold.memory.postgres.database import Database, Transaction
from tenfold.memory.postgres.log import advance
from tenfold.memory.postgres.schema import OWN
from tenfold.memory.postgres.visibility import Viewer, one_of, selected
from tenfold.memory.sqlite.schema import FOUND
from tenfold.memory.sqlite.words import Stemmer
from tenfold.memory.store import Receipt, Residue, Selection
from tenfold.memory.visibility import microseconds, moment

_REPEATING = [str(Kind.RECALL), str(Kind.FEEDBACK)]
_CHUNK = 1 << 24


def erase(
    db: Transaction, viewer: Viewer, selection: Selection, stems: Stemmer
) -> tuple[Receipt, list[int]]:
    """Erases in the transaction that is open; see `Member.erase`. `scrub` comes after it.

    Also gives the events whose keys are to be destroyed as soon as it is committed.
    """
    check_erasable(selection)
    clause = viewer.may_erase() & selected(selection)
    chosen = _places(db, f"SELECT e.sequence FROM events e WHERE {clause.sql}", clause.values)
    if not chosen:
        raise nothing_to_erase()
    gone = _with_what_repeats(db, chosen)
    # What was others' and goes or is queued again with this is none of a member's business.
    visible = one_of("e.sequence", gone) & viewer.sees()
    told = len(_places(db, f"SELECT e.sequence FROM events e WHERE {visible.sql}", visible.values))
    indexed, removed = _remove(db, viewer, gone, stems)
    touched = one_of("e.sequence", sorted(removed.queued | removed.windows)) & viewer.sees()
    sql = f"SELECT e.sequence FROM events e WHERE {touched.sql}"
    seen = set(_places(db, sql, touched.values))
    rows = indexed + removed.rows + len(removed.windows & seen)
    receipt = receipt_of(selection, told, rows, len(removed.queued & seen))
    db.execute(
        "INSERT INTO receipts(id, erased_at, events, derived, rederived, selection)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (receipt.id, microseconds(receipt.erased_at), receipt.events, receipt.derived,
         receipt.rederived, json.dumps(dict(receipt.selection))),
    )  # fmt: skip
    return receipt, gone


def scrub(database: Database) -> None:
    """Destroys the keys of what is erased, also after a crash between the two."""
    with database.reading() as db:
        if not db.execute("SELECT 1 FROM shreds LIMIT 1").fetchone():
            return
    with database.writing() as db:  # no other erasure may be giving a segment its next key now
        gone = _places(db, "SELECT sequence FROM shreds")
        keys = database.vault.keys
        keys.destroy(gone)
        segments = terms.segments_of(gone)
        rows = db.execute(
            "SELECT number, generation FROM segments WHERE number = ANY(?)", (segments,)
        )
        erasures = db.number("SELECT value FROM counters WHERE name = 'erasures'")
        keys.destroy_index([(n, generation - 1) for n, generation in rows], erasures)
        db.execute("DELETE FROM shreds")


def catch_up(database: Database, stems: Stemmer) -> int:
    """Erases again what a backup brought back: rows whose keys are destroyed. How many it were."""
    keys = database.vault.keys
    done = keys.erasures()
    with database.reading() as db:
        if db.number("SELECT value FROM counters WHERE name = 'erasures'") >= done:
            return 0
    with database.writing() as db:
        last = db.number("SELECT value FROM counters WHERE name = 'sequence'")
        there = set(_places(db, "SELECT sequence FROM events"))
        gone = [place for place in keys.destroyed(last) if place in there]
        _remove(db, Viewer(None), gone, stems)
        derivations.index(db, _places(db, "SELECT number FROM segments"), stems)
        db.execute("UPDATE counters SET value = ? WHERE name = 'erasures'", (done,))
        return len(gone)


def unscrubbed(db: Transaction) -> int:
    """How many of the last erasures have not destroyed their keys yet."""
    done = db.number("SELECT value FROM counters WHERE name = 'erasures'")
    return max(done - db.vault.keys.erasures(), 0)


def receipts(db: Transaction) -> list[Receipt]:
    """All erasures, oldest first."""
    rows = db.execute(
        "SELECT id, erased_at, events, derived, rederived, selection FROM receipts ORDER BY place"
    ).fetchall()
    scrubbed = len(rows) - unscrubbed(db)
    return [
        Receipt(i, moment(at), events, derived, rederived, json.loads(selection), n < scrubbed)
        for n, (i, at, events, derived, rederived, selection) in enumerate(rows)
    ]


def residue(
    db: Transaction, stems: Stemmer, probes: Sequence[str], data: Path | None
) -> list[Residue]:
    """Where probes are: in rows as they lie and opened, in the index, in the server's files.

    The files are those of `data`, where it is given and readable; a backup or a replica elsewhere
    is out of reach.
    """
    forms = [forms_of(probe) for probe in probes]
    places: list[Residue] = []
    for table in OWN:
        rows = db.execute(f"SELECT * FROM {table}").fetchall()
        places += _found(f"table {table}", _cells(rows), forms)
    for what, contents in _opened(db):
        places += _found(f"opened {what}", contents, forms)
    places += _named(db, probes)
    single = {i: found for i, probe in enumerate(probes) if len(found := list(stems(probe))) == 1}
    postings = terms.occurrences(db, [stem for (stem,) in single.values()])
    places += [
        Residue("text index", i)
        for i, (events, _) in zip(single, postings, strict=True)
        if len(events)
    ]
    if data is not None:
        places += _in_files(data, forms)
    return places


def _remove(
    db: Transaction, viewer: Viewer, gone: Sequence[int], stems: Stemmer
) -> tuple[int, derivations.Gone]:
    """Takes events out of every table; how many were in the text index, and what else went."""
    events = list(gone)
    removed = derivations.remove(db, viewer, events, advance(db, "epoch"))
    db.execute("DELETE FROM links WHERE source = ANY(?) OR event = ANY(?)", (events, events))
    indexed = db.number(
        "SELECT count(*) FROM events WHERE sequence = ANY(?) AND kind = ANY(?)",
        (events, [str(kind) for kind in FOUND]),
    )
    db.execute("DELETE FROM events WHERE sequence = ANY(?)", (events,))
    known = set(_places(db, "SELECT number FROM segments"))
    derivations.index(db, [s for s in terms.segments_of(events) if s in known], stems)
    db.execute("INSERT INTO shreds(sequence) SELECT unnest(?::bigint[])", (events,))
    advance(db, "erasures")
    return indexed, removed


def _places(db: Transaction, sql: str, values: Sequence[object] = ()) -> list[int]:
    return [place for (place,) in db.execute(sql, values)]


def _with_what_repeats(db: Transaction, chosen: Sequence[int]) -> list[int]:
    """Also the recalls that repeat them, the feedback given on them, and what repeats those."""
    all_of_them, last = set(chosen), list(chosen)
    while last:
        repeating = _places(
            db,
            "SELECT DISTINCT e.sequence FROM links l JOIN events e ON e.sequence = l.event"
            " WHERE e.kind = ANY(?) AND l.source = ANY(?)",
            (_REPEATING, last),
        )
        last = [place for place in repeating if place not in all_of_them]
        all_of_them.update(last)
    return sorted(all_of_them)


def _found(where: str, contents: Iterable[bytes], forms: list[list[bytes]]) -> list[Residue]:
    return [Residue(where, i) for i in holding(b"\0".join(contents), forms)]


def _cells(rows: Iterable[Iterable[object]]) -> Iterator[bytes]:
    for row in rows:
        for cell in row:
            if isinstance(cell, str):
                yield cell.encode()
            elif isinstance(cell, bytes):
                yield cell


def _opened(db: Transaction) -> Iterator[tuple[str, list[bytes]]]:
    """Everything that the keys still open, by what it is."""
    vault = db.vault
    sealed = {
        "events": [
            vault.open("event", (row[0],), row[1])
            for row in db.execute("SELECT sequence, sealed FROM events")
        ],
        "links": [
            vault.open("link", row[:2], row[2])
            for row in db.execute("SELECT source, event, sealed FROM links")
        ],
        "failures": [
            vault.open("failure", (row[0],), row[1])
            for row in db.execute("SELECT sequence, failure FROM waiting WHERE failure IS NOT NULL")
        ],
        "derived": [
            vault.open("derived", row[1], row[0])
            for row in db.execute(
                "SELECT d.sealed, array_agg(l.event ORDER BY l.event) FROM derived d"
                " JOIN lineage l ON l.derived = d.id GROUP BY d.id, d.sealed"
            )
        ],
        "vectors": [
            vault.open(f"{row[0]} vector", origins(row[1], row[2]), row[3])
            for row in db.execute("SELECT kind, sequence, previous, sealed FROM vectors")
        ],
    }
    for what, contents in sealed.items():
        yield what, [content for content in contents if content is not None]


def _named(db: Transaction, probes: Sequence[str]) -> Iterator[Residue]:
    """Probes whose keyed hash is in a row, as a whole name."""
    hashes = {db.vault.name(probe): i for i, probe in enumerate(probes)}
    for table, column in (
        ("events", "id"), ("events", "author"), ("events", "subject"),
        ("events", "conversation"), ("events", "key"), ("grants", "member"),
    ):  # fmt: skip
        rows = db.execute(
            f"SELECT DISTINCT {column} FROM {table} WHERE {column} = ANY(?)", (list(hashes),)
        )
        yield from (Residue(f"{column} of {table}", hashes[bytes(hashed)]) for (hashed,) in rows)


def _in_files(data: Path, forms: list[list[bytes]]) -> Iterator[Residue]:
    """Probes in the bytes of the server's files: tables, indices, the write-ahead log, its logs."""
    longest = max((len(form) for some in forms for form in some), default=1)
    for path in sorted(data.rglob("*")):
        if not path.is_file():
            continue
        seen: set[int] = set()
        try:
            with path.open("rb") as file:
                rest = b""
                while part := file.read(_CHUNK):
                    seen.update(holding(rest + part, forms))
                    rest = part[-longest:]
        except FileNotFoundError:
            continue  # the server removed it meanwhile
        yield from (Residue(f"file {path.relative_to(data)}", i) for i in sorted(seen))
