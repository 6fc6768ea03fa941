"""Nouns that three or more rooms share. No torch here, and no behaviour beyond validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tenfold.errors import InvalidRequest

FinishReason = Literal["stop", "length", "tool_calls", "deadline", "cancelled"]


@dataclass(frozen=True, slots=True)
class Constraint:
    """What the output must match, token by token.

    `kind` is `json_schema` (value: the schema as a dict), `json_object` (value ignored), `regex` or
    `grammar` (value: text; grammars in Lark syntax).
    """

    kind: Literal["json_schema", "json_object", "regex", "grammar"]
    value: Any = None


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How one answer is sampled. Defaults leave the model's own distribution untouched.

    Raises InvalidRequest with the offending `param` when a value is out of range.
    """

    temperature: float = 1.0  # 0 = greedy
    top_k: int = 0  # 0 = off
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0  # CTRL, 1909.05858 §4.1: prompt and output tokens
    presence_penalty: float = 0.0  # output tokens only, as OpenAI does
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    max_tokens: int | None = None  # None = up to the context's end
    min_tokens: int = 0  # end-of-text is forbidden before this many tokens
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    seed: int | None = None
    logprobs: int | None = None  # how many alternatives to report at each position
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        def need(ok: bool, param: str, valid: str) -> None:
            if not ok:
                value = getattr(self, param)
                raise InvalidRequest(f"{param} must be {valid}, not {value!r}", param=param)

        need(0.0 <= self.temperature <= 2.0, "temperature", "between 0 and 2")
        need(self.top_k >= 0, "top_k", "0 (off) or a positive number")
        need(0.0 < self.top_p <= 1.0, "top_p", "above 0 and at most 1")
        need(0.0 <= self.min_p <= 1.0, "min_p", "between 0 and 1")
        # Logits are divided by it: what is nearly 0 makes them infinite.
        need(0.01 <= self.repetition_penalty <= 10.0, "repetition_penalty", "between 0.01 and 10")
        need(-2.0 <= self.presence_penalty <= 2.0, "presence_penalty", "between -2 and 2")
        need(-2.0 <= self.frequency_penalty <= 2.0, "frequency_penalty", "between -2 and 2")
        need(self.max_tokens is None or self.max_tokens >= 1, "max_tokens", "at least 1")
        need(self.min_tokens >= 0, "min_tokens", "at least 0")
        need(
            self.max_tokens is None or self.min_tokens <= self.max_tokens,
            "min_tokens",
            "at most max_tokens",
        )
        need(self.logprobs is None or 0 <= self.logprobs <= 20, "logprobs", "between 0 and 20")
        need(all(self.stop), "stop", "non-empty strings")
        need(
            all(-100.0 <= b <= 100.0 for b in self.logit_bias.values()),
            "logit_bias",
            "a map of token ids to values between -100 and 100",
        )
        need(self.seed is None or -(2**63) <= self.seed < 2**64, "seed", "a 64-bit integer")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function call the model asked for; `arguments` is JSON text, as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A sampled token's log-probability under the model's own distribution (temperature 1,
    nothing truncated), with the most likely alternatives as (token id, logprob) when asked for."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens spent on a request: `generated` counts every token, dropped candidates' too."""

    prompt: int = 0
    generated: int = 0
    cached: int = 0  # prompt tokens found in the prefix cache


@dataclass(frozen=True, slots=True)
class Completion:
    """One finished answer."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    score: float | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    stop_text: str | None = None  # the stop string or None


@dataclass(frozen=True, slots=True)
class Occupancy:
    """KV memory now. `cached` blocks hold reusable prefixes and count as free."""

    blocks_total: int
    blocks_used: int
    blocks_cached: int
    block_size: int
    running: int
    waiting: int
    paused: int

    @property
    def blocks_free(self) -> int:
        return self.blocks_total - self.blocks_used

    @property
    def tokens_free(self) -> int:
        return self.blocks_free * self.block_size


def as_messages(items: Sequence[Message | Mapping[str, Any]]) -> list[Message]:
    """Messages from dicts in OpenAI's plain form; Message objects pass through."""
    out: list[Message] = []
    for i, item in enumerate(items):
        if isinstance(item, Message):
            out.append(item)
            continue
        try:
            out.append(Message(role=item["role"], content=item.get("content")))
        except KeyError as e:
            raise InvalidRequest(
                f"message {i} has no {e.args[0]!r}",
                param=f"messages.{i}",
                hint="each message needs a role and content",
            ) from None
    return out
