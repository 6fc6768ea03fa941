"""What was derived from events: the queue, vectors, and everything else with its lineage."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from tenfold.memory.contract import FAILURE, check_space, checked_vectors
from tenfold.memory.events import Event, clean_name
from tenfold.memory.sqlite.log import advance, counters, read
from tenfold.memory.sqlite.schema import FOUND, VECTORS
from tenfold.memory.sqlite.visibility import (
    Clause,
    Viewer,
    array,
    known_by,
    one_of,
    selected,
)
from tenfold.memory.store import ON_DEMAND, Derived, Selection, Vectors

WINDOW = VECTORS["window"]


# For each event that this process derives from: the file's epoch when it was handed out. One that
# an erasure queued again since is not done by what was derived before; its window may be stale.
Handed = dict[str, int]


def waiting(db: sqlite3.Connection, limit: int, handed: Handed) -> list[Event]:
    """See `Tenant.waiting`."""
    queued = Clause(
        "e.sequence IN (SELECT sequence FROM waiting WHERE failure IS NULL"
        " ORDER BY sequence LIMIT ?)",
        (limit,),
    )
    events = read(db, queued)
    _, epoch, _ = counters(db)
    handed.update((e.id, epoch) for e in events)
    return events


def queued(db: sqlite3.Connection, viewer: Viewer, limit: int) -> list[str]:
    """See `Member.waiting`."""
    sees = viewer.sees()
    there = Clause(
        "e.sequence IN (SELECT e.sequence FROM waiting w JOIN events e ON e.sequence = w.sequence"
        f" WHERE w.failure IS NULL AND {sees.sql} ORDER BY e.sequence LIMIT ?)",
        (*sees.values, limit),
    )
    return [event.id for event in read(db, there)]


def previous(db: sqlite3.Connection, ids: Sequence[str]) -> list[Event | None]:
    """See `Tenant.previous`."""
    places: list[int] = []
    for ulid in ids:
        row = db.execute(
            "SELECT max(e.sequence) FROM events o JOIN events e ON e.conversation = o.conversation"
            " AND e.conversation <> '' AND e.sequence < o.sequence AND e.scope = o.scope"
            " AND (e.scope <> 'private' OR e.author = o.author)"
            f" AND {one_of('e.kind', _found()).sql} WHERE o.id = ?",
            (array(_found()), ulid),
        ).fetchone()
        places.append(row[0] or 0)
    events = {e.sequence: e for e in read(db, one_of("e.sequence", places))}
    return [events.get(place) for place in places]


def put(
    db: sqlite3.Connection, derived: Iterable[Derived], done: Sequence[str], handed: Handed
) -> None:
    """See `Tenant.put`."""
    lost: set[int] = set()
    for one in derived:
        places = _sequences(db, one.events)
        if not places or len(places) < len(set(one.events)):
            # An event of it was erased meanwhile: it is made anew from what is left.
            lost.update(places if one.kind not in ON_DEMAND else ())
            continue
        value = json.dumps(dict(one.value), ensure_ascii=False, sort_keys=True)
        if not _is_there(db, one, value, places):
            row = db.execute(
                "INSERT INTO derived(kind, deriver, value) VALUES (?, ?, ?)",
                (clean_name(one.kind, "kind"), clean_name(one.deriver, "deriver"), value),
            )
            db.executemany(
                "INSERT INTO lineage VALUES (?, ?)", [(place, row.lastrowid) for place in places]
            )
    again = _queued_again(db, done, handed)
    ready = [ulid for ulid in done if ulid not in again]
    db.executemany(
        "DELETE FROM waiting WHERE sequence = ?", [(place,) for place in _sequences(db, ready)]
    )
    if lost:
        _queue(db, lost, counters(db)[1])
    for ulid in done:
        handed.pop(ulid, None)


def fail(db: sqlite3.Connection, ids: Sequence[str], reason: str) -> None:
    """See `Tenant.fail`."""
    db.executemany(
        "INSERT OR REPLACE INTO waiting VALUES (?, 0, ?)",
        [(place, reason[:FAILURE] or "unknown") for place in _sequences(db, ids)],
    )


def failures(db: sqlite3.Connection) -> list[tuple[str, str]]:
    """See `Tenant.failures`."""
    return db.execute(
        "SELECT e.id, w.failure FROM waiting w JOIN events e USING (sequence)"
        " WHERE w.failure IS NOT NULL ORDER BY sequence"
    ).fetchall()


def put_vectors(
    db: sqlite3.Connection,
    deriver: str,
    kind: str,
    ids: Sequence[str],
    vectors: Vectors,
    handed: Handed,
) -> None:
    """See `Tenant.put_vectors`."""
    vectors = checked_vectors(kind, ids, vectors)
    if not len(vectors):
        return
    _claim_space(db, deriver, kind, vectors.shape[1])
    known = dict(
        db.execute(
            f"SELECT e.id, e.sequence FROM events e WHERE {one_of('e.id', ids).sql}", (array(ids),)
        )
    )
    if kind == "window":
        for ulid in _queued_again(db, ids, handed):
            known.pop(ulid, None)
    stamp = advance(db, "stamp")
    db.executemany(
        "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)",
        [
            (2 * known[ulid] + VECTORS[kind], stamp, vector.tobytes())
            for ulid, vector in zip(ids, vectors, strict=True)
            if ulid in known
        ],
    )


def derived(
    db: sqlite3.Connection, viewer: Viewer, kind: str, selection: Selection
) -> Iterator[Derived]:
    """What came from readable events only, one of them at least selected.

    Going back in time holds for all its events: a summary of today was not there yesterday.
    """
    meant = selected(selection)
    readable = viewer.sees() & known_by(selection)
    # From the selected events on, which are few where search asks for what stands for its hits.
    origins = "" if selection.is_everything() else (
        " AND d.id IN (SELECT l.derived FROM events e JOIN lineage l ON l.event = e.sequence"
        f" WHERE {meant.sql})"
    )  # fmt: skip
    rows = db.execute(
        f"SELECT d.id, d.kind, d.deriver, d.value FROM derived d WHERE d.kind = ?{origins}"
        f" AND NOT EXISTS (SELECT 1 FROM lineage l LEFT JOIN events e ON e.sequence = l.event"
        f"  AND {readable.sql} WHERE l.derived = d.id AND e.sequence IS NULL)"
        " ORDER BY d.id",
        (kind, *(meant.values if origins else ()), *readable.values),
    ).fetchall()
    for number, name, deriver, value in rows:
        ids = db.execute(
            "SELECT e.id FROM lineage l JOIN events e ON e.sequence = l.event"
            " WHERE l.derived = ? ORDER BY e.sequence",
            (number,),
        ).fetchall()
        yield Derived(name, deriver, tuple(ulid for (ulid,) in ids), json.loads(value))


class Gone(NamedTuple):
    """How many rows went, which events were queued again, and which lost the vector of a window.

    The rows are those that the viewer could read. Some of the events may be others' than the one's
    who erases: a receipt does not count them.
    """

    rows: int
    queued: frozenset[int]
    windows: frozenset[int]


def remove(db: sqlite3.Connection, viewer: Viewer, events: Sequence[int], epoch: int) -> Gone:
    """Drops all that came from these events and queues again the others it came from.

    Also drops the window vectors of what was said next in the conversation, to any audience.
    """
    gone = array(events)
    asked_for = one_of("d.kind", sorted(ON_DEMAND))
    parts = [
        number
        for (number,) in db.execute(
            "SELECT DISTINCT derived FROM lineage WHERE event IN (SELECT value FROM json_each(?))",
            (gone,),
        )
    ]
    sees = viewer.sees()
    hidden = db.execute(
        "SELECT count(DISTINCT l.derived) FROM lineage l JOIN events e ON e.sequence = l.event"
        f" WHERE {one_of('l.derived', parts).sql} AND NOT {sees.sql}",
        (array(parts), *sees.values),
    ).fetchone()[0]
    again = {
        event
        for (event,) in db.execute(
            "SELECT l.event FROM lineage l JOIN derived d ON d.id = l.derived"
            f" WHERE {one_of('d.id', parts).sql} AND NOT {asked_for.sql}",
            (array(parts), *asked_for.values),
        )
    }
    following = {
        place
        for (place,) in db.execute(
            "SELECT min(n.sequence) FROM events e JOIN events n ON n.conversation = e.conversation"
            " AND n.conversation <> '' AND n.sequence > e.sequence"
            f" WHERE {one_of('e.sequence', events).sql} AND {one_of('n.kind', _found()).sql}"
            " AND n.sequence NOT IN (SELECT value FROM json_each(?))"
            " AND (EXISTS (SELECT 1 FROM waiting w WHERE w.sequence = n.sequence)"
            f" OR EXISTS (SELECT 1 FROM vectors v WHERE v.id = 2 * n.sequence + {WINDOW}))"
            " GROUP BY e.sequence, n.scope, n.author",
            (gone, array(_found()), gone),
        )
    }
    vectors = [2 * place + parity for place in events for parity in VECTORS.values()]
    rows = len(parts) - hidden + _delete(db, "vectors", "id", vectors)
    lost = one_of("id", [2 * place + WINDOW for place in following])
    windows = db.execute(
        f"DELETE FROM vectors WHERE {lost.sql} RETURNING id / 2", lost.values
    ).fetchall()
    _delete(db, "derived", "id", parts)
    _delete(db, "lineage", "derived", parts)
    _delete(db, "waiting", "sequence", events)
    again = (again | following) - set(events)
    queued = _queue(db, again, epoch)
    return Gone(rows, frozenset(queued), frozenset(place for (place,) in windows))


def rebuild(db: sqlite3.Connection, keep: Collection[str]) -> None:
    """See `Tenant.rebuild`."""
    for table in ("vectors", "spaces", "waiting"):
        db.execute(f"DELETE FROM {table}")
    kept = one_of("kind", sorted(keep))
    db.execute(f"DELETE FROM derived WHERE NOT {kept.sql}", kept.values)
    db.execute("DELETE FROM lineage WHERE derived NOT IN (SELECT id FROM derived)")
    db.execute("INSERT INTO words(words) VALUES ('rebuild')")
    db.execute(
        "INSERT INTO waiting SELECT sequence, ?, NULL FROM findable", (advance(db, "epoch"),)
    )


def embedder(db: sqlite3.Connection) -> str:
    """See `Tenant.embedder`."""
    rows = db.execute("SELECT deriver FROM spaces WHERE kind = 'turn'")
    return "".join(name for (name,) in rows)


def derivers(db: sqlite3.Connection) -> dict[str, str]:
    """Name and version of what derived something that is there."""
    names = db.execute("SELECT deriver FROM derived UNION SELECT deriver FROM spaces").fetchall()
    return dict(sorted(tuple(name.partition("/")[::2]) for (name,) in names))


def _queue(db: sqlite3.Connection, places: Collection[int], epoch: int) -> list[int]:
    """Lets those of the events wait that anything is derived from; which ones."""
    found = one_of("e.sequence", sorted(places)) & one_of("e.kind", _found())
    rows = db.execute(f"SELECT e.sequence FROM events e WHERE {found.sql}", found.values).fetchall()
    db.executemany(
        "INSERT OR REPLACE INTO waiting VALUES (?, ?, NULL)", [(p, epoch) for (p,) in rows]
    )
    return [place for (place,) in rows]


def _queued_again(db: sqlite3.Connection, ids: Sequence[str], handed: Handed) -> set[str]:
    """Those that an erasure queued again after they were handed out."""
    rows = db.execute(
        "SELECT e.id, w.epoch FROM waiting w JOIN events e USING (sequence)"
        f" WHERE {one_of('e.id', ids).sql}",
        (array(ids),),
    )
    return {ulid for ulid, epoch in rows if epoch > handed.get(ulid, epoch)}


def _found() -> list[str]:
    return [str(kind) for kind in FOUND]


def _sequences(db: sqlite3.Connection, ids: Sequence[str]) -> list[int]:
    rows = db.execute(
        f"SELECT e.sequence FROM events e WHERE {one_of('e.id', ids).sql} ORDER BY e.sequence",
        (array(ids),),
    )
    return [place for (place,) in rows]


def _is_there(db: sqlite3.Connection, one: Derived, value: str, places: Sequence[int]) -> bool:
    same = db.execute(
        "SELECT d.id FROM lineage l JOIN derived d ON d.id = l.derived"
        " WHERE l.event = ? AND d.kind = ? AND d.deriver = ? AND d.value = ?",
        (places[0], one.kind, one.deriver, value),
    ).fetchall()
    return any(
        [
            e
            for (e,) in db.execute(
                "SELECT event FROM lineage WHERE derived = ? ORDER BY event", number
            )
        ]
        == list(places)
        for number in same
    )


def _delete(db: sqlite3.Connection, table: str, column: str, values: Sequence[int]) -> int:
    where = f"{column} IN (SELECT value FROM json_each(?))"
    return db.execute(f"DELETE FROM {table} WHERE {where}", (array(values),)).rowcount


def _claim_space(db: sqlite3.Connection, deriver: str, kind: str, width: int) -> None:
    """Vectors of one kind come from one deriver, or cosines between them mean nothing."""
    clean_name(deriver, "deriver")
    db.execute("INSERT OR IGNORE INTO spaces VALUES (?, ?, ?)", (kind, deriver, width))
    there = db.execute("SELECT deriver, width FROM spaces WHERE kind = ?", (kind,)).fetchone()
    check_space(kind, there, deriver, width)
