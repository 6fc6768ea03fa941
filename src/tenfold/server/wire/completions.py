"""The body of a plain completion request."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tenfold.server.wire.sampling import GenerationRequest, Text

TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
Prompts = (
    Text
    | TokenIds
    | Annotated[list[Text], Field(min_length=1)]
    | Annotated[list[TokenIds], Field(min_length=1)]
)


class CompletionRequest(GenerationRequest):
    """OpenAI's legacy completion request with tenfold's `decode`."""

    prompt: Prompts = Field(description="text, token ids, or a list of either")
    echo: bool | None = None
    logprobs: int | None = Field(None, ge=0, le=20)
    best_of: int | None = Field(None, ge=1)
    suffix: str | None = None


def as_prompts(value: Prompts) -> list[str | list[int]]:
    """The prompts one by one, whichever of the four forms was sent."""
    if isinstance(value, str):
        return [value]
    if value and isinstance(value[0], int):
        return [[i for i in value if isinstance(i, int)]]
    return [v for v in value if not isinstance(v, int)]
