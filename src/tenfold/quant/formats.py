"""The number formats: what int4 and int8 mean, in plain torch. Kernels are compared with these.

- Weights, `quantize_weight`: symmetric, one scale per output row and group of input columns,
  integers -8..7 (or -128..127); w = q * scale. Scales are stored in bfloat16 or float16, and
  rounding is done against the scale as stored.
- Activations, `quantize_blocks`: symmetric, one scale per token and block of channels, decided when
  the token comes; -7..7 or -127..127, so that a number and its negative are equally far (COMET
  2410.12168 §3.2 writes -8..7; the eighth negative level would buy nothing, its scale being the
  largest magnitude's).
- Keys and values, `KvFormat`: asymmetric, one scale and one zero point per token and group of
  channels inside a head; x = (q - zero) * scale, q in 0..15 or 0..255, so that a block of the cache
  is written once and never touched again.

Zero groups have scale 1 and zeros, so no scale is ever 0. Numbers that are not finite are refused:
by the caller's door, not silently turned into integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tenfold.errors import InvalidRequest

WEIGHT_BITS = (4, 8)
ACTIVATION_BITS = (4, 8, 16)
KV_BITS = (4, 8, 16)
BLOCK_SIZES = (128, 64, 32)
SCALE_DTYPES = (torch.bfloat16, torch.float16)


def highest(bits: int) -> int:
    """The largest positive integer of a symmetric format: 7 or 127."""
    return int(2 ** (bits - 1) - 1)


def check_group(width: int, group: int, param: str = "group_size") -> None:
    """Raises InvalidRequest unless groups of this size divide a width."""
    if group < 1 or width % group:
        raise InvalidRequest(
            f"groups of {group} do not divide {width} channels",
            param=param,
            hint="take a divisor: " + ", ".join(str(g) for g in BLOCK_SIZES if width % g == 0)
            if any(width % g == 0 for g in BLOCK_SIZES)
            else "this layer cannot be quantized in groups of 128, 64 or 32",
        )


def check_finite(x: Tensor, what: str) -> None:
    """Raises InvalidRequest when a tensor holds NaN or infinity."""
    if not bool(torch.isfinite(x).all()):
        bad = int((~torch.isfinite(x)).sum())
        raise InvalidRequest(
            f"{what} holds {bad} NaN or infinite values", hint="the model or its input is damaged"
        )


def check_scales(scales: Tensor, what: str) -> None:
    """Raises InvalidRequest when a scale is NaN, infinite, 0 or negative."""
    check_finite(scales, what)
    if bool((scales <= 0).any()):
        bad = int((scales <= 0).sum())
        raise InvalidRequest(
            f"{what} holds {bad} scales that are 0 or negative",
            hint="the file is damaged, or was written by something that stores empty groups so",
        )


def stored_scales(scales: Tensor, dtype: torch.dtype) -> Tensor:
    """Scales as they will be read back, float32: rounded to `dtype`, kept above its zero.

    Raises InvalidRequest when the dtype cannot hold one (float16 ends at 65504).
    """
    if dtype not in SCALE_DTYPES:
        raise InvalidRequest(
            f"scales cannot be stored as {dtype}", param="scale_dtype", hint="bfloat16 or float16"
        )
    kept = scales.to(dtype)
    if bool(torch.isinf(kept).any()):
        raise InvalidRequest(
            f"a scale of {float(scales.max()):.3g} does not fit {dtype}", hint="store bfloat16"
        )
    smallest = torch.finfo(dtype).tiny
    kept = torch.where(kept < smallest, torch.full_like(kept, smallest), kept)
    return kept.float()


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """A weight in integers: `values` int8 [out, in], `scales` float32 [out, in / group]."""

    values: Tensor
    scales: Tensor
    bits: int
    group: int

    def dequantize(self) -> Tensor:
        """[out, in] float32."""
        scales = self.scales.repeat_interleave(self.group, dim=1)
        return self.values.float() * scales

    def check(self, what: str) -> None:
        """Raises InvalidRequest unless sizes, integers and scales can be this format's."""
        rows, columns = self.values.shape
        check_group(columns, self.group)
        if tuple(self.scales.shape) != (rows, columns // self.group):
            raise InvalidRequest(
                f"{what}: scales are {list(self.scales.shape)}, "
                f"expected {[rows, columns // self.group]}",
                hint="config and tensors disagree about the group size",
            )
        check_scales(self.scales, what)
        limit = highest(self.bits)
        if int(self.values.max()) > limit or int(self.values.min()) < -limit - 1:
            raise InvalidRequest(f"{what}: integers outside of {self.bits} bits")


def group_scales(weight: Tensor, bits: int, group: int, clip: float | Tensor = 1.0) -> Tensor:
    """Scales that take each group's largest magnitude, times `clip`, to the highest integer.

    weight [out, in] -> [out, in / group] float32, 1 where a group is all zeros.
    """
    rows, columns = weight.shape
    check_group(columns, group)
    largest = weight.float().view(rows, columns // group, group).abs().amax(-1)
    scales = largest * clip / highest(bits)
    return torch.where(largest > 0, scales, torch.ones_like(scales))


def round_weight(weight: Tensor, scales: Tensor, bits: int, group: int) -> Tensor:
    """Integers nearest to weight / scale, int8 [out, in]; ties go to the even one."""
    limit = highest(bits)
    steps = scales.repeat_interleave(group, dim=1)
    return (weight.float() / steps).round().clamp(-limit - 1, limit).to(torch.int8)


def quantize_weight(
    weight: Tensor, bits: int, group: int, dtype: torch.dtype = torch.bfloat16
) -> QuantizedWeight:
    """A weight [out, in] rounded to nearest, scales by the largest magnitude of each group.

    Raises InvalidRequest on NaN, groups that do not divide, bits that are neither 4 nor 8.
    """
    check_bits(bits, WEIGHT_BITS, "weight_bits")
    check_finite(weight, "the weight")
    scales = stored_scales(group_scales(weight, bits, group), dtype)
    return QuantizedWeight(round_weight(weight, scales, bits, group), scales, bits, group)


def check_bits(bits: int, allowed: tuple[int, ...], param: str) -> None:
    """Raises InvalidRequest unless `bits` is one of those allowed."""
    if bits not in allowed:
        raise InvalidRequest(
            f"{bits} bits are not supported",
            param=param,
            hint=f"one of {', '.join(map(str, allowed))}",
        )


def quantize_blocks(x: Tensor, block_bits: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """Activations in integers, each block of channels on a grid of its own bits.

    x [tokens, width], block_bits uint8 [width / block] of 4 and 8 -> int8 [tokens, width] and
    float32 scales [tokens, width / block].
    """
    tokens, width = x.shape
    blocks = x.float().view(tokens, width // block, block)
    limit = torch.where(block_bits == 4, 7.0, 127.0).to(x.device)  # [blocks]
    largest = blocks.abs().amax(-1)
    scales = torch.where(largest > 0, largest / limit, torch.ones_like(largest))
    # Numbers too small to be divided by their own scale: it must not be 0.
    scales = scales.clamp_min(torch.finfo(torch.float32).tiny)
    values = (blocks / scales.unsqueeze(-1)).round()
    values = torch.minimum(torch.maximum(values, -limit.view(-1, 1)), limit.view(-1, 1))
    return values.to(torch.int8).view(tokens, width), scales


def dequantize_blocks(values: Tensor, scales: Tensor, block: int) -> Tensor:
    """The inverse of `quantize_blocks` up to rounding: float32 [tokens, width]."""
    tokens, width = values.shape
    blocks = values.float().view(tokens, width // block, block)
    return (blocks * scales.unsqueeze(-1)).view(tokens, width)


def check_block_bits(bits: Tensor, width: int, block: int, what: str) -> None:
    """Raises InvalidRequest unless a block bitmap is uint8 [width / block] of 4s and 8s."""
    check_group(width, block, "block_size")
    shape = (width // block,)
    if tuple(bits.shape) != shape or bits.dtype != torch.uint8:
        raise InvalidRequest(
            f"{what}: the block bitmap is {bits.dtype} {list(bits.shape)}, "
            f"expected torch.uint8 {list(shape)}",
            hint="it has one number for each block of input channels",
        )
    strange = sorted({int(b) for b in bits.tolist()} - {4, 8})
    if strange:
        raise InvalidRequest(
            f"{what}: the block bitmap holds {strange}", hint="a block is 4 or 8 bits"
        )
