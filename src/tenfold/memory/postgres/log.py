"""The log: writing events, sealed, and reading them back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

from tenfold.memory.contract import check_sources, check_teams, made, number_of_words, same_again
from tenfold.memory.events import Event, Kind, NewEvent, Scope, new_id
from tenfold.memory.postgres import terms
from tenfold.memory.postgres.database import Transaction
from tenfold.memory.postgres.statements import insert
from tenfold.memory.postgres.visibility import Clause, Viewer, one_of, selected
from tenfold.memory.sqlite.schema import FOUND
from tenfold.memory.sqlite.words import Stemmer
from tenfold.memory.store import Selection
from tenfold.memory.visibility import Name, microseconds, moment

PAGE = 500  # events that `history` reads at a time
_COLUMNS = "e.sequence, e.kind, e.scope, e.valid_at, e.recorded_at, e.sources, e.sealed"


def read(db: Transaction, clause: Clause, order: str = "e.sequence") -> list[Event]:
    """The events that the clause describes; those whose keys were destroyed meanwhile are not."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM events e WHERE {clause.sql} ORDER BY {order}", clause.values
    ).fetchall()
    sources = sources_of(db, [row[0] for row in rows if row[5]])
    events = (_opened(db, row, sources.get(row[0], ())) for row in rows)
    return [event for event in events if event is not None]


def by_id(db: Transaction, viewer: Viewer, ids: Sequence[str]) -> dict[str, Event]:
    """The readable ones of these events."""
    clause = one_of("e.id", [Name(ulid) for ulid in ids]) & viewer.sees()
    return {e.id: e for e in read(db, clause)}


def sources_of(db: Transaction, sequences: Sequence[int]) -> dict[int, tuple[str, ...]]:
    """What these events repeat or answer, by event; sources that were erased are not among it."""
    if not sequences:
        return {}
    rows = db.execute(
        "SELECT event, source, sealed FROM links WHERE event = ANY(?) ORDER BY event, place",
        (list(sequences),),
    ).fetchall()
    found: dict[int, tuple[str, ...]] = {}
    for event, some in groupby(rows, key=lambda row: int(row[0])):
        opened = (db.vault.open("link", (source, event), sealed) for _, source, sealed in some)
        found[event] = tuple(ulid.decode() for ulid in opened if ulid is not None)
    return found


def append(db: Transaction, author: str, events: Sequence[NewEvent], stems: Stemmer) -> list[Event]:
    """Writes events in the transaction that is open; see `Member.append`."""
    if any(e.scope.team for e in events):
        check_teams(author, events, teams(db, author))
    wanted = sorted({source for e in events for source in e.sources})
    known = by_id(db, Viewer(author), wanted) if wanted else {}
    check_sources(author, wanted, known)
    now = time.time_ns() // 1000
    ids = sorted(new_id(now // 1000) for _ in events)  # in the order of the log within a call
    last = db.number("SELECT value FROM counters WHERE name = 'sequence'")
    written: list[Event] = []
    fresh: list[Event] = []
    for new, fresh_id in zip(events, ids, strict=True):
        first = _under_key(db, author, new, fresh) if new.key else None
        if first is None:
            first = made(new, author, fresh_id, last + len(fresh) + 1, now)
            fresh.append(first)
        written.append(first)
    if fresh:
        _write(db, fresh, known, stems)
    return written


def history(db: Transaction, viewer: Viewer, selection: Selection, limit: int) -> tuple[int, int]:
    """The first and the last sequence number of what `history` will go through."""
    first = 1
    if limit:
        clause = viewer.sees() & selected(selection)
        first = db.number(
            "SELECT min(place) FROM (SELECT e.sequence AS place FROM events e"
            f" WHERE {clause.sql} ORDER BY e.sequence DESC LIMIT {int(limit)}) newest",
            clause.values,
        )
    return first, db.number("SELECT value FROM counters WHERE name = 'sequence'")


def page(
    db: Transaction, viewer: Viewer, selection: Selection, first: int, last: int
) -> list[Event]:
    """Up to PAGE readable events from `first` on."""
    between = Clause("e.sequence BETWEEN ? AND ?", (first, last))
    clause = between & viewer.sees() & selected(selection)
    return read(db, clause, f"e.sequence LIMIT {PAGE}")


def advance(db: Transaction, counter: str, by: int = 1) -> int:
    """Moves one of the tenant's counters on; its new value."""
    return db.number(
        "UPDATE counters SET value = value + ? WHERE name = ? RETURNING value", (by, counter)
    )


def counters(db: Transaction) -> tuple[int, int, int]:
    """Sequence, epoch and stamp: what a cache must compare to know whether it is behind."""
    values = dict(db.execute("SELECT name, value FROM counters").fetchall())
    return int(values["sequence"]), int(values["epoch"]), int(values["stamp"])


def teams(db: Transaction, member: str) -> frozenset[str]:
    """The teams that a member is in."""
    rows = db.execute("SELECT team FROM grants WHERE member = ?", (Name(member),))
    return frozenset(team for (team,) in rows)


def _under_key(db: Transaction, author: str, new: NewEvent, fresh: Sequence[Event]) -> Event | None:
    first = next((e for e in fresh if e.key == new.key), None)
    if first is None:
        known = read(db, Clause("e.author = ? AND e.key = ?", (Name(author), Name(new.key))))
        first = known[0] if known else None
    return None if first is None else same_again(first, new)


def _write(
    db: Transaction, fresh: Sequence[Event], known: dict[str, Event], stems: Stemmer
) -> None:
    vault = db.vault
    # Keys are on the disk before any row that needs them can be.
    vault.keys.make([e.sequence for e in fresh])
    insert(
        db,
        "events",
        {
            "sequence": "bigint", "id": "bytea", "author": "bytea", "subject": "bytea",
            "conversation": "bytea", "key": "bytea", "kind": "text", "scope": "text",
            "valid_at": "bigint", "recorded_at": "bigint", "words": "int", "sources": "int",
            "sealed": "bytea",
        },
        [
            (
                e.sequence, vault.name(e.id), vault.name(e.author), vault.name(e.subject),
                vault.name(e.conversation), vault.name(e.key), str(e.kind), e.scope.name,
                microseconds(e.valid_at), microseconds(e.recorded_at), number_of_words(e.text),
                len(e.sources), vault.seal("event", (e.sequence,), _content(e)),
            )
            for e in fresh
        ],
    )  # fmt: skip
    places = {e.id: e.sequence for e in (*known.values(), *fresh)}
    insert(
        db,
        "links",
        {"event": "bigint", "place": "int", "source": "bigint", "sealed": "bytea"},
        [
            (
                e.sequence, place, places[source],
                vault.seal("link", (places[source], e.sequence), source.encode()),
            )
            for e in fresh
            for place, source in enumerate(e.sources)
        ],
    )  # fmt: skip
    found = [e for e in fresh if e.kind in FOUND]
    terms.add(db, [(e.sequence, e.text) for e in found], stems)
    insert(
        db,
        "waiting",
        {"sequence": "bigint", "epoch": "bigint"},
        [(e.sequence, 0) for e in found],
    )
    advance(db, "sequence", len(fresh))


def _content(e: Event) -> bytes:
    parts = [e.id, e.author, e.role, e.text, e.subject, e.to, e.conversation, e.key]
    return json.dumps([*parts, dict(e.provenance)], ensure_ascii=False).encode()


def _opened(db: Transaction, row: Sequence[Any], sources: Iterable[str]) -> Event | None:
    sequence, kind, scope, valid_at, recorded_at, _, sealed = row
    content = db.vault.open("event", (sequence,), sealed)
    if content is None:
        return None
    ulid, author, role, text, subject, to, conversation, key, provenance = json.loads(content)
    return Event(
        id=ulid,
        author=author,
        role=role,
        text=text,
        subject=subject,
        to=to,
        conversation=conversation,
        sequence=sequence,
        kind=Kind(kind),
        scope=_scope(scope),
        valid_at=moment(valid_at),
        recorded_at=moment(recorded_at),
        key=key,
        sources=tuple(sources),
        provenance=provenance,
    )


@lru_cache(maxsize=1024)
def _scope(name: str) -> Scope:
    return Scope(name)
