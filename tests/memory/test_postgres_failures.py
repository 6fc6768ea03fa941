"""What goes wrong with a database, and what is said about it: never a password, no half calls."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from tenfold.errors import InvalidRequest, MissingExtra
from tenfold.memory.events import NewEvent
from tenfold.memory.places import is_address, open_store
from tenfold.memory.store import Selection, StoreError
from tests.memory import postgres_server
from tests.memory.postgres_server import PASSWORD, RealServer, filled, raw, shared_server, texts

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def store(address: str):
    store = open_store(address)
    yield store
    store.close()


def test_a_wrong_password_is_said_without_any_password(server: RealServer, tmp_path: Path):
    for secret in ("wr0ng/se:cret", PASSWORD + "x"):
        wrong = quote(secret, safe="")
        address = server.address(keys=tmp_path).replace(quote(PASSWORD, safe=""), wrong)
        with pytest.raises(StoreError, match="authentication failed") as e:
            open_store(address)
        shown = f"{e.value!s} {e.value!r} {e.value.__cause__!r}"
        assert secret not in shown
        assert wrong not in shown
        assert "~/.pgpass" in str(e.value)
        assert e.value.__suppress_context__


def test_servers_and_databases_that_are_not_there_are_named(server: RealServer, tmp_path: Path):
    nobody = server.address(keys=tmp_path).replace(f":{server.port}/", ":1/")
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1/memory cannot be reached") as e:
        open_store(nobody)
    assert PASSWORD not in str(e.value)
    with pytest.raises(StoreError, match="does not exist") as e:
        open_store(server.address(database="nowhere", keys=tmp_path))
    assert "docs/memory.md" in str(e.value)


@pytest.mark.parametrize(
    "address", ["postgresql://ada:hush@[::1/x", "postgresql://ada:hush@h/x?colour=red"]
)  # fmt: skip
def test_an_address_that_is_none_is_refused_without_repeating_it(address: str):
    postgres_server.need_postgres()
    with pytest.raises(InvalidRequest) as e:
        open_store(address)
    assert "hush" not in f"{e.value!s} {e.value!r}"
    assert e.value.param == "address"


def test_a_place_is_a_folder_unless_it_is_an_address(tmp_path: Path):
    assert is_address("postgresql:///memory?host=/run/postgresql")
    assert is_address("postgres://h/d")
    assert not any(map(is_address, ("memories", "/a/postgresql", tmp_path, "postgresql", "c:/x")))
    with pytest.raises(InvalidRequest, match="as a string"):
        is_address(Path("postgresql://h/d"))


def test_without_the_driver_an_address_names_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match=r"tenfold\[postgres\]"):
        open_store("postgresql://h/d")
    code = "import sys, tenfold.memory.memory; sys.exit('psycopg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_newer_memory_is_refused_and_left_as_it_is(store, server: RealServer, address: str):
    filled(store)
    with raw(server) as db:
        db.execute("UPDATE tenfold.about SET version = 99")
    with pytest.raises(StoreError, match="it was left as it is") as e:
        open_store(address).tenant("acme")
    assert "upgrade tenfold" in str(e.value)


def test_connections_that_died_are_replaced_and_a_call_that_was_cut_says_so(store, server):
    tenant = filled(store)
    ada = tenant.member("ada")
    with raw(server, "admin") as db:
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'tenfold'"
        db.execute(cut)
        assert len(list(ada.history())) == 40  # idle ones: nobody notices

        def write() -> None:
            with tenant.database.writing() as writing:
                writing.execute("DELETE FROM waiting")
                db.execute(cut)
                writing.execute("SELECT 1")

        with pytest.raises(StoreError, match=r"was lost.*nothing of it was kept"):
            write()
    assert tenant.status().waiting == 40
    ada.append([NewEvent("goes on")])


def test_a_writer_that_holds_the_lock_for_too_long_is_named(store, monkeypatch):
    tenant = filled(store)
    monkeypatch.setattr(
        "tenfold.memory.postgres.database._WRITE",
        "BEGIN; SET LOCAL tenfold.tenant = {tenant}; SET LOCAL lock_timeout = '50ms';"
        "SELECT value FROM tenfold.counters WHERE name = 'sequence' FOR UPDATE;",
    )
    with tenant.database.writing():
        with pytest.raises(StoreError, match="another writer"):
            tenant.member("ada").append([NewEvent("tea")])
        assert len(list(tenant.member("ada").history())) == 40  # readers go on


WRITER = """
import sys
from tenfold.memory.places import open_store
from tenfold.memory.events import NewEvent, SHARED
address, name, count = sys.argv[1:]
ada = open_store(address).tenant("acme").member(name)
for i in range(int(count)):
    ada.append([NewEvent(f"{name} {i} {j}", scope=SHARED) for j in range(3)])
    print(i, flush=True)
"""


def writer(address: str, name: str, count: int = 10**6) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, address, name, str(count)], cwd=ROOT, stdout=subprocess.PIPE
    )


def test_two_processes_write_at_once(store, address: str):
    writers = [writer(address, name, 25) for name in ("ada", "bob")]
    for one in writers:
        one.communicate(timeout=90)
    assert [w.returncode for w in writers] == [0, 0]
    events = list(store.tenant("acme").member("cleo").history())
    assert [e.sequence for e in events] == list(range(1, 151))
    for name in ("ada", "bob"):
        said = [e.text for e in events if e.author == name]
        assert said == [f"{name} {i} {j}" for i in range(25) for j in range(3)]
    assert len(store.tenant("acme").member("cleo").find("ada").events) == 75


def acknowledged(process: subprocess.Popen[bytes], seconds: float) -> int:
    """How many batches a writer was told are kept before it was killed."""
    assert process.stdout is not None
    first = process.stdout.readline()  # it has started
    time.sleep(seconds)
    process.kill()
    rest = process.stdout.read()
    process.wait()
    process.stdout.close()
    return len(first.split()) + len(rest.split())


def test_a_killed_writer_loses_nothing_acknowledged_and_leaves_nothing_half(store, address: str):
    for turn, seconds in enumerate((0.0, 0.05, 0.2)):
        name = f"ada{turn}"
        batches = acknowledged(writer(address, name), seconds)
        tenant = store.tenant("acme")
        said = [e.text for e in tenant.history(Selection(author=name))]
        whole = len(said) // 3
        assert said == [f"{name} {i} {j}" for i in range(whole) for j in range(3)]
        assert batches <= whole <= batches + 1
        found = tenant.member("bob").find(name, limit=10**6).events
        assert len(found) == len(said)
        tenant.member("bob").append([NewEvent("goes on")])
    assert tenant.status().waiting == tenant.status().events


def test_a_killed_server_loses_nothing_acknowledged(tmp_path_factory, tmp_path: Path):
    postgres_server.need_postgres()
    shared = shared_server()
    server = postgres_server.made(shared.root.parent / "own")
    server.start()  # with fsync, which the others run without
    try:
        postgres_server.with_role(server)
        address = server.address(keys=tmp_path / "keys")
        process = writer(address, "ada")
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(5)]
        server.stop(signal.SIGKILL)
        told += process.stdout.read().splitlines()
        assert process.wait(30) != 0  # an error, not a hang
        process.stdout.close()
        (server.data / "postmaster.pid").unlink(missing_ok=True)
        with pytest.raises(StoreError, match="cannot be reached"):
            open_store(address)
        server.start()
        store = open_store(address)
        said = texts(store.tenant("acme").member("ada").history())
        whole = len(said) // 3
        assert said == [f"ada {i} {j}" for i in range(whole) for j in range(3)]
        assert len(told) <= whole <= len(told) + 1
        store.close()
    finally:
        server.stop()


def test_what_the_server_reports_says_what_to_do():
    postgres_server.need_postgres()
    from psycopg import errors

    from tenfold.memory.postgres.address import explained, parse

    address = parse("postgresql://ada:hush@h/d")
    for error, words in (
        (errors.DiskFull("no space for hush"), "disk space"),
        (errors.InsufficientPrivilege("denied"), "right"),
        (errors.ReadOnlySqlTransaction("read-only"), "replica"),
        (errors.TooManyConnections("many"), "connections"),
        (errors.OperationalError("server closed"), "was lost"),
        (errors.SyntaxError("near"), "refused a statement"),
    ):
        said = str(explained(address, error))
        assert words in said
        assert "hush" not in said
    assert "not known" in str(explained(address, errors.AdminShutdown(""), committing=True))
    assert "hush" not in f"{address} {address!r}"


def test_an_erasure_that_loses_the_server_gives_its_receipt_and_finishes_later(store, monkeypatch):
    tenant = filled(store)
    (event,) = tenant.member("ada").append([NewEvent("zebra")])
    tenant.member("ada").find("zebra")

    def lost(database) -> None:
        raise StoreError("the connection was lost")

    with monkeypatch.context() as cut:
        cut.setattr("tenfold.memory.postgres.erasure.scrub", lost)
        receipt = tenant.erase(Selection(ids=(event.id,)))
    assert not receipt.scrubbed
    assert tenant.database.vault.keys.of(event.sequence) is None  # that needed no server
    assert tenant.receipts() == [receipt]
    assert tenant.status().unscrubbed == 1
    store.close()
    tenant = store.tenant("acme")
    assert tenant.status().unscrubbed == 0
    assert [r.scrubbed for r in tenant.receipts()] == [True]
    assert tenant.verify_erasure(["zebra"]) == []
