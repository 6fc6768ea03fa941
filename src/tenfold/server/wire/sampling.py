"""The fields that every generating request has in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from tenfold.server.wire.base import Wire

MAX_STOPS = 16

Text = Annotated[str, Field(min_length=1)]


class StreamOptions(Wire):
    """What a stream carries beside the text."""

    include_usage: bool | None = None
    include_progress: bool | None = Field(
        None, description="send chunks with a `decode` event while candidates compete"
    )
    include_obfuscation: bool | None = None  # OpenAI's padding against traffic analysis: ignored


class GenerationRequest(Wire):
    """How to sample and how to decode; `null` always means the default."""

    model: str | None = Field(None, description="a model or `<model>@<preset>`")
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0, description="0 = off")
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, ge=0.01, le=10)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: dict[str, float] | None = Field(None, description="token id (as text) to bias")
    max_tokens: int | None = Field(None, ge=1)
    min_tokens: int | None = Field(None, ge=0)
    n: int | None = Field(None, ge=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**64)
    stop: Text | Annotated[list[Text], Field(max_length=MAX_STOPS)] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    decode: dict[str, Any] | None = Field(
        None, description="the strategy and its parameters; see GET /v1/strategies"
    )
    speculative: dict[str, Any] | None = None
    user: str | None = None  # OpenAI's label of the end user: accepted, not used

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def include_progress(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_progress)

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
