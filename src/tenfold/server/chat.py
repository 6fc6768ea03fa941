"""POST /v1/chat/completions: the plan, the prompt, and the answer in one piece."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any

from fastapi import Request as HttpRequest
from fastapi import Response
from fastapi.responses import JSONResponse

from tenfold.errors import InvalidRequest
from tenfold.search.strategy import Request
from tenfold.server.chat_memory import ChatMemory
from tenfold.server.chat_stream import ChatStream
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
from tenfold.server.logprobs import chat_logprobs
from tenfold.server.messages import chat_prompt, to_messages
from tenfold.server.plan import Plan, make_plan
from tenfold.server.sse import EventStream
from tenfold.server.tools import ToolUse
from tenfold.server.wire import answers as wire
from tenfold.server.wire.chat import ChatRequest, ResponseFormat
from tenfold.types import Completion, Constraint, Message


async def chat_completion(ctx: Context, body: ChatRequest, http: HttpRequest) -> Response:
    """Answers a chat completion request, whole or as a stream."""
    tools = ToolUse.of(body, ctx.llm.model.chat_template)
    constraint = tools.constraint or constraint_of(body.response_format)
    if tools.form and constraint is not None and tools.constraint is None:
        raise InvalidRequest(
            "response_format would keep the model from calling tools",
            param="response_format",
            hint='leave it out, or set tool_choice to "none"',
        )
    plan = make_plan(
        ctx,
        body,
        max_tokens=_max_tokens(body),
        logprobs=_logprobs(body),
        constraint=constraint,
    )
    identity: dict[str, Any] = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time())}
    memory = ChatMemory.of(ctx, plan, body.memory, http, identity["id"])
    ctx.admission.check()
    limit_s = plan.deadline_s + ctx.settings.grace_s

    async def prompt(messages: Sequence[Message]) -> Request:
        return await chat_prompt(
            ctx,
            messages,
            plan.params,
            tools=tools.for_template,
            template_kwargs=body.chat_template_kwargs,
        )

    messages = to_messages(body.messages)
    request = await prompt(messages)
    if memory is not None:
        request = await prompt(await memory.inform(messages, request))
    if body.stream:
        stream = ChatStream(ctx, plan, tools, body, identity, memory)
        return EventStream(
            stream.chunks([request]), keep_alive_s=ctx.settings.keep_alive_s, limit_s=limit_s
        )
    answer = _whole(ctx, plan, tools, body, request, identity, memory)
    return JSONResponse((await while_connected(http.receive, answer, limit_s)).json_ready())


async def _whole(
    ctx: Context,
    plan: Plan,
    tools: ToolUse,
    body: ChatRequest,
    request: Request,
    identity: dict[str, Any],
    memory: ChatMemory | None,
) -> wire.ChatCompletion:
    [result] = await results_of(ctx, plan, [request])
    answer = wire.ChatCompletion(
        **identity,
        object="chat.completion",
        model=plan.model,
        choices=[_choice(ctx, tools, body, i, c) for i, c in enumerate(returned(plan, result))],
        usage=usage_of(result.usage),
        system_fingerprint=None,
    )
    if plan.reports:
        answer.decode = report_of(plan, result)
    if memory is not None:
        answer.memory = await memory.remember(answer.choices[0].message.content)
    return answer


def _choice(
    ctx: Context, tools: ToolUse, body: ChatRequest, index: int, completion: Completion
) -> wire.ChatChoice:
    content, calls = tools.read(completion.text)
    message = wire.AnswerMessage(role="assistant", content=content, refusal=None)
    reason = reason_on_wire(completion.finish_reason)
    if calls:
        message.tool_calls = [
            wire.ToolCallAnswer(
                id=c.id,
                type="function",
                function=wire.FunctionCall(name=c.name, arguments=c.arguments),
            )
            for c in calls
        ]
        reason = "tool_calls" if reason == "stop" else reason
    choice = wire.ChatChoice(
        index=index,
        message=message,
        finish_reason=reason,
        logprobs=chat_logprobs(ctx.llm.model.tokenizer, completion.logprobs)
        if body.logprobs
        else None,
    )
    if completion.score is not None:
        choice.score = finite(completion.score)
    return choice


def _max_tokens(body: ChatRequest) -> int | None:
    old, new = body.max_tokens, body.max_completion_tokens
    if old is not None and new is not None and old != new:
        raise InvalidRequest(
            "max_tokens and max_completion_tokens differ",
            param="max_completion_tokens",
            hint="they mean the same here: give one of them",
        )
    return new if new is not None else old


def _logprobs(body: ChatRequest) -> int | None:
    if body.top_logprobs and not body.logprobs:
        raise InvalidRequest(
            "top_logprobs needs logprobs", param="top_logprobs", hint='set "logprobs": true'
        )
    return (body.top_logprobs or 0) if body.logprobs else None


def constraint_of(wanted: ResponseFormat | None) -> Constraint | None:
    """What `response_format` asks of the text."""
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return Constraint("json_object")
    schema = wanted.json_schema.schema_ if wanted.json_schema else None
    if schema is None:
        raise InvalidRequest(
            "response_format of type json_schema needs a schema",
            param="response_format.json_schema",
            hint='send "json_schema": {"name": "answer", "schema": {...}}',
        )
    return Constraint("json_schema", schema)
