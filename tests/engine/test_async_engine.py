"""AsyncEngine: the branch contract, and what threads and cancellation may not break."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from tenfold.engine.async_engine import AsyncEngine
from tenfold.engine.branch import EndOfText, Tokens
from tenfold.engine.engine import Engine
from tenfold.errors import EngineError
from tenfold.types import SamplingParams
from tests.conformance.branches import BranchEngineConformance
from tests.engine.mock_model import EOS, LetterDetokenizer, MockExecutor


def make(num_blocks: int = 64) -> AsyncEngine:
    return AsyncEngine(
        Engine(MockExecutor(num_blocks), LetterDetokenizer, eos_ids=[EOS], context_length=80)
    )


@pytest.fixture
async def engine() -> AsyncIterator[AsyncEngine]:
    engine = make()
    yield engine
    await engine.close()
    assert not [t for t in threading.enumerate() if t is engine._thread]


class TestContract(BranchEngineConformance):
    @pytest.fixture
    async def engine(self) -> AsyncIterator[AsyncEngine]:
        engine = make()
        yield engine
        await engine.close()


async def test_cancelled_tasks_leave_no_blocks(engine: AsyncEngine) -> None:
    async def request(i: int) -> None:
        root = await engine.start([i % 5, 1, 2, 3, 4, 5], SamplingParams(seed=i, ignore_eos=True))
        branches = [root]
        try:
            branches += await engine.fork(root, i % 4)
            async for _ in engine.extend(branches, EndOfText()):
                await asyncio.sleep(0)
        finally:
            await engine.drop(branches)

    tasks = [asyncio.create_task(request(i)) for i in range(40)]
    for i, task in enumerate(tasks):
        await asyncio.sleep(0.001)
        if i % 3:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await engine.settled()
    assert engine.occupancy().blocks_used == 0
    engine._engine.check_integrity()


async def test_a_failing_request_raises_where_it_waits(engine: AsyncEngine) -> None:
    executor = engine._engine.executor
    assert isinstance(executor, MockExecutor)
    branch = await engine.start([40, 1], SamplingParams())
    executor.fail_on = 40
    with pytest.raises(EngineError, match="told to fail"):
        async for _ in engine.extend([branch], Tokens(2)):
            pass


async def test_closing_ends_requests_with_an_error() -> None:
    engine = make()
    branch = await engine.start([1, 2], SamplingParams(ignore_eos=True))
    deltas = engine.extend([branch], EndOfText())
    await anext(deltas)
    await engine.close()
    with pytest.raises(EngineError, match="closed"):
        async for _ in deltas:
            pass
    with pytest.raises(EngineError, match="closed"):
        await engine.start([1], SamplingParams())


async def test_a_dying_engine_tells_everybody(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    branch = await engine.start([1, 2], SamplingParams(ignore_eos=True))
    deltas = engine.extend([branch], EndOfText())
    await anext(deltas)

    def defect() -> bool:
        raise RuntimeError("a defect of the engine")

    monkeypatch.setattr(engine._engine, "has_work", defect)
    with pytest.raises(EngineError, match=r"died: a defect.*restart"):
        async for _ in deltas:
            pass
    assert not engine.alive
    with pytest.raises(EngineError, match="died"):
        await engine.start([1], SamplingParams())
    await engine.drop([branch])


async def test_statistics_can_be_read_at_any_time(engine: AsyncEngine) -> None:
    branch = await engine.start([1, 2], SamplingParams(ignore_eos=True))
    done = threading.Event()
    errors: list[Exception] = []

    def poll() -> None:
        while not done.is_set():
            try:
                engine.stats()
            except RuntimeError as e:
                errors.append(e)

    poller = threading.Thread(target=poll)
    poller.start()
    async for _ in engine.extend([branch], EndOfText()):
        pass
    done.set()
    await asyncio.to_thread(poller.join)
    assert errors == []


async def test_two_event_loops_share_one_engine(engine: AsyncEngine) -> None:
    async def one() -> list[int]:
        branch = await engine.start([1, 2, 3], SamplingParams(seed=4, max_tokens=20))
        async for _ in engine.extend([branch], EndOfText()):
            pass
        return branch.output_ids

    elsewhere = asyncio.to_thread(lambda: asyncio.run(one()))
    here, there = await asyncio.gather(one(), elsewhere)
    assert here == there
