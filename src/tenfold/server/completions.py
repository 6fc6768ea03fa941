"""POST /v1/completions: one or several plain prompts, decoded in one batch."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any

from fastapi import Request as HttpRequest
from fastapi import Response
from fastapi.responses import JSONResponse

from tenfold.errors import InvalidRequest
from tenfold.search.strategy import Request
from tenfold.server.completion_stream import CompletionStream
from tenfold.server.context import Context
from tenfold.server.generation import (
    finite,
    reason_on_wire,
    report_of,
    results_of,
    returned,
    usage_of,
)
from tenfold.server.lifetime import while_connected
from tenfold.server.logprobs import legacy_logprobs
from tenfold.server.plan import Plan, make_plan
from tenfold.server.sse import EventStream
from tenfold.server.wire import answers as wire
from tenfold.server.wire.completions import CompletionRequest, as_prompts
from tenfold.types import Completion

DEFAULT_MAX_TOKENS = 16  # OpenAI's for this endpoint


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt of a request; `echo` is its text where the answer repeats it."""

    request: Request
    echo: str


async def completion(ctx: Context, body: CompletionRequest, http: HttpRequest) -> Response:
    """Answers a completion request, whole or as a stream."""
    _check(body)
    max_tokens = body.max_tokens
    preset = ctx.catalog.find(body.model)[1]
    if max_tokens is None and not (preset and "max_tokens" in preset.sampling):
        most = min(DEFAULT_MAX_TOKENS, ctx.settings.max_tokens or DEFAULT_MAX_TOKENS)
        max_tokens = max(most, body.min_tokens or 0)
    plan = make_plan(ctx, body, max_tokens=max_tokens, logprobs=body.logprobs)
    ctx.admission.check()
    prompts = await ctx.prepare(lambda: _prompts(ctx, body, plan))
    limit_s = plan.deadline_s + ctx.settings.grace_s
    identity = {"id": f"cmpl-{uuid.uuid4().hex}", "created": int(time.time())}
    if body.stream:
        stream = CompletionStream(ctx, plan, body, identity, [p.echo for p in prompts])
        return EventStream(
            stream.chunks([p.request for p in prompts]),
            keep_alive_s=ctx.settings.keep_alive_s,
            limit_s=limit_s,
        )
    answer = _whole(ctx, plan, body, prompts, identity)
    return JSONResponse((await while_connected(http.receive, answer, limit_s)).json_ready())


def _check(body: CompletionRequest) -> None:
    if body.suffix:
        raise InvalidRequest(
            "suffix is not supported", param="suffix", hint="put both parts into a chat message"
        )
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise InvalidRequest(
            "best_of is not supported",
            param="best_of",
            hint='use "decode": {"strategy": "best_of_n", "n": 8}',
        )
    if body.echo and body.logprobs is not None:
        raise InvalidRequest(
            "log-probabilities of the prompt are not computed, so echo excludes logprobs",
            param="echo",
            hint="POST /v1/score scores given answers",
        )


def _prompts(ctx: Context, body: CompletionRequest, plan: Plan) -> list[Prompt]:
    given = as_prompts(body.prompt)
    if len(given) > ctx.settings.max_inputs:
        raise InvalidRequest(
            f"there are {len(given)} prompts; this server takes {ctx.settings.max_inputs} at once",
            param="prompt",
        )
    tokenizer = ctx.llm.model.tokenizer
    prompts = []
    for prompt in given:
        request = ctx.llm.text_request(prompt, plan.params)
        echo = ""
        if body.echo:
            echo = prompt if isinstance(prompt, str) else tokenizer.decode(prompt)
        prompts.append(Prompt(request, echo))
    return prompts


async def _whole(
    ctx: Context,
    plan: Plan,
    body: CompletionRequest,
    prompts: list[Prompt],
    identity: dict[str, Any],
) -> wire.TextCompletion:
    results = await results_of(ctx, plan, [p.request for p in prompts])
    choices: list[wire.TextChoice] = []
    for prompt, result in zip(prompts, results, strict=True):
        reported = plan.reports and len(prompts) > 1
        for i, done in enumerate(returned(plan, result)):
            choice = _choice(ctx, body, len(choices), prompt, done)
            if reported and i == 0:
                choice.decode = report_of(plan, result)
            choices.append(choice)
    answer = wire.TextCompletion(
        **identity,
        object="text_completion",
        model=plan.model,
        choices=choices,
        usage=usage_of(*(r.usage for r in results)),
        system_fingerprint=None,
    )
    if plan.reports and len(prompts) == 1:
        answer.decode = report_of(plan, results[0])
    return answer


def _choice(
    ctx: Context, body: CompletionRequest, index: int, prompt: Prompt, done: Completion
) -> wire.TextChoice:
    logprobs = None
    if body.logprobs is not None:
        logprobs = legacy_logprobs(ctx.llm.model.tokenizer, done.logprobs)
    choice = wire.TextChoice(
        index=index,
        text=prompt.echo + done.text,
        finish_reason=reason_on_wire(done.finish_reason),
        logprobs=logprobs,
    )
    if done.score is not None:
        choice.score = finite(done.score)
    return choice
