"""Tools: what the template is shown, what the text is held to, and calls read back from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tenfold.errors import InvalidRequest
from tenfold.models.chat_template import ChatTemplate
from tenfold.server.wire.chat import ChatRequest, NamedTool
from tenfold.types import Constraint, ToolCall


@dataclass(frozen=True, slots=True)
class CallDelta:
    """A piece of a call: the first has its id and name, all of them some arguments."""

    index: int
    arguments: str
    id: str | None = None
    name: str | None = None


class ToolReader(Protocol):
    """Finds tool calls in text that arrives piece by piece."""

    def push(self, text: str) -> Sequence[str | CallDelta]:
        """What is certain now; text that may become a call is held back."""
        ...

    def finish(self) -> Sequence[str | CallDelta]:
        """What was held back and turned out to be text, or the end of a call."""
        ...


@dataclass(frozen=True, slots=True)
class ToolUse:
    """What one request may do with tools."""

    offered: bool = False
    for_template: Sequence[dict[str, Any]] | None = None
    constraint: Constraint | None = None

    @classmethod
    def of(cls, body: ChatRequest, template: ChatTemplate | None) -> ToolUse:
        """Raises InvalidRequest for choices that cannot be kept."""
        return cls()

    def read(self, text: str) -> tuple[str | None, Sequence[ToolCall]]:
        """A whole answer's content and calls."""
        return text, ()

    def reader(self) -> ToolReader | None:
        """A reader for one streamed answer; None when no calls can occur."""
        return None
