"""Log-probabilities in OpenAI's two forms."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tenfold.models.tokenizer import Tokenizer
from tenfold.server.wire import answers as wire
from tenfold.types import TokenLogprob

_FLOOR = -9999.0  # what OpenAI sends for "impossible"; JSON has no -inf


def _value(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else _FLOOR


def token_text(tokenizer: Tokenizer, token_id: int) -> str:
    """A token as text; the bytes beside it are exact where it is part of a character."""
    return tokenizer.token_bytes(token_id).decode("utf-8", errors="replace")


def _top(tokenizer: Tokenizer, token_id: int, logprob: float) -> wire.TopLogprob:
    return wire.TopLogprob(
        token=token_text(tokenizer, token_id),
        logprob=_value(logprob),
        bytes=list(tokenizer.token_bytes(token_id)),
    )


def chat_logprobs(tokenizer: Tokenizer, entries: Sequence[TokenLogprob]) -> wire.ChoiceLogprobs:
    """The chat endpoint's form."""
    content = []
    for entry in entries:
        own = _top(tokenizer, entry.token_id, entry.logprob)
        content.append(
            wire.ContentLogprob(
                token=own.token,
                logprob=own.logprob,
                bytes=own.bytes,
                top_logprobs=[_top(tokenizer, i, value) for i, value in entry.top],
            )
        )
    return wire.ChoiceLogprobs(content=content, refusal=None)


def legacy_logprobs(
    tokenizer: Tokenizer, entries: Sequence[TokenLogprob], offset: int = 0
) -> wire.LegacyLogprobs:
    """The legacy endpoint's form; `offset` is where the first token begins in the answer's text."""
    tokens = [token_text(tokenizer, e.token_id) for e in entries]
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    return wire.LegacyLogprobs(
        tokens=tokens,
        token_logprobs=[_value(e.logprob) for e in entries],
        top_logprobs=[
            {token_text(tokenizer, i): _value(value) for i, value in e.top} for e in entries
        ],
        text_offset=offsets,
    )
