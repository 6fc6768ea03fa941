"""From a request's fields to how it is sampled and decoded, under the operator's limits.

Sampling values: the body's, else the preset's, else the checkpoint's own defaults.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from tenfold.errors import DeadlineExceeded, InvalidRequest
from tenfold.search.branches import Budget
from tenfold.search.options import DecodeOptions, parse_decode
from tenfold.server.catalog import Preset
from tenfold.server.context import Context
from tenfold.server.settings import ServerSettings
from tenfold.server.wire.sampling import GenerationRequest
from tenfold.types import Constraint, SamplingParams

_PLAIN = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "min_tokens",
    "ignore_eos",
    "seed",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How one request is answered."""

    model: str
    preset: str | None
    params: SamplingParams
    options: DecodeOptions
    asked: Budget  # the request's own budget, for the report
    reports: bool  # the answer carries a decode report
    arrived: float  # time.monotonic()
    seeded: bool | None = None  # whether the seed fixes the answer; None without a seed

    @property
    def deadline_s(self) -> float:
        assert self.options.budget.ms is not None, "every plan has a deadline"
        return self.options.budget.ms / 1000

    def options_now(self) -> DecodeOptions:
        """The options with what is left of the deadline. Raises DeadlineExceeded if nothing is."""
        left = self.deadline_s - (time.monotonic() - self.arrived)
        if left <= 0:
            raise DeadlineExceeded("the request's time was over before it began")
        return replace(self.options, budget=replace(self.options.budget, ms=left * 1000))


def make_plan(
    ctx: Context,
    body: GenerationRequest,
    *,
    max_tokens: int | None,
    logprobs: int | None,
    constraint: Constraint | None = None,
) -> Plan:
    """Raises UnknownName and InvalidRequest, each naming the field and the limit."""
    arrived = time.monotonic()
    model, preset = ctx.catalog.find(body.model)
    _no_speculation(body.speculative)
    params = _params(ctx, body, preset, max_tokens, logprobs, constraint)
    _limit("n", body.n, ctx.settings.max_n)
    decode = preset.under(body.decode) if preset else dict(body.decode or {})
    options = _options(decode, body.n, ctx.settings.default_reward)
    if options.reward is not None:
        ctx.llm.rewards.get(options.reward)  # an unknown one is refused before any work
    _check_choices(options, body)
    asked = options.budget
    return Plan(
        model=model,
        preset=preset.name if preset else None,
        params=params,
        options=replace(options, budget=_capped(options, ctx.settings)),
        asked=asked,
        reports=body.decode is not None or preset is not None,
        arrived=arrived,
        seeded=ctx.llm.engine.capabilities.seeded if params.seed is not None else None,
    )


def _no_speculation(wanted: dict[str, Any] | None) -> None:
    if wanted is None or wanted == {"enabled": False}:
        return
    raise InvalidRequest(
        "this server has no proposer, so it cannot speculate",
        param="speculative",
        hint='leave it out, or send {"enabled": false}',
    )


def _params(
    ctx: Context,
    body: GenerationRequest,
    preset: Preset | None,
    max_tokens: int | None,
    logprobs: int | None,
    constraint: Constraint | None,
) -> SamplingParams:
    values: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v
        for k, v in (preset.sampling if preset else {}).items()
    }
    values |= {k: v for k in _PLAIN if (v := getattr(body, k)) is not None}
    if body.stop is not None:
        values["stop"] = body.stops
    if body.logit_bias is not None:
        values["logit_bias"] = _bias(body.logit_bias, ctx.llm.model.spec.vocab_size)
    if body.stop_token_ids is not None:
        values["stop_token_ids"] = _stop_ids(body.stop_token_ids, ctx.llm.model.spec.vocab_size)
    if max_tokens is not None:
        values["max_tokens"] = max_tokens
    if logprobs is not None:
        values["logprobs"] = logprobs
    if constraint is not None:
        values["constraint"] = constraint
    params = replace(ctx.llm.model.default_params(), **values)
    cap = ctx.settings.max_tokens
    _limit("min_tokens", params.min_tokens, cap)
    if cap is not None and params.max_tokens is None:
        return replace(params, max_tokens=cap)
    _limit("max_tokens", params.max_tokens, cap)
    return params


def _bias(wanted: dict[str, float], vocabulary: int) -> dict[int, float]:
    bias: dict[int, float] = {}
    for key, value in wanted.items():
        if not (key.isascii() and key.isdigit() and len(key) < 12 and int(key) < vocabulary):
            raise InvalidRequest(
                f"{key[:40]!r} is not a token id",
                param="logit_bias",
                hint=f"ids run from 0 to {vocabulary - 1}",
            )
        bias[int(key)] = value
    return bias


def _stop_ids(wanted: list[int], vocabulary: int) -> tuple[int, ...]:
    for token_id in wanted:
        if not 0 <= token_id < vocabulary:
            raise InvalidRequest(
                f"{token_id} is not a token id",
                param="stop_token_ids",
                hint=f"ids run from 0 to {vocabulary - 1}",
            )
    return tuple(wanted)


def _options(decode: dict[str, Any], n: int | None, reward: str) -> DecodeOptions:
    try:
        return parse_decode(_with_n(decode, n), default_reward=reward)
    except InvalidRequest as e:
        if e.param == "decode.n" and "n" not in decode:  # it was given at the top
            message = e.message.removeprefix("decode.")
            raise InvalidRequest(message, param="n", hint=e.hint) from None
        raise


def _with_n(decode: dict[str, Any], n: int | None) -> dict[str, Any]:
    """OpenAI's `n` is the n of `sample`; for strategies that select it has no meaning but 1."""
    if n is None or decode.get("strategy", "sample") != "sample":
        return decode
    if decode.get("n", n) != n:
        raise InvalidRequest(
            f"n is {n} but decode.n is {decode['n']}", param="n", hint="give only one of them"
        )
    return {**decode, "n": n}


def _check_choices(options: DecodeOptions, body: GenerationRequest) -> None:
    if options.strategy.selects:
        if (body.n or 1) > 1:
            raise InvalidRequest(
                f"n must be 1 with strategy {options.strategy.name!r}, which picks one answer",
                param="n",
                hint="to see the runners-up set decode.return_candidates",
            )
    elif options.return_candidates > 1:
        raise InvalidRequest(
            f"strategy {options.strategy.name!r} returns all its answers",
            param="decode.return_candidates",
            hint="set n instead",
        )


def _limit(param: str, value: float | None, most: float | None) -> None:
    if value is not None and most is not None and value > most:
        raise InvalidRequest(
            f"{param} is {value:g}; this server allows at most {most:g}", param=param
        )


def _capped(options: DecodeOptions, settings: ServerSettings) -> Budget:
    """The budget within the server's own; what the request leaves open is set to the limit."""
    name = "n" if options.strategy.name == "sample" else "decode.n"
    _limit(name, options.strategy.candidates, settings.max_n)
    budget = options.budget
    _limit("decode.budget.ms", budget.ms, settings.max_ms)
    _limit("decode.budget.tokens", budget.tokens, settings.max_budget_tokens)
    tokens = settings.max_budget_tokens if budget.tokens is None else budget.tokens
    return Budget(tokens, settings.max_ms if budget.ms is None else budget.ms)
