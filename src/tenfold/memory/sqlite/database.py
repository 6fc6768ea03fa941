"""One tenant's file: opening it, one writer at a time, readers beside it, errors in plain words."""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tenfold.memory.events import new_id
from tenfold.memory.sqlite.raw import RawFiles
from tenfold.memory.sqlite.schema import APPLICATION, TABLES, UPGRADES, VERSION
from tenfold.memory.store import StoreError

PRIVATE = 0o600
PATIENCE = 30.0  # seconds to wait for another process's lock


class Database:
    """A file that any number of threads and processes may read while one of them writes.

    What `writing` wrote is on disk when it ends (WAL, synchronous=FULL), or not there at all.
    """

    def __init__(self, path: Path, patience: float = PATIENCE) -> None:
        self.path = path
        self.files = RawFiles()
        self._patience = patience
        self._lock = threading.RLock()
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self.closed = False
        with explained(path):
            self._writer = _connect(path, patience)
            try:
                _check(self._writer, path)
                _prepare(self._writer)
                _upgrade(self._writer)
            except BaseException:
                self._writer.close()
                raise

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is committed at the end and undone by any error."""
        with self._lock, explained(self.path):
            self._refuse_closed()
            db = self._writer
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One consistent state of the file."""
        with explained(self.path):
            self._refuse_closed()
            try:
                db = self._readers.get_nowait()
            except queue.Empty:
                db = _connect(self.path, self._patience)
                _prepare(db)
                db.execute("PRAGMA query_only = ON")
            try:
                db.execute("BEGIN")
                yield db
            finally:
                if db.in_transaction:
                    db.execute("COMMIT")
                if self.closed:
                    db.close()
                else:
                    self._readers.put(db)

    @contextmanager
    def outside(self, *, wait: bool = True) -> Iterator[sqlite3.Connection]:
        """The writer's connection without a transaction, for what SQLite does outside of one.

        Without `wait` it meets a lock with an error at once.
        """
        with self._lock, explained(self.path):
            self._refuse_closed()
            db, patience = self._writer, int(1000 * self._patience)
            db.execute(f"PRAGMA busy_timeout = {patience if wait else 0}")
            try:
                yield db
            finally:
                db.execute(f"PRAGMA busy_timeout = {patience}")

    def close(self) -> None:
        """Closes every connection; the last one folds the WAL into the file."""
        with self._lock:
            self.closed = True
            while True:
                try:
                    self._readers.get_nowait().close()
                except queue.Empty:
                    break
            self._writer.close()
            self.files.close()

    def size(self) -> int:
        """Bytes on the disk, with what is not folded in yet."""
        paths = (self.path.with_name(self.path.name + suffix) for suffix in ("", "-wal"))
        return sum(path.stat().st_size for path in paths if path.exists())

    def _refuse_closed(self) -> None:
        if self.closed:
            raise StoreError(f"{self.path.name} was closed", hint="ask the store for the tenant")


def create(path: Path) -> None:
    """Makes an empty memory there, whole or not at all; does nothing if another was faster."""
    half = path.with_name(f".{path.name}.{new_id()}")
    try:
        half.touch(mode=PRIVATE)  # what SQLite puts beside a file has the file's mode
        with explained(path):
            db = sqlite3.connect(half, isolation_level=None)
            try:
                db.execute("PRAGMA auto_vacuum = NONE")
                db.execute("PRAGMA journal_mode = WAL")
                db.executescript(
                    f"BEGIN; {TABLES} PRAGMA application_id = {APPLICATION};"
                    f"PRAGMA user_version = {VERSION}; COMMIT;"
                )
            finally:
                db.close()
            try:
                os.link(half, path)
            except FileExistsError:
                return
            _sync_folder(path.parent)
    finally:
        half.unlink(missing_ok=True)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what SQLite reports into a StoreError that says what to do."""
    try:
        yield
    except sqlite3.Error as e:
        code = getattr(e, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR:
            raise StoreError(
                f"{path.name} could not be written: {e}; nothing of this call was kept",
                hint="free some disk space or raise the quota, then repeat the call",
            ) from e
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise StoreError(
                f"{path.name} is damaged or no memory at all: {e}; it was left as it is",
                hint="restore a copy, or read what is left with `sqlite3 FILE .recover`",
            ) from e
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreError(
                f"{path.name} is locked by another writer: {e}", hint="repeat the call"
            ) from e
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
            raise StoreError(
                f"{path.name} cannot be opened for writing: {e}",
                hint="look at the folder's and the file's permissions",
            ) from e
        raise


def _connect(path: Path, patience: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=patience,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA secure_delete = ON")
    db.execute("PRAGMA temp_store = MEMORY")  # no texts in temporary files
    db.execute("PRAGMA cache_size = -16000")


def _check(db: sqlite3.Connection, path: Path) -> None:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        raise StoreError(
            f"{path.name} is a database, but not a memory; it was left as it is",
            hint="move it away, or choose another folder",
        )
    if version > VERSION:
        raise StoreError(
            f"{path.name} has version {version}, this tenfold reads up to {VERSION}; "
            "it was left as it is",
            hint="upgrade tenfold",
        )


def _upgrade(db: sqlite3.Connection) -> None:
    """Brings a file of an older version up to this one, whole or not at all."""
    if db.execute("PRAGMA user_version").fetchone() == (VERSION,):
        return
    db.execute("BEGIN IMMEDIATE")
    (version,) = db.execute("PRAGMA user_version").fetchone()  # another process may have been first
    for step in range(version, VERSION):
        for statement in UPGRADES[step]:
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows has no handle of a folder to sync
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
