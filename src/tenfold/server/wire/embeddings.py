"""Embeddings and scores: requests and answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tenfold.server.wire.answers import Usage
from tenfold.server.wire.base import Answer, Wire
from tenfold.server.wire.chat import ChatMessage
from tenfold.server.wire.completions import Prompts


class EmbeddingsRequest(Wire):
    """OpenAI's embeddings request."""

    model: str | None = None
    input: Prompts
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1)
    user: str | None = None


class Embedding(Answer):
    """One vector: numbers, or little-endian float32 in base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsUsage(Answer):
    """Tokens read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(Answer):
    """The vectors in the order of the inputs."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage


class ScoreRequest(Wire):
    """Candidate answers to one conversation, to be scored by a reward."""

    model: str | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    candidates: Annotated[list[str], Field(min_length=1)]
    reward: str | None = None
    user: str | None = None


class Score(Answer):
    """A candidate's score; `null` when the reward gave no finite number."""

    object: Literal["score"]
    index: int
    score: float | None


class ScoreResponse(Answer):
    """The scores in the order of the candidates."""

    object: Literal["list"]
    data: list[Score]
    model: str
    usage: Usage
