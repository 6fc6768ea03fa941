"""A tenant and its members in Postgres: the contract of `tenfold.memory.store`.

Nothing is decided here: each call opens a transaction, names who asks (`Viewer`), and hands both to
the module that knows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from tenfold.memory.contract import at_least, named
from tenfold.memory.events import Event, NewEvent, clean_id
from tenfold.memory.postgres import derivations, erasure, log
from tenfold.memory.postgres.database import Database, Transaction
from tenfold.memory.postgres.lookup import Lookup
from tenfold.memory.postgres.terms import KeysMoved
from tenfold.memory.postgres.visibility import Viewer
from tenfold.memory.sqlite.words import Stemmer
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
from tenfold.memory.visibility import Name

_TENANT = Viewer(None)
_ALL = Selection()
_ATTEMPTS = 5
T = TypeVar("T")


class PostgresMember:
    """One actor's view; see `tenfold.memory.store.Member`."""

    def __init__(self, tenant: PostgresTenant, name: str) -> None:
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
            return log.append(db, self._name, events, self._tenant.stems)

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
        at_least(limit, 1)
        return self._tenant.looking(
            lambda db: self._tenant.lookup.find(db, self._viewer, text, vector, selection, limit)
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


class PostgresTenant:
    """One tenant; see `tenfold.memory.store.Tenant`. Usable from any thread."""

    def __init__(self, name: str, database: Database) -> None:
        self.database = database
        self.stems = Stemmer()
        self.lookup = Lookup(database, self.stems)
        self._name = name
        self._handed_out: derivations.Handed = {}
        erasure.catch_up(database, self.stems)
        erasure.scrub(database)

    @property
    def name(self) -> str:
        return self._name

    def member(self, name: str) -> PostgresMember:
        return PostgresMember(self, named(name, "member"))

    def grant(self, member: str, team: str) -> None:
        sql = "INSERT INTO grants(member, team) VALUES (?, ?) ON CONFLICT DO NOTHING"
        self._change_grants(sql, member, team)

    def revoke(self, member: str, team: str) -> None:
        self._change_grants("DELETE FROM grants WHERE member = ? AND team = ?", member, team)

    def history(self, selection: Selection = _ALL, limit: int = 0) -> Iterator[Event]:
        return self.history_as(_TENANT, selection, limit)

    def history_as(self, viewer: Viewer, selection: Selection, limit: int) -> Iterator[Event]:
        """What this viewer may read of a selection, page by page, a transaction for each."""
        with self.database.reading() as db:
            first, last = log.history(db, viewer, selection, at_least(limit, 0))
        while 0 < first <= last:
            with self.database.reading() as db:
                events = log.page(db, viewer, selection, first, last)
            if not events:
                return
            yield from events
            first = events[-1].sequence + 1

    def settings(self) -> Mapping[str, str]:
        with self.database.reading() as db:
            return dict(db.execute("SELECT name, value FROM settings ORDER BY name").fetchall())

    def set(self, name: str, value: str) -> None:
        with self.database.writing() as db:
            db.execute("DELETE FROM settings WHERE name = ?", (name,))
            if value:
                db.execute("INSERT INTO settings(name, value) VALUES (?, ?)", (name, value))

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
            receipt, gone = erasure.erase(db, viewer, selection, self.stems)
        self.database.vault.keys.destroy(gone)
        try:
            erasure.scrub(self.database)
            with self.database.reading() as db:
                self.lookup.cache.let_go(db)
        except StoreError:  # what is erased is; the rest of the keys waits for the next opening
            self.lookup.cache.forget()
            return replace(receipt, scrubbed=False)
        return receipt

    def receipts(self) -> list[Receipt]:
        """All erasures, oldest first."""
        with self.database.reading() as db:
            return erasure.receipts(db)

    def verify_erasure(self, probes: Sequence[str]) -> list[Residue]:
        data = self.database.server.address.data
        return self.looking(lambda db: erasure.residue(db, self.stems, probes, data))

    def rebuild(self, keep: Collection[str] = ()) -> Status:
        with self.database.writing() as db:
            derivations.rebuild(db, keep, self.stems)
        with self.database.reading() as db:
            self.lookup.cache.let_go(db)
        return self.status()

    def status(self) -> Status:
        with self.database.reading() as db:
            events = db.number("SELECT count(*) FROM events")
            failed = db.number("SELECT count(failure) FROM waiting")
            waiting = db.number("SELECT count(*) FROM waiting") - failed
            derivers = derivations.derivers(db)
            left = erasure.unscrubbed(db)
            size = sum(
                db.number(f"SELECT sum(octet_length(sealed)) FROM {table}")
                for table in ("events", "vectors", "derived", "links")
            )
        size += self.database.vault.keys.size()
        return Status(events, waiting, failed, derivers, size, left)

    def looking(self, look: Callable[[Transaction], T]) -> T:
        """What `look` finds, in a transaction that the keys of the text index belong to."""
        for _ in range(_ATTEMPTS):
            try:
                with self.database.reading() as db:
                    return look(db)
            except KeysMoved:
                continue  # an erasure came between: the next transaction sees its result
        raise StoreError(
            f"the text index of {self._name!r} was made with other keys",
            hint="`rebuild` makes it anew",
        )

    def close(self) -> None:
        self.lookup.cache.forget()
        self.stems.close()
        self.database.close()

    def _change_grants(self, sql: str, member: str, team: str) -> None:
        with self.database.writing() as db:
            db.execute(sql, (Name(named(member, "member")), named(team, "team")))
            log.advance(db, "epoch")
