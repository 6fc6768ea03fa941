"""A sequence: the engine's side of a branch, with its tokens, blocks and sampling state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from tenfold.engine.blocks import ROOT
from tenfold.engine.constraint import ConstraintState
from tenfold.engine.stopping import StopStrings
from tenfold.types import FinishReason, SamplingParams, TokenLogprob


class Detokenizer(Protocol):
    """Turns token ids into text as they come, never splitting a character."""

    def push(self, token_id: int) -> str: ...
    def flush(self) -> str: ...
    def copy(self) -> Detokenizer: ...


@dataclass(slots=True)
class Family:
    """All sequences of one `start`: they share a seed and number their candidates together."""

    id: int
    seed: int
    candidates: int = 0
    counted: bool = False  # in the engine's prompt statistics

    def next_candidate(self) -> int:
        """The number of the next sequence, in order of creation."""
        self.candidates += 1
        return self.candidates - 1


PREFILL = -1  # a goal: compute everything but the last token, sample nothing


@dataclass(eq=False, slots=True)
class Sequence:
    """Tokens so far and where their keys and values are.

    `computed` tokens have their keys and values in `block_table`; to sample the next token all of
    `tokens` must be computed. A sequence with `goal` None is paused; otherwise it runs until it has
    `goal` output tokens (or, for PREFILL, until only its last token is left to compute).
    """

    id: int
    family: Family
    candidate: int
    prompt_len: int
    tokens: list[int]
    params: SamplingParams
    detokenizer: Detokenizer
    stops: StopStrings
    constraint: ConstraintState | None = None
    inherited: int = 0  # output tokens that came from the parent
    block_table: list[int] = field(default_factory=list)
    key_ids: list[int] = field(default_factory=list)  # of the published blocks, in order
    computed: int = 0
    cached_tokens: int = 0
    goal: int | None = None
    pressure: float | None = None  # pause when a smaller share of blocks than this is free
    finish_reason: FinishReason | None = None
    stop_text: str | None = None
    dropped: bool = False

    @property
    def output_len(self) -> int:
        return len(self.tokens) - self.prompt_len

    @property
    def order(self) -> tuple[int, int]:
        """Who came first: older families, then lower candidates, keep their memory longest."""
        return (self.family.id, self.candidate)

    @property
    def parent_key(self) -> int:
        return self.key_ids[-1] if self.key_ids else ROOT

    @property
    def wanted(self) -> int:
        """Tokens to compute before the goal can be met or the next token sampled."""
        if self.goal is None:
            return 0
        return len(self.tokens) - (self.goal == PREFILL) - self.computed


@dataclass(frozen=True, slots=True)
class Output:
    """What one sequence gained in a step. `paused` says that its goal is met for now."""

    sequence: Sequence
    token_ids: tuple[int, ...] = ()
    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    paused: bool = False
    error: Exception | None = None
