"""The folder of tenants: one SQLite file each, and nothing that knows more than one of them."""

from __future__ import annotations

import re
import threading
import urllib.parse
from pathlib import Path

from tenfold.errors import InvalidRequest, UnknownName
from tenfold.memory.events import clean_name
from tenfold.memory.sqlite.database import PATIENCE, Database, create
from tenfold.memory.sqlite.tenant import SqliteTenant
from tenfold.memory.store import StoreError

SUFFIX = ".memory"
LONGEST_FILE = 200  # bytes of a file's name without what SQLite appends
_PLAIN = re.compile(r"[a-z0-9_-]")


class SqliteStore:
    """Tenants in files below a folder; see `tenfold.memory.store.MemoryStore`.

    `patience` is how many seconds a call waits for another process's lock. Files appear whole: a
    process killed while it makes one leaves none.
    """

    def __init__(self, root: str | Path, *, patience: float = PATIENCE) -> None:
        self.root = Path(root)
        self._patience = patience
        self._lock = threading.Lock()
        self._open: dict[str, SqliteTenant] = {}

    def tenant(self, name: str, *, create: bool = True) -> SqliteTenant:
        path = self.root / file_name(name)
        with self._lock:
            known = self._open.get(name)
            if known is not None and not known.database.closed:
                return known
            if not path.exists():
                if not create:
                    raise _unknown(name)
                self._make(path)
            self._open[name] = SqliteTenant(name, Database(path, self._patience))
            return self._open[name]

    def tenants(self) -> list[str]:
        names = (tenant_name(path.name) for path in self.root.glob(f"*{SUFFIX}"))
        return sorted(name for name in names if name)

    def drop(self, name: str) -> None:
        path = self.root / file_name(name)
        with self._lock:
            known = self._open.pop(name, None)
            if known is not None:
                known.close()
            if not path.exists():
                raise _unknown(name)
            for suffix in (
                "-wal",
                "-shm",
                "",
            ):  # a log without its file would be replayed by the next
                path.with_name(path.name + suffix).unlink(missing_ok=True)

    def close(self) -> None:
        """Closes all tenants; harmless when called twice."""
        with self._lock:
            for tenant in self._open.values():
                tenant.close()
            self._open.clear()

    def _make(self, path: Path) -> None:
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)  # memories are nobody else's
        except OSError as error:
            why = "it is a file" if self.root.is_file() else error.strerror
            raise StoreError(
                f"{self.root} cannot be the folder of memories: {why}",
                hint="a folder, or where one can be made",
            ) from None
        create(path)


def file_name(tenant: str) -> str:
    """The name of a tenant's file: what is not a small letter, a digit, _ or - becomes %XX.

    Capitals too, for file systems that take "Acme" and "acme" for one. Different tenants have
    different files, and none leaves the folder. Raises InvalidRequest for what is no name.
    """
    if not clean_name(tenant, "tenant"):
        raise InvalidRequest("a tenant needs a name", param="tenant")
    plain = "".join(
        c if _PLAIN.fullmatch(c) else "".join(f"%{byte:02X}" for byte in c.encode()) for c in tenant
    )
    if len(plain) > LONGEST_FILE:
        raise InvalidRequest(
            f"tenant's name makes a file name of {len(plain)} characters, {LONGEST_FILE} at most",
            param="tenant",
            hint="use a shorter name; letters beyond a-z take three characters or more",
        )
    return plain + SUFFIX


def tenant_name(file: str) -> str:
    """The tenant whose file has this name; "" where it is no tenant's."""
    name = urllib.parse.unquote(file.removesuffix(SUFFIX), errors="replace")
    try:
        return name if file_name(name) == file else ""
    except (InvalidRequest, UnicodeEncodeError):
        return ""


def _unknown(name: str) -> UnknownName:
    error = UnknownName("tenant", name, [], param="tenant")
    error.hint = "it is made when something asks for it with create=True"  # names no others
    return error
