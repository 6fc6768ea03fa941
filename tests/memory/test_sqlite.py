"""What is SQLite's own: the file, its damage, two writers, a full disk, kill -9, leftover bytes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tenfold.cli.benchmarks.memory_soundness import held_in_memory, killed_writers
from tenfold.memory.events import SHARED, NewEvent
from tenfold.memory.sqlite import SqliteStore
from tenfold.memory.sqlite.log import counters
from tenfold.memory.sqlite.pages import index_levels, leftovers
from tenfold.memory.sqlite.store import file_name, tenant_name
from tenfold.memory.sqlite.visibility import Viewer
from tenfold.memory.store import MemoryStore, Selection, StoreError

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def store(tmp_path: Path):
    store = SqliteStore(tmp_path, patience=0.2)
    yield store
    store.close()


def filled(store: SqliteStore, count: int = 40):
    tenant = store.tenant("acme")
    tenant.member("ada").append([NewEvent(f"turn {i} of forty") for i in range(count)])
    return tenant


def test_it_is_a_store_of_memories(store: SqliteStore):
    as_contract: MemoryStore = store
    assert as_contract.tenants() == []


def test_file_names_stay_in_the_folder_and_do_not_meet():
    names = ["acme", "Acme", "ACME", "../x", "/etc/passwd", "a.b", "a%2Eb", "..", "ü", "u\u0308"]
    files = [file_name(name) for name in names]
    assert len({f.lower() for f in files}) == len(names)
    assert [tenant_name(f) for f in files] == names
    for file in files:
        assert Path(file).name == file
        assert not file.startswith(".")
    for foreign in ("Acme.memory", "a b.memory", "%zz.memory", ".x.memory.01", ".memory"):
        assert tenant_name(foreign) == ""


@pytest.mark.parametrize("damage", ["text", "header", "newer", "foreign", "empty"])
def test_a_file_that_is_no_memory_is_refused_and_left_as_it_is(store: SqliteStore, damage: str):
    filled(store)
    store.close()
    path = store.root / file_name("acme")
    if damage == "text":
        path.write_bytes(b"Dear diary, " * 900)
    elif damage == "header":
        path.write_bytes(b"\xff" * 100 + path.read_bytes()[100:])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        pragma = "user_version = 999" if damage == "newer" else "application_id = 7"
        db = sqlite3.connect(path)
        db.execute(f"PRAGMA {pragma}")
        db.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="left as it is") as e:
        store.tenant("acme")
    assert e.value.hint
    assert path.read_bytes() == before
    assert ("upgrade" in str(e.value)) == (damage == "newer")


def test_a_file_of_the_first_version_is_brought_up_to_this_one(store: SqliteStore):
    tenant = filled(store)
    said = [e.text for e in tenant.member("ada").history()]
    store.close()
    db = sqlite3.connect(store.root / file_name("acme"))
    db.executescript("DROP TABLE settings; DROP INDEX derived_kinds; PRAGMA user_version = 1")
    db.close()
    for _ in range(2):
        tenant = store.tenant("acme")
        assert [e.text for e in tenant.member("ada").history()] == said
        tenant.set("retention", "{}")
        assert dict(tenant.settings()) == {"retention": "{}"}
        store.close()
    db = sqlite3.connect(store.root / file_name("acme"))
    assert db.execute("PRAGMA user_version").fetchone() == (2,)
    assert db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'derived_kinds'").fetchone()
    db.close()


def test_damage_inside_the_file_is_a_clear_error(store: SqliteStore):
    tenant = filled(store, 4000)
    store.close()
    path = store.root / file_name("acme")
    data = bytearray(path.read_bytes())
    data[8192:] = b"\x5a" * (len(data) - 8192)
    path.write_bytes(data)
    with pytest.raises(StoreError, match="damaged"):
        store.tenant("acme").check()
    assert path.read_bytes() == data
    tenant.close()


def test_a_full_disk_is_a_clear_error_and_loses_nothing(store: SqliteStore):
    tenant = filled(store)
    ada = tenant.member("ada")
    with tenant.database.outside() as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages + 4}")
    kept = [e.id for e in ada.history()]
    message = ""
    for _ in range(50):
        try:
            kept += [e.id for e in ada.append([NewEvent("word " * 900), NewEvent("word " * 900)])]
        except StoreError as e:
            message = str(e)
            break
    assert "nothing of this call was kept" in message
    assert "disk space" in message
    assert [e.id for e in ada.history()] == kept
    tenant.check()
    with tenant.database.outside() as db:
        db.execute("PRAGMA max_page_count = 1000000")
    ada.append([NewEvent("there is room again")])
    tenant.check()
    assert len(list(ada.history())) == len(kept) + 1


WRITER = """
import sys
from tenfold.memory.sqlite import SqliteStore
from tenfold.memory.events import SHARED, NewEvent, SHARED
ada = SqliteStore(sys.argv[1]).tenant("acme").member(sys.argv[2])
for i in range(60):
    ada.append([NewEvent(f"{sys.argv[2]} {i}", scope=SHARED, key=f"k{i}")])
"""


def test_two_processes_write_at_once(tmp_path: Path):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name], cwd=ROOT)
        for name in ("ada", "bob")
    ]
    assert [w.wait(60) for w in writers] == [0, 0]
    tenant = SqliteStore(tmp_path).tenant("acme")
    events = list(tenant.member("cleo").history())
    assert [e.sequence for e in events] == list(range(1, 121))
    for name in ("ada", "bob"):
        assert [e.text for e in events if e.author == name] == [f"{name} {i}" for i in range(60)]
    tenant.check()
    tenant.close()


def test_a_lock_that_stays_is_a_clear_error(store: SqliteStore):
    tenant = filled(store)
    other = sqlite3.connect(store.root / file_name("acme"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked by another writer"):
        tenant.member("ada").append([NewEvent("tea")])
    assert len(list(tenant.member("ada").history())) == 40  # readers go on
    other.execute("ROLLBACK")
    other.close()
    tenant.member("ada").append([NewEvent("tea")])


def test_what_a_killed_writer_was_told_is_kept_is_kept(tmp_path: Path):
    counts = asdict(killed_writers(tmp_path, rounds=10, seed=4))
    assert counts["rounds"] == 10
    assert counts["acknowledged"] > 20
    assert (counts["lost"], counts["undead"], counts["half"]) == (0, 0, 0)


def test_an_erasure_that_a_reader_blocks_has_its_receipt_and_its_bytes_go_at_the_next_opening(
    store: SqliteStore,
):
    tenant = filled(store)
    (event,) = tenant.member("ada").append([NewEvent("zebra")])
    other = sqlite3.connect(store.root / file_name("acme"), isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM events").fetchone()
    receipt = tenant.erase(Selection(ids=(event.id,)))
    assert (receipt.events, receipt.scrubbed) == (1, False)
    assert tenant.receipts() == [receipt]
    assert tenant.status().unscrubbed == 1
    assert not tenant.member("ada").find("zebra").events
    assert {p.where for p in tenant.verify_erasure(["zebra"])} == {"acme.memory-wal"}
    waits = SqliteStore(store.root, patience=60)  # opening does not wait for the reader
    assert waits.tenant("acme").status().unscrubbed == 1
    waits.close()
    other.execute("COMMIT")
    other.close()
    store.close()
    tenant = store.tenant("acme")
    assert tenant.verify_erasure(["zebra"]) == []
    assert tenant.status().unscrubbed == 0
    assert tenant.receipts() == [replace(receipt, scrubbed=True)]
    assert not tenant.member("ada").find("zebra").events


def test_residue_is_found_where_deleting_left_some(store: SqliteStore):
    tenant = filled(store)
    events = tenant.member("ada").append([NewEvent(f"the zebras{i}q crossed") for i in range(60)])
    with tenant.database.outside() as db:
        db.execute("PRAGMA secure_delete = OFF")
        for event in events[::3]:
            row = (event.sequence, event.text)
            db.execute("INSERT INTO words(words, rowid, text) VALUES ('delete', ?, ?)", row)
            db.execute("DELETE FROM waiting WHERE sequence = ?", row[:1])
            db.execute("DELETE FROM events WHERE sequence = ?", row[:1])
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    gone = [f"zebras{i}q" for i in range(0, 60, 3)]
    assert not any(tenant.member("ada").find(word).events for word in gone)
    places = {p.where for p in tenant.verify_erasure(gone)}
    assert "acme.memory" in places  # bytes of rows
    assert "segments of words" in places  # terms in a segment, all of whose rows are deleted
    assert "vocabulary of words" not in places  # which no query shows


def test_copies_that_page_splits_leave_in_free_space_are_noticed(tmp_path: Path):
    db = sqlite3.connect(tmp_path / "split.db", isolation_level=None)
    db.execute("PRAGMA secure_delete = ON")
    db.execute("CREATE TABLE t(x TEXT)")
    db.execute("CREATE INDEX i ON t(x)")
    path = tmp_path / "split.db"
    db.execute("BEGIN")
    for i in range(4000):
        db.execute("INSERT INTO t VALUES (?)", (f"name{i * 7919 % 4001:05d}" + "x" * (i % 40),))
    db.execute("COMMIT")
    db.execute("DELETE FROM t WHERE rowid % 2")
    assert list(leftovers(path.read_bytes()))
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.execute("VACUUM")
    assert list(leftovers(path.read_bytes())) == []
    db.close()


def test_many_erasures_do_not_wear_the_text_index_out(store: SqliteStore):
    # FTS5 puts every merge of all segments a level higher and declares the index damaged in the end
    tenant = store.tenant("acme")
    ada = tenant.member("ada")
    lines = (" ".join(f"w{j * (i + 1)}" for j in range(300)) + " forty" for i in range(90))
    ada.append([NewEvent(line) for line in lines])
    levels = []
    for event in list(ada.history())[:60]:
        ada.erase(Selection(ids=(event.id,)))
        with tenant.database.reading() as db:
            (structure,) = db.execute("SELECT block FROM words_data WHERE id = 10").fetchone()
        levels.append(index_levels(structure))
    assert max(levels) <= 52
    assert min(levels[40:]) < max(levels[:40]) > 20  # it went up, and down again
    tenant.check()
    assert len(ada.find("forty").events) == 30


def test_erasing_is_counted_in_receipts_without_content(store: SqliteStore):
    tenant = filled(store)
    ids = [e.id for e in tenant.member("ada").history()]
    made = [tenant.erase(Selection(ids=(i,))) for i in ids[:3]]
    assert tenant.receipts() == made
    assert {tuple(r.selection.items()) for r in made} == {(("ids", "1"),)}


def test_a_tenant_half_made_by_a_killed_process_is_not_one(store: SqliteStore):
    (store.root / ".acme.memory.01ARZ3NDEKTSV4RRFFQ69G5FAV").write_bytes(b"SQLite for")
    assert store.tenants() == []
    filled(store).check()
    assert store.tenants() == ["acme"]


def test_a_folder_that_is_a_file_is_an_error_that_says_so(tmp_path: Path):
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    for root in (file, file / "below"):
        with pytest.raises(StoreError, match=r"notes\.txt.* cannot be the folder"):
            SqliteStore(root).tenant("acme")
    assert file.read_text() == "mine"


def test_a_query_from_before_an_erasure_leaves_no_view_behind(store: SqliteStore):
    tenant = store.tenant("acme")
    zebra = NewEvent("zebra tea", conversation="stripes", scope=SHARED)
    tenant.member("ada").append([zebra])
    cache, viewer = tenant.lookup.cache, Viewer("bob")
    with tenant.database.reading() as before:
        assert counters(before)[1] == tenant.epoch()
        tenant.revoke("bob", "red")  # what moves the epoch as an erasure does, and waits for nobody
        with tenant.database.reading() as after:
            cache.let_go(after)
        assert len(cache.view(before, viewer, Selection()).sequences) == 1
        assert held_in_memory(cache, ["stripes"]) == 0
    with tenant.database.reading() as after:
        cache.view(after, viewer, Selection())
    assert held_in_memory(cache, ["stripes"]) > 0
