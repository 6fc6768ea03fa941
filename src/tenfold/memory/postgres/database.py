"""Connections to the database, and transactions that see one tenant."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tenfold.memory.postgres.address import PATIENCE, Address, driver, explained, unreachable
from tenfold.memory.postgres.schema import TABLES, VERSION
from tenfold.memory.postgres.sealing import Vault
from tenfold.memory.store import StoreError
from tenfold.memory.visibility import Name

if TYPE_CHECKING:
    import psycopg

_SCHEMA_LOCK = 0x74466D31  # one process at a time makes the tables
_LOCK_SECONDS = 30
_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL tenfold.tenant = {tenant};"
# The row of the log's counter is the tenant's write lock: whoever writes takes it first.
_WRITE = (
    "BEGIN; SET LOCAL tenfold.tenant = {tenant}; SET LOCAL synchronous_commit = on;"
    f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s';"
    "SELECT value FROM tenfold.counters WHERE name = 'sequence' FOR UPDATE;"
)


class Server:
    """A database with its idle connections; each is used by one transaction at a time."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._psycopg = driver()
        self._idle: queue.LifoQueue[psycopg.Connection[Any]] = queue.LifoQueue()
        self._lock = threading.Lock()
        self._ready = False
        self.give(self._connect())

    def prepared(self, *, create: bool) -> bool:
        """Whether the tables are there; makes them if asked to. Raises StoreError for newer ones.

        A role that row-level security does not bind is refused: nothing would keep tenants apart.
        """
        with self._lock:
            if not self._ready:
                with self.transaction("BEGIN") as db:
                    db.execute(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})")
                    self._refuse_unbound(db)
                    self._ready = _prepare(db, self.address, create=create)
            return self._ready

    @contextmanager
    def transaction(self, begin: str) -> Iterator[psycopg.Connection[Any]]:
        """Begins with `begin`, commits at the end, and is undone by any error."""
        connection, committing = self._begun(begin), False
        try:
            yield connection
            committing = True
            connection.execute("COMMIT")
        except self._psycopg.Error as e:
            raise explained(self.address, e, committing=committing) from None
        finally:
            self.give(connection)

    def give(self, connection: psycopg.Connection[Any]) -> None:
        """Takes a connection back, undoing what it has open; a broken one is dropped."""
        try:
            if connection.info.transaction_status != self._psycopg.pq.TransactionStatus.IDLE:
                connection.execute("ROLLBACK")
        except self._psycopg.Error:
            connection.close()
        if not connection.closed:
            self._idle.put(connection)

    def close(self) -> None:
        """Closes idle connections; later calls open new ones."""
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return

    def _begun(self, begin: str) -> psycopg.Connection[Any]:
        """A connection with its transaction begun; one that died while idle is replaced."""
        while True:
            try:
                connection, fresh = self._idle.get_nowait(), False
            except queue.Empty:
                connection, fresh = self._connect(), True
            try:
                connection.execute(begin)
                return connection
            except self._psycopg.Error as e:
                self.give(connection)
                if fresh or not connection.closed:
                    raise explained(self.address, e) from None

    def _connect(self) -> psycopg.Connection[Any]:
        try:
            return self._psycopg.connect(  # type: ignore[no-any-return]
                self.address.conninfo,
                autocommit=True,
                connect_timeout=PATIENCE,
                application_name="tenfold",
            )
        except self._psycopg.Error as e:
            raise unreachable(self.address, e) from None

    def _refuse_unbound(self, db: psycopg.Connection[Any]) -> None:
        role = db.execute(
            "SELECT rolname FROM pg_roles WHERE rolname = current_user"
            " AND (rolsuper OR rolbypassrls)"
        ).fetchone()
        if role:
            raise StoreError(
                f"role {role[0]!r} is a superuser or bypasses row-level security, which keeps"
                " tenants apart",
                hint="CREATE ROLE tenfold LOGIN; CREATE DATABASE memory OWNER tenfold; and connect"
                " as that role",
            )


class Transaction:
    """Statements of one tenant's transaction; names among their values are hashed."""

    def __init__(self, connection: psycopg.Connection[Any], vault: Vault) -> None:
        self._connection = connection
        self.vault = vault

    def execute(self, sql: str, values: Sequence[Any] = ()) -> psycopg.Cursor[Any]:
        """Runs a statement with `?` for values, in binary form both ways."""
        known = [self._value(value) for value in values]
        return self._connection.execute(sql.replace("?", "%s"), known, binary=True)

    def number(self, sql: str, values: Sequence[Any] = ()) -> int:
        """The one number that a statement gives."""
        row = self.execute(sql, values).fetchone()
        return int(row[0] or 0) if row else 0

    def _value(self, value: Any) -> Any:
        if isinstance(value, Name):
            return self.vault.name(value)
        if isinstance(value, list):
            return [self._value(one) for one in value]
        return value


class Database:
    """One tenant in the database: reading and writing it, from any thread."""

    def __init__(self, server: Server, number: int, name: str, vault: Vault) -> None:
        self.server = server
        self.vault = vault
        self.closed = False
        self._name = name
        self._number = number
        self._lock = threading.RLock()  # nobody closes the key file under a writer's hands

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """The tenant's only writer; what it wrote is on the server's disk when this ends."""
        with self._lock, self._transaction(_WRITE) as db:
            yield db

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """One consistent state of the tenant."""
        with self._transaction(_READ) as db:
            yield db

    def close(self) -> None:
        """Ends it, and idle connections; other tenants open new ones."""
        with self._lock:
            self.closed = True
            self.vault.keys.close()
            self.server.close()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Transaction]:
        if self.closed:
            raise StoreError(f"{self._name!r} was closed", hint="ask the store for the tenant")
        # The search path is set last: psycopg sends the whole as one message.
        path = " SET LOCAL search_path = tenfold"
        with self.server.transaction(begin.format(tenant=self._number) + path) as connection:
            yield Transaction(connection, self.vault)


def _prepare(db: psycopg.Connection[Any], address: Address, *, create: bool) -> bool:
    there = db.execute("SELECT to_regclass('tenfold.about')").fetchone()
    if there == (None,):
        if create:
            db.execute(TABLES)
        return create
    row = db.execute("SELECT version FROM tenfold.about").fetchone()
    version = int(row[0]) if row else 0
    if version > VERSION:
        raise StoreError(
            f"the memory in {address} has version {version}, this tenfold reads up to {VERSION};"
            " it was left as it is",
            hint="upgrade tenfold",
        )
    return True
