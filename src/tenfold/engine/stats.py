"""What the engine reports about itself; the source of `/metrics`, `/v1/stats` and benchmarks."""

from __future__ import annotations

from dataclasses import dataclass

from tenfold.types import Occupancy


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counters since start (tokens, steps, preemptions) and the present state."""

    executor: str
    dtype: str
    occupancy: Occupancy
    prompt_tokens: int
    cached_tokens: int  # prompt tokens that the prefix cache saved
    generated_tokens: int
    dropped_tokens: int
    steps: int
    preemptions: int
    tokens_per_second: float  # generated, over the last few seconds
    uptime_s: float
