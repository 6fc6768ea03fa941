"""AsyncMemory: the verbs of Memory, awaited, and nothing acknowledged is lost by cancelling."""

import asyncio
import inspect
import io
import threading
import time

import pytest

import tenfold.memory
from tenfold.errors import InvalidRequest, UnknownName
from tenfold.memory import AsyncMemory, Memory, NewEvent, Selection
from tenfold.memory.asynchronous import PAGE
from tenfold.memory.embedding import HashedWords
from tenfold.memory.store import StoreError

TALK = ("I live in Porto.", "My sister paints boats.", "We bought a red kettle.")


def verbs(kind: type) -> dict[str, object]:
    return {n: v for n, v in inspect.getmembers(kind) if not n.startswith("_") and callable(v)}


@pytest.mark.parametrize("name", sorted(verbs(Memory)))
def test_every_verb_of_memory_is_there_with_the_same_parameters(name):
    ours = verbs(AsyncMemory).get(name)
    assert ours is not None, f"add {name} = _awaited(Memory.{name}) to AsyncMemory"
    theirs = verbs(Memory)[name]
    assert inspect.signature(ours).parameters == inspect.signature(theirs).parameters
    if name not in ("open", "of"):
        assert inspect.iscoroutinefunction(ours) or inspect.isasyncgenfunction(ours)
        assert ours.__doc__


def test_async_memory_has_no_verbs_of_its_own():
    assert set(verbs(AsyncMemory)) == set(verbs(Memory))
    properties = [n for n, v in inspect.getmembers(Memory) if isinstance(v, property)]
    for name in ("tenant", *properties):
        assert isinstance(inspect.getattr_static(AsyncMemory, name), property)


def test_the_names_that_the_room_offers_are_pinned():
    assert sorted(tenfold.memory.__all__) == [
        "AsyncMemory",
        "Memory",
        "NewEvent",
        "Scope",
        "Selection",
    ]
    for name in tenfold.memory.__all__:
        assert getattr(tenfold.memory, name).__name__ == name
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = tenfold.memory.Nonsense


async def test_what_is_awaited_is_what_memory_gives(tmp_path):
    async with AsyncMemory.open(tmp_path, member="ada", embedder="words") as memory:
        added = await memory.add(TALK[0], conversation="tea")
        await memory.add_all([NewEvent(text) for text in TALK[1:]])
        await memory.add_messages([{"role": "user", "content": "hi"}], conversation="c")
        assert (memory.member, memory.tenant.name) == ("ada", "default")
        hits = await memory.search("where do I live?", 2)
        assert hits[0].event == added
        assert hits == memory.memory.search("where do I live?", 2)
        packed = await memory.recall("kettle", 1000, len)
        assert "kettle" in packed.text
        assert [f.object for f in await memory.facts("ada")] == ["Porto"]
        assert await memory.get(added.id) == [added]
        assert await memory.audit() == memory.memory.audit()
        bob = memory.of("bob")
        assert [event async for event in bob.history()] == []
        out = io.StringIO()
        assert await memory.export(out, Selection(conversation="tea")) == 1
        assert len(await bob.load(out.getvalue().splitlines())) == 1
        assert (await memory.erase(Selection(conversation="tea"))).events >= 1
        assert (await memory.rebuild()).waiting == 0
    again = Memory.open(tmp_path, member="ada", embedder=None)
    assert [e.text for e in again.history()][:2] == list(TALK[1:])
    again.close()


async def test_history_comes_whole_and_in_order_page_by_page(tmp_path):
    async with AsyncMemory.open(tmp_path, embedder=None) as memory:
        await memory.add_all([NewEvent(f"number{n}") for n in range(2 * PAGE + 3)])
        texts = [event.text async for event in memory.history()]
        assert texts == [f"number{n}" for n in range(2 * PAGE + 3)]
        assert [e.text async for e in memory.history(limit=1)] == [f"number{2 * PAGE + 2}"]
        async for _ in memory.history():
            break  # a reader that stops early holds nobody up
        await memory.add("after")


async def test_errors_reach_who_awaits(tmp_path):
    with pytest.raises(UnknownName):
        await AsyncMemory.open(tmp_path, tenant="nobody", embedder=None, create=False)
    async with AsyncMemory.open(tmp_path, embedder=None) as memory:
        with pytest.raises(InvalidRequest, match="empty"):
            await memory.search(" ")
        with pytest.raises(InvalidRequest, match="text is empty"):
            await memory.add("")
    with pytest.raises(StoreError, match="closed"):
        await memory.add("too late")
    await memory.close()


class Slow(HashedWords):
    """Waits inside, as a big model would, and tells on which threads it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.go = threading.Event(), threading.Event()
        self.threads: set[str] = set()

    def embed(self, texts):
        self.threads.add(threading.current_thread().name)
        self.began.set()
        assert self.go.wait(30)
        return super().embed(texts)


async def begun(embedder: Slow) -> None:
    assert await asyncio.to_thread(embedder.began.wait, 30)


async def test_the_loop_goes_on_while_memory_works(tmp_path):
    embedder = Slow()
    async with AsyncMemory.open(tmp_path, embedder=embedder) as memory:
        await memory.add(TALK[0])
        search = asyncio.create_task(memory.search("Porto"))
        await begun(embedder)  # the loop runs this although a search is stuck in its embedder
        for _ in range(50):
            await asyncio.sleep(0)
        assert not search.done()
        embedder.go.set()
        assert (await search)[0].event.text == TALK[0]
    assert len(embedder.threads) == 1
    assert threading.current_thread().name not in embedder.threads


async def test_a_cancelled_call_is_carried_through_or_never_begins(tmp_path):
    embedder = Slow()
    memory = await AsyncMemory.open(tmp_path, embedder=embedder)
    await memory.add("acknowledged")
    running = asyncio.create_task(memory.derive())
    await begun(embedder)
    waiting = asyncio.create_task(memory.add("never begun"))
    kept = asyncio.create_task(memory.add("kept"))
    await asyncio.sleep(0)
    for task in (running, waiting):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    embedder.go.set()
    assert (await kept).text == "kept"
    await memory.derive()
    assert [e.text async for e in memory.history()] == ["acknowledged", "kept"]
    assert (await memory.status()).waiting == 0
    await memory.close()


async def test_closing_waits_for_what_was_begun_even_when_it_is_cancelled(tmp_path):
    embedder = Slow()
    memory = await AsyncMemory.open(tmp_path, embedder=embedder)
    await memory.add(TALK[0])
    deriving = asyncio.create_task(memory.derive())
    await begun(embedder)
    added = asyncio.create_task(memory.add("said before it was closed"))
    await asyncio.sleep(0)
    closing = asyncio.create_task(memory.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    embedder.go.set()
    assert await deriving == 1
    assert (await added).text == "said before it was closed"
    for _ in range(300):  # the close that was cancelled goes on by itself
        if memory.tenant.database.closed:
            break
        await asyncio.to_thread(time.sleep, 0.1)
    assert memory.tenant.database.closed


async def test_calls_are_carried_out_in_the_order_in_which_they_were_made(tmp_path):
    async with AsyncMemory.open(tmp_path, embedder=None) as memory:
        await asyncio.gather(*(memory.add(f"number{n}") for n in range(40)))
        assert [e.text async for e in memory.history()] == [f"number{n}" for n in range(40)]
