"""A tenant and its members over one file: the contract of `tenfold.memory.store`, kept in SQLite.

Nothing is decided here. Each call opens a transaction, names who asks (`Viewer`), and hands both to
the module that knows: log, lookup, derivations, erasure.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from tenfold.memory.contract import at_least, named
from tenfold.memory.events import Event, NewEvent, clean_id
from tenfold.memory.nearest import scanning
from tenfold.memory.sqlite import derivations, erasure, log
from tenfold.memory.sqlite.database import Database
from tenfold.memory.sqlite.lookup import Lookup
from tenfold.memory.sqlite.visibility import Viewer
from tenfold.memory.store import (
    Derived,
    Found,
    Receipt,
    Residue,
    Selection,
    Status,
    StoreError,
    Vectors,
)

_TENANT = Viewer(None)
_ALL = Selection()


class SqliteMember:
    """One actor's view; see `tenfold.memory.store.Member`."""

    def __init__(self, tenant: SqliteTenant, name: str) -> None:
        self._tenant = tenant
        self._viewer = Viewer(name)
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    @property
    def teams(self) -> frozenset[str]:
        with self._tenant.database.reading() as db:
            return log.teams(db, self._name)

    def append(self, events: Sequence[NewEvent]) -> list[Event]:
        with self._tenant.database.writing() as db:
            return log.append(db, self._name, events)

    def get(self, ids: Sequence[str]) -> list[Event]:
        for ulid in ids:
            clean_id(ulid, "ids")
        with self._tenant.database.reading() as db:
            known = log.by_id(db, self._viewer, ids)
        return [known[ulid] for ulid in ids if ulid in known]

    def history(self, selection: Selection = _ALL, limit: int = 0) -> Iterator[Event]:
        return self._tenant.history_as(self._viewer, selection, limit)

    def find(
        self,
        text: str,
        vector: Vectors | None = None,
        *,
        selection: Selection = _ALL,
        limit: int = 200,
    ) -> Found:
        with self._tenant.database.reading() as db:
            return self._tenant.lookup.find(
                db, self._viewer, text, vector, selection, at_least(limit, 1)
            )

    def derived(self, kind: str, selection: Selection = _ALL) -> Iterator[Derived]:
        with self._tenant.database.reading() as db:
            found = list(derivations.derived(db, self._viewer, kind, selection))
        yield from found

    def waiting(self, limit: int) -> list[str]:
        with self._tenant.database.reading() as db:
            return derivations.queued(db, self._viewer, at_least(limit, 1))

    def erase(self, selection: Selection) -> Receipt:
        return self._tenant.erase_as(self._viewer, selection)


class SqliteTenant:
    """One tenant's file; see `tenfold.memory.store.Tenant`. Usable from any thread."""

    def __init__(self, name: str, database: Database) -> None:
        self.database = database
        self.lookup = Lookup(database)
        self._name = name
        self._handed_out: derivations.Handed = {}
        erasure.scrub(database, wait=False)  # opening waits for nobody's old reader

    @property
    def name(self) -> str:
        return self._name

    def member(self, name: str) -> SqliteMember:
        return SqliteMember(self, named(name, "member"))

    def grant(self, member: str, team: str) -> None:
        self._change_grants("INSERT OR IGNORE INTO grants VALUES (?, ?)", member, team)

    def revoke(self, member: str, team: str) -> None:
        self._change_grants("DELETE FROM grants WHERE member = ? AND team = ?", member, team)

    def history(self, selection: Selection = _ALL, limit: int = 0) -> Iterator[Event]:
        return self.history_as(_TENANT, selection, limit)

    def history_as(self, viewer: Viewer, selection: Selection, limit: int) -> Iterator[Event]:
        """What this viewer may read of a selection."""
        # Page by page and no transaction in between: a slow reader holds nobody up, and what was
        # erased meanwhile does not come.
        with self.database.reading() as db:
            first, last = log.history(db, viewer, selection, at_least(limit, 0))
        while first <= last:
            with self.database.reading() as db:
                events = log.page(db, viewer, selection, first, last)
            if not events:
                return
            yield from events
            first = events[-1].sequence + 1

    def settings(self) -> Mapping[str, str]:
        with self.database.reading() as db:
            return dict(db.execute("SELECT name, value FROM settings ORDER BY name"))

    def set(self, name: str, value: str) -> None:
        with self.database.writing() as db:
            if value:
                db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))
            else:
                db.execute("DELETE FROM settings WHERE name = ?", (name,))

    def epoch(self) -> int:
        with self.database.reading() as db:
            return log.counters(db)[1]

    def waiting(self, limit: int) -> list[Event]:
        with self.database.reading() as db:
            return derivations.waiting(db, at_least(limit, 1), self._handed_out)

    def previous(self, ids: Sequence[str]) -> list[Event | None]:
        with self.database.reading() as db:
            return derivations.previous(db, ids)

    def put(self, derived: Iterable[Derived], *, done: Sequence[str] = ()) -> None:
        made = list(derived)  # whoever makes them may read the memory meanwhile
        with self.database.writing() as db:
            derivations.put(db, made, done, self._handed_out)

    def fail(self, ids: Sequence[str], reason: str) -> None:
        with self.database.writing() as db:
            derivations.fail(db, ids, reason)

    def failures(self) -> list[tuple[str, str]]:
        with self.database.reading() as db:
            return derivations.failures(db)

    def put_vectors(self, deriver: str, kind: str, ids: Sequence[str], vectors: Vectors) -> None:
        with self.database.writing() as db:
            derivations.put_vectors(db, deriver, kind, ids, vectors, self._handed_out)

    def embedder(self) -> str:
        with self.database.reading() as db:
            return derivations.embedder(db)

    def erase(self, selection: Selection) -> Receipt:
        return self.erase_as(_TENANT, selection)

    def erase_as(self, viewer: Viewer, selection: Selection) -> Receipt:
        """Erases what this viewer may erase of a selection."""
        with self.database.writing() as db:
            receipt = erasure.erase(db, viewer, selection)
        with self.database.reading() as db:
            self.lookup.cache.let_go(db)
        return replace(receipt, scrubbed=erasure.scrub(self.database, wait=True))

    def receipts(self) -> list[Receipt]:
        """All erasures, oldest first."""
        with self.database.reading() as db:
            return erasure.receipts(db)

    def verify_erasure(self, probes: Sequence[str]) -> list[Residue]:
        return erasure.residue(self.database, self.lookup.stems, probes)

    def rebuild(self, keep: Collection[str] = ()) -> Status:
        with self.database.writing() as db:
            derivations.rebuild(db, keep)
        with self.database.reading() as db:
            self.lookup.cache.let_go(db)
        return self.status()

    def status(self) -> Status:
        with self.database.reading() as db:
            (events,) = db.execute("SELECT count(*) FROM events").fetchone()
            waiting, failed = db.execute(
                "SELECT count(*) - count(failure), count(failure) FROM waiting"
            ).fetchone()
            derivers = derivations.derivers(db)
            left = erasure.unscrubbed(db)
            (vectors,) = db.execute("SELECT count(*) FROM vectors WHERE id % 2 = 0").fetchone()
        notes = scanning(vectors)
        return Status(events, waiting, failed, derivers, self.database.size(), left, notes)

    def check(self) -> None:
        """Raises StoreError where the file, or its index against the log, is inconsistent."""
        with self.database.writing() as db:
            problems = [row for (row,) in db.execute("PRAGMA integrity_check") if row != "ok"]
            try:
                db.execute("INSERT INTO words(words, rank) VALUES ('integrity-check', 1)")
            except sqlite3.DatabaseError as e:
                problems.append(f"the text index does not match the log: {e}")
        if problems:
            raise StoreError(
                f"{self.database.path.name} is inconsistent: {problems[0]}",
                hint="`rebuild` makes every index anew from the log",
            )

    def close(self) -> None:
        self.lookup.close()
        self.database.close()

    def _change_grants(self, sql: str, member: str, team: str) -> None:
        with self.database.writing() as db:
            db.execute(sql, (named(member, "member"), named(team, "team")))
            log.advance(db, "epoch")
