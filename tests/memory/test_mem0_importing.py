"""What mem0 remembers, imported: dumps of `get_all()` and its history.db, once and in order."""

import json
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from tenfold.cli.main import main
from tenfold.errors import InvalidRequest
from tenfold.memory import Memory as Plain
from tenfold.memory.embedding import HashedWords
from tenfold.memory.mem0 import Mem0Error, Memory
from tenfold.memory.mem0.importing import load


@pytest.fixture
def memory(tmp_path):
    with Memory(tmp_path, embedder="words") as opened:
        yield opened


def texts(found) -> list[str]:
    return [item["memory"] for item in found["results"]]


def current(memory, **more):
    (item,) = memory.get_all(filters={"user_id": "ada"}, **more)["results"]
    return item


def dump(tmp_path, items, name="dump.json"):
    file = tmp_path / name
    file.write_text(json.dumps(items))
    return file


def as_mem0_has_it(text, n=0, **more):
    at = (datetime(2026, 5, 1, tzinfo=UTC) + timedelta(hours=n)).isoformat()
    return {"id": f"00000000-0000-4000-8000-{n:012}", "memory": text, "hash": "x", "metadata": None,
            "created_at": at, "updated_at": at, "role": "user", **more}  # fmt: skip


def test_a_dump_of_get_all_is_imported_once_and_a_changed_memory_becomes_an_update(
    memory, tmp_path
):
    plain = Plain(memory.memory.tenant, "me", embedder=HashedWords())
    items = [
        as_mem0_has_it("I like marzipan", 0, user_id="ada", metadata={"k": "food", "n": 3}),
        as_mem0_has_it("said in r", 1, user_id="ada", run_id="r", actor_id="bob"),
        as_mem0_has_it("of a bot", 2, agent_id="bot", role="assistant"),
    ]
    file = dump(tmp_path, [{"results": items[:1]}, *items[1:]])
    assert [e.text for e in load(plain, file)] == [i["memory"] for i in items]
    assert load(plain, file) == []
    (one, _) = memory.get_all(filters={"user_id": "ada"})["results"]
    assert (one["metadata"], one["created_at"]) == ({"k": "food", "n": 3}, items[0]["created_at"])
    items[0] |= {"memory": "I like nougat", "updated_at": items[2]["created_at"]}
    assert [e.text for e in load(plain, dump(tmp_path, items))] == ["I like nougat"]
    assert [r["new_memory"] for r in memory.history(one["id"])] == [
        "I like marzipan",
        "I like nougat",
    ]
    assert texts(memory.search("said marzipan", filters={"user_id": "ada", "run_id": "r"})) == [
        "said in r"
    ]
    assert memory.get_all(filters={"agent_id": "bot"})["results"][0]["role"] == "assistant"
    lines = tmp_path / "lines.jsonl"
    lines.write_text("\n".join(json.dumps(i) for i in items))
    assert load(plain, lines) == []


def history_db(folder, rows):
    file = folder / "history.db"
    with sqlite3.connect(file) as db:  # the table as mem0ai 2.2.1 makes it
        db.execute(
            "CREATE TABLE history (id TEXT PRIMARY KEY, memory_id TEXT, old_memory TEXT, new_memory"
            " TEXT, event TEXT, created_at DATETIME, updated_at DATETIME, is_deleted INTEGER,"
            " actor_id TEXT, role TEXT)"
        )
        db.executemany("INSERT INTO history VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    db.close()
    return file


def test_a_history_is_imported_with_its_versions_and_without_what_was_deleted(memory, tmp_path):
    day = "2026-05-0{}T10:00:00+00:00".format
    changes = [
        ("a", None, "I like marzipan", "ADD", day(1)),
        ("b", None, "a secret", "ADD", day(1)),
        ("a", "I like marzipan", "I like nougat", "UPDATE", day(2)),
        ("a", "I like nougat", "I like nougat", "UPDATE", day(3)),  # of its metadata
        ("b", "a secret", None, "DELETE", day(4)),
    ]
    rows = [
        (str(n), was, old, new, event, day(1), at, int(event == "DELETE"), None, "user")
        for n, (was, old, new, event, at) in enumerate(changes)
    ]
    history_db(tmp_path, rows)
    ada = Plain(memory.memory.tenant, "user:ada", embedder=HashedWords())
    assert [e.text for e in load(ada, tmp_path)] == ["I like marzipan", "I like nougat"]
    assert load(ada, tmp_path / "history.db") == []
    (item,) = memory.get_all(filters={"user_id": "ada"})["results"]
    assert (item["memory"], item["created_at"], item["updated_at"]) == (
        "I like nougat",
        day(1),
        day(2),
    )
    me = Plain(memory.memory.tenant, "me", embedder=HashedWords())
    assert len(load(me, tmp_path)) == 2
    assert [e.text for e in me.history()] == ["I like marzipan", "I like nougat"]


def test_what_mem0_has_now_is_current_whatever_was_and_an_old_dump_changes_nothing(
    memory, tmp_path
):
    plain = Plain(memory.memory.tenant, "me", embedder=HashedWords())
    dumps = []
    for n, text in enumerate(["I live in Porto", "I live in Lyon", "I live in Porto"]):
        item = as_mem0_has_it(text, n, user_id="ada") | {"id": "one"}
        dumps.append(dump(tmp_path, [item], f"{n}.json"))
        assert len(load(plain, dumps[-1])) == 1
        assert current(memory)["memory"] == text
    assert [load(plain, file) for file in dumps] == [[], [], []]
    memory.update(current(memory)["id"], "I live in Faro")  # said after all of the dumps
    assert [load(plain, file) for file in dumps] == [[], [], []]
    assert current(memory)["memory"] == "I live in Faro"


def test_a_changed_expiry_is_imported_and_ids_in_metadata_are_no_change(memory, tmp_path):
    plain = Plain(memory.memory.tenant, "me", embedder=HashedWords())
    item = as_mem0_has_it("My visa", user_id="ada", metadata={"actor_id": "x", "k": 1})
    assert [len(load(plain, dump(tmp_path, [item]))) for _ in range(2)] == [1, 0]
    item |= {"expiration_date": "2026-05-05"}
    assert [len(load(plain, dump(tmp_path, [item]))) for _ in range(2)] == [1, 0]
    assert current(memory, show_expired=True)["expiration_date"] == "2026-05-05"


def test_a_history_after_a_dump_takes_nothing_away_that_only_the_dump_knows(memory, tmp_path):
    ada = Plain(memory.memory.tenant, "user:ada", embedder=HashedWords())
    day = "2026-05-0{}T10:00:00+00:00".format
    item = as_mem0_has_it("I live in Lyon", user_id="ada", run_id="r", metadata={"k": 1})
    load(ada, dump(tmp_path, [item | {"updated_at": day(2)}]))
    was = item["id"]
    history_db(
        tmp_path,
        [
            ("1", was, None, "I live in Porto", "ADD", day(1), None, 0, None, "user"),
            ("2", was, "x", "I live in Lyon", "UPDATE", day(1), day(2), 0, None, "user"),
            ("3", was, "x", "I live in Faro", "UPDATE", day(1), day(3), 0, None, "user"),
        ],
    )  # fmt: skip
    assert [e.text for e in load(ada, tmp_path)] == ["I live in Faro"]
    now = current(memory)
    assert (now["memory"], now["run_id"], now["metadata"]) == ("I live in Faro", "r", {"k": 1})
    assert load(ada, tmp_path) == []


def test_an_import_that_cannot_be_whole_writes_nothing_and_names_the_memory(memory, tmp_path):
    plain = Plain(memory.memory.tenant, "user:ada", embedder=None)
    rows = [
        ("1", "m1", None, "short", "ADD", "2026-05-01T10:00:00+00:00", None, 0, None, "user"),
        ("2", "m1", "", "x" * 40_000, "UPDATE", "2026-05-01T10:00:00+00:00", None, 0, None, "user"),
    ]
    later = as_mem0_has_it("x", user_id="bob") | {"updated_at": "2036-01-01T00:00:00+00:00"}
    for file, name in (
        (history_db(tmp_path, rows), "m1"),
        (dump(tmp_path, [as_mem0_has_it("y", 1, user_id="ada"), later]), later["id"]),
    ):
        with pytest.raises(Mem0Error, match=f"memory {name}: "):
            load(plain, file)
    assert plain.status().events == 0


def test_the_command_imports_a_dump(tmp_path, capsys):
    file = dump(tmp_path, [as_mem0_has_it("I like marzipan", user_id="ada")])
    place = ["--folder", str(tmp_path / "m"), "--tenant", "mem0"]
    for count in ("1 new event, 0 here", "0 new events, 1 here"):
        main(["memory", "import", "--from", "mem0", str(file), *place])
        assert count in capsys.readouterr().out
    with Memory(tmp_path / "m", embedder="words") as memory:
        assert texts(memory.get_all(filters={"user_id": "ada"})) == ["I like marzipan"]
    for wrong in (["--from", "mem1", str(file)], ["--from", "mem0", str(tmp_path)]):
        with pytest.raises(SystemExit) as ended:
            main(["memory", "import", *wrong, *place])
        assert ended.value.code == 2


def test_what_is_no_memory_of_mem0_is_refused_and_pickles_are_never_opened(memory, tmp_path):
    plain = Plain(memory.memory.tenant, "me", embedder=None)
    trap = tmp_path / "collection" / "mem0" / "storage.sqlite"
    trap.parent.mkdir(parents=True)
    with sqlite3.connect(trap) as db:
        db.execute("CREATE TABLE points (id TEXT PRIMARY KEY, point BLOB)")
        db.execute("INSERT INTO points VALUES ('x', ?)", (b"cos\nsystem\n(S'true'\ntR.",))
    db.close()
    pickle = tmp_path / "x.pickle"
    pickle.write_bytes(b"\x80\x05cos\nsystem\n(S'true'\ntR.")
    bad = [
        trap,
        trap.parent,
        pickle,
        tmp_path / "nothing.json",
        dump(tmp_path, [{"id": "1", "memory": "x"}], "1.json"),
        dump(tmp_path, [as_mem0_has_it("nobody's")], "2.json"),
        dump(
            tmp_path,
            [as_mem0_has_it("x", user_id="a", created_at="noon", updated_at=None)],
            "3.json",
        ),
        dump(tmp_path, [as_mem0_has_it(5, user_id="a")], "4.json"),
    ]
    for path in bad:
        with pytest.raises(InvalidRequest) as caught:
            load(plain, path)
        assert caught.value.param
    assert plain.status().events == 0
