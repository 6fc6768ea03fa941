"""A chat completion as chunks: ordinary deltas, progress events, the report, the usage."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from tenfold.search.events import CheckpointEvent, ResultEvent, TokensEvent
from tenfold.search.strategy import Request
from tenfold.server.context import Context
from tenfold.server.generation import (
    finite,
    reason_on_wire,
    report_of,
    run_plan,
    scores_on_wire,
    usage_of,
)
from tenfold.server.logprobs import chat_logprobs
from tenfold.server.plan import Plan
from tenfold.server.progress import checkpoint_event, tokens_event
from tenfold.server.tools import ToolReader, ToolUse
from tenfold.server.wire.chat import ChatRequest
from tenfold.types import Completion, FinishReason, TokenLogprob

Chunk = dict[str, Any]


class _Choice:
    """What has been sent of one choice."""

    def __init__(self, index: int, reader: ToolReader | None) -> None:
        self.index = index
        self.reader = reader
        self.sent = 0  # characters of the completion's text that have been read
        self.sent_logprobs = 0
        self.opened = False
        self.closed = False

    @property
    def called(self) -> bool:
        """Whether a tool call was sent."""
        return self.reader is not None and self.reader.called

    def deltas(self, text: str, last: bool = False) -> list[Chunk]:
        """Deltas for new text; a tool reader may hold some back until it knows what it is."""
        self.sent += len(text)
        if self.reader is None:
            return [{"content": text}] if text else []
        found = self.reader.push(text)
        return [*found, *self.reader.finish()] if last else found


class ChatStream:
    """Turns a strategy's events into chunks.

    Without selection each answer's text flows as it is generated. With selection nothing is known
    until the end: progress is shown on request, then the winner's text is sent.
    """

    def __init__(
        self,
        ctx: Context,
        plan: Plan,
        tools: ToolUse,
        body: ChatRequest,
        identity: dict[str, Any],
    ) -> None:
        self._ctx = ctx
        self._plan = plan
        self._tools = tools
        self._selects = plan.options.strategy.selects
        self._progress = body.include_progress
        self._usage = body.include_usage
        self._logprobs = bool(body.logprobs)
        self._head = {
            "id": identity["id"],
            "object": "chat.completion.chunk",
            "created": identity["created"],
            "model": plan.model,
            "system_fingerprint": None,
        }
        self._choices: dict[int, _Choice] = {}

    async def chunks(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """All chunks of the stream."""
        async with aclosing(run_plan(self._ctx, self._plan, request)) as events:
            async for event in events:
                for chunk in self._on(event):
                    yield chunk

    def _on(self, event: TokensEvent | CheckpointEvent | ResultEvent) -> list[Chunk]:
        if isinstance(event, ResultEvent):
            return self._result(event)
        if isinstance(event, CheckpointEvent):
            opened = self._open(self._choice(0)) if self._selects else []
            return opened + self._shown(checkpoint_event(event))
        if self._selects:
            return self._open(self._choice(0)) + self._shown(tokens_event(event))
        choice = self._choice(event.candidate)
        # With a report the finish waits for the result, so that both are in the last chunk.
        reason = None if self._plan.reports else event.finish_reason
        return self._grow(choice, event.text, event.logprobs, reason)

    def _choice(self, index: int) -> _Choice:
        if index not in self._choices:
            self._choices[index] = _Choice(index, self._tools.reader())
        return self._choices[index]

    def _chunk(self, index: int, delta: Chunk, **more: Any) -> Chunk:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None, **more}
        chunk = {**self._head, "choices": [choice]}
        # OpenAI's clients expect the field in every chunk once usage was asked for.
        return chunk | {"usage": None} if self._usage else chunk

    def _open(self, choice: _Choice) -> list[Chunk]:
        if choice.opened:
            return []
        choice.opened = True
        return [self._chunk(choice.index, {"role": "assistant", "content": ""})]

    def _shown(self, decode: Chunk) -> list[Chunk]:
        if not self._progress:
            return []
        chunk = {**self._head, "choices": [{"index": 0, "delta": {}, "finish_reason": None}]}
        return [chunk | {"decode": decode}]

    def _grow(
        self,
        choice: _Choice,
        text: str,
        logprobs: Sequence[TokenLogprob],
        reason: FinishReason | None,
        score: float | None = None,
    ) -> list[Chunk]:
        """Chunks for new text; the last of them carries the finish reason."""
        if choice.closed:
            return []
        chunks = self._open(choice)
        deltas = choice.deltas(text, last=reason is not None)
        choice.sent_logprobs += len(logprobs)
        shown = self._logprobs and bool(logprobs)
        if not deltas and (shown or reason is not None):
            deltas = [{"content": ""} if shown else {}]
        grown = [self._chunk(choice.index, delta) for delta in deltas]
        if shown:
            entries = chat_logprobs(self._ctx.llm.model.tokenizer, logprobs)
            grown[0]["choices"][0]["logprobs"] = entries.json_ready()
        if reason is not None:
            choice.closed = True
            last = grown[-1]["choices"][0]
            stopped = reason_on_wire(reason)
            last["finish_reason"] = "tool_calls" if choice.called and stopped == "stop" else stopped
            if score is not None:
                last["score"] = finite(score)
        return chunks + grown

    def _result(self, result: ResultEvent) -> list[Chunk]:
        chunks: list[Chunk] = []
        plan = self._plan
        if self._selects:
            shown = result.completions[: plan.options.return_candidates]
            # Last the winner: the report belongs to it and ends the stream.
            for index in (*range(1, len(shown)), 0):
                chunks += self._rest(self._choice(index), shown[index])
        else:
            for candidate, completion in zip(result.candidates, result.completions, strict=True):
                chunks += self._rest(self._choice(candidate), completion)
        if plan.reports:
            report = report_of(plan, result).json_ready()
            scores = {
                c: done.score
                for c, done in zip(result.candidates, result.completions, strict=True)
                if done.score is not None
            }
            chunks[-1]["decode"] = {
                **report,
                "event": "result",
                "winner": result.report.winner,
                "scores": scores_on_wire(scores),
            }
        if self._usage:
            usage = usage_of(result.usage).json_ready()
            chunks.append({**self._head, "choices": [], "usage": usage})
        return chunks

    def _rest(self, choice: _Choice, completion: Completion) -> list[Chunk]:
        """What has not been sent yet, with the finish."""
        return self._grow(
            choice,
            completion.text[choice.sent :],
            completion.logprobs[choice.sent_logprobs :],
            completion.finish_reason,
            completion.score,
        )
