"""From a weight to its integers: searched clipping, and GPTQ's error compensation.

Round-to-nearest with searched clipping takes, for each group, the scale of the least squared error,
each column's error weighed by what passes through it. GPTQ (2210.17323 §3.3) rounds one column
after the other and moves what is lost to the columns that are still to come, by the inverse of the
Hessian H = XᵀX; here in the columns' own order (the permutation has sorted them already, and a
group keeps its one scale), with damping, group by group so that the work is matrix products.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tenfold.errors import InvalidRequest
from tenfold.quant.formats import (
    WEIGHT_BITS,
    QuantizedWeight,
    check_bits,
    check_finite,
    check_group,
    group_scales,
    highest,
    round_weight,
    stored_scales,
)

CLIPS = tuple(1.0 - 0.025 * i for i in range(21))  # 1.0 down to 0.5
DAMPING = 0.01


def searched_scales(
    weight: Tensor,
    bits: int,
    group: int,
    importance: Tensor | None = None,
    dtype: torch.dtype = torch.bfloat16,
    clips: Sequence[float] = CLIPS,
) -> Tensor:
    """Per group the scale that loses least, [out, in / group], as stored in `dtype`.

    weight [out, in]; importance [in] weighs each column's squared error (its mean square, say).
    """
    rows, columns = weight.shape
    weights = None if importance is None else importance.float().view(1, columns // group, group)
    best = torch.full((rows, columns // group), float("inf"))
    chosen = torch.ones_like(best)
    for clip in clips:
        scales = stored_scales(group_scales(weight, bits, group, clip), dtype)
        lost = QuantizedWeight(
            round_weight(weight, scales, bits, group), scales, bits, group
        ).dequantize()
        error = (lost - weight.float()).square().view(rows, columns // group, group)
        total = (error if weights is None else error * weights).sum(-1)
        better = total < best
        best = torch.where(better, total, best)
        chosen = torch.where(better, scales, chosen)
    return chosen


def round_to_nearest(
    weight: Tensor,
    bits: int,
    group: int,
    importance: Tensor | None = None,
    dtype: torch.dtype = torch.bfloat16,
) -> QuantizedWeight:
    """The fast option: searched clipping, every weight to its nearest integer.

    Raises InvalidRequest on NaN, bits that are neither 4 nor 8, groups that do not divide.
    """
    _check(weight, bits, group)
    scales = searched_scales(weight, bits, group, importance, dtype)
    return QuantizedWeight(round_weight(weight, scales, bits, group), scales, bits, group)


def gptq(
    weight: Tensor,
    hessian: Tensor,
    bits: int,
    group: int,
    *,
    damping: float = DAMPING,
    dtype: torch.dtype = torch.bfloat16,
) -> QuantizedWeight:
    """Rounds column after column, moving each column's error to those to come.

    weight [out, in], hessian [in, in] = XᵀX of the inputs. `damping` is the share of the diagonal's
    mean added to it. Scales are searched when a group is reached, for the weights as they then
    are. Raises InvalidRequest on NaN, a Hessian of another size, groups that do not divide.
    """
    _check(weight, bits, group)
    columns = weight.shape[1]
    if hessian.shape != (columns, columns):
        raise InvalidRequest(
            f"the Hessian is {list(hessian.shape)}, the weight has {columns} input channels",
            hint="calibrate the same model in the same order of channels",
        )
    check_finite(hessian, "the Hessian")
    importance = hessian.diagonal().float().clone()
    upper = _inverse_root(hessian, damping)
    work = weight.float().clone()
    values = torch.zeros_like(work, dtype=torch.int8)
    all_scales = []
    for begin in range(0, columns, group):
        end = begin + group
        seen = work[:, begin:end]
        scales = searched_scales(seen, bits, group, importance[begin:end], dtype)
        errors = torch.zeros_like(seen)
        local = upper[begin:end, begin:end]
        for i in range(group):
            column = seen[:, i : i + 1]
            q = round_weight(column, scales, bits, 1)
            values[:, begin + i] = q[:, 0]
            error = (column[:, 0] - q[:, 0].float() * scales[:, 0]) / local[i, i]
            seen[:, i:] -= error.unsqueeze(1) * local[i, i:].unsqueeze(0)
            errors[:, i] = error
        work[:, end:] -= errors @ upper[begin:end, end:]
        all_scales.append(scales)
    return QuantizedWeight(values, torch.cat(all_scales, 1), bits, group)


def _inverse_root(hessian: Tensor, damping: float) -> Tensor:
    """The upper Cholesky factor of the damped Hessian's inverse, float32.

    Raises InvalidRequest when the damped Hessian is not positive definite.
    """
    h = hessian.double().clone()
    dead = h.diagonal() == 0  # nothing ever passed: the column rounds alone
    h.diagonal()[dead] = 1
    h.diagonal().add_(damping * float(h.diagonal().mean()))
    lower, failed = torch.linalg.cholesky_ex(h)
    if int(failed):
        raise InvalidRequest(
            "the Hessian is not positive definite",
            param="damping",
            hint="calibrate on more text, or raise the damping",
        )
    inverse = torch.cholesky_inverse(lower)
    upper: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return upper.float()


def _check(weight: Tensor, bits: int, group: int) -> None:
    check_bits(bits, WEIGHT_BITS, "weight_bits")
    check_group(weight.shape[1], group)
    check_finite(weight, "the weight")
    assert highest(bits) > 0
