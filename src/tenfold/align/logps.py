"""Log-probs of answers under a model."""

from __future__ import annotations

import torch
from torch import Tensor


def token_logps(logits: Tensor, ids: Tensor) -> Tensor:
    """Log-prob of each token given those before it: [rows, tokens - 1].

    `logits` [rows, tokens, vocabulary], `ids` [rows, tokens]; float32 at least.
    """
    exact = torch.promote_types(logits.dtype, torch.float32)
    return torch.log_softmax(logits[:, :-1].to(exact), -1).gather(-1, ids[:, 1:, None]).squeeze(-1)


def answer_logps(logits: Tensor, ids: Tensor, answer: Tensor) -> tuple[Tensor, Tensor]:
    """Summed log-prob of each row's answer and its number of tokens, [rows] each.

    `answer` [rows, tokens] marks the answer's tokens: neither the prompt's nor padding.
    """
    logps = token_logps(logits, ids)
    counted = answer[:, 1:].to(logps)
    return (logps * counted).sum(1), counted.sum(1)
