"""The answers of the two completion endpoints, OpenAI's fields first."""

from __future__ import annotations

from typing import Any, Literal

from tenfold.server.wire.base import Answer

Reason = Literal["stop", "length", "tool_calls"]


class PromptDetails(Answer):
    """Prompt tokens found in the prefix cache."""

    cached_tokens: int


class CompletionDetails(Answer):
    """Draft tokens; there is no proposer yet, so both stay at zero."""

    reasoning_tokens: int
    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class Usage(Answer):
    """Tokens spent; `completion_tokens` counts every token generated, dropped ones too."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None


class DecodeWinner(Answer):
    """The candidate whose text is the answer."""

    candidate: int
    score: float | None


class DecodeCandidates(Answer):
    """How many candidates there were and what became of them."""

    started: int
    finished: int
    dropped: int


class DecodeCheckpoint(Answer):
    """One moment at which candidates were compared."""

    tokens: int
    alive: int
    cut: int


class DecodeTokens(Answer):
    """Tokens generated, and those that are not part of the answer."""

    generated: int
    discarded: int


class DecodeReward(Answer):
    """The reward that selected, and its own cost."""

    name: str
    calls: int
    tokens: int


class DecodeMs(Answer):
    """Milliseconds."""

    total: float


class DecodeReport(Answer):
    """What was done for the request."""

    strategy: str
    params: dict[str, Any]
    winner: DecodeWinner
    candidates: DecodeCandidates
    checkpoints: list[DecodeCheckpoint]
    tokens: DecodeTokens
    reward: DecodeReward | None
    ms: DecodeMs
    stopped_by: str
    budget: dict[str, int | float | None] | None = None
    preset: str | None = None
    sampling: dict[str, int | float | None] | None = None  # values that are not neutral
    seeded: bool | None = None  # with a seed: whether it fixes the answer on this engine


class TopLogprob(Answer):
    """A likely token."""

    token: str
    logprob: float
    bytes: list[int] | None


class ContentLogprob(TopLogprob):
    """The sampled token with its likeliest alternatives."""

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(Answer):
    """Log-probabilities of an answer's tokens."""

    content: list[ContentLogprob] | None
    refusal: None


class FunctionCall(Answer):
    """The function to call; `arguments` is JSON text."""

    name: str
    arguments: str


class ToolCallAnswer(Answer):
    """A call the model asks for."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class AnswerMessage(Answer):
    """The assistant's message."""

    role: Literal["assistant"]
    content: str | None
    refusal: None = None
    tool_calls: list[ToolCallAnswer] | None = None


class ChatChoice(Answer):
    """One answer; `score` when candidates were compared."""

    index: int
    message: AnswerMessage
    finish_reason: Reason
    logprobs: ChoiceLogprobs | None
    score: float | None = None


class MemoryReport(Answer):
    """What a chat took from memory and gave to it: event ids. [n] cites the n-th recalled turn.

    `error` says why the turns were not remembered.
    """

    conversation: str
    recalled: list[str]
    tokens: int
    remembered: list[str]
    error: str | None = None


class ChatCompletion(Answer):
    """The whole answer to a chat completion request."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str | None
    decode: DecodeReport | None = None
    memory: MemoryReport | None = None


class LegacyLogprobs(Answer):
    """Log-probabilities in the form of the legacy completions endpoint."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class TextChoice(Answer):
    """One completion; `decode` appears here when the request had several prompts."""

    index: int
    text: str
    finish_reason: Reason
    logprobs: LegacyLogprobs | None
    score: float | None = None
    decode: DecodeReport | None = None


class TextCompletion(Answer):
    """The whole answer to a completion request."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage
    system_fingerprint: str | None
    decode: DecodeReport | None = None
