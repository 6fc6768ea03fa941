"""What is built on a memory, in SQLite and in Postgres alike: opened by folder or by address."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tenfold.memory import AsyncMemory, Memory
from tenfold.memory.events import Kind, Scope
from tenfold.memory.mem0 import Memory as Mem0
from tenfold.memory.retention import Retention, set_policy
from tenfold.memory.store import Selection
from tests.memory.postgres_server import shared_server


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path)
    server = shared_server()
    server.empty()
    return str(server.address(keys=tmp_path / "keys"))


@pytest.fixture
def memory(place: str) -> Iterator[Memory]:
    memory = Memory.open(place, member="ada", embedder="words")
    yield memory
    memory.close()


def test_mem0_updates_finds_and_erases(place: str) -> None:
    with Mem0(place, embedder="words") as memory:
        (added,) = memory.add("I live in Lyon", user_id="ada", metadata={"k": 1})["results"]
        memory.add("I live in Rome", user_id="bob")
        memory.update(added["id"], "I live in Porto")
        found = memory.search("where do I live", filters={"user_id": "ada", "k": 1})["results"]
        assert [item["memory"] for item in found] == ["I live in Porto"]
        assert [row["event"] for row in memory.history(added["id"])] == ["ADD", "UPDATE"]
    with Mem0(place, embedder="words") as memory:  # as another process reads it
        memory.delete(added["id"])
        assert memory.get(added["id"]) is None
        assert memory.get_all(filters={"user_id": "ada"})["results"] == []
        assert memory.memory.tenant.verify_erasure(["Porto"]) == []
        memory.reset()
        assert memory.memory.status().events == 0


@pytest.mark.skipif(
    not importlib.util.find_spec("langgraph") and not os.environ.get("TENFOLD_REQUIRE_ALL"),
    reason="langgraph-checkpoint is not installed",
)
def test_a_langgraph_store_puts_finds_and_deletes(memory: Memory) -> None:
    from tenfold.memory.langgraph import LangGraphStore

    store = LangGraphStore(memory, member_at=1)
    for member, text in (("ada", "I drink tea"), ("bob", "I drink coffee")):
        store.put(("memories", member), "drink", {"text": text})
    store.put(("memories", "ada"), "drink", {"text": "I drink cocoa"})
    (item,) = store.search(("memories", "ada"), query="what do I drink?")
    assert item.value == {"text": "I drink cocoa"}
    assert len(store.versions(("memories", "ada"), "drink")) == 2
    store.delete(("memories", "ada"), "drink")
    assert store.search(("memories", "ada"), query="what do I drink?") == []
    assert [i.value["text"] for i in store.search(("memories", "bob"))] == ["I drink coffee"]


async def test_the_awaited_verbs(place: str) -> None:
    async with AsyncMemory.open(place, member="ada", embedder="words") as memory:
        added = await memory.add("I live in Porto.")
        assert [hit.event.id for hit in await memory.search("where do I live?")] == [added.id]
        assert [event.id async for event in memory.history()] == [added.id]


def test_a_summary_stands_in_and_goes_when_its_events_do(memory: Memory) -> None:
    for number in range(7):
        text = f"The garden fence number {number} needs {number + 3} pots of green paint."
        memory.add(text, conversation="fence", scope=Scope("shared"))
    (summary,) = memory.consolidate("fence")
    bob = memory.of("bob")
    hits = bob.search("green paint for the garden fence")
    assert [hit.summary for hit in hits if hit.summary] == [summary]
    memory.erase(Selection(ids=summary.events[:1]))
    left = [hit.summary for hit in memory.search("green paint for the garden fence") if hit.summary]
    assert all(summary.events[0] not in one.events for one in left)


def test_a_policy_keeps_the_newest_of_its_kind(memory: Memory) -> None:
    events = [memory.add(f"Result {number}", kind=Kind.TOOL, role="tool") for number in range(4)]
    said = memory.add("I live in Porto.")
    set_policy(memory.tenant, Retention(kind=Kind.TOOL, max_events=1))
    set_policy(memory.tenant, Retention(max_age=timedelta(days=1)))
    assert memory.retain(dry_run=True).events == 3
    done = memory.retain()
    assert done.receipt is not None
    assert done.receipt.events == 3
    assert [event.id for event in memory.history()] == [events[-1].id, said.id]
