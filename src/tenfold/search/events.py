"""The typed events every strategy yields; streaming, the playground and tests read them alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tenfold.types import Completion, FinishReason, TokenLogprob, Usage


@dataclass(frozen=True, slots=True)
class TokensEvent:
    """A candidate grew; the last event of a candidate carries its finish reason."""

    candidate: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class CheckpointEvent:
    """Candidates were scored; `cut` ones are gone. `tokens` is the longest answer so far."""

    tokens: int
    alive: tuple[int, ...]
    cut: tuple[int, ...]
    scores: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Report:
    """What was done for one request; the `decode` object of a response."""

    strategy: str
    params: Mapping[str, Any]
    winner: int
    score: float | None
    started: int
    finished: int
    dropped: int
    checkpoints: tuple[CheckpointEvent, ...]
    tokens_generated: int
    tokens_discarded: int
    reward: str | None
    reward_calls: int
    reward_tokens: int
    ms: float
    stopped_by: str  # complete, deadline or budget


@dataclass(frozen=True, slots=True)
class ResultEvent:
    """The end. `completions[0]` is the answer; `candidates[i]` numbers `completions[i]`.

    Selecting strategies order the rest by falling score, `sample` keeps the candidates' order.
    """

    completions: tuple[Completion, ...]
    candidates: tuple[int, ...]
    usage: Usage
    report: Report


Event = TokensEvent | CheckpointEvent | ResultEvent
