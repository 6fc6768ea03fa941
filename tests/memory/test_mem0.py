"""mem0's verbs over tenfold: the shapes of mem0ai 2.2.1, as seen in it; isolation; real erasure."""

import asyncio
import hashlib
import inspect
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.errors import InvalidRequest
from tenfold.memory.mem0 import AsyncMemory, Mem0Error, Memory
from tenfold.memory.mem0.filters import check, matches
from tenfold.memory.store import Selection

# Parameters of mem0ai 2.2.1's verbs (inspect.signature), beside self and **kwargs.
PARAMETERS = {
    "add": "messages user_id agent_id run_id metadata timestamp expiration_date infer memory_type"
    " prompt",
    "get": "memory_id",
    "get_all": "filters top_k show_expired",
    "search": "query top_k filters threshold rerank explain reference_date show_expired",
    "update": "memory_id text metadata expiration_date data",
    "delete": "memory_id",
    "delete_all": "user_id agent_id run_id",
    "history": "memory_id",
    "reset": "",
    "close": "",
    "from_config": "config_dict",
}
BASE = {"id", "memory", "hash", "metadata", "created_at", "updated_at", "role", "user_id"}


@pytest.fixture
def memory(tmp_path):
    with Memory(tmp_path, embedder="words") as opened:
        yield opened


def texts(found) -> list[str]:
    return [item["memory"] for item in found["results"]]


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("kind", [Memory, AsyncMemory])
def test_the_verbs_take_what_those_of_mem0_take(kind, name):
    found = inspect.signature(getattr(kind, name)).parameters
    names = [
        n for n, p in found.items() if n not in ("self", "ids") and p.kind is not p.VAR_KEYWORD
    ]
    assert names == PARAMETERS[name].split()
    awaited = kind is AsyncMemory and name not in ("close", "from_config")
    assert inspect.iscoroutinefunction(getattr(kind, name)) == awaited


def test_results_have_the_shapes_of_mem0(memory):
    added = memory.add("I like marzipan", user_id="ada", metadata={"k": "food", "n": 3})
    (one,) = added["results"]
    assert set(one) == {"id", "memory", "event", "actor_id", "role"}
    assert (one["memory"], one["event"], one["actor_id"], one["role"]) == (
        "I like marzipan", "ADD", None, "user",
    )  # fmt: skip
    got = memory.get(one["id"])
    assert set(got) == BASE | {"score"}
    assert got["score"] is None
    assert got["hash"] == hashlib.md5(b"I like marzipan").hexdigest()
    assert got["metadata"] == {"k": "food", "n": 3}
    assert datetime.fromisoformat(got["created_at"]).tzinfo is not None
    assert got["created_at"] == got["updated_at"]
    (listed,) = memory.get_all(filters={"user_id": "ada"})["results"]
    assert listed == {k: v for k, v in got.items() if k != "score"}
    (hit,) = memory.search("marzipan", filters={"user_id": "ada"}, explain=True)["results"]
    assert set(hit) == BASE | {"score", "score_details"}
    assert 0 <= hit["score"] <= 1
    assert memory.get("00000000-0000-0000-0000-000000000000") is None
    assert memory.history("nonsense") == []


def test_messages_keep_roles_and_names_and_leave_out_the_system(memory):
    added = memory.add(
        [
            {"role": "system", "content": "Be nice."},
            {"role": "user", "content": "hi there", "name": "bob"},
            {
                "role": "assistant",
                "content": [{"type": "text", "text": "hello"}, {"type": "image"}],
            },
            {"role": "assistant", "content": None},
        ],
        user_id="ada",
        agent_id="bot",
        run_id="r1",
        infer=False,
    )
    assert [(m["memory"], m["role"], m["actor_id"]) for m in added["results"]] == [
        ("hi there", "user", "bob"),
        ("hello", "assistant", None),
    ]
    items = memory.get_all(filters={"user_id": "ada", "run_id": "r1"})["results"]
    assert items[0].items() >= {
        "user_id": "ada", "agent_id": "bot", "run_id": "r1", "actor_id": "bob", "metadata": None,
    }.items()  # fmt: skip


def test_an_update_replaces_and_history_keeps_what_was(memory):
    (one,) = memory.add("I like marzipan", user_id="ada", metadata={"n": 3, "k": 1})["results"]
    assert memory.update(one["id"], "I like nougat") == {"message": "Memory updated successfully!"}
    memory.update(one["id"], metadata={"n": 4, "user_id": "bob"})
    got = memory.get(one["id"])
    assert (got["id"], got["memory"]) == (one["id"], "I like nougat")
    assert (got["metadata"], got["user_id"]) == ({"n": 4, "k": 1}, "ada")
    assert got["updated_at"] > got["created_at"]
    rows = memory.history(one["id"])
    assert [(r["event"], r["old_memory"], r["new_memory"]) for r in rows] == [
        ("ADD", None, "I like marzipan"),
        ("UPDATE", "I like marzipan", "I like nougat"),
        ("UPDATE", "I like nougat", "I like nougat"),
    ]
    assert set(rows[0]) == {
        "id", "memory_id", "old_memory", "new_memory", "event", "created_at", "updated_at",
        "is_deleted", "actor_id", "role",
    }  # fmt: skip
    assert {r["memory_id"] for r in rows} == {one["id"]}
    assert texts(memory.search("marzipan nougat", filters={"user_id": "ada"})) == ["I like nougat"]
    assert len(memory.get_all(filters={"user_id": "ada"})["results"]) == 1


def test_what_is_deleted_is_gone_from_every_file_with_its_history(memory):
    (one,) = memory.add("I like marzipan", user_id="ada")["results"]
    memory.update(one["id"], "I like nougat")
    memory.add("I like cheese", user_id="ada")
    memory.add("I like quince", user_id="bob")
    assert memory.delete(one["id"]) == {"message": "Memory deleted successfully!"}
    assert memory.get(one["id"]) is None
    assert memory.history(one["id"]) == []
    with pytest.raises(ValueError, match="no memory"):
        memory.delete(one["id"])
    assert memory.delete_all(user_id="ada") == {"message": "Memories deleted successfully!"}
    assert memory.delete_all(user_id="ada") == {"message": "Memories deleted successfully!"}
    assert memory.memory.tenant.verify_erasure(["marzipan", "nougat", "cheese"]) == []
    assert texts(memory.get_all(filters={"user_id": "bob"})) == ["I like quince"]
    memory.reset()
    assert memory.memory.status().events == 0
    assert memory.memory.tenant.verify_erasure(["quince"]) == []
    memory.reset()


def test_delete_all_of_a_run_leaves_the_others(memory):
    for run in ("r1", "r2"):
        memory.add(f"said in {run}", user_id="ada", run_id=run)
    memory.delete_all(user_id="ada", run_id="r1")
    assert texts(memory.get_all(filters={"user_id": "ada"})) == ["said in r2"]


def test_no_filter_reaches_beyond_the_owner(memory):
    memory.add("ada's marzipan", user_id="ada", agent_id="bot")
    memory.add("bob's marzipan", user_id="bob", agent_id="bot")
    memory.add("the bot's own marzipan", agent_id="bot")
    memory.add("a user named as the bot", user_id="bot")
    seen = {
        who: texts(memory.search("marzipan", filters=filters))
        for who, filters in {
            "ada": {"user_id": "ada"},
            "both": {"user_id": "ada", "OR": [{"user_id": "ada"}, {"user_id": "bob"}]},
            "agent": {"agent_id": "bot"},
            "nobody": {"user_id": "carol"},
        }.items()
    }
    assert seen == {
        "ada": ["ada's marzipan"],
        "both": ["ada's marzipan"],
        "agent": ["the bot's own marzipan"],
        "nobody": [],
    }
    for bad in ({"user_id": "*"}, {"user_id": ["ada", "bob"]}, {"user_id": {"ne": "x"}}, {}, None):
        with pytest.raises(Mem0Error):
            memory.search("marzipan", filters=bad)
        with pytest.raises(Mem0Error):
            memory.get_all(filters=bad)
    assert (
        memory.memory.of("bob").get(memory.get_all(filters={"user_id": "ada"})["results"][0]["id"])
        == []
    )


def test_ids_may_stand_beside_the_filters_as_in_mem0_1(memory):
    for n in range(3):
        memory.add(f"cheese {n}", user_id="ada")
    assert len(texts(memory.search("cheese", user_id="ada", limit=2))) == 2
    assert texts(memory.get_all(user_id="ada", limit=1)) == ["cheese 0"]
    with pytest.raises(Mem0Error, match="no option"):
        memory.search("cheese", user_id="ada", top=3)


def test_inferring_keeps_a_repeated_text_once_and_nothing_else_is_lost(memory):
    said = [{"role": "user", "content": "I like tea"}] * 2
    assert len(memory.add(said, user_id="ada")["results"]) == 1
    assert memory.add("I like tea", user_id="ada")["results"] == []
    assert len(memory.add("I like tea", user_id="ada", run_id="r")["results"]) == 1
    assert len(memory.add("I like tea", user_id="bob")["results"]) == 1
    assert len(memory.add(said, user_id="ada", infer=False)["results"]) == 2


def test_expired_memories_are_hidden_until_they_are_asked_for(memory):
    today = datetime.now(UTC).date()
    memory.add("old", user_id="ada", expiration_date=(today - timedelta(days=2)).isoformat())
    (new,) = memory.add("new", user_id="ada", expiration_date=today + timedelta(days=2))["results"]
    assert texts(memory.get_all(filters={"user_id": "ada"})) == ["new"]
    assert texts(memory.search("old new", filters={"user_id": "ada"})) == ["new"]
    assert texts(memory.get_all(filters={"user_id": "ada"}, show_expired=True)) == ["old", "new"]
    assert memory.get(new["id"])["expiration_date"] == (today + timedelta(days=2)).isoformat()
    memory.update(new["id"], expiration_date=None)
    assert "expiration_date" not in memory.get(new["id"])


def test_the_past_can_be_searched_as_it_was(memory):
    (one,) = memory.add("lives in Lyon", user_id="ada")["results"]
    between = datetime.now(UTC)
    memory.update(one["id"], "lives in Porto")
    found = memory.search("lives", filters={"user_id": "ada"}, reference_date=between)
    assert texts(found) == ["lives in Lyon"]
    assert texts(memory.search("lives", filters={"user_id": "ada"})) == ["lives in Porto"]


def test_metadata_of_any_json_comes_back_and_too_much_is_refused(memory):
    odd = {"tags": ["a", "ü", "\x7f\x00"], "deep": {"x": [1, None, True]}, "long": "word " * 500}
    (one,) = memory.add("x", user_id="ada", metadata=odd)["results"]
    assert memory.get(one["id"])["metadata"] == odd
    for bad in ({"x": "y" * 20_000}, {"x": {1, 2}}, {"x": float("nan")}):
        with pytest.raises(InvalidRequest, match="metadata"):
            memory.add("x", user_id="ada", metadata=bad, infer=False)
    assert len(memory.get_all(filters={"user_id": "ada"})["results"]) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.add("x"),
        lambda m: m.add(3, user_id="ada"),
        lambda m: m.add([3], user_id="ada"),
        lambda m: m.add([{"role": "user", "content": 3}], user_id="ada"),
        lambda m: m.add([{"content": "x"}], user_id="ada"),
        lambda m: m.add("x", user_id="a b"),
        lambda m: m.add("x", user_id=" "),
        lambda m: m.add("x", user_id="ada", prompt="extract"),
        lambda m: m.add("x", agent_id="bot", memory_type="procedural_memory"),
        lambda m: m.add("x", user_id="ada", expiration_date="soon"),
        lambda m: m.add("x", user_id="ada", timestamp="noon"),
        lambda m: m.search(" ", filters={"user_id": "ada"}),
        lambda m: m.search("x", filters={"user_id": "ada", "n": {"zz": 1}}),
        lambda m: m.search("x", filters={"user_id": "ada", "OR": {}}),
        lambda m: m.search("x", filters={"user_id": "ada"}, threshold=2),
        lambda m: m.search("x", filters={"user_id": "ada"}, top_k=-1),
        lambda m: m.search("x", filters={"user_id": "ada"}, rerank=True),
        lambda m: m.update("01ARZ3NDEKTSV4RRFFQ69G5FAV", "x"),
        lambda m: m.update("01ARZ3NDEKTSV4RRFFQ69G5FAV"),
        lambda m: m.delete_all(),
        lambda m: Memory.from_config({"vector_store": {}}),
        lambda m: Memory.from_config({"embedder": "none such"}),
        lambda m: m.search("x", filters={"user_id": "ada"}, reference_date="2026-05-01"),
        lambda m: m.search("x", filters={"user_id": "ada"}, reference_date=datetime(2026, 5, 1)),
        lambda m: m.search("x", filters={"AND": [{"user_id": "ada"}]}),
        lambda m: m.add("x", user_id="ada", timestamp="2026-05-01T10:00:00"),
        lambda m: m.add("x", user_id="ada", timestamp=float("nan")),
        lambda m: m.add("x", user_id="ada", timestamp=datetime(2040, 1, 1, tzinfo=UTC)),
        lambda m: m.add("x" * 40_000, user_id="ada"),
        lambda m: m.add("x", user_id="a" * 300),
        lambda m: m.add("x", user_id="ada", metadata={"x": "y" * 9000}),
        lambda m: m.add([{"role": "user", "content": [{"type": "text"}]}], user_id="ada"),
        lambda m: m.add([{"role": "user", "content": ["hi"]}], user_id="ada"),
    ],
)
def test_what_is_wrong_is_a_value_error_as_in_mem0_and_nothing_is_kept(memory, call):
    with pytest.raises(ValueError, match=r".+") as caught:
        call(memory)
    assert isinstance(caught.value, InvalidRequest)
    assert caught.value.param
    assert memory.memory.status().events == 0


def test_a_memory_without_its_first_version_is_still_reached_by_its_id(memory):
    memory.add("something else", user_id="bob")
    (added,) = memory.add("I love tea", user_id="ada")["results"]
    memory.update(added["id"], "I love coffee")
    memory.memory.of("user:ada").erase(Selection(ids=(added["id"],)))
    (item,) = memory.get_all(filters={"user_id": "ada"})["results"]
    assert item["id"] == added["id"]
    assert memory.get(added["id"])["memory"] == "I love coffee"
    memory.update(added["id"], "I love cocoa")
    assert [row["new_memory"] for row in memory.history(added["id"])] == [
        "I love coffee",
        "I love cocoa",
    ]
    memory.delete(added["id"])
    assert memory.get(added["id"]) is None
    assert memory.get_all(filters={"user_id": "ada"})["results"] == []


def test_another_process_is_seen_also_when_it_erases(memory, tmp_path):
    memory.add("first", user_id="ada")
    with Memory(tmp_path, embedder="words") as other:
        (second,) = other.add("second", user_id="ada")["results"]
        assert texts(memory.get_all(filters={"user_id": "ada"})) == ["first", "second"]
        other.delete(second["id"])
        assert memory.get(second["id"]) is None
        assert texts(memory.get_all(filters={"user_id": "ada"})) == ["first"]
        for n in range(100):
            other.add(f"more {n}", user_id="ada")
    assert len(memory.get_all(filters={"user_id": "ada"}, top_k=500)["results"]) == 101


async def test_the_async_verbs_do_the_same(tmp_path):
    async with AsyncMemory.from_config({"folder": tmp_path, "embedder": "words"}) as memory:
        added = await asyncio.gather(*(memory.add(f"tea {n}", user_id="ada") for n in range(5)))
        first = added[0]["results"][0]["id"]
        found = await memory.search("tea 3", filters={"user_id": "ada"}, top_k=1)
        assert texts(found) == ["tea 3"]
        await memory.update(first, "coffee")
        assert [r["event"] for r in await memory.history(first)] == ["ADD", "UPDATE"]
        assert (await memory.get(first))["memory"] == "coffee"
        await memory.delete(first)
        assert len((await memory.get_all(filters={"user_id": "ada"}))["results"]) == 4
        await memory.delete_all(user_id="ada")
        await memory.reset()


FIELDS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 3) | st.sampled_from("xyz"))


@given(FIELDS, FIELDS, FIELDS)
def test_filters_are_what_their_logic_says(payload, one, other):
    plainly = all(payload.get(k) == v for k, v in one.items())
    otherwise = all(payload.get(k) == v for k, v in other.items())
    check({"AND": [one, other]})
    assert matches(payload, one) == plainly
    assert matches(payload, {"AND": [one, other]}) == (plainly and otherwise)
    assert matches(payload, {"OR": [one, other]}) == (plainly or otherwise)
    assert matches(payload, {"NOT": [one, other]}) == (not plainly and not otherwise)
    for k, v in payload.items():
        assert matches(payload, {k: {"in": [v, "other"]}})
        assert not matches(payload, {k: {"nin": [v]}})
        assert not matches(payload, {k: {"ne": v}})
        if isinstance(v, int):
            ranges = {"gt": v - 1, "gte": v, "lt": v + 1, "lte": v}
            assert matches(payload, {k: ranges})


@pytest.mark.parametrize(
    ("wanted", "holds"),
    [
        ({"city": "Porto"}, True),
        ({"city": {"contains": "ort"}}, True),
        ({"city": {"contains": "PORT"}}, False),
        ({"city": {"icontains": "PORT"}}, True),
        ({"tags": "b"}, True),
        ({"tags": ["b", "z"]}, True),
        ({"tags": {"in": ["z"]}}, False),
        ({"missing": "*"}, True),
        ({"missing": {"ne": 1}}, False),
        ({"day": {"gte": "2026-01-01", "lt": "2026-02-01T00:00:00Z"}}, True),
        ({"city": {"gt": "A"}}, False),
        ({"yes": 1}, False),
        ({"n": 1.0}, True),
    ],
)
def test_operators(wanted, holds):
    payload = {"city": "Porto", "tags": ["a", "b"], "day": "2026-01-31", "yes": True, "n": 1}
    check(wanted)
    assert matches(payload, wanted) == holds
