"""What is Postgres's own: who keeps tenants apart, what its files hold, its failures."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tenfold.errors import TenfoldError
from tenfold.memory.events import SHARED, NewEvent
from tenfold.memory.memory import Memory
from tenfold.memory.places import open_store
from tenfold.memory.sqlite import SqliteStore
from tenfold.memory.store import Derived, Selection, StoreError
from tests.memory import postgres_server
from tests.memory.postgres_server import PASSWORD, RealServer, filled, in_files, raw, texts
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
def store(address: str):
    store = open_store(address)
    yield store
    store.close()


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
        crash.setattr("tenfold.memory.postgres.keys.Keys.destroy", lambda keys, gone: None)
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
