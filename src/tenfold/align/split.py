"""The training gradient in two halves: what the batch's products are, at the cost of a buffer.

The chosen answers' half u = sum(share d_w g_w) and the rejected ones' v = sum(share d_l g_l) are
differentiated one after the other; u - v is the step that training takes anyway. No hook and no
module is looked at, so it holds for every model, but it says nothing of single pairs unless the
batch is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tenfold.align.entanglement import PairStats, unscaled
from tenfold.align.ghost import Only
from tenfold.align.losses import PairLogps
from tenfold.align.tally import gathered, processes
from tenfold.errors import TenfoldError


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


def halves(
    chosen: Tensor,
    rejected: Tensor,
    weights: tuple[Tensor, Tensor],
    parameters: Sequence[Tensor],
    *,
    share: float,
    keep: bool = False,
) -> Halves:
    """Differentiates the two answers' log-probs apart; `keep` keeps their graphs.

    `chosen`, `rejected` [pairs] carry graphs (of two forward passes: a shared one is walked twice),
    `weights` are the loss's d_w and d_l, `share` what a pair counts (1 / pairs for a mean).
    """
    found = []
    for logps, d in zip((chosen, rejected), weights, strict=True):
        grads = torch.autograd.grad(
            logps,
            parameters,
            (share * d.detach()).to(logps),
            allow_unused=True,
            retain_graph=keep or logps is chosen,
        )
        found.append(
            [
                torch.zeros_like(p) if g is None else g
                for p, g in zip(parameters, grads, strict=True)
            ]
        )
    return Halves(*found)


class SplitStep:
    """The two halves of an optimizer step, summed over its micro-batches."""

    def __init__(self, model: nn.Module) -> None:
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        self._names = [name for name, _ in named]
        self._parameters = [p for _, p in named]
        self._sums: Halves | None = None
        self._weights = [0.0, 0.0]  # sums of share x d_w and share x d_l

    def apart(self, value: Tensor, pairs: PairLogps, weights: tuple[Tensor, Tensor]) -> Tensor:
        """`value`, the mean loss, whose backward pass differentiates the two answers apart.

        `value` carries its graph: what is trained beside the model, a token mask, is differentiated
        through the loss itself.
        """
        own = {id(p) for p in self._parameters}
        beside = [leaf for leaf in _leaves(value) if id(leaf) not in own]
        loss: Tensor = _Apart.apply(  # type: ignore[no-untyped-call]
            value.detach(), (self, pairs, weights, value, beside), *self._parameters, *beside
        )
        return loss

    def stats(self, only: Only | None = None) -> tuple[PairStats, dict[str, PairStats]]:
        """Of the means of the log-probs that the loss's weights weigh, [1]: whole and by module.

        With the sums of weights D_w and D_l the products are those of u / D_w and v / D_l, so that
        they are a single pair's own where the step is one pair. Of all processes: their halves are
        averaged, as their gradients are. `only` leaves parameters out.
        """
        if self._sums is None:
            raise TenfoldError(
                "the loss was not differentiated inside the watched pass",
                hint="call backward() before `with monitor.watch(...)` ends",
            )
        weights = torch.tensor(self._weights, dtype=torch.float64)[None]
        d_w, d_l = gathered(weights).mean(0)[:, None]
        found: dict[str, Tensor] = {}
        for name, a, b in zip(self._names, self._sums.chosen, self._sums.rejected, strict=True):
            for half in (a, b) if processes() > 1 else ():
                dist.all_reduce(half)
                half /= processes()
            if only is None or only(name):
                products = torch.stack([_dot(a, b), _dot(a, a), _dot(b, b)])
                module = name.rpartition(".")[0]
                found[module] = found.get(module, 0) + products

        def of(row: Tensor) -> PairStats:
            inner, chosen, rejected = unscaled(row[None].double().cpu(), -d_w, d_l).unbind(1)
            return PairStats(inner, chosen, rejected, d_w, d_l)

        whole = torch.stack([p.double() for p in found.values()]).sum(0)
        return of(whole), {name: of(products) for name, products in found.items()}

    def _add(self, both: Halves, weights: tuple[float, float]) -> None:
        self._weights = [a + b for a, b in zip(self._weights, weights, strict=True)]
        if self._sums is None:
            self._sums = both
            return
        for mine, new in (
            (self._sums.chosen, both.chosen),
            (self._sums.rejected, both.rejected),
        ):
            torch._foreach_add_(mine, new)


class _Apart(torch.autograd.Function):
    """A loss whose backward pass is two, with the leaves of its graph as its inputs."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, job: tuple[Any, ...], *leaves: Tensor) -> Tensor:
        ctx.job = job
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        step, pairs, (d_w, d_l), value, beside = ctx.job
        ctx.job = None
        # first, while both graphs are whole; nothing of the model is walked for it
        others = torch.autograd.grad(value, beside, grad, retain_graph=True) if beside else ()
        share = float(grad) / len(d_w)
        both = halves(pairs.chosen, pairs.rejected, (d_w, d_l), step._parameters, share=share)
        step._add(both, (share * float(d_w.sum()), share * float(d_l.sum())))
        return (None, None, *(-d for d in both.difference()), *others)


def _leaves(value: Tensor) -> list[Tensor]:
    """What a backward pass from here would give gradients to."""
    found, seen, left = [], set(), [value.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            found.append(leaf)
        left.extend(follower for follower, _ in node.next_functions)
    return found


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.dot(a.flatten().float(), b.flatten().float())
