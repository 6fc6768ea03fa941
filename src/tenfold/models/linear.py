"""A linear layer that keeps its weight in the order the processor reads fastest.

On the main path: every matrix product of `decoder.Decoder`. On CPU in bfloat16 the weight is packed
once at load for oneDNN, which halves the time at one row; float32 and GPUs use torch's own product
unchanged.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def packs(weight: Tensor) -> bool:
    """Will this weight be packed: bfloat16 on a CPU whose oneDNN multiplies bfloat16?"""
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16 or 0 in weight.shape:
        return False
    built = bool(torch._C._has_mkldnn)
    return built and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


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
        if self._packed:
            out: Tensor = torch.ops.mkldnn._linear_pointwise(
                x, self._weight, self._bias, "none", [], ""
            )
            return out
        return F.linear(x, self._weight, self._bias)

    @property
    def weight(self) -> Tensor:
        """The weight as a plain [out, in] tensor; a copy if it is packed."""
        return self._weight.to_dense() if self._packed else self._weight

    @property
    def bias(self) -> Tensor | None:
        """The bias [out], or None."""
        return self._bias
