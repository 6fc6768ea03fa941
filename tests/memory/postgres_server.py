"""A real Postgres server for the tests: made in a temporary folder, started once per session."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tenfold.memory.events import Event, NewEvent
from tenfold.memory.store import MemoryStore, Tenant

FOLDERS = ("/usr/lib/postgresql", "/usr/local/pgsql", "/opt/homebrew/opt/postgresql", "/usr/pgsql")
DATABASE = "memory"
USER = "nobody"  # Postgres refuses to run as root
PASSWORD = "s3cret:of/the@tests"


def program(name: str) -> str:
    """Where a program of Postgres is, the newest one; "" where it is not installed."""
    found = [str(p) for folder in FOLDERS for p in Path(folder).glob(f"**/bin/{name}")]
    return max(found, default=shutil.which(name) or "", key=lambda p: (p.count("postgresql"), p))


@dataclass
class RealServer:
    """A server of one folder; `admin` is its superuser, `tenfold` the role that tests use."""

    root: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.root / "data"

    def start(self, **settings: str) -> None:
        """Starts it and waits until it answers."""
        given = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "shared_buffers": "16MB",
            "max_connections": "40",
            "autovacuum": "off",  # what erasing leaves behind is not tidied up by luck
            "log_statement": "all",
            **settings,
        }
        options = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [program("postgres"), "-D", str(self.data), "-p", str(self.port), *options],
                stdout=log, stderr=log, cwd=self.root, **_unprivileged(),
            )  # fmt: skip
        import psycopg

        end = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.address("admin", "postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > end or self.process.poll() is not None:
                    pytest.fail((self.root / "log").read_text()[-2000:])
                time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends it in an orderly way, SIGKILL does not."""
        if self.process is not None:
            if how is signal.SIGKILL:  # as if power was cut: its children go with it
                for pid in (self.process.pid, *_children(self.process.pid)):
                    _killed(pid)
            else:
                self.process.send_signal(how)
            self.process.wait(30)
            self.process = None

    def address(self, role: str = "tenfold", database: str = DATABASE, **options: object) -> str:
        """The address of a database, password and all."""
        from urllib.parse import quote, urlencode

        query = f"?{urlencode(options)}" if options else ""
        secret = quote(PASSWORD, safe="")
        return f"postgresql://{role}:{secret}@127.0.0.1:{self.port}/{database}{query}"

    def empty(self) -> None:
        """Removes the memory in the tests' database: quicker than a database for each test."""
        import psycopg

        with psycopg.connect(self.address("admin", DATABASE), autocommit=True) as db:
            db.execute("DROP SCHEMA IF EXISTS tenfold CASCADE")


def made(root: Path) -> RealServer:
    """A server's folder, not started yet; it needs the password even from this machine."""
    root.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        shutil.chown(root, USER)
    secret = root / "password"
    secret.write_text(PASSWORD)
    if os.geteuid() == 0:
        shutil.chown(secret, USER)
    subprocess.run(
        [program("initdb"), "-D", str(root / "data"), "-U", "admin", "-A", "scram-sha-256",
         "--pwfile", str(secret), "-E", "UTF8", "--no-locale", "--no-sync"],
        check=True, capture_output=True, cwd=root, **_unprivileged(),
    )  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return RealServer(root, port)


_shared: list[RealServer] = []


def shared_server() -> RealServer:
    """The session's server; skips the test where Postgres is not installed, unless all must run."""
    need_postgres()
    if not _shared:
        # Not below pytest's folders: those are for their owner alone, and the server is another.
        root = Path(tempfile.mkdtemp(prefix="tenfold-postgres-"))
        root.chmod(0o755)
        server = made(root / "server")
        server.start(fsync="off")
        with_role(server)
        _shared.append(server)
        atexit.register(_end, server, root)
    return _shared[0]


def with_role(server: RealServer) -> None:
    """Makes the role that the tests connect as, and its database."""
    import psycopg

    with psycopg.connect(server.address("admin", "postgres"), autocommit=True) as db:
        db.execute(f"CREATE ROLE tenfold LOGIN PASSWORD '{PASSWORD}'")
        db.execute(f"CREATE DATABASE {DATABASE} OWNER tenfold")


def need_postgres() -> None:
    """Skips the test without a server to start or a driver; fails where everything must run."""
    import importlib.util

    missing = [name for name in ("psycopg", "cryptography") if not importlib.util.find_spec(name)]
    missing += [name for name in ("postgres", "initdb") if not program(name)]
    if missing and os.environ.get("TENFOLD_REQUIRE_ALL") == "1":
        pytest.fail(f"TENFOLD_REQUIRE_ALL=1, but {', '.join(missing)} is not installed")
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")


def _unprivileged() -> dict[str, object]:
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam(USER)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _children(parent: int) -> list[int]:
    """Processes that a process started, from /proc."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if int(fields[1]) == parent:
            found.append(int(status.parent.name))
    return found


def _killed(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _end(server: RealServer, root: Path) -> None:
    server.stop()
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def server() -> RealServer:
    server = shared_server()
    server.empty()
    return server


@pytest.fixture
def address(server: RealServer, tmp_path: Path) -> str:
    return server.address(keys=tmp_path / "keys", data=server.data)


def raw(server: RealServer, role: str = "tenfold"):
    """A plain connection, for looking behind the store's back."""
    import psycopg

    return psycopg.connect(server.address(role), autocommit=True)


def texts(events: Iterable[Event]) -> list[str]:
    return [e.text for e in events]


def filled(store: MemoryStore, count: int = 40) -> Tenant:
    tenant = store.tenant("acme")
    tenant.member("ada").append([NewEvent(f"turn {i} of forty") for i in range(count)])
    return tenant


def in_files(folder: Path, needle: bytes) -> list[str]:
    """The files below a folder that hold the bytes."""
    found = []
    for path in folder.rglob("*"):
        try:
            if path.is_file() and needle in path.read_bytes():
                found.append(path.name)
        except FileNotFoundError:
            continue  # the server removed it meanwhile
    return found
