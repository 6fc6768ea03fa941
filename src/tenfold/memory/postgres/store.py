"""The tenants of a database."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from tenfold.errors import InvalidRequest, UnknownName
from tenfold.memory.events import clean_name
from tenfold.memory.postgres.address import parse
from tenfold.memory.postgres.database import Database, Server
from tenfold.memory.postgres.keys import Keys, create, shred
from tenfold.memory.postgres.schema import COUNTERS, OWN
from tenfold.memory.postgres.sealing import Vault
from tenfold.memory.postgres.tenant import PostgresTenant

LONGEST_NAME = 200  # bytes of a tenant's name, as SQLite's store allows for plain ones


class PostgresStore:
    """Tenants in a Postgres database; see `tenfold.memory.store.MemoryStore`.

    `address` is `postgresql://USER@HOST:PORT/DATABASE`, with `?keys=FOLDER` for the key files
    (else `~/.local/share/tenfold/keys`) and libpq's own options. Raises MissingExtra without
    psycopg, InvalidRequest for what is no address, StoreError for a server that cannot be reached
    or a role that row-level security does not bind.
    """

    def __init__(self, address: str) -> None:
        self.address = parse(address)
        self._server = Server(self.address)
        self._lock = threading.Lock()
        self._open: dict[str, PostgresTenant] = {}

    def tenant(self, name: str, *, create: bool = True) -> PostgresTenant:
        _checked(name)
        with self._lock:
            known = self._open.get(name)
            if known is not None and not known.database.closed:
                return known
            try:
                self._open[name] = self._opened(name, create=create)
            except BaseException:
                self._server.close()  # whoever asked may have no store to close
                raise
            return self._open[name]

    def tenants(self) -> list[str]:
        if not self._server.prepared(create=False):
            return []
        with self._server.transaction("BEGIN READ ONLY") as db:
            return sorted(name for (name,) in db.execute("SELECT name FROM tenfold.tenants"))

    def drop(self, name: str) -> None:
        """Removes a tenant; its key file goes last, so a crash before that leaves the file."""
        _checked(name)
        with self._lock:
            there = self._find(name)
            if there is None:
                raise _unknown(name)
            known = self._open.pop(name, None)
            if known is not None:
                known.close()
            number, identity = there
            with self._server.transaction(f"BEGIN; SET LOCAL tenfold.tenant = {number}") as db:
                for table in OWN:
                    db.execute(f"DELETE FROM tenfold.{table}")  # of this tenant: the policy
                db.execute("DELETE FROM tenfold.tenants WHERE number = %s", (number,))
            shred(self._key_file(identity))

    def close(self) -> None:
        """Closes every tenant and connection; harmless when called twice."""
        with self._lock:
            for tenant in self._open.values():
                tenant.close()
            self._open.clear()
            self._server.close()

    def _opened(self, name: str, *, create: bool) -> PostgresTenant:
        there = self._find(name)
        if there is None:
            if not create:
                raise _unknown(name)
            there = self._make(name)
        number, identity = there
        keys = Keys(self._key_file(identity), identity)
        try:
            return PostgresTenant(name, Database(self._server, number, name, Vault(keys)))
        except BaseException:
            keys.close()
            raise

    def _find(self, name: str) -> tuple[int, bytes] | None:
        if not self._server.prepared(create=False):
            return None
        with self._server.transaction("BEGIN READ ONLY") as db:
            row = db.execute(
                "SELECT number, identity FROM tenfold.tenants WHERE name = %s", (name,)
            ).fetchone()
        return (int(row[0]), bytes(row[1])) if row else None

    def _make(self, name: str) -> tuple[int, bytes]:
        """A new tenant, whole or not at all; the one that is there if another was faster."""
        self._server.prepared(create=True)
        identity = os.urandom(16)
        create(self._key_file(identity), identity)
        with self._server.transaction("BEGIN") as db:
            row = db.execute(
                "INSERT INTO tenfold.tenants(name, identity) VALUES (%s, %s)"
                " ON CONFLICT DO NOTHING RETURNING number",
                (name, identity),
            ).fetchone()
            if row:
                db.execute(f"SET LOCAL tenfold.tenant = {int(row[0])}")
                for counter in COUNTERS:
                    db.execute(
                        "INSERT INTO tenfold.counters(name, value) VALUES (%s, 0)", (counter,)
                    )
        if not row:
            shred(self._key_file(identity))
        there = self._find(name)
        if there is None:  # dropped at once by another process
            raise _unknown(name)
        return there

    def _key_file(self, identity: bytes) -> Path:
        return self.address.keys / f"{identity.hex()}.keys"


def _checked(name: str) -> None:
    if not clean_name(name, "tenant"):
        raise InvalidRequest("a tenant needs a name", param="tenant")
    if len(name.encode()) > LONGEST_NAME:
        raise InvalidRequest(
            f"tenant's name has {len(name.encode())} bytes, {LONGEST_NAME} at most",
            param="tenant",
            hint="use a shorter name",
        )


def _unknown(name: str) -> UnknownName:
    error = UnknownName("tenant", name, [], param="tenant")
    error.hint = "it is made when something asks for it with create=True"  # names no others
    return error
