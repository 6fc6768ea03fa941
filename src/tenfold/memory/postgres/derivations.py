"""What was derived from events: the queue, vectors, and everything else with its lineage.

As in `tenfold.memory.sqlite.derivations`; what is derived is sealed under the keys of all the
events it came from.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from tenfold.memory.contract import FAILURE, check_space, checked_vectors
from tenfold.memory.events import Event, clean_name
from tenfold.memory.postgres import terms
from tenfold.memory.postgres.cache import origins
from tenfold.memory.postgres.database import Transaction
from tenfold.memory.postgres.log import advance, counters, read
from tenfold.memory.postgres.schema import SEGMENT
from tenfold.memory.postgres.sealing import mark
from tenfold.memory.postgres.statements import insert
from tenfold.memory.postgres.visibility import Clause, Viewer, known_by, one_of, selected
from tenfold.memory.sqlite.schema import FOUND
from tenfold.memory.sqlite.words import Stemmer
from tenfold.memory.store import ON_DEMAND, Derived, Selection, Vectors

Handed = dict[str, int]  # see the module of the same name in SQLite's store
_FOUND = one_of("e.kind", [str(kind) for kind in FOUND])


def waiting(db: Transaction, limit: int, handed: Handed) -> list[Event]:
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


def queued(db: Transaction, viewer: Viewer, limit: int) -> list[str]:
    """See `Member.waiting`."""
    sees = viewer.sees()
    there = Clause(
        "e.sequence IN (SELECT e.sequence FROM waiting w JOIN events e ON e.sequence = w.sequence"
        f" WHERE w.failure IS NULL AND {sees.sql} ORDER BY e.sequence LIMIT ?)",
        (*sees.values, limit),
    )
    return [event.id for event in read(db, there)]


def previous(db: Transaction, ids: Sequence[str]) -> list[Event | None]:
    """See `Tenant.previous`."""
    places = _previous(db, ids)
    events = {e.sequence: e for e in read(db, one_of("e.sequence", sorted(places.values())))}
    return [events.get(places.get(ulid, 0)) for ulid in ids]


def put(db: Transaction, derived: Iterable[Derived], done: Sequence[str], handed: Handed) -> None:
    """See `Tenant.put`."""
    lost: set[int] = set()
    for one in derived:
        places = sequences_of(db, one.events)
        key = db.vault.joint(places) if places else None
        if key is None or len(places) < len(set(one.events)):
            # An event of it was erased meanwhile: it is made anew from what is left.
            lost.update(places if one.kind not in ON_DEMAND else ())
            continue
        kind, deriver = clean_name(one.kind, "kind"), clean_name(one.deriver, "deriver")
        value = json.dumps(dict(one.value), ensure_ascii=False, sort_keys=True)
        same = mark(key, kind, deriver, value)  # the key says which events, the rest what of them
        if db.execute("SELECT 1 FROM derived WHERE mark = ?", (same,)).fetchone():
            continue
        number = advance(db, "derived")
        db.execute(
            "INSERT INTO derived(id, kind, deriver, mark, sealed) VALUES (?, ?, ?, ?, ?)",
            (number, kind, deriver, same, db.vault.seal("derived", places, value.encode())),
        )
        db.execute(
            "INSERT INTO lineage(event, derived) SELECT unnest(?::bigint[]), ?::bigint",
            (places, number),
        )
    again = _queued_again(db, done, handed)
    ready = sequences_of(db, [ulid for ulid in done if ulid not in again])
    _delete(db, "waiting", "sequence", ready)
    if lost:
        _queue(db, lost, counters(db)[1])
    for ulid in done:
        handed.pop(ulid, None)


def fail(db: Transaction, ids: Sequence[str], reason: str) -> None:
    """See `Tenant.fail`."""
    said = (reason[:FAILURE] or "unknown").encode(errors="replace")
    for place in sequences_of(db, ids):
        db.execute(
            "INSERT INTO waiting(sequence, epoch, failure) VALUES (?, 0, ?)"
            " ON CONFLICT (tenant, sequence) DO UPDATE SET epoch = 0, failure = excluded.failure",
            (place, db.vault.seal("failure", (place,), said)),
        )


def failures(db: Transaction) -> list[tuple[str, str]]:
    """See `Tenant.failures`."""
    reasons = dict(
        db.execute("SELECT sequence, failure FROM waiting WHERE failure IS NOT NULL").fetchall()
    )
    found = []
    for event in read(db, one_of("e.sequence", sorted(reasons))):
        reason = db.vault.open("failure", (event.sequence,), reasons[event.sequence])
        if reason is not None:
            found.append((event.id, reason.decode()))
    return found


def put_vectors(
    db: Transaction,
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
    known = _places(db, ids)
    before: dict[str, int] = {}
    if kind == "window":
        before = _previous(db, ids)
        for ulid in _queued_again(db, ids, handed):
            known.pop(ulid, None)
    stamp = advance(db, "stamp")
    rows = {}  # by sequence: an event named twice has its last vector
    for ulid, vector in zip(ids, vectors, strict=True):
        if ulid in known:
            origin = before.get(ulid, 0)
            sealed = db.vault.seal(f"{kind} vector", origins(known[ulid], origin), vector.tobytes())
            rows[known[ulid]] = (kind, known[ulid], origin, stamp, sealed)
    db.execute("DELETE FROM vectors WHERE kind = ? AND sequence = ANY(?)", (kind, sorted(rows)))
    columns = {"kind": "text", "sequence": "bigint", "previous": "bigint", "stamp": "bigint",
               "sealed": "bytea"}  # fmt: skip
    insert(db, "vectors", columns, list(rows.values()))


def derived(db: Transaction, viewer: Viewer, kind: str, selection: Selection) -> Iterator[Derived]:
    """What came from readable events only, one of them at least selected.

    Going back in time holds for all its events: a summary of today was not there yesterday.
    """
    meant = selected(selection)
    readable = viewer.sees() & known_by(selection)
    # From the selected events on, which are few where search asks for what stands for its hits.
    among = Clause("TRUE") if selection.is_everything() else Clause(
        "d.id IN (SELECT l.derived FROM events e JOIN lineage l ON l.event = e.sequence"
        f" WHERE {meant.sql})",
        meant.values,
    )  # fmt: skip
    rows = db.execute(
        "SELECT d.kind, d.deriver, d.sealed, (SELECT array_agg(o.event ORDER BY o.event)"
        f"  FROM lineage o WHERE o.derived = d.id) FROM derived d WHERE d.kind = ? AND {among.sql}"
        " AND NOT EXISTS (SELECT 1 FROM lineage l LEFT JOIN events e ON e.sequence = l.event"
        f"  AND {readable.sql} WHERE l.derived = d.id AND e.sequence IS NULL)"
        " ORDER BY d.id",
        (kind, *among.values, *readable.values),
    ).fetchall()
    origin = sorted({place for row in rows for place in row[3]})
    ids = {e.sequence: e.id for e in read(db, one_of("e.sequence", origin))} if rows else {}
    for name, deriver, sealed, places in rows:
        value = db.vault.open("derived", places, sealed)
        if value is not None:
            yield Derived(name, deriver, tuple(ids[place] for place in places), json.loads(value))


class Gone(NamedTuple):
    """How many rows went that the viewer could read, which events were queued again, and which
    lost the vector of a window.
    """

    rows: int
    queued: frozenset[int]
    windows: frozenset[int]


def remove(db: Transaction, viewer: Viewer, events: Sequence[int], epoch: int) -> Gone:
    """Drops all that came from these events and queues again the others it came from.

    Also drops the window vectors of what was said next in the conversation, to any audience.
    """
    gone = list(events)
    parts = _numbers(db, "SELECT DISTINCT derived FROM lineage WHERE event = ANY(?)", gone)
    sees = viewer.sees()
    hidden = db.execute(
        "SELECT count(DISTINCT l.derived) FROM lineage l JOIN events e ON e.sequence = l.event"
        f" WHERE l.derived = ANY(?) AND NOT {sees.sql}",
        (parts, *sees.values),
    ).fetchall()[0][0]
    again = {
        event
        for (event,) in db.execute(
            "SELECT l.event FROM lineage l JOIN derived d ON d.id = l.derived"
            " WHERE d.id = ANY(?) AND d.kind <> ALL(?)",
            (parts, sorted(ON_DEMAND)),
        )
    }
    following = {
        place
        for (place,) in db.execute(
            "SELECT min(n.sequence) FROM events o JOIN events n ON n.conversation = o.conversation"
            " AND n.conversation <> '' AND n.sequence > o.sequence"
            " WHERE o.sequence = ANY(?) AND n.kind = ANY(?) AND n.sequence <> ALL(?)"
            " AND (EXISTS (SELECT 1 FROM waiting w WHERE w.sequence = n.sequence) OR EXISTS"
            " (SELECT 1 FROM vectors v WHERE v.kind = 'window' AND v.sequence = n.sequence))"
            " GROUP BY o.sequence, n.scope, n.author",
            (gone, [str(kind) for kind in FOUND], gone),
        )
    }
    rows = len(parts) - hidden + _delete(db, "vectors", "sequence", gone)
    windows = db.execute(
        "DELETE FROM vectors WHERE kind = 'window' AND sequence = ANY(?) RETURNING sequence",
        (sorted(following),),
    ).fetchall()
    _delete(db, "derived", "id", parts)
    _delete(db, "lineage", "derived", parts)
    _delete(db, "waiting", "sequence", gone)
    queued = _queue(db, (again | following) - set(events), epoch)
    return Gone(rows, queued, frozenset(place for (place,) in windows))


def rebuild(db: Transaction, keep: Collection[str], stems: Stemmer) -> None:
    """See `Tenant.rebuild`; the text index is made anew as well."""
    for table in ("vectors", "spaces", "waiting"):
        db.execute(f"DELETE FROM {table}")
    db.execute("DELETE FROM derived WHERE kind <> ALL(?)", (sorted(keep),))
    db.execute("DELETE FROM lineage WHERE derived NOT IN (SELECT id FROM derived)")
    index(db, _numbers(db, "SELECT number FROM segments"), stems)
    epoch = advance(db, "epoch")
    clause = _FOUND
    db.execute(
        "INSERT INTO waiting(sequence, epoch) SELECT e.sequence, ?::bigint FROM events e"
        f" WHERE {clause.sql}",
        (epoch, *clause.values),
    )


def index(db: Transaction, segments: Sequence[int], stems: Stemmer) -> None:
    """Makes the text index of segments anew, each under a new key."""
    for segment in segments:
        first = segment * SEGMENT
        place = Clause("e.sequence BETWEEN ? AND ?", (first, first + SEGMENT - 1))
        left = read(db, place & _FOUND)
        terms.replace(db, segment, [(e.sequence, e.text) for e in left], stems)


def embedder(db: Transaction) -> str:
    """See `Tenant.embedder`."""
    rows = db.execute("SELECT deriver FROM spaces WHERE kind = 'turn'")
    return "".join(name for (name,) in rows)


def derivers(db: Transaction) -> dict[str, str]:
    """Name and version of what derived something that is there."""
    names = db.execute("SELECT deriver FROM derived UNION SELECT deriver FROM spaces").fetchall()
    return dict(sorted(tuple(name.partition("/")[::2]) for (name,) in names))


def sequences_of(db: Transaction, ids: Sequence[str]) -> list[int]:
    """The places of these events in the log, in its order; of those that are there."""
    return sorted(_places(db, ids).values())


def _places(db: Transaction, ids: Sequence[str]) -> dict[str, int]:
    hashes = {db.vault.name(ulid): ulid for ulid in ids}
    rows = db.execute("SELECT id, sequence FROM events WHERE id = ANY(?)", (list(hashes),))
    return {hashes[bytes(hashed)]: sequence for hashed, sequence in rows}


def _previous(db: Transaction, ids: Sequence[str]) -> dict[str, int]:
    """The place of what was said before each of these in its conversation; 0 where nothing was."""
    hashes = {db.vault.name(ulid): ulid for ulid in ids}
    rows = db.execute(
        "SELECT o.id, (SELECT max(e.sequence) FROM events e WHERE e.conversation = o.conversation"
        " AND e.conversation <> '' AND e.sequence < o.sequence AND e.scope = o.scope"
        f" AND (e.scope <> 'private' OR e.author = o.author) AND {_FOUND.sql})"
        " FROM events o WHERE o.id = ANY(?)",
        (*_FOUND.values, list(hashes)),
    )
    return {hashes[bytes(hashed)]: place or 0 for hashed, place in rows}


def _queue(db: Transaction, places: Collection[int], epoch: int) -> frozenset[int]:
    """Lets those of the events wait that anything is derived from; which ones."""
    found = one_of("e.sequence", sorted(places)) & _FOUND
    rows = db.execute(
        "INSERT INTO waiting(sequence, epoch) SELECT e.sequence, ?::bigint FROM events e"
        f" WHERE {found.sql} ON CONFLICT (tenant, sequence)"
        " DO UPDATE SET epoch = excluded.epoch, failure = NULL RETURNING sequence",
        (epoch, *found.values),
    )
    return frozenset(place for (place,) in rows)


def _queued_again(db: Transaction, ids: Sequence[str], handed: Handed) -> set[str]:
    """Those that an erasure queued again after they were handed out."""
    places = {place: ulid for ulid, place in _places(db, ids).items()}
    rows = db.execute(
        "SELECT sequence, epoch FROM waiting WHERE sequence = ANY(?)", (sorted(places),)
    )
    return {places[s] for s, epoch in rows if epoch > handed.get(places[s], epoch)}


def _numbers(db: Transaction, sql: str, values: Sequence[int] | None = None) -> list[int]:
    rows = db.execute(sql, () if values is None else (list(values),))
    return [number for (number,) in rows]


def _delete(db: Transaction, table: str, column: str, values: Sequence[int]) -> int:
    return db.execute(f"DELETE FROM {table} WHERE {column} = ANY(?)", (list(values),)).rowcount


def _claim_space(db: Transaction, deriver: str, kind: str, width: int) -> None:
    clean_name(deriver, "deriver")
    db.execute(
        "INSERT INTO spaces(kind, deriver, width) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (kind, deriver, width),
    )
    there = db.execute("SELECT deriver, width FROM spaces WHERE kind = ?", (kind,)).fetchone()
    check_space(kind, (there[0], there[1]) if there else ("", 0), deriver, width)
