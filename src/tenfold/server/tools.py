"""Tools: what the template is shown, what the text is held to, and calls read back from it.

The model sees tools through its chat template and answers in the format that template taught it
(`models.tool_calls`). A call that must be made is held to a JSON schema instead: the text is then
the bare call, whatever the template's format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tenfold.errors import InvalidRequest
from tenfold.models.chat_template import ChatTemplate
from tenfold.models.tool_calls import (
    ContentDelta,
    ToolCallDelta,
    ToolCallStream,
    ToolFormat,
    parse,
    tool_format,
)
from tenfold.server.wire.chat import ChatRequest, NamedTool, Tool
from tenfold.types import Constraint, ToolCall

_BARE: ToolFormat = "llama3"  # the one format whose calls are JSON and nothing else


@dataclass(frozen=True, slots=True)
class ToolUse:
    """What one request may do with tools, and how calls are read from its answers."""

    form: ToolFormat | None = None  # None: no calls are looked for
    for_template: Sequence[dict[str, Any]] | None = None
    constraint: Constraint | None = None

    @classmethod
    def of(cls, body: ChatRequest, template: ChatTemplate | None) -> ToolUse:
        """Raises InvalidRequest for tools the model cannot see and choices that cannot be kept."""
        choice = body.tool_choice
        if not body.tools:
            if choice not in (None, "none", "auto"):
                raise InvalidRequest("tool_choice needs tools", param="tool_choice")
            return cls()
        if choice == "none":
            return cls()
        form = tool_format(template.source) if template is not None else None
        if form is None:
            raise InvalidRequest(
                "this model's chat template knows no tools",
                param="tools",
                hint='use a model trained for tools, or "response_format" for JSON answers',
            )
        shown = [tool.model_dump(exclude_none=True) for tool in body.tools]
        if choice in (None, "auto"):
            return cls(form, shown)
        if body.response_format is not None and body.response_format.type != "text":
            raise InvalidRequest(
                "a tool call and response_format cannot both be demanded",
                param="response_format",
            )
        return cls(_BARE, shown, Constraint("json_schema", call_schema(_allowed(body), form)))

    def read(self, text: str) -> tuple[str | None, Sequence[ToolCall]]:
        """A whole answer's content and calls; an answer of calls alone has no content."""
        if self.form is None:
            return text, ()
        content, calls = parse(text, self.form)
        return (content or None) if calls else content, calls

    def reader(self) -> ToolReader | None:
        """A reader for one streamed answer; None when no calls are looked for."""
        return ToolReader(self.form) if self.form is not None else None


class ToolReader:
    """Tool calls from text that arrives piece by piece, as OpenAI's deltas."""

    def __init__(self, form: ToolFormat) -> None:
        self._stream = ToolCallStream(form)
        self.called = False

    def push(self, text: str) -> list[dict[str, Any]]:
        """Deltas that are certain now; text that may become a call is held back."""
        return [self._delta(piece) for piece in self._stream.push(text)]

    def finish(self) -> list[dict[str, Any]]:
        """What was held back, at the end of the answer."""
        return [self._delta(piece) for piece in self._stream.flush()]

    def _delta(self, piece: ContentDelta | ToolCallDelta) -> dict[str, Any]:
        if isinstance(piece, ContentDelta):
            return {"content": piece.text}
        self.called = True
        call = {
            "index": piece.index,
            "id": piece.call.id,
            "type": "function",
            "function": {"name": piece.call.name, "arguments": piece.call.arguments},
        }
        return {"tool_calls": [call]}


def _allowed(body: ChatRequest) -> list[Tool]:
    """The tools one of which has to be called."""
    tools = body.tools or []
    if not isinstance(body.tool_choice, NamedTool):
        return tools
    name = body.tool_choice.function.name
    named = [tool for tool in tools if tool.function.name == name]
    if not named:
        raise InvalidRequest(
            f"tool_choice names {name!r}, which is not among the tools",
            param="tool_choice",
            hint=f"tools: {', '.join(tool.function.name for tool in tools)}",
        )
    return named


def call_schema(tools: Sequence[Tool], form: ToolFormat) -> dict[str, Any]:
    """The JSON schema of a call of one of `tools`, under the keys the model was trained on."""
    key = "parameters" if form == "llama3" else "arguments"
    definitions: dict[str, Any] = {}
    calls = []
    for tool in tools:
        parameters = dict(tool.function.parameters or {"type": "object"})
        # References start at the root of a schema, so definitions have to move there.
        for kind in ("$defs", "definitions"):
            for name, definition in dict(parameters.pop(kind, None) or {}).items():
                known = definitions.setdefault(kind, {}).setdefault(name, definition)
                if known != definition:
                    raise InvalidRequest(
                        f"two tools define {name!r} differently",
                        param="tools",
                        hint="rename one, or name the function in tool_choice",
                    )
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": tool.function.name}, key: parameters},
                "required": ["name", key],
                "additionalProperties": False,
            }
        )
    return {**(calls[0] if len(calls) == 1 else {"anyOf": calls}), **definitions}
