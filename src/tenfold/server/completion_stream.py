"""A plain completion as chunks; several prompts share one stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tenfold.server.context import Context
from tenfold.server.logprobs import legacy_logprobs
from tenfold.server.plan import Plan
from tenfold.server.stream import Choice, Chunk, ChunkStream
from tenfold.server.wire.completions import CompletionRequest
from tenfold.types import TokenLogprob


class TextChoice(Choice):
    """A choice that may begin with its prompt."""

    def __init__(self, index: int, echo: str) -> None:
        super().__init__(index)
        self.echo = echo


class CompletionStream(ChunkStream[TextChoice]):
    """Chunks whose choices hold text."""

    kind = "text_completion"
    nothing: ClassVar[Chunk] = {"text": ""}

    def __init__(
        self,
        ctx: Context,
        plan: Plan,
        body: CompletionRequest,
        identity: dict[str, Any],
        echoes: Sequence[str],
    ) -> None:
        super().__init__(ctx, plan, body, identity)
        self._echoes = echoes
        self._wants_logprobs = body.logprobs is not None

    def _new_choice(self, prompt: int, index: int) -> TextChoice:
        return TextChoice(index, self._echoes[prompt])

    def _parts(self, choice: TextChoice, text: str, *, last: bool, shown: bool) -> list[Chunk]:
        whole, choice.echo = choice.echo + text, ""
        return [{"text": whole}] if whole else []

    def _logprobs(self, logprobs: Sequence[TokenLogprob], offset: int) -> Chunk | None:
        if not self._wants_logprobs:
            return None
        return legacy_logprobs(self._ctx.llm.model.tokenizer, logprobs, offset).json_ready()
