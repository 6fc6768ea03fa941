"""Branches, the keystone: what strategies hold while the engine generates.

A strategy is written against four engine verbs (`start`, `fork`, `extend`, `drop`) and
`occupancy()`. `BranchEngine` is that contract; `tests/conformance/` holds its executable
form.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tenfold.types import FinishReason, Occupancy, SamplingParams, TokenLogprob


@dataclass(frozen=True, slots=True)
class Tokens:
    """Extend every branch by at most this many tokens."""

    count: int


@dataclass(frozen=True, slots=True)
class EndOfText:
    """Extend every branch until it finishes."""


@dataclass(frozen=True, slots=True)
class Pressure:
    """Extend until all branches finish or fewer than `free_fraction` of the KV blocks are free."""

    free_fraction: float = 0.1


Until = Tokens | EndOfText | Pressure


@dataclass(eq=False, slots=True)
class Branch:
    """A growing answer. Its fields are updated by `extend`, on the caller's event loop.

    `candidate` numbers the branches of one `start` in order of creation (the started one is 0) and
    feeds the counter-based randomness, so that a seed fixes every branch's text.
    """

    id: int
    candidate: int
    prompt_ids: tuple[int, ...]
    params: SamplingParams
    output_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    text: str = ""
    finish_reason: FinishReason | None = None
    stop_text: str | None = None
    cached_tokens: int = 0  # prompt tokens found in the prefix cache
    inherited_tokens: int = 0  # output tokens that came from the branch this one was forked from

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None


@dataclass(frozen=True, slots=True)
class Delta:
    """What one branch gained: already applied to `branch` when the caller sees it."""

    branch: Branch
    token_ids: tuple[int, ...]
    text: str
    logprobs: tuple[TokenLogprob, ...]
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can promise; declared, never guessed."""

    shared_prefix: bool  # forks share KV memory
    pressure: bool  # `Pressure` is meaningful
    seeded: bool  # the same seed gives the same text whatever else runs
    token_ids: bool  # branches carry token ids and logprobs


class BranchEngine(Protocol):
    """The four verbs. Raises InvalidRequest for prompts that do not fit, EngineError on failure."""

    @property
    def capabilities(self) -> Capabilities: ...

    async def start(self, prompt_ids: Sequence[int], params: SamplingParams) -> Branch:
        """A new branch with an empty answer; nothing is computed yet."""
        ...

    async def fork(self, branch: Branch, n: int) -> list[Branch]:
        """`n` more branches that continue from here, sharing everything computed so far."""
        ...

    def extend(self, branches: Sequence[Branch], until: Until) -> AsyncGenerator[Delta, None]:
        """Generates on all branches together. Leaving the iterator early pauses them."""
        ...

    async def drop(self, branches: Sequence[Branch]) -> None:
        """Forgets the branches; their blocks are free at once. Dropping twice is harmless."""
        ...

    def occupancy(self) -> Occupancy:
        """What is left."""
        ...
