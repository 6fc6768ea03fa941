"""The reference forward with something at the inputs of its linear layers.

Off the main path: calibration listens there, and the fake-quantized decoder rounds there, which
gives the numbers that a quantized kernel has to give, at the speed of plain float32. Since it is a
`Decoder`, everything that runs one (reference, engine, evaluation) runs it unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tenfold.models.decoder import Attend, Decoder
from tenfold.models.linear import Linear
from tenfold.models.spec import DecoderSpec
from tenfold.quant.formats import dequantize_blocks, quantize_blocks
from tenfold.quant.kv import KvFormat
from tenfold.quant.sites import Site, site_of

Tap = Callable[[Site, Tensor], Tensor]  # input [rows, width] -> what the product reads


class TappedLinear(Linear):
    """A linear layer whose input goes through a function first."""

    __slots__ = ("_site", "_tap")

    def __init__(self, weight: Tensor, bias: Tensor | None, site: Site, tap: Tap) -> None:
        super().__init__(weight, bias)
        self._site, self._tap = site, tap

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, in] -> [rows, out]."""
        return super().__call__(self._tap(self._site, x))


@dataclass(frozen=True, slots=True)
class KvFormats:
    """How the cache stores keys and values."""

    keys: KvFormat
    values: KvFormat

    @property
    def bytes_per_token(self) -> float:
        """Of one key-value head, keys and values together."""
        return self.keys.bytes_per_head + self.values.bytes_per_head


class TappedDecoder(Decoder):
    """A decoder that hands the input of every linear layer to `tap`, and keeps keys and values as
    `kv` would. `tap(site, x)` must return a tensor like x and may keep what it saw."""

    def __init__(
        self,
        spec: DecoderSpec,
        tensors: Mapping[str, Tensor],
        tap: Tap,
        kv: KvFormats | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self._tap, self._kv = tap, kv
        super().__init__(spec, tensors, dtype, device)

    def _fused(self, tensors: Mapping[str, Tensor], names: list[str], bias: bool) -> Linear:
        plain = super()._fused(tensors, names, bias)
        return TappedLinear(plain.weight, plain.bias, site_of(names[0]), self._tap)

    def forward(self, token_ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """As `Decoder.forward`; `attend` gets keys and values that have been through the cache's
        format."""
        return super().forward(token_ids, positions, stored(attend, self._kv))


def stored(attend: Attend, kv: KvFormats | None) -> Attend:
    """An `Attend` that sees keys and values as a quantized cache returns them."""
    if kv is None:
        return attend

    def through(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(layer, q, kv.keys.through(k), kv.values.through(v))

    return through


def rounding_tap(block_bits: Mapping[Site, Tensor | None]) -> Tap:
    """A tap that puts every input on the grid of its blocks' bits; None leaves an input alone.

    The number of blocks gives their size: a bitmap of one entry means one scale per token.
    """

    def tap(site: Site, x: Tensor) -> Tensor:
        bits = block_bits[site]
        if bits is None:
            return x
        size = x.shape[-1] // bits.numel()
        values, scales = quantize_blocks(x, bits, size)
        return dequantize_blocks(values, scales, size).to(x.dtype)

    return tap
