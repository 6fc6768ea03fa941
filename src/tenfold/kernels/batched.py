"""Paged attention in batched torch: the backend for GPUs, and for CPUs without the native library.

Rows that share blocks attend to these once, as one matrix product for the whole group; what each
row has of its own is gathered into a padded tensor. One softmax runs over both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tenfold.kernels.ops import AttentionStep


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows computed together: those of a group, or all that stand alone."""

    rows: Tensor  # [n]
    shared: Tensor  # [p] slots all of them read, possibly none
    own: Tensor  # [n, s] slots of their own, padded
    hidden: Tensor  # [n, p + s] positions outside a row's window or context


class BatchedAttention:
    """`ops.PagedAttention`, a few large torch operations per group."""

    def __init__(self, step: AttentionStep) -> None:
        self.step = step
        grouped = [(range(b, e), shared) for b, e, shared in step.groups if shared]
        taken = {r for rows, _ in grouped for r in rows}
        alone = [r for r in range(step.rows) if r not in taken]
        self._parts = [self._part(list(rows), shared) for rows, shared in grouped]
        if alone:
            self._parts.append(self._part(alone, 0))

    def _part(self, rows: list[int], shared_blocks: int) -> _Part:
        step, device = self.step, self.step.block_tables.device
        index = torch.tensor(rows, device=device)
        lengths, starts = step.context_lens[index].long(), step.starts[index].long()
        shared = shared_blocks * step.block_size
        positions = torch.arange(int(lengths.max()), device=device)
        # Padding must point at written slots: a masked NaN would still spoil the weighted sum.
        own = torch.minimum(positions[shared:][None], lengths[:, None].sub(1).clamp(min=0))
        tables = step.block_tables[index].long()
        size = step.block_size
        return _Part(
            rows=index,
            shared=tables[0, positions[:shared] // size] * size + positions[:shared] % size,
            own=tables.gather(1, own // size) * size + own % size,
            hidden=(positions >= lengths[:, None]) | (positions < starts[:, None]),
        )

    def __call__(
        self, q: Tensor, k_pool: Tensor, v_pool: Tensor, out: Tensor | None = None
    ) -> Tensor:
        """See ops.PagedAttention."""
        if out is None:
            out = torch.empty_like(q, memory_format=torch.contiguous_format)
        for part in self._parts:
            out[part.rows] = self._attend(part, q[part.rows], k_pool, v_pool)
        return out

    def _attend(self, part: _Part, q: Tensor, k_pool: Tensor, v_pool: Tensor) -> Tensor:
        step, n = self.step, len(part.rows)
        p = len(part.shared)
        # [kv_heads, n, queries per kv head, head_dim]
        queries = (q.view(n, step.kv_heads, -1, step.head_dim) * step.scale).transpose(0, 1)
        own_k = k_pool[part.own].permute(2, 0, 1, 3)  # [kv_heads, n, s, head_dim]
        own_v = v_pool[part.own].permute(2, 0, 1, 3)
        own = queries @ own_k.transpose(2, 3)  # [kv_heads, n, queries, s]
        flat = queries.reshape(step.kv_heads, -1, step.head_dim)
        shared = flat @ k_pool[part.shared].permute(1, 2, 0)  # [kv_heads, n * queries, p]
        scores = torch.cat((shared.view(*own.shape[:3], p), own), dim=-1).float()
        weights = scores.masked_fill_(part.hidden[None, :, None], -torch.inf).softmax(-1)
        weights = weights.to(v_pool.dtype)
        result = weights[..., p:] @ own_v
        common = weights[..., :p].reshape(step.kv_heads, flat.shape[1], p) @ v_pool[
            part.shared
        ].transpose(0, 1)
        result += common.view_as(result)
        result.masked_fill_(part.hidden.all(-1)[None, :, None, None], 0)  # nothing to attend to
        return result.transpose(0, 1).reshape(n, step.heads, step.head_dim)
