"""The contract of a strategy: branches in, typed events out, and the registry of strategies.

A strategy is a frozen dataclass of its own parameters (declared with `params.param`, from which the
JSON Schema in `/v1/strategies`, the command line and the validation all come) with an async
generator `run`. It should fit on two screens.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

from tenfold.engine.branch import Branch
from tenfold.registry import Registry
from tenfold.rewards.base import RewardPrompt
from tenfold.search.branches import Branches
from tenfold.search.events import CheckpointEvent, Event, Report, ResultEvent
from tenfold.types import Completion, FinishReason, Message, SamplingParams, Usage


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to answer. `messages` is empty for plain completions."""

    prompt_ids: tuple[int, ...]
    params: SamplingParams
    messages: tuple[Message, ...] = ()

    @property
    def reward_prompt(self) -> RewardPrompt:
        return RewardPrompt(self.prompt_ids, self.messages)


class Strategy(Protocol):
    """A way to decode one request; a frozen dataclass whose fields are its parameters."""

    name: ClassVar[str]
    summary: ClassVar[str]
    cost: ClassVar[str]  # what it costs, in words a user can weigh
    needs: ClassVar[tuple[str, ...]]  # "reward", ...
    selects: ClassVar[bool]  # candidates compete: the answer is known only at the end
    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def candidates(self) -> int:
        """How many branches a request starts with, at most."""
        ...

    def run(self, branches: Branches, request: Request) -> AsyncGenerator[Event, None]:
        """Generates; ends with exactly one ResultEvent."""
        ...


STRATEGIES: Registry[type[Strategy]] = Registry(
    "strategy", group="tenfold.strategies", param="decode.strategy"
)


def result(
    strategy: Strategy,
    branches: Branches,
    ranked: Sequence[Branch],
    scores: dict[int, float],
    checkpoints: Sequence[CheckpointEvent] = (),
) -> ResultEvent:
    """The closing event: `ranked[0]` wins; unfinished branches are marked by what stopped them."""
    winner = ranked[0]
    report = Report(
        strategy=strategy.name,
        params=asdict(strategy),
        winner=winner.candidate,
        score=scores.get(winner.candidate),
        started=branches.started,
        finished=sum(b.finished for b in ranked),
        dropped=branches.dropped,
        checkpoints=tuple(checkpoints),
        tokens_generated=branches.generated,
        tokens_discarded=branches.generated - len(winner.output_ids)
        if strategy.selects
        else branches.discarded,
        reward=branches.reward_name,
        reward_calls=branches.reward_calls,
        reward_tokens=branches.reward_tokens,
        ms=branches.elapsed_ms,
        stopped_by=branches.stopped_by,
    )
    cut_short: FinishReason = "deadline" if branches.stopped_by == "deadline" else "length"
    completions = tuple(
        Completion(
            text=b.text,
            token_ids=tuple(b.output_ids),
            finish_reason=b.finish_reason or cut_short,
            score=scores.get(b.candidate),
            logprobs=tuple(b.logprobs),
            stop_text=b.stop_text,
        )
        for b in ranked
    )
    usage = Usage(
        prompt=len(winner.prompt_ids), generated=branches.generated, cached=winner.cached_tokens
    )
    return ResultEvent(completions, tuple(b.candidate for b in ranked), usage, report)
