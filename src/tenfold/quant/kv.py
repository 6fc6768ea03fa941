"""Keys and values in 4 or 8 bits: the format of a cache entry.

On the main path of attention over a quantized cache. Asymmetric, because keys after rope and values
are not centred; one scale and one zero point per token, head and group of channels (COMET
2410.12168 §3.3 groups them by channel as well), so that what is written depends on its own token
alone and a block of the cache can be forked, shared and cached.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from tenfold.errors import InvalidRequest
from tenfold.quant.formats import KV_BITS, check_bits

LEAD = 4  # one word of a dot-product instruction
SCALE_BYTES = 2  # float16
ZERO_BYTES = 1  # an integer on the grid of the numbers themselves


@dataclass(frozen=True, slots=True)
class QuantizedKv:
    """`values` uint8 [tokens, heads, head_dim], `scales` float16 and `zeros` uint8, both
    [tokens, heads, groups]."""

    values: Tensor
    scales: Tensor
    zeros: Tensor


@dataclass(frozen=True, slots=True)
class KvFormat:
    """How one head's channels are stored: `bits` each, in groups of the sizes `groups`."""

    bits: int
    groups: tuple[int, ...]  # they add up to head_dim

    def __post_init__(self) -> None:
        check_bits(self.bits, KV_BITS, "kv_bits")
        if not self.groups or min(self.groups) < 1:
            raise InvalidRequest(f"groups {self.groups} of a head are not sizes", param="kv_groups")

    @classmethod
    def even(cls, bits: int, head_dim: int, group: int) -> KvFormat:
        """Groups of one size. Raises InvalidRequest when they do not divide the head."""
        if group < 1 or head_dim % group:
            raise InvalidRequest(
                f"groups of {group} do not divide a head of {head_dim}",
                param="kv_group",
                hint="take a divisor of head_dim",
            )
        return cls(bits, (group,) * (head_dim // group))

    @classmethod
    def leading(cls, bits: int, head_dim: int, lead: int = LEAD, group: int = 64) -> KvFormat:
        """A small group first, then groups of up to `group`: for values, whose outlier channels the
        permutation has put first in their head, so that they coarsen `lead` channels and no more.
        """
        if not 0 < lead < min(group, head_dim):
            raise InvalidRequest(f"no {lead} channels lead a head of {head_dim}", param="kv_group")
        edges = [0, lead, *range(group, head_dim, group), head_dim]
        return cls(bits, tuple(b - a for a, b in pairwise(edges)))

    @property
    def head_dim(self) -> int:
        return sum(self.groups)

    @property
    def bytes_per_head(self) -> float:
        """Bytes of one token's keys or values in one head, scales and zero points included."""
        if self.bits == 16:
            return 2 * self.head_dim
        return self.head_dim * self.bits / 8 + len(self.groups) * (SCALE_BYTES + ZERO_BYTES)

    def quantize(self, x: Tensor) -> QuantizedKv:
        """x [tokens, heads, head_dim] -> integers; 16 bits have none.

        The range of a group always holds 0, so that the zero point is one of the grid's integers.
        """
        assert self.bits < 16, "numbers of 16 bits are kept as they are"
        top = 2**self.bits - 1
        values, scales, zeros = [], [], []
        for part in torch.split(x.float(), list(self.groups), dim=-1):
            low = part.amin(-1).clamp_max(0)
            high = part.amax(-1).clamp_min(0)
            scale = _half((high - low) / top)
            zero = (-low / scale).round().clamp(0, top)
            q = (part / scale.unsqueeze(-1)).round() + zero.unsqueeze(-1)
            values.append(q.clamp(0, top))
            scales.append(scale)
            zeros.append(zero)
        return QuantizedKv(
            torch.cat(values, -1).to(torch.uint8),
            torch.stack(scales, -1).to(torch.float16),
            torch.stack(zeros, -1).to(torch.uint8),
        )

    def dequantize(self, kv: QuantizedKv) -> Tensor:
        """float32 [tokens, heads, head_dim]."""
        sizes = torch.tensor(self.groups, device=kv.values.device)
        scales = kv.scales.float().repeat_interleave(sizes, dim=-1)
        zeros = kv.zeros.float().repeat_interleave(sizes, dim=-1)
        return (kv.values.float() - zeros) * scales

    def through(self, x: Tensor) -> Tensor:
        """x as attention will read it from the cache, in x's dtype."""
        if self.bits == 16:
            return x
        return self.dequantize(self.quantize(x)).to(x.dtype)

    def starts(self) -> list[tuple[int, int]]:
        """(begin, end) of each group's channels."""
        edges = [sum(self.groups[:i]) for i in range(len(self.groups) + 1)]
        return list(pairwise(edges))


def _half(scale: Tensor) -> Tensor:
    """Scales as float16 keeps them: never 0 (a flat group gets 1), never infinite."""
    smallest, largest = 2.0**-24, 65504.0
    kept = scale.clamp(smallest, largest).to(torch.float16).float()
    return torch.where(scale > 0, kept, torch.ones_like(kept))
