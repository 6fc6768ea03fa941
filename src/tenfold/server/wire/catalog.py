"""What the server says about itself: models, strategies, statistics, health."""

from __future__ import annotations

from typing import Any, Literal

from tenfold.server.wire.base import Answer


class ModelNotes(Answer):
    """What tenfold adds to a model's entry. `preset` is the decode object of a virtual model."""

    context_length: int
    examples: list[dict[str, Any]]
    preset: dict[str, Any] | None


class Model(Answer):
    """A model or a virtual model (`<model>@<preset>`)."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    tenfold: ModelNotes


class ModelList(Answer):
    """All models."""

    object: Literal["list"]
    data: list[Model]


class StrategyEntry(Answer):
    """A strategy; `params` is the JSON Schema of its part of the `decode` object."""

    id: str
    summary: str
    params: dict[str, Any]
    needs: list[str]
    cost: str


class RewardEntry(Answer):
    """A reward; `partial_ok` ones can score unfinished answers."""

    id: str
    summary: str
    partial_ok: bool


class StrategyList(Answer):
    """Everything a `decode` object can name."""

    object: Literal["list"]
    data: list[StrategyEntry]
    rewards: list[RewardEntry]


class KvStats(Answer):
    """KV memory in blocks; cached blocks are free until they are needed."""

    blocks_total: int
    blocks_used: int
    blocks_cached: int
    block_size: int


class SequenceStats(Answer):
    """Sequences in the engine."""

    running: int
    waiting: int
    paused: int


class TokenStats(Answer):
    """Tokens since the start."""

    prompt: int
    generated: int
    dropped: int
    cached: int


class Stats(Answer):
    """The engine's state now."""

    model: str
    executor: str
    dtype: str
    kv: KvStats
    sequences: SequenceStats
    tokens: TokenStats
    tokens_per_second: float
    prefix_cache_hit_rate: float
    uptime_s: float


class Health(Answer):
    """The server is up."""

    status: Literal["ok"]
    model: str
    version: str
