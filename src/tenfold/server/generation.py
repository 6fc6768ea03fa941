"""Running a plan: a place among the running, the strategy's events, what is measured of them."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from tenfold.errors import DeadlineExceeded
from tenfold.search.events import Event, ResultEvent, TokensEvent
from tenfold.search.strategy import Request
from tenfold.server.context import Context
from tenfold.server.plan import Plan
from tenfold.server.together import together
from tenfold.server.wire import answers as wire
from tenfold.types import Completion, FinishReason, SamplingParams, Usage

_NEUTRAL = SamplingParams()
_ECHOED = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "max_tokens",
    "min_tokens",
    "seed",
)


async def run_plan(ctx: Context, plan: Plan, request: Request) -> AsyncGenerator[Event, None]:
    """The strategy's events, ending with its result; closing it early frees the KV blocks.

    The caller holds a place (`ctx.admission`): one for a request, however many prompts it has.
    Raises DeadlineExceeded when time ran out before the first token.
    """
    first: float | None = None
    async with aclosing(ctx.llm.stream(request, plan.options_now())) as events:
        async for event in events:
            if first is None and isinstance(event, TokensEvent) and event.token_ids:
                first = time.monotonic()
                ctx.metrics.first_token.observe(first - plan.arrived)
            if isinstance(event, ResultEvent):
                _refuse_nothing(event)
                _measure(ctx, plan, event, first)
            yield event


def _refuse_nothing(result: ResultEvent) -> None:
    if result.report.stopped_by == "deadline" and not result.usage.generated:
        raise DeadlineExceeded(
            "the request's time was over before its first token",
            hint="allow it more time with decode.budget.ms",
        )


def _measure(ctx: Context, plan: Plan, result: ResultEvent, first: float | None) -> None:
    now = time.monotonic()
    ctx.metrics.latency.observe(now - plan.arrived)
    for completion in result.completions:
        ctx.metrics.finished.labels(completion.finish_reason).inc()
    length = max((len(c.token_ids) for c in result.completions), default=0)
    if first is not None and length > 1:
        ctx.metrics.each_token.observe((now - first) / (length - 1))


async def result_of(ctx: Context, plan: Plan, request: Request) -> ResultEvent:
    """The strategy's result alone."""
    last: Event | None = None
    async with aclosing(run_plan(ctx, plan, request)) as events:
        async for event in events:
            last = event
    assert isinstance(last, ResultEvent), "a strategy ends with a ResultEvent"
    return last


async def results_of(ctx: Context, plan: Plan, requests: Sequence[Request]) -> list[ResultEvent]:
    """The results of all prompts, which take one place among the running."""
    async with ctx.admission.place(plan.deadline_s):
        return await together([result_of(ctx, plan, r) for r in requests])


def returned(plan: Plan, result: ResultEvent) -> tuple[Completion, ...]:
    """The completions that become choices."""
    if plan.options.strategy.selects:
        return result.completions[: plan.options.return_candidates]
    return result.completions


def reason_on_wire(reason: FinishReason) -> wire.Reason:
    """OpenAI knows no deadlines: an answer that time cut short has reached a limit."""
    return reason if reason in ("stop", "length", "tool_calls") else "length"


def usage_of(*usages: Usage) -> wire.Usage:
    """The usage of one or several prompts."""
    prompt = sum(u.prompt for u in usages)
    generated = sum(u.generated for u in usages)
    return wire.Usage(
        prompt_tokens=prompt,
        completion_tokens=generated,
        total_tokens=prompt + generated,
        prompt_tokens_details=wire.PromptDetails(cached_tokens=sum(u.cached for u in usages)),
        completion_tokens_details=wire.CompletionDetails(
            reasoning_tokens=0, accepted_prediction_tokens=0, rejected_prediction_tokens=0
        ),
    )


def finite(value: float | None) -> float | None:
    """JSON has no infinities: a score that is not a number is null."""
    return value if value is not None and math.isfinite(value) else None


def report_of(plan: Plan, result: ResultEvent) -> wire.DecodeReport:
    """What was done, with the settings that took effect."""
    r = result.report
    reward = None
    if r.reward is not None:
        reward = wire.DecodeReward(name=r.reward, calls=r.reward_calls, tokens=r.reward_tokens)
    report = wire.DecodeReport(
        strategy=r.strategy,
        params=dict(r.params),
        winner=wire.DecodeWinner(candidate=r.winner, score=finite(r.score)),
        candidates=wire.DecodeCandidates(started=r.started, finished=r.finished, dropped=r.dropped),
        checkpoints=[
            wire.DecodeCheckpoint(tokens=c.tokens, alive=len(c.alive), cut=len(c.cut))
            for c in r.checkpoints
        ],
        tokens=wire.DecodeTokens(generated=r.tokens_generated, discarded=r.tokens_discarded),
        reward=reward,
        ms=wire.DecodeMs(total=round(r.ms, 3)),
        stopped_by=r.stopped_by,
    )
    if plan.asked.tokens is not None or plan.asked.ms is not None:
        report.budget = {"tokens": plan.asked.tokens, "ms": plan.asked.ms}
    if plan.preset is not None:
        report.preset = plan.preset
    report.sampling = {
        name: value
        for name in _ECHOED
        if (value := getattr(plan.params, name)) != getattr(_NEUTRAL, name)
    }
    if plan.seeded is not None:
        report.seeded = plan.seeded
    return report


def closing_event(plan: Plan, result: ResultEvent) -> dict[str, Any]:
    """The report as a stream's last event, with every candidate's score."""
    pairs = zip(result.candidates, result.completions, strict=True)
    scores = {candidate: done.score for candidate, done in pairs if done.score is not None}
    return {
        **report_of(plan, result).json_ready(),
        "event": "result",
        "winner": result.report.winner,
        "scores": scores_on_wire(scores),
    }


def scores_on_wire(scores: Any) -> dict[str, float | None]:
    """Scores by candidate, with text keys as JSON has them."""
    return {str(candidate): finite(score) for candidate, score in scores.items()}
