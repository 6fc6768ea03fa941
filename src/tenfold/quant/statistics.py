"""What calibration remembers of a text: per input, channel by channel, in bounded memory.

`ChannelStatistics` keeps two numbers per channel (largest magnitude, mean square), `Moments` the
sum of outer products, the Hessian of a linear layer's squared error up to a factor of 2 (GPTQ
2210.17323 §3). Both only grow, so they can be stored and gone on with.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from tenfold.quant.formats import check_finite
from tenfold.quant.sites import Site


@dataclass(slots=True)
class ChannelStatistics:
    """Of one input with `width` channels; grows by `add`."""

    largest: Tensor  # [width] float32
    squares: Tensor  # [width] float64, summed
    tokens: int = 0

    @classmethod
    def empty(cls, width: int) -> ChannelStatistics:
        return cls(torch.zeros(width), torch.zeros(width, dtype=torch.float64))

    def add(self, x: Tensor) -> None:
        """Takes in x [tokens, width]; raises InvalidRequest on NaN."""
        check_finite(x, "an activation of the calibration text")
        x = x.detach().float().cpu()
        if not len(x):
            return
        self.largest = torch.maximum(self.largest, x.abs().amax(0))
        self.squares += x.double().square().sum(0)
        self.tokens += len(x)

    def mean_square(self) -> Tensor:
        """[width] float32; zeros before anything was seen."""
        return (self.squares / max(self.tokens, 1)).float()


@dataclass(slots=True)
class Moments:
    """The sum over tokens of xᵀx, [width, width] float32, of what is read at one input."""

    products: Tensor
    tokens: int = 0

    @classmethod
    def empty(cls, width: int) -> Moments:
        return cls(torch.zeros(width, width))

    def add(self, x: Tensor) -> None:
        """Takes in x [tokens, width]."""
        x = x.detach().float().cpu()
        self.products += x.T @ x
        self.tokens += len(x)


def statistics_tensors(found: dict[Site, ChannelStatistics]) -> dict[str, Tensor]:
    """As tensors by name, for a file that a later run goes on from."""
    tensors: dict[str, Tensor] = {}
    for site, s in found.items():
        tensors[f"{site.name}.largest"] = s.largest.clone()
        tensors[f"{site.name}.squares"] = s.squares.clone()
        tensors[f"{site.name}.tokens"] = torch.tensor([s.tokens])
    return tensors


def statistics_from(
    tensors: dict[str, Tensor], wanted: Iterable[Site]
) -> dict[Site, ChannelStatistics]:
    """The inverse of `statistics_tensors`; KeyError where an input is missing."""
    return {
        site: ChannelStatistics(
            tensors[f"{site.name}.largest"].clone(),
            tensors[f"{site.name}.squares"].clone(),
            int(tensors[f"{site.name}.tokens"]),
        )
        for site in wanted
    }
