"""What one step of preference training does to the two answers of a pair (2410.13828, section 3).

With g_w, g_l the gradients of the two log-probs and a loss's weights d_w, d_l (losses.py), a step
of gradient descent changes them, to first order and per unit of the learning rate, by

    chosen    d_w |g_w|^2  - d_l <g_w, g_l>
    rejected  d_w <g_w, g_l> - d_l |g_l|^2

so the chosen answer rises exactly if <g_w, g_l> < d_w / d_l |g_w|^2 and the rejected one falls
exactly if <g_w, g_l> < d_l / d_w |g_l|^2. Where only one holds the two move together.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor


class Verdict(StrEnum):
    """How a step moves a pair."""

    IDEAL = "ideal"  # chosen up, rejected down
    BOTH_UP = "both up"
    BOTH_DOWN = "both down"
    ADVERSE = "adverse"  # chosen down, rejected up: no loss whose d_w equals d_l can do it
    INACTIVE = "inactive"  # the loss leaves an answer out: what the step does to it is not known


@dataclass(frozen=True, slots=True)
class PairStats:
    """Products of the gradients of the summed log-probs and the loss's weights; all are [pairs].

    Where a weight is 0 the training gradient does not hold that answer's: the products are nan.
    """

    inner: Tensor  # <g_w, g_l>
    chosen_sq: Tensor  # |g_w|^2
    rejected_sq: Tensor  # |g_l|^2
    d_w: Tensor
    d_l: Tensor

    @property
    def cosine(self) -> Tensor:
        """Of the two gradients: 1 where nothing can tell the answers apart."""
        return self.inner / (self.chosen_sq * self.rejected_sq).sqrt()

    @property
    def chosen_change(self) -> Tensor:
        """First-order change of the chosen log-prob per unit of learning rate."""
        return _times(self.d_w, self.chosen_sq) - _times(self.d_l, self.inner)

    @property
    def rejected_change(self) -> Tensor:
        """First-order change of the rejected log-prob per unit of learning rate."""
        return _times(self.d_w, self.inner) - _times(self.d_l, self.rejected_sq)

    @property
    def chosen_limit(self) -> Tensor:
        """The chosen answer rises while the inner product is below this."""
        return self.d_w / self.d_l * self.chosen_sq

    @property
    def rejected_limit(self) -> Tensor:
        """The rejected answer falls while the inner product is below this."""
        return self.d_l / self.d_w * self.rejected_sq

    @property
    def ratio_needed(self) -> Tensor:
        """The smallest d_w / d_l with which the chosen answer does not fall: <g_w, g_l> / |g_w|^2.

        Less 1 it is the penalty that DPOP needs for this pair, once the answer has fallen.
        """
        return (self.inner / self.chosen_sq).clamp_min(0)

    def verdicts(self) -> list[Verdict]:
        """One a pair."""
        return [
            verdict(up, down, bool(dead))
            for up, down, dead in zip(
                self.chosen_change.tolist(),
                self.rejected_change.tolist(),
                (self.d_w == 0) & (self.d_l == 0),
                strict=True,
            )
        ]

    def __len__(self) -> int:
        return len(self.inner)


def _times(weight: Tensor, product: Tensor) -> Tensor:
    """0 where the weight is, though the product is nan there."""
    return torch.where(weight == 0, 0.0, weight * product)


def verdict(chosen: float, rejected: float, inactive: bool) -> Verdict:
    """Of the two changes that a step makes."""
    if inactive or chosen != chosen or rejected != rejected:
        return Verdict.INACTIVE
    if chosen >= 0:
        return Verdict.IDEAL if rejected < 0 else Verdict.BOTH_UP
    return Verdict.BOTH_DOWN if rejected < 0 else Verdict.ADVERSE


def unscaled(products: Tensor, c_w: Tensor, c_l: Tensor) -> Tensor:
    """Products of the log-probs' gradients from those of the training gradient, [pairs, 3].

    `products` are <., .>, |.|^2 and |.|^2 of the two rows' shares of the training gradient, which
    are -c_w g_w and c_l g_l. A coefficient of 0 makes nan of what it hides.
    """
    hidden = torch.tensor(float("nan"), dtype=products.dtype, device=products.device)
    w = torch.where(c_w == 0, hidden, c_w.to(products))
    l_ = torch.where(c_l == 0, hidden, c_l.to(products))
    return products / torch.stack([-w * l_, w * w, l_ * l_], 1)
