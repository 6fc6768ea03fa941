"""From wire messages to a rendered prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tenfold.errors import InvalidRequest
from tenfold.search.strategy import Request
from tenfold.server.context import Context
from tenfold.server.wire.chat import ChatMessage
from tenfold.types import Message, SamplingParams, ToolCall


def to_messages(items: Sequence[ChatMessage]) -> list[Message]:
    """Messages for the chat template. Raises InvalidRequest for ones that say nothing."""
    return [_message(i, item) for i, item in enumerate(items)]


def _message(i: int, item: ChatMessage) -> Message:
    where = f"messages.{i}"
    calls = item.tool_calls or []
    if calls and item.role != "assistant":
        raise InvalidRequest("only assistant messages hold tool calls", param=f"{where}.tool_calls")
    if item.text is None and not calls and item.role != "assistant":
        raise InvalidRequest(f"a {item.role} message needs content", param=f"{where}.content")
    if item.text is None and not calls and item.refusal is None:
        raise InvalidRequest(
            "an assistant message needs content or tool_calls", param=f"{where}.content"
        )
    if item.role == "tool" and item.tool_call_id is None:
        raise InvalidRequest(
            "a tool message needs the id of the call it answers", param=f"{where}.tool_call_id"
        )
    return Message(
        role=item.role,
        content=item.text if item.text is not None else item.refusal,
        name=item.name,
        tool_calls=tuple(ToolCall(c.id, c.function.name, c.function.arguments) for c in calls),
        tool_call_id=item.tool_call_id,
    )


_FIELDS = ("messages", "tools")
_OURS = (*_FIELDS, "add_generation_prompt", "continue_final")


async def chat_prompt(
    ctx: Context,
    messages: Sequence[Message],
    params: SamplingParams,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    template_kwargs: Mapping[str, Any] | None = None,
) -> Request:
    """The prompt of a conversation. Raises InvalidRequest, PromptTooLong and TemplateError."""
    _check_variables(template_kwargs or {})
    if ctx.llm.model.chat_template is None:
        raise InvalidRequest(
            f"model {ctx.catalog.name!r} has no chat template",
            param="model",
            hint="use POST /v1/completions",
        )
    return await ctx.prepare(
        lambda: ctx.llm.chat_request(messages, params, tools=tools, template_kwargs=template_kwargs)
    )


def _check_variables(given: Mapping[str, Any]) -> None:
    for key in given:
        # The model's special tokens (bos_token and its like) frame the prompt, as our own do.
        if key in _OURS or key.endswith("_token"):
            raise InvalidRequest(
                f"{key} cannot be given this way",
                param=f"chat_template_kwargs.{key}",
                hint=f"use the field {key!r}" if key in _FIELDS else "the server sets it",
            )
