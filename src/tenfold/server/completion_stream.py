"""A plain completion as chunks; several prompts share one stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from tenfold.search.events import CheckpointEvent, Event, ResultEvent
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
from tenfold.server.lifetime import end
from tenfold.server.logprobs import legacy_logprobs
from tenfold.server.plan import Plan
from tenfold.server.progress import checkpoint_event, tokens_event
from tenfold.server.wire.completions import CompletionRequest
from tenfold.types import Completion, FinishReason, TokenLogprob, Usage

Chunk = dict[str, Any]


class _Choice:
    """What has been sent of one choice."""

    def __init__(self, index: int, echo: str) -> None:
        self.index = index
        self.echo = echo
        self.sent = 0
        self.sent_logprobs = 0
        self.closed = False


class CompletionStream:
    """Turns the events of one strategy run per prompt into chunks."""

    def __init__(
        self,
        ctx: Context,
        plan: Plan,
        body: CompletionRequest,
        identity: dict[str, Any],
        echoes: Sequence[str],
    ) -> None:
        self._ctx = ctx
        self._plan = plan
        self._selects = plan.options.strategy.selects
        self._echoes = echoes
        self._progress = body.include_progress
        self._usage = body.include_usage
        self._logprobs = body.logprobs is not None
        # Choice `i` of prompt `p` is numbered p * width + i.
        self._width = plan.options.return_candidates if self._selects else (body.n or 1)
        if not self._selects:
            self._width = int(getattr(plan.options.strategy, "n", self._width))
        self._head = {
            "id": identity["id"],
            "object": "text_completion",
            "created": identity["created"],
            "model": plan.model,
            "system_fingerprint": None,
        }
        self._choices: dict[int, _Choice] = {}
        self._usages: list[Usage] = []

    async def chunks(self, requests: Sequence[Request]) -> AsyncGenerator[Chunk, None]:
        """All chunks of the stream, the prompts' interleaved as they come."""
        runs = [run_plan(self._ctx, self._plan, r) for r in requests]
        async with aclosing(_merged(runs)) as events:
            async for prompt, event in events:
                for chunk in self._on(prompt, event):
                    yield chunk
        if self._usage:
            usage = usage_of(*self._usages).json_ready()
            yield {**self._head, "choices": [], "usage": usage}

    def _on(self, prompt: int, event: Event) -> list[Chunk]:
        if isinstance(event, ResultEvent):
            return self._result(prompt, event)
        if isinstance(event, CheckpointEvent):
            return self._shown(prompt, checkpoint_event(event))
        if self._selects:
            return self._shown(prompt, tokens_event(event))
        choice = self._choice(prompt, event.candidate)
        reason = None if self._plan.reports else event.finish_reason
        return self._grow(choice, event.text, event.logprobs, reason)

    def _choice(self, prompt: int, candidate: int) -> _Choice:
        index = prompt * self._width + candidate
        if index not in self._choices:
            self._choices[index] = _Choice(index, self._echoes[prompt])
        return self._choices[index]

    def _chunk(self, index: int, text: str, **more: Any) -> Chunk:
        choice = {"index": index, "text": text, "logprobs": None, "finish_reason": None, **more}
        chunk = {**self._head, "choices": [choice]}
        return chunk | {"usage": None} if self._usage else chunk

    def _shown(self, prompt: int, decode: Chunk) -> list[Chunk]:
        if not self._progress:
            return []
        return [self._chunk(prompt * self._width, "") | {"decode": decode}]

    def _grow(
        self,
        choice: _Choice,
        text: str,
        logprobs: Sequence[TokenLogprob],
        reason: FinishReason | None,
        score: float | None = None,
    ) -> list[Chunk]:
        if choice.closed:
            return []
        offset = choice.sent
        choice.sent += len(text)
        choice.sent_logprobs += len(logprobs)
        shown = self._logprobs and bool(logprobs)
        echo, choice.echo = choice.echo, ""
        if not (text or echo or shown or reason is not None):
            return []
        chunk = self._chunk(choice.index, echo + text)
        sent = chunk["choices"][0]
        if shown:
            entries = legacy_logprobs(self._ctx.llm.model.tokenizer, logprobs, offset)
            sent["logprobs"] = entries.json_ready()
        if reason is not None:
            choice.closed = True
            sent["finish_reason"] = reason_on_wire(reason)
            if score is not None:
                sent["score"] = finite(score)
        return [chunk]

    def _result(self, prompt: int, result: ResultEvent) -> list[Chunk]:
        self._usages.append(result.usage)
        pairs = list(zip(result.candidates, result.completions, strict=True))
        if self._selects:
            kept = result.completions[: self._plan.options.return_candidates]
            order = [(i, kept[i]) for i in (*range(1, len(kept)), 0)]
        else:
            order = pairs
        chunks: list[Chunk] = []
        for index, done in order:
            chunks += self._rest(self._choice(prompt, index), done)
        if self._plan.reports:
            scores = {c: done.score for c, done in pairs if done.score is not None}
            chunks[-1]["decode"] = {
                **report_of(self._plan, result).json_ready(),
                "event": "result",
                "winner": result.report.winner,
                "scores": scores_on_wire(scores),
            }
        return chunks

    def _rest(self, choice: _Choice, done: Completion) -> list[Chunk]:
        return self._grow(
            choice,
            done.text[choice.sent :],
            done.logprobs[choice.sent_logprobs :],
            done.finish_reason,
            done.score,
        )


async def _merged(
    runs: Sequence[AsyncGenerator[Event, None]],
) -> AsyncGenerator[tuple[int, Event], None]:
    """Events of several runs as they come; closing it closes all of them."""
    queue: asyncio.Queue[tuple[int, Event] | Exception | None] = asyncio.Queue(1)

    async def pump(number: int, run: AsyncGenerator[Event, None]) -> None:
        try:
            async with aclosing(run) as events:
                async for event in events:
                    await queue.put((number, event))
        except Exception as e:  # noqa: BLE001 - handed on to the reader, which raises it
            await queue.put(e)
        else:
            await queue.put(None)

    tasks = [asyncio.create_task(pump(i, run)) for i, run in enumerate(runs)]
    try:
        left = len(tasks)
        while left:
            item = await queue.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                left -= 1
            else:
                yield item
    finally:
        await end(*tasks)
