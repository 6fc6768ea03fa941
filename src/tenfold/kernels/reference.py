"""The kernels in plain torch, on any device and dtype: the truth that others are tested against.

Written for clarity: every row gathers its own keys and values and attends to them with an ordinary
softmax in float32. The groups of a step change nothing here.
"""

from __future__ import annotations

import torch

from tenfold.kernels.ops import AttentionStep


class ReferenceAttention:
    """`ops.PagedAttention` row by row."""

    def __init__(self, step: AttentionStep) -> None:
        self.step = step
        tables = step.block_tables.tolist()
        self._slots: list[torch.Tensor] = []
        device = step.block_tables.device
        rows = zip(tables, step.starts.tolist(), step.context_lens.tolist(), strict=True)
        for table, start, end in rows:
            slots = [
                table[p // step.block_size] * step.block_size + p % step.block_size
                for p in range(start, end)
            ]
            self._slots.append(torch.tensor(slots, dtype=torch.int64, device=device))

    def __call__(
        self,
        q: torch.Tensor,
        k_pool: torch.Tensor,
        v_pool: torch.Tensor,
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See ops.PagedAttention; a row with nothing to attend to gives zeros."""
        step = self.step
        repeat = step.heads // step.kv_heads
        result = torch.empty_like(q, memory_format=torch.contiguous_format) if out is None else out
        for row, slots in enumerate(self._slots):
            if not len(slots):
                result[row] = 0
                continue
            # [heads, positions, head_dim]
            k = k_pool[slots].float().transpose(0, 1).repeat_interleave(repeat, dim=0)
            v = v_pool[slots].float().transpose(0, 1).repeat_interleave(repeat, dim=0)
            scores = torch.einsum("hd,hpd->hp", q[row].float() * step.scale, k)
            result[row] = torch.einsum("hp,hpd->hd", scores.softmax(-1), v).to(q.dtype)
        return result


def kv_write(
    k: torch.Tensor,
    v: torch.Tensor,
    k_pool: torch.Tensor,
    v_pool: torch.Tensor,
    slot_mapping: torch.Tensor,
) -> bool:
    """`ops.KvWrite` by indexing."""
    kept = slot_mapping >= 0
    k_pool[slot_mapping[kept]] = k[kept]
    v_pool[slot_mapping[kept]] = v[kept]
    return True
