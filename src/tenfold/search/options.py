"""The `decode` object of a request: which strategy, with what, within which limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tenfold.errors import InvalidRequest
from tenfold.search.branches import Budget
from tenfold.search.params import build, param
from tenfold.search.sample import Sample
from tenfold.search.strategy import STRATEGIES, Strategy

STRATEGIES.register("sample", lambda: Sample)


def _best_of_n() -> type[Strategy]:
    from tenfold.search.best_of_n import BestOfN

    return BestOfN


STRATEGIES.register("best_of_n", _best_of_n)


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """A strategy with its parameters, plus what every strategy shares."""

    strategy: Strategy
    reward: str | None = None
    budget: Budget = Budget()
    return_candidates: int = 1


@dataclass(frozen=True, slots=True)
class _Budget:
    tokens: int | None = param(None, "tokens over all candidates", minimum=1, kind="integer")
    ms: float | None = param(None, "milliseconds from arrival", minimum=1, kind="number")


@dataclass(frozen=True, slots=True)
class _Shared:
    reward: str | None = param(None, "which reward selects", kind="string")
    return_candidates: int = param(1, "answers to return, best first", minimum=1, maximum=1024)


def parse_decode(decode: Mapping[str, Any], *, default_reward: str = "logprob") -> DecodeOptions:
    """Reads a request's `decode` object.

    Raises InvalidRequest with a dotted `param` for unknown keys and values out of range,
    UnknownName for a strategy that does not exist. Whether the reward exists is checked by who
    holds the rewards.
    """
    values = dict(decode)
    name = values.pop("strategy", "sample")
    if not isinstance(name, str):
        raise InvalidRequest("decode.strategy must be a string", param="decode.strategy")
    cls = STRATEGIES.get(name)
    budget = values.pop("budget", None)
    if budget is None:
        budget = {}
    if not isinstance(budget, Mapping):
        raise InvalidRequest(
            "decode.budget must be an object",
            param="decode.budget",
            hint='for example {"tokens": 20000, "ms": 8000}',
        )
    limits = build(_Budget, budget, "decode.budget")
    shared = build(
        _Shared,
        {k: values.pop(k) for k in ("reward", "return_candidates") if k in values},
        "decode",
    )
    strategy = build(cls, values, "decode")
    reward = shared.reward
    if "reward" in cls.needs:
        reward = reward or default_reward
    elif reward is not None:
        raise InvalidRequest(
            f"strategy {name!r} takes no reward",
            param="decode.reward",
            hint="leave it out, or choose a strategy that selects, such as best_of_n",
        )
    return DecodeOptions(
        strategy, reward, Budget(limits.tokens, limits.ms), shared.return_candidates
    )
