"""What is Postgres's own: who keeps tenants apart, what its files hold, its failures."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from typer.testing import CliRunner

from tenfold.errors import InvalidRequest, MissingExtra, TenfoldError
from tenfold.memory.events import SHARED, NewEvent
from tenfold.memory.memory import Memory
from tenfold.memory.places import is_address, open_store
from tenfold.memory.sqlite import SqliteStore
from tenfold.memory.store import Derived, Selection, StoreError
from tests.memory import postgres_server
from tests.memory.postgres_server import PASSWORD, RealServer, shared_server
from tests.memory.stores import unit_vectors

ROOT = Path(__file__).parent.parent.parent
WORDS = (
    "tea",
    "teas",
    "rain",
    "Café",
    "cafe",
    "running",
    "ran",
    "NEAR",
    "42",
    "naïve",
    "茶",
    "x-y",
)


@pytest.fixture
def server() -> RealServer:
    server = shared_server()
    server.empty()
    return server


@pytest.fixture
def address(server: RealServer, tmp_path: Path) -> str:
    return server.address(keys=tmp_path / "keys", data=server.data)


@pytest.fixture
def store(address: str):
    store = open_store(address)
    yield store
    store.close()


def raw(server: RealServer, role: str = "tenfold"):
    """A plain connection, for looking behind the store's back."""
    import psycopg

    return psycopg.connect(server.address(role), autocommit=True)


def texts(events) -> list[str]:
    return [e.text for e in events]


def filled(store, count: int = 40):
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


# --- the same as SQLite's


def test_it_finds_what_sqlite_finds_with_the_same_scores(store, tmp_path: Path):
    rng = np.random.default_rng(8)
    lines = [" ".join(rng.choice(WORDS, rng.integers(1, 9))) for _ in range(300)]
    lite = SqliteStore(tmp_path / "lite")
    members = [s.tenant("acme").member("ada") for s in (store, lite)]
    for member in members:
        events = member.append([NewEvent(line, conversation=f"c{i % 7}")
                                for i, line in enumerate(lines)])  # fmt: skip
        member.erase(Selection(ids=tuple(e.id for e in events[::9])))  # segments are indexed anew
    for query in ("tea", "runs", "CAFÉ", "rain 42", "茶", "y", "near the tea", "nothing"):
        ours, theirs = (member.find(query, limit=400) for member in members)
        assert texts(ours.events) == texts(theirs.events), query
        np.testing.assert_allclose(ours.lexical, theirs.lexical, rtol=1e-12)
        np.testing.assert_array_equal(ours.before, theirs.before)
    lite.close()


# --- who keeps tenants apart


def test_every_table_of_tenants_has_the_policy_and_it_binds_the_owner_too(store, server):
    filled(store)
    with raw(server) as db:
        tables = db.execute(
            "SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity, pg_get_expr(p.polqual,"
            " p.polrelid) FROM pg_class c LEFT JOIN pg_policy p ON p.polrelid = c.oid WHERE"
            " c.relkind = 'r' AND c.relnamespace = 'tenfold'::regnamespace"
        ).fetchall()
    free = {name for name, bound, _ in tables if not bound}
    assert free == {"about", "tenants"}
    rules = {rule for name, _, rule in tables if name not in free}
    assert len(rules) == 1
    assert len(tables) > 12


def test_statements_that_forget_the_tenant_see_one_or_none(store, server):
    import psycopg

    filled(store)
    store.tenant("other").member("ada").append([NewEvent("zebra")])
    with raw(server) as db:
        with pytest.raises(psycopg.errors.UndefinedObject):
            db.execute("SELECT * FROM tenfold.events")
        for tenant, count in ((1, 40), (2, 1), (3, 0)):
            with db.transaction():
                db.execute(f"SET LOCAL tenfold.tenant = {tenant}")
                assert db.execute("SELECT count(*) FROM tenfold.events").fetchone() == (count,)
                if tenant == 2:
                    db.execute("DELETE FROM tenfold.waiting")
        db.execute("SET tenfold.tenant = 2")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute("INSERT INTO tenfold.grants VALUES (1, 'x', 'red')")
    assert store.tenant("acme").status().waiting == 40
    assert store.tenant("other").status().waiting == 0


def test_a_role_that_the_policy_does_not_bind_is_refused(server: RealServer, tmp_path: Path):
    store = open_store(server.address("admin", keys=tmp_path))
    with pytest.raises(StoreError, match="superuser") as e:
        store.tenant("acme")
    assert "CREATE ROLE" in str(e.value)
    assert not list(tmp_path.iterdir())
    store.close()


# --- erased bytes, where the guarantee differs from SQLite's


def test_nothing_that_was_said_is_in_any_file_of_the_server(store, server: RealServer):
    tenant = store.tenant("acme")
    vectors = unit_vectors(1, 384)
    (event,) = tenant.member("adalovelace").append(
        [NewEvent("zebras77 stroll77 quietly", conversation="conv77", subject="subj77", key="key77",
                  provenance={"note": "note77"})]
    )  # fmt: skip
    tenant.put_vectors("e/1", "turn", [event.id], vectors)
    tenant.put([Derived("fact", "f/1", (event.id,), {"of": "fact77"})])
    tenant.fail([event.id], "reason77")
    with raw(server, "admin") as db:
        db.execute("CREATE TABLE public.control AS SELECT 'control77' AS x")
        db.execute("CHECKPOINT")
        db.execute("DROP TABLE public.control")
    said = ["zebras77", "stroll77", "conv77", "subj77", "key77", "note77", "fact77", "reason77",
            "adalovelace", event.id]  # fmt: skip
    for word in said:
        assert in_files(server.root, word.encode()) == [], word  # its own logs of statements too
    assert in_files(server.root, vectors.tobytes()[:64]) == []
    assert in_files(server.root, b"control77")  # what is not sealed is there
    known = {p.probe for p in tenant.verify_erasure(said)}
    assert known == set(range(len(said)))  # and with the keys all of it is found


def test_what_stays_in_the_servers_files_opens_with_no_key_that_is_left(store, server, address):
    tenant = store.tenant("acme")
    ada = tenant.member("ada")
    gone, kept = ada.append([NewEvent("zebra at noon"), NewEvent("tea at noon")])
    tenant.put_vectors("e/1", "turn", [gone.id, kept.id], unit_vectors(2))
    tenant.put([Derived("fact", "f/1", (gone.id, kept.id), {"of": "both"})])
    keys = tenant.database.vault.keys
    key, index_key = keys.of(gone.sequence), keys.of_index(0, 0)
    with raw(server) as db, db.transaction():
        db.execute("SET LOCAL tenfold.tenant = 1")
        sealed = [
            bytes(row[0])
            for table, order in (("events", "sequence"), ("vectors", "sequence"), ("derived", "id"))
            for row in db.execute(f"SELECT sealed FROM tenfold.{table} ORDER BY {order}")
        ]
    ada.erase(Selection(ids=(gone.id,)))
    assert in_files(server.data, sealed[0])  # the difference: the server keeps the old row
    folder = Path(tenant.database.server.address.keys)
    assert not in_files(folder, key)
    assert not in_files(folder, index_key)
    left = keys.contents()
    candidates = {left[i : i + 32] for i in range(0, len(left) - 31, 16)}
    opened = [opens(one, candidates) for one in sealed]
    assert opened == [False, True, False, True, False]  # the rows of `kept`, its own alone
    assert tenant.verify_erasure(["zebra", "zebra at noon", gone.id]) == []
    assert texts(ada.find("noon").events) == ["tea at noon"]


def opens(sealed: bytes, keys: set[bytes]) -> bool:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    for key in keys:
        for what in ("event", "turn vector", "derived"):
            try:
                AESGCM(key).decrypt(sealed[:12], sealed[12:], what.encode())
            except InvalidTag:
                continue
            return True
    return False


def test_keys_are_destroyed_at_the_next_opening_after_a_crash_before_it(
    store, address: str, monkeypatch: pytest.MonkeyPatch
):
    tenant = filled(store)
    (event,) = tenant.member("ada").append([NewEvent("zebra")])
    key = tenant.database.vault.keys.of(event.sequence)
    with monkeypatch.context() as crash:
        crash.setattr("tenfold.memory.postgres.erasure.scrub", lambda database: None)
        tenant.erase(Selection(ids=(event.id,)))
    folder = Path(tenant.database.server.address.keys)
    assert in_files(folder, key)
    store.close()
    assert texts(store.tenant("acme").member("ada").find("zebra").events) == []
    assert not in_files(folder, key)


def test_a_backup_does_not_bring_back_what_was_erased_after_it(store, server, tmp_path: Path):
    tenant = filled(store, 300)
    ada = tenant.member("ada")
    (zebra,) = ada.append([NewEvent("zebra crossing")])
    given = {"env": {"PGPASSWORD": PASSWORD, "PATH": "/usr/bin:/bin"}, "check": True}
    where = ["-h", "127.0.0.1", "-p", str(server.port), "-U", "admin", "memory"]
    backup = tmp_path / "backup.sql"
    dump = postgres_server.program("pg_dump")
    subprocess.run([dump, "-n", "tenfold", "-f", str(backup), *where], **given)
    assert b"zebra" not in backup.read_bytes()
    ada.erase(Selection(ids=(zebra.id,)))
    ada.append([NewEvent("after the backup")])
    store.close()
    server.empty()
    psql = postgres_server.program("psql")
    subprocess.run([psql, "-q", "-f", str(backup), *where], capture_output=True, **given)
    ada = store.tenant("acme").member("ada")
    assert len(list(ada.history())) == 300  # what was said since is lost, as with any backup
    assert not ada.find("zebra crossing").events
    assert len(ada.find("forty", limit=500).events) == 300
    (again,) = ada.append([NewEvent("and on")])
    assert ada.get([again.id]) == [again]


@pytest.mark.parametrize(
    ("damage", "message"),
    [("none", "is missing"), ("other", "another memory"), ("older", "older than the database")],
)
def test_without_its_keys_a_memory_says_so(store, damage: str, message: str):
    tenant = filled(store, 600)
    path = tenant.database.vault.keys.path
    store.close()
    if damage == "none":
        path.unlink()
    elif damage == "other":
        path.write_bytes(path.read_bytes()[:16] + bytes(16) + path.read_bytes()[32:])
    else:
        path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(StoreError, match=message) as e:
        list(store.tenant("acme").member("ada").history())
    assert "turn" not in str(e.value)


def test_a_dropped_tenant_leaves_no_keys(store):
    tenant = filled(store)
    path = tenant.database.vault.keys.path
    assert path.stat().st_mode & 0o777 == 0o600
    store.drop("acme")
    assert not path.exists()


def test_a_query_that_meets_an_erasure_looks_again(store, address: str):
    tenant = filled(store)
    other = open_store(address)
    (zebra,) = other.tenant("acme").member("ada").append([NewEvent("zebra forty")])
    attempts = []

    def look(db):
        attempts.append(db.number("SELECT count(*) FROM events"))
        if len(attempts) == 1:
            other.tenant("acme").erase(Selection(ids=(zebra.id,)))
        return tenant.lookup.find(db, tenant.member("ada")._viewer, "forty", None, Selection(), 99)

    assert len(tenant.looking(look).events) == 40
    assert attempts == [41, 40]
    other.close()


# --- failures


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


# --- the surface


def test_memory_opens_an_address_and_searches_it(address: str):
    memory = Memory.open(address, tenant="acme", member="ada", embedder="words")
    memory.add("I live in Porto.", conversation="tea", scope=SHARED)
    memory.add("My sister paints boats.", conversation="tea")
    assert memory.search("where do I live?", k=1)[0].event.text == "I live in Porto."
    memory.erase(Selection(conversation="tea"))
    memory.close()
    again = Memory.open(address, tenant="acme", member="ada", embedder="words", create=False)
    assert again.search("Porto") == []
    again.close()


def test_the_command_line_takes_an_address(address: str, monkeypatch: pytest.MonkeyPatch):
    from tenfold.cli.memory import app

    monkeypatch.setenv("TENFOLD_MEMORY", address)

    def run(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, list(words))
        if code:
            assert isinstance(result.exception, TenfoldError)
            return str(result.exception)
        assert result.exit_code == 0, result.output
        return result.output

    missing = run("search", "tea", "--embedder", "none", "--tenant", "acme", code=1)
    assert "no memory of tenant 'acme' in postgresql://tenfold@127.0.0.1" in missing
    assert PASSWORD not in missing
    run("add", "green zebratea", "--conversation", "c")
    assert "green zebratea" in run("search", "zebratea", "--embedder", "none")
    run("erase", "--conversation", "c", "--yes", "--verify", "zebratea")


def test_the_server_keeps_memories_at_an_address(store, address: str):
    from tenfold.server.memories import Memories
    from tenfold.server.settings import MemorySettings

    memories = Memories(MemorySettings(address, embedder="none"), 1)
    memories.close()
    assert store.tenants() == ["default"]
