"""What the server says about itself: models, strategies, statistics."""

from __future__ import annotations

from tenfold import __version__
from tenfold.search.params import json_schema
from tenfold.search.strategy import STRATEGIES
from tenfold.server.context import Context
from tenfold.server.errors import Refusal
from tenfold.server.wire import catalog as wire


def models(ctx: Context) -> wire.ModelList:
    """The model and its presets."""
    return wire.ModelList(object="list", data=ctx.catalog.entries())


def strategies(ctx: Context) -> wire.StrategyList:
    """All that a `decode` object can name, with the schema of its parameters."""
    entries = []
    # What `decode` without a strategy means comes first.
    for name in sorted(STRATEGIES, key=lambda n: (n != "sample", n)):
        cls = STRATEGIES.get(name)
        entry = wire.StrategyEntry(
            id=name,
            summary=cls.summary,
            params=json_schema(cls),
            needs=list(cls.needs),
            cost=cls.cost,
        )
        entries.append(entry)
    rewards = []
    for name in ctx.llm.rewards:
        reward = ctx.llm.rewards.get(name)
        rewards.append(
            wire.RewardEntry(id=name, summary=reward.summary, partial_ok=reward.partial_ok)
        )
    return wire.StrategyList(object="list", data=entries, rewards=rewards)


def stats(ctx: Context) -> wire.Stats:
    """The engine's counters and present state."""
    s = ctx.llm.stats()
    kv = s.occupancy
    return wire.Stats(
        model=ctx.catalog.name,
        executor=s.executor,
        dtype=s.dtype,
        kv=wire.KvStats(
            blocks_total=kv.blocks_total,
            blocks_used=kv.blocks_used,
            blocks_cached=kv.blocks_cached,
            block_size=kv.block_size,
        ),
        sequences=wire.SequenceStats(
            running=kv.running, waiting=kv.waiting + ctx.admission.waiting, paused=kv.paused
        ),
        tokens=wire.TokenStats(
            prompt=s.prompt_tokens,
            generated=s.generated_tokens,
            dropped=s.dropped_tokens,
            cached=s.cached_tokens,
        ),
        tokens_per_second=s.tokens_per_second,
        prefix_cache_hit_rate=s.cached_tokens / max(1, s.prompt_tokens),
        uptime_s=s.uptime_s,
    )


def health(ctx: Context) -> wire.Health:
    """The server is up. Raises Refusal when the engine behind it is gone."""
    if not ctx.llm.engine.alive:
        raise Refusal(503, "the engine is not running (restart the server)", code="engine_dead")
    return wire.Health(status="ok", model=ctx.catalog.name, version=__version__)
