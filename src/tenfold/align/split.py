"""The training gradient in two halves: what the batch's products are, at the cost of a buffer.

The chosen answers' half u = sum(share d_w g_w) and the rejected ones' v = sum(share d_l g_l) are
differentiated one after the other; u - v is the step that training takes anyway. No hook and no
module is looked at, so it holds for every model, but it says nothing of single pairs unless the
batch is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tenfold.align.entanglement import PairStats


@dataclass(frozen=True, slots=True)
class Halves:
    """Both halves of a step, one tensor a parameter; a step adds `rate * (u - v)`."""

    chosen: list[Tensor]  # u
    rejected: list[Tensor]  # v

    def stats(self) -> PairStats:
        """Products of the two halves, [1]; their weights are 1, since they hold the loss's.

        `chosen_change` is then the change of sum(share d_w l_w) per unit of learning rate.
        """
        inner, chosen, rejected = (
            torch.stack([(a.double() * b.double()).sum() for a, b in zip(x, y, strict=True)]).sum()
            for x, y in (
                (self.chosen, self.rejected),
                (self.chosen, self.chosen),
                (self.rejected, self.rejected),
            )
        )
        one = torch.ones(1, dtype=torch.float64)
        return PairStats(inner[None].cpu(), chosen[None].cpu(), rejected[None].cpu(), one, one)

    def difference(self) -> list[Tensor]:
        """u - v: where gradient descent on the loss goes."""
        return [a - b for a, b in zip(self.chosen, self.rejected, strict=True)]

    def normalised(self) -> list[Tensor]:
        """u / |u| - v / |v|, scaled to the length of u - v: neither answer can drag the other.

        Pairwise normalised gradient (2410.13828, section 5). The chosen log-prob cannot fall and
        the rejected one cannot rise, to first order, whatever their cosine; for a batch of one the
        statement is about the pair.
        """
        inner, chosen, rejected = (float(p) for p in self._norms())
        if chosen == 0 or rejected == 0:
            return self.difference()
        away = max(2 - 2 * inner / (chosen * rejected), 0.0) ** 0.5  # |u/|u| - v/|v||
        length = max(chosen**2 - 2 * inner + rejected**2, 0.0) ** 0.5  # |u - v|
        scale = length / away if away > 0 else 0.0
        return [
            scale * (a / chosen - b / rejected)
            for a, b in zip(self.chosen, self.rejected, strict=True)
        ]

    def _norms(self) -> tuple[Tensor, Tensor, Tensor]:
        stats = self.stats()
        return stats.inner[0], stats.chosen_sq[0].sqrt(), stats.rejected_sq[0].sqrt()


def halves(
    chosen: Tensor,
    rejected: Tensor,
    weights: tuple[Tensor, Tensor],
    parameters: Sequence[Tensor],
    *,
    share: float,
) -> Halves:
    """Differentiates the two answers' log-probs apart; neither graph is needed afterwards.

    `chosen`, `rejected` [pairs] carry graphs (of two forward passes: a shared one is walked twice),
    `weights` are the loss's d_w and d_l, `share` what a pair counts (1 / pairs for a mean).
    """
    found = []
    for logps, d in zip((chosen, rejected), weights, strict=True):
        grads = torch.autograd.grad(
            (share * d.detach() * logps).sum(),
            parameters,
            allow_unused=True,
            retain_graph=logps is chosen,
        )
        found.append(
            [
                torch.zeros_like(p) if g is None else g
                for p, g in zip(parameters, grads, strict=True)
            ]
        )
    return Halves(*found)


def descend(parameters: Sequence[Tensor], direction: Sequence[Tensor]) -> None:
    """Adds to `.grad` what makes an optimizer go in a direction; gradients accumulate as ever."""
    for parameter, step in zip(parameters, direction, strict=True):
        if parameter.grad is None:
            parameter.grad = -step
        else:
            parameter.grad.sub_(step)
