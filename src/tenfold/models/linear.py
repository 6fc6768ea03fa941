"""A linear layer that keeps its weight in the order the processor reads fastest.

On the main path: every matrix product of `decoder.Decoder`. On a CPU, float32 and bfloat16 weights
are packed once at load for oneDNN: against torch's own product this takes about half the time at
one row in bfloat16 and at 32 rows in float32, never longer than a few microseconds more, and a
row's result does not depend on the rows beside it (`torch.nn.functional.linear` changes its order
of summation below eight rows), so a sequence decodes to the same text in any batch. GPUs and
float16 use torch's product.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_SPLIT_SUMS = 1024  # from this many columns on, oneDNN sums a lone row in another order


def packs(weight: Tensor) -> bool:
    """Will this weight be packed: on a CPU, in a type that its oneDNN multiplies?"""
    if weight.device.type != "cpu" or 0 in weight.shape or not torch._C._has_mkldnn:
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32


class Linear:
    """y = x Wᵀ + b with W [out, in]; x is [rows, in]."""

    __slots__ = ("_bias", "_packed", "_weight", "in_features", "out_features")

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.out_features, self.in_features = weight.shape
        self._packed = packs(weight)
        if self._packed:
            weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
        self._weight = weight
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, in] -> [rows, out]."""
        if not self._packed:
            return F.linear(x, self._weight, self._bias)
        alone = x.shape[0] == 1 and self.in_features >= _SPLIT_SUMS
        if alone:
            x = torch.cat((x, x))
        out: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._weight, self._bias, "none", [], ""
        )
        return out[:1] if alone else out

    @property
    def weight(self) -> Tensor:
        """The weight as a plain [out, in] tensor; a copy if it is packed."""
        return self._weight.to_dense() if self._packed else self._weight

    @property
    def bias(self) -> Tensor | None:
        """The bias [out], or None."""
        return self._bias
