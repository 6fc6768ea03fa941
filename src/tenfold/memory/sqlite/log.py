"""The log itself: writing events and reading them back."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from tenfold.memory.contract import check_sources, check_teams, made, number_of_words, same_again
from tenfold.memory.events import Event, Kind, NewEvent, Scope, new_id
from tenfold.memory.sqlite.schema import FOUND
from tenfold.memory.sqlite.visibility import (
    Clause,
    Viewer,
    microseconds,
    moment,
    one_of,
    selected,
)
from tenfold.memory.store import Selection
from tenfold.memory.traits import Said, said

COLUMNS = (
    "e.id, e.author, e.role, e.text, e.subject, e.recipient, e.conversation, e.sequence, e.kind,"
    " e.scope, e.valid_at, e.recorded_at, e.key, e.sources, e.provenance"
)
PAGE = 500  # events that `history` reads at a time

_INSERT = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


Row = tuple[str, str, str, str, str, str, str, int, str, str, int, int, str, str, str]  # COLUMNS
SEQUENCE: Final = 7  # its place in a row
_KINDS = {str(kind): kind for kind in Kind}


def event_of(row: Row) -> Event:
    """The event in a row of COLUMNS."""
    (
        ulid, author, role, text, subject, to, conversation, sequence,
        kind, scope, valid_at, recorded_at, key, sources, provenance,
    ) = row  # fmt: skip
    return Event(
        id=ulid,
        author=author,
        role=role,
        text=text,
        subject=subject,
        to=to,
        conversation=conversation,
        sequence=sequence,
        kind=_KINDS[kind],
        scope=_scope(scope),
        valid_at=moment(valid_at),
        recorded_at=moment(recorded_at),
        key=key,
        sources=tuple(sources.split()),
        provenance={} if provenance == "{}" else json.loads(provenance),
    )


def said_of(row: Row) -> Said:
    """What ranking weighs of a row of COLUMNS."""
    return said(row[1], row[3], row[10])


def read(db: sqlite3.Connection, clause: Clause, order: str = "e.sequence") -> list[Event]:
    """The events that the clause describes."""
    return [event_of(row) for row in read_rows(db, clause, order)]


def read_rows(db: sqlite3.Connection, clause: Clause, order: str = "e.sequence") -> list[Row]:
    """The same as rows of COLUMNS: to make events of thousands takes longer than to read them."""
    return db.execute(
        f"SELECT {COLUMNS} FROM events e WHERE {clause.sql} ORDER BY {order}", clause.values
    ).fetchall()


def by_id(db: sqlite3.Connection, viewer: Viewer, ids: Sequence[str]) -> dict[str, Event]:
    """The readable ones of these events."""
    return {e.id: e for e in read(db, one_of("e.id", ids) & viewer.sees())}


def append(db: sqlite3.Connection, author: str, events: Sequence[NewEvent]) -> list[Event]:
    """Writes events in the transaction that is open; see `Member.append`."""
    if any(e.scope.team for e in events):
        check_teams(author, events, teams(db, author))
    if wanted := sorted({source for e in events for source in e.sources}):
        check_sources(author, wanted, by_id(db, Viewer(author), wanted))
    now = time.time_ns() // 1000
    ids = sorted(new_id(now // 1000) for _ in events)  # in the order of the log within a call
    last = _count(db, "sequence")
    written: list[Event] = []
    fresh: list[Event] = []
    for new, fresh_id in zip(events, ids, strict=True):
        first = _under_key(db, author, new, fresh) if new.key else None
        if first is None:
            first = made(new, author, fresh_id, last + len(fresh) + 1, now)
            fresh.append(first)
        written.append(first)
    db.executemany(_INSERT, [_row(e) for e in fresh])
    db.executemany(
        "INSERT OR IGNORE INTO links SELECT sequence, ? FROM events WHERE id = ?",
        [(e.sequence, source) for e in fresh for source in e.sources],
    )
    found = [e for e in fresh if e.kind in FOUND]
    db.executemany(
        "INSERT INTO words(rowid, text) VALUES (?, ?)", [(e.sequence, e.text) for e in found]
    )
    db.executemany("INSERT INTO waiting VALUES (?, 0, NULL)", [(e.sequence,) for e in found])
    advance(db, "sequence", len(fresh))
    return written


def history(
    db: sqlite3.Connection, viewer: Viewer, selection: Selection, limit: int
) -> tuple[int, int]:
    """The first and the last sequence number of what `history` will go through."""
    clause = viewer.sees() & selected(selection)
    newest = f"SELECT e.sequence AS place FROM events e WHERE {clause.sql} ORDER BY e.sequence DESC"
    if limit:
        newest += f" LIMIT {int(limit)}"
        (first,) = db.execute(f"SELECT min(place) FROM ({newest})", clause.values).fetchone()
    else:
        first = 1
    return first or 0, _count(db, "sequence")


def page(
    db: sqlite3.Connection, viewer: Viewer, selection: Selection, first: int, last: int
) -> list[Event]:
    """Up to PAGE readable events from `first` on."""
    clause = (
        Clause("e.sequence BETWEEN ? AND ?", (first, last)) & viewer.sees() & selected(selection)
    )
    return read(db, clause, f"e.sequence LIMIT {PAGE}")


def advance(db: sqlite3.Connection, counter: str, by: int = 1) -> int:
    """Moves one of the file's counters on; its new value."""
    db.execute("UPDATE counters SET value = value + ? WHERE name = ?", (by, counter))
    return _count(db, counter)


def counters(db: sqlite3.Connection) -> tuple[int, int, int]:
    """Sequence, epoch and stamp.

    The last event's number, how often something was taken away or rights changed, and how often
    vectors were written: what a cache must compare to know whether it is behind.
    """
    values = dict(db.execute("SELECT name, value FROM counters"))
    return values["sequence"], values["epoch"], values["stamp"]


def _count(db: sqlite3.Connection, counter: str) -> int:
    row = db.execute("SELECT value FROM counters WHERE name = ?", (counter,)).fetchone()
    return int(row[0])


def _row(e: Event) -> tuple[str | int, ...]:
    provenance = json.dumps(dict(e.provenance), ensure_ascii=False) if e.provenance else "{}"
    return (
        e.sequence, e.id, e.author, e.role, e.text, e.subject, e.to, e.conversation, str(e.kind),
        e.scope.name, microseconds(e.valid_at), microseconds(e.recorded_at), e.key,
        " ".join(e.sources), provenance, number_of_words(e.text),
    )  # fmt: skip


def teams(db: sqlite3.Connection, member: str) -> frozenset[str]:
    """The teams that a member is in."""
    rows = db.execute("SELECT team FROM grants WHERE member = ?", (member,))
    return frozenset(team for (team,) in rows)


def _under_key(
    db: sqlite3.Connection, author: str, new: NewEvent, fresh: Sequence[Event]
) -> Event | None:
    first = next((e for e in fresh if e.key == new.key), None)
    if first is None:
        known = read(db, Clause("e.author = ? AND e.key = ? AND e.key <> ''", (author, new.key)))
        first = known[0] if known else None
    return None if first is None else same_again(first, new)


@lru_cache(maxsize=1024)
def _scope(name: str) -> Scope:
    return Scope(name)
