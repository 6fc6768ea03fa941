"""A chat completion as chunks: ordinary deltas, progress events, the report, the usage."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, ClassVar

from tenfold.search.events import ResultEvent
from tenfold.search.strategy import Request
from tenfold.server.chat_memory import ChatMemory
from tenfold.server.context import Context
from tenfold.server.generation import reason_on_wire, returned
from tenfold.server.logprobs import chat_logprobs
from tenfold.server.plan import Plan
from tenfold.server.stream import Choice, Chunk, ChunkStream
from tenfold.server.tools import ToolReader, ToolUse
from tenfold.server.wire import answers as wire
from tenfold.server.wire.chat import ChatRequest
from tenfold.types import FinishReason, TokenLogprob


class ChatChoice(Choice):
    """A choice whose text may turn out to be tool calls."""

    def __init__(self, index: int, reader: ToolReader | None) -> None:
        super().__init__(index)
        self.reader = reader
        self.opened = False

    @property
    def called(self) -> bool:
        """Whether a tool call was sent."""
        return self.reader is not None and self.reader.called

    def deltas(self, text: str, last: bool = False) -> list[Chunk]:
        """Deltas for new text; a tool reader may hold some back until it knows what it is."""
        if self.reader is None:
            return [{"content": text}] if text else []
        found = self.reader.push(text)
        return [*found, *self.reader.finish()] if last else found


class ChatStream(ChunkStream[ChatChoice]):
    """Chunks whose choices hold deltas of a message; the first of each says whose it is."""

    kind = "chat.completion.chunk"
    nothing: ClassVar[Chunk] = {"delta": {}}

    def __init__(
        self,
        ctx: Context,
        plan: Plan,
        tools: ToolUse,
        body: ChatRequest,
        identity: dict[str, Any],
        memory: ChatMemory | None = None,
    ) -> None:
        super().__init__(ctx, plan, body, identity)
        self._memory = memory
        self._waits = self._waits or memory is not None
        self._answer = ""
        self._last: Chunk | None = None  # the one that ends the last choice
        self._tools = tools
        self._wants_logprobs = bool(body.logprobs)

    async def chunks(self, requests: Sequence[Request]) -> AsyncGenerator[Chunk, None]:
        """All chunks; the last that finishes a choice has the report of memory."""
        async with aclosing(super().chunks(requests)) as chunks:
            async for chunk in chunks:
                if self._memory is not None and chunk is self._last:
                    report = await self._memory.remember(self._said())
                    chunk["memory"] = report.json_ready()
                yield chunk

    def _said(self) -> str | None:
        """The first choice's text as the whole answer would give it."""
        return self._tools.read(self._answer)[0]

    def _result(self, prompt: int, result: ResultEvent) -> list[Chunk]:
        self._answer = returned(self._plan, result)[0].text
        chunks = super()._result(prompt, result)
        self._last = chunks[-1] if chunks else None
        return chunks

    def _new_choice(self, prompt: int, index: int) -> ChatChoice:
        return ChatChoice(index, self._tools.reader())

    def _opening(self, choice: ChatChoice) -> list[Chunk]:
        if choice.opened:
            return []
        choice.opened = True
        return [{"delta": {"role": "assistant", "content": ""}}]

    def _parts(self, choice: ChatChoice, text: str, *, last: bool, shown: bool) -> list[Chunk]:
        deltas = choice.deltas(text, last) or ([{"content": ""}] if shown else [])
        return [{"delta": delta} for delta in deltas]

    def _logprobs(self, logprobs: Sequence[TokenLogprob], offset: int) -> Chunk | None:
        if not self._wants_logprobs:
            return None
        return chat_logprobs(self._ctx.llm.model.tokenizer, logprobs).json_ready()

    def _reason(self, choice: ChatChoice, reason: FinishReason) -> wire.Reason:
        stopped = reason_on_wire(reason)
        return "tool_calls" if choice.called and stopped == "stop" else stopped
