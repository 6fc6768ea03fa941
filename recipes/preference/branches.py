"""Read a prompt once and many answers behind it, each as if it were alone with the prompt.

All tokens lie in one flat row: the prompt's, then answer after answer. Only attention knows where
one ends; the rest of a Llama does not care.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface


@dataclass(slots=True)
class Layout:
    """Where answers lie in the flat row: `place` [answers, longest] flat indices (0 where an answer
    has ended), `real` which of them are tokens, `later` [longest, longest] what none may see."""

    ids: Tensor  # [1, tokens]
    positions: Tensor  # [1, tokens]
    prompt: int
    place: Tensor
    real: Tensor
    later: Tensor


def lay_out(prompt: list[int], answers: list[list[int]]) -> Layout:
    """Lay a prompt and its answers out."""
    longest, size = max(map(len, answers)), len(prompt)
    place = torch.zeros(len(answers), longest, dtype=torch.long)
    real = torch.zeros(len(answers), longest, dtype=torch.bool)
    ids, positions, begin = list(prompt), list(range(size)), size
    for i, answer in enumerate(answers):
        place[i, : len(answer)] = torch.arange(begin, begin + len(answer))
        real[i, : len(answer)] = True
        ids += answer
        positions += range(size, size + len(answer))
        begin += len(answer)
    later = torch.ones(longest, longest, dtype=torch.bool).triu(1)
    return Layout(torch.tensor([ids]), torch.tensor([positions]), size, place, real, later)


def branched_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None,
    layout: Layout | None = None, **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attention of one flat row; query, key and value are [1, heads, tokens, head_dim]."""
    assert layout is not None
    size, place = layout.prompt, layout.place
    query = query * module.scaling
    begun = F.scaled_dot_product_attention(
        query[:, :, :size], key[:, :, :size], value[:, :, :size], is_causal=True, scale=1.0
    )
    # Two products are faster here than torch's kernel with a mask: all answers look at one prompt.
    behind = query[0, :, size:] @ key[0, :, :size].transpose(-1, -2)  # [heads, tokens, prompt]
    q, k, v = (x[0][:, place] for x in (query, key, value))  # [heads, answers, longest, head_dim]
    own = (q @ k.transpose(-1, -2)).masked_fill(layout.later, -1e9)  # [.., longest, longest]
    own = own[:, layout.real]  # [heads, tokens, longest]
    weights = torch.softmax(torch.cat((behind, own), -1).float(), -1).to(value.dtype)
    said = weights[..., :size] @ value[0, :, :size]
    padded = weights.new_zeros(*q.shape[:2], q.shape[2], q.shape[2])
    padded[:, layout.real] = weights[..., size:]
    said = said + (padded @ v)[:, layout.real]
    return torch.cat((begun[0], said), 1).transpose(0, 1)[None], None


AttentionInterface.register("branched", branched_attention)
