"""Which tokens of two answers entangle: products of the gradients of single tokens' log-probs.

An answer's log-prob is the sum of its tokens', so the matrix of products adds up to <g_w, g_l>.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tenfold.align.ghost import Only
from tenfold.align.logps import token_logps
from tenfold.errors import InvalidRequest

MOST_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class TokenProducts:
    """Of one pair: the answers' places in their rows, and the products of their tokens."""

    chosen: list[int]
    rejected: list[int]
    inner: Tensor  # [chosen tokens, rejected tokens]
    chosen_sq: Tensor  # [chosen tokens]
    rejected_sq: Tensor

    @property
    def cosine(self) -> Tensor:
        """[chosen tokens, rejected tokens]; nan where a token has no gradient."""
        return self.inner / (self.chosen_sq[:, None] * self.rejected_sq[None]).sqrt()


def token_products(
    model: nn.Module,
    ids: Tensor,
    attention: Tensor,
    answer: Tensor,
    *,
    only: Only | None = None,
    most_bytes: int = MOST_BYTES,
) -> TokenProducts:
    """Exact products over the trained parameters, or those `only` names; one pair, [2, tokens].

    One backward pass a token, no further down than the parameters lie; `.grad` is left alone.
    Raises InvalidRequest where the tokens' gradients would take more than `most_bytes`.
    """
    named = [
        (n, p) for n, p in model.named_parameters() if p.requires_grad and (only is None or only(n))
    ]
    parameters = [p for _, p in named]
    places = [answer[row, 1:].nonzero().flatten().tolist() for row in (0, 1)]
    size = sum(p.numel() for p in parameters)
    if not size or not all(places):
        raise InvalidRequest(
            "no token to hold against another" if size else "no trained parameter is named",
            param="tokens",
            hint="both answers need a token, and `only` a parameter",
        )
    needed = 4 * size * sum(map(len, places))
    if needed > most_bytes:
        raise InvalidRequest(
            f"gradients of {sum(map(len, places))} tokens take {needed / 1e9:.1f} GB",
            param="tokens",
            hint='name fewer parameters: only=lambda name: "lora_" in name, or the last layer\'s',
        )
    with torch.enable_grad():
        logits = model(input_ids=ids, attention_mask=attention, use_cache=False).logits
        logps = token_logps(logits, ids)
    rows = [
        torch.stack([_gradient(logps[side, place], parameters) for place in places[side]])
        for side in (0, 1)
    ]
    return TokenProducts(
        [p + 1 for p in places[0]],
        [p + 1 for p in places[1]],
        (rows[0] @ rows[1].T).cpu(),
        rows[0].square().sum(1).cpu(),
        rows[1].square().sum(1).cpu(),
    )


def _gradient(value: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    """[parameters], float32 at least."""
    found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    flat = [
        torch.zeros_like(p).flatten() if g is None else g.flatten()
        for p, g in zip(parameters, found, strict=True)
    ]
    exact = torch.promote_types(value.dtype, torch.float32)
    return torch.cat([x.to(exact) for x in flat])
