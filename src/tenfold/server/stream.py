"""A streamed answer as chunks, whichever endpoint: what has been sent, what is still to be.

Without selection each answer's text flows as it is generated. With selection nothing is known until
the end: progress is shown on request, then the winner's text is sent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, ClassVar, Generic, TypeVar

from tenfold.search.events import CheckpointEvent, Event, ResultEvent
from tenfold.search.strategy import Request
from tenfold.server.context import Context
from tenfold.server.generation import (
    closing_event,
    finite,
    reason_on_wire,
    returned,
    run_plan,
    usage_of,
)
from tenfold.server.plan import Plan
from tenfold.server.progress import checkpoint_event, tokens_event
from tenfold.server.together import merged
from tenfold.server.wire import answers as wire
from tenfold.server.wire.sampling import GenerationRequest
from tenfold.types import Completion, FinishReason, TokenLogprob, Usage

Chunk = dict[str, Any]


class Choice:
    """What has been sent of one choice."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.sent = 0  # characters of the completion's text
        self.sent_logprobs = 0
        self.closed = False


C = TypeVar("C", bound=Choice)


class ChunkStream(ABC, Generic[C]):
    """Turns the events of one strategy run per prompt into chunks; endpoints say how they look."""

    kind: ClassVar[str]  # the chunks' `object`
    nothing: ClassVar[Chunk]  # the part of a chunk's choice that says nothing

    def __init__(
        self, ctx: Context, plan: Plan, body: GenerationRequest, identity: dict[str, Any]
    ) -> None:
        self._ctx = ctx
        self._plan = plan
        self._selects = plan.options.strategy.selects
        # With a report the finish waits for the result, so that both are in the last chunk.
        self._waits = plan.reports
        self._progress = body.include_progress
        self._usage = body.include_usage
        # Choice `i` of prompt `p` is numbered p * width + i.
        options = plan.options
        self._width = options.return_candidates if self._selects else options.strategy.candidates
        self._head = {
            "id": identity["id"],
            "object": self.kind,
            "created": identity["created"],
            "model": plan.model,
            "system_fingerprint": None,
        }
        self._choices: dict[int, C] = {}
        self._usages: list[Usage] = []

    async def chunks(self, requests: Sequence[Request]) -> AsyncGenerator[Chunk, None]:
        """All chunks of the stream, the prompts' interleaved as they come."""
        runs = [run_plan(self._ctx, self._plan, r) for r in requests]
        place = self._ctx.admission.place(self._plan.deadline_s)
        async with place, aclosing(merged(runs)) as events:
            async for prompt, event in events:
                for chunk in self._on(prompt, event):
                    yield chunk
        if self._usage:
            usage = usage_of(*self._usages).json_ready()
            yield {**self._head, "choices": [], "usage": usage}

    @abstractmethod
    def _new_choice(self, prompt: int, index: int) -> C:
        """The choice numbered `index`, of which nothing was sent."""

    @abstractmethod
    def _parts(self, choice: C, text: str, *, last: bool, shown: bool) -> list[Chunk]:
        """New text as parts of chunks' choices; none while all of it is held back. `last`: no more
        will come; `shown`: the first part is to carry log-probabilities."""

    @abstractmethod
    def _logprobs(self, logprobs: Sequence[TokenLogprob], offset: int) -> Chunk | None:
        """The chunk's `logprobs`; None if they were not asked for."""

    def _opening(self, choice: C) -> list[Chunk]:
        """Parts that come before the first of a choice."""
        return []

    def _reason(self, choice: C, reason: FinishReason) -> wire.Reason:
        return reason_on_wire(reason)

    def _on(self, prompt: int, event: Event) -> list[Chunk]:
        if isinstance(event, ResultEvent):
            return self._result(prompt, event)
        opened = self._opened(self._choice(prompt, 0)) if self._selects else []
        if isinstance(event, CheckpointEvent):
            return opened + self._shown(prompt, checkpoint_event(event))
        if self._selects:
            return opened + self._shown(prompt, tokens_event(event))
        choice = self._choice(prompt, event.candidate)
        reason = None if self._waits else event.finish_reason
        return self._grow(choice, event.text, event.logprobs, reason)

    def _choice(self, prompt: int, number: int) -> C:
        index = prompt * self._width + number
        if index not in self._choices:
            self._choices[index] = self._new_choice(prompt, index)
        return self._choices[index]

    def _chunk(self, index: int, part: Chunk) -> Chunk:
        choice = {"index": index, **part, "logprobs": None, "finish_reason": None}
        chunk = {**self._head, "choices": [choice]}
        # OpenAI's clients expect the field in every chunk once usage was asked for.
        return chunk | {"usage": None} if self._usage else chunk

    def _opened(self, choice: C) -> list[Chunk]:
        return [self._chunk(choice.index, part) for part in self._opening(choice)]

    def _shown(self, prompt: int, decode: Chunk) -> list[Chunk]:
        if not self._progress:
            return []
        return [self._chunk(prompt * self._width, dict(self.nothing)) | {"decode": decode}]

    def _grow(
        self,
        choice: C,
        text: str,
        logprobs: Sequence[TokenLogprob],
        reason: FinishReason | None,
        score: float | None = None,
    ) -> list[Chunk]:
        """Chunks for new text; the last of them carries the finish reason."""
        if choice.closed:
            return []
        opened = self._opened(choice)
        entries = self._logprobs(logprobs, choice.sent) if logprobs else None
        parts = self._parts(choice, text, last=reason is not None, shown=entries is not None)
        choice.sent += len(text)
        choice.sent_logprobs += len(logprobs)
        if not parts and (entries is not None or reason is not None):
            parts = [dict(self.nothing)]
        grown = [self._chunk(choice.index, part) for part in parts]
        if entries is not None:
            grown[0]["choices"][0]["logprobs"] = entries
        if reason is not None:
            choice.closed = True
            last = grown[-1]["choices"][0]
            last["finish_reason"] = self._reason(choice, reason)
            if score is not None:
                last["score"] = finite(score)
        return opened + grown

    def _result(self, prompt: int, result: ResultEvent) -> list[Chunk]:
        self._usages.append(result.usage)
        if self._selects:
            ranked = list(enumerate(returned(self._plan, result)))
            # Last the winner: the report belongs to it and ends the stream.
            order = [*ranked[1:], *ranked[:1]]
        else:
            order = list(zip(result.candidates, result.completions, strict=True))
        chunks: list[Chunk] = []
        for number, done in order:
            chunks += self._rest(self._choice(prompt, number), done)
        if self._plan.reports:
            chunks[-1]["decode"] = closing_event(self._plan, result)
        return chunks

    def _rest(self, choice: C, done: Completion) -> list[Chunk]:
        """What has not been sent yet, with the finish."""
        return self._grow(
            choice,
            done.text[choice.sent :],
            done.logprobs[choice.sent_logprobs :],
            done.finish_reason,
            done.score,
        )
