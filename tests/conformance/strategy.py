"""What every strategy must do, whatever its parameters. Call `check_strategy` from a test."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

from tenfold.engine.async_engine import AsyncEngine
from tenfold.rewards.base import Reward
from tenfold.search.branches import Branches, Budget
from tenfold.search.events import CheckpointEvent, Event, ResultEvent, TokensEvent
from tenfold.search.strategy import Request, Strategy
from tenfold.types import SamplingParams


async def run(
    engine: AsyncEngine,
    strategy: Strategy,
    request: Request,
    reward: Reward | None = None,
    budget: Budget | None = None,
) -> list[Event]:
    """All events of one run; fails when a block is left behind."""
    branches = Branches(engine, request.reward_prompt, reward=reward, budget=budget)
    async with branches, aclosing(strategy.run(branches, request)) as events:
        got = [event async for event in events]
    await engine.settled()
    assert engine.occupancy().blocks_used == 0, "the strategy leaves blocks behind"
    return got


def result_of(events: list[Event]) -> ResultEvent:
    last = events[-1]
    assert isinstance(last, ResultEvent)
    return last


async def check_strategy(
    make_engine: Callable[[], AsyncEngine], strategy: Strategy, reward: Reward | None = None
) -> None:
    """Runs a strategy in several ways and holds its events against one another."""
    engine = make_engine()
    try:
        request = Request((1, 2, 3, 4, 5), SamplingParams(seed=9, max_tokens=12))
        events = await run(engine, strategy, request, reward)
        check_events(strategy, events)
        again = result_of(await run(engine, strategy, request, reward))
        assert again.completions == result_of(events).completions, "a seed fixes the answers"

        short = result_of(await run(engine, strategy, request, reward, Budget(tokens=10)))
        assert short.usage.generated <= 10, "the token budget is kept"
        late = await run(engine, strategy, request, reward, Budget(ms=1e-3))
        check_events(strategy, late)
        assert result_of(late).report.stopped_by == "deadline"

        # Leaving in the middle frees everything as well.
        branches = Branches(engine, request.reward_prompt, reward=reward)
        async with branches, aclosing(strategy.run(branches, request)) as stream:
            await anext(stream)
        await engine.settled()
        assert engine.occupancy().blocks_used == 0
        engine._engine.check_integrity()
    finally:
        await engine.close()


def check_events(strategy: Strategy, events: list[Event]) -> None:
    """One result, at the end; token events add up to texts and usage; cut candidates stay cut."""
    result = result_of(events)
    assert sum(isinstance(e, ResultEvent) for e in events) == 1
    tokens = [e for e in events if isinstance(e, TokensEvent)]
    assert sum(len(e.token_ids) for e in tokens) == result.usage.generated
    assert result.report.tokens_generated == result.usage.generated
    assert result.report.strategy == strategy.name
    assert result.candidates[0] == result.report.winner
    gone: set[int] = set()
    for event in events:
        if isinstance(event, TokensEvent):
            assert event.candidate not in gone, "a cut candidate grew"
        elif isinstance(event, CheckpointEvent):
            assert not set(event.alive) & set(event.cut)
            assert set(event.scores) >= set(event.alive) | set(event.cut)
            gone |= set(event.cut)
    scores = [c.score for c in result.completions]
    if strategy.selects:
        assert scores == sorted(scores, key=lambda s: -(s or 0.0)), "best first"
        assert result.report.score == scores[0]
    assert len(set(result.candidates)) == len(result.completions)
