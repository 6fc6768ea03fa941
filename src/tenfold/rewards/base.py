"""What a reward is: something that scores whole or partial answers to one prompt.

A reward opens a session per request, so that it can keep state (its own KV prefix, say) between the
checkpoints of one search. Higher is better; scores of different prompts need not be comparable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tenfold.registry import Registry
from tenfold.types import Message


@dataclass(frozen=True, slots=True)
class RewardPrompt:
    """What was asked: token ids always, messages when the request was a chat."""

    prompt_ids: tuple[int, ...]
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole or partial answer. `logprobs` are those of the model that sampled it, if known."""

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] | None = None
    finished: bool = True


class RewardSession(Protocol):
    """Scores answers to one prompt."""

    tokens: int  # tokens the reward's own model has processed so far

    async def score(self, answers: Sequence[Answer]) -> list[float]:
        """One score per answer, in order."""
        ...

    async def close(self) -> None:
        """Frees what the session holds; harmless when called twice."""
        ...


class Reward(Protocol):
    """A named way to score answers."""

    @property
    def name(self) -> str: ...
    @property
    def summary(self) -> str: ...
    @property
    def partial_ok(self) -> bool: ...

    def open(self, prompt: RewardPrompt) -> RewardSession:
        """A session for one prompt."""
        ...


@dataclass(frozen=True, slots=True)
class FunctionReward:
    """A Python function as a reward: a verifier, a rule, a unit test.

    `function(prompt, answer)` returns a float; it must be quick, since it runs on the event loop.
    """

    name: str
    function: Callable[[RewardPrompt, Answer], float]
    summary: str = "a Python function"
    partial_ok: bool = False

    def open(self, prompt: RewardPrompt) -> RewardSession:
        """A stateless session that calls the function on each answer."""
        return _FunctionSession(prompt, self.function)


class _FunctionSession:
    tokens = 0

    def __init__(
        self, prompt: RewardPrompt, function: Callable[[RewardPrompt, Answer], float]
    ) -> None:
        self._prompt = prompt
        self._function = function

    async def score(self, answers: Sequence[Answer]) -> list[float]:
        return [float(self._function(self._prompt, a)) for a in answers]

    async def close(self) -> None:
        return None


REWARDS: Registry[Reward] = Registry("reward", group="tenfold.rewards", param="decode.reward")


def _facts() -> Reward:
    from tenfold.rewards.verifier import FactsReward  # read only when somebody asks for it

    return FactsReward()


def _concierge_rm() -> Reward:
    from tenfold.rewards.classifier import ClassifierReward

    summary = "a small trained reward model for answers of the concierge"
    return ClassifierReward.of("concierge-rm", summary=summary)


REWARDS.register("facts", _facts)
REWARDS.register("concierge-rm", _concierge_rm)
