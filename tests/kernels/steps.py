"""Random decode steps for the kernel tests."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tenfold.kernels import AttentionStep


@dataclass
class Case:
    step: AttentionStep
    q: torch.Tensor
    k_pool: torch.Tensor
    v_pool: torch.Tensor


def make(
    lengths: list[int],
    *,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int = 64,
    block_size: int = 16,
    dtype: torch.dtype = torch.float32,
    shared_blocks: int = 0,
    starts: list[int] | None = None,
    seed: int = 0,
    magnitude: float = 1.0,
) -> Case:
    """Rows of the given context lengths; all begin with the same `shared_blocks` blocks."""
    g = torch.Generator().manual_seed(seed)
    rows = len(lengths)
    width = max([1, *(-(-n // block_size) for n in lengths)])
    blocks = rows * width + shared_blocks + 1
    tables = torch.randperm(blocks, generator=g)[: rows * width].to(torch.int32).reshape(rows, -1)
    if shared_blocks:
        tables[:, :shared_blocks] = tables[0, :shared_blocks].clone()
    slots = blocks * block_size
    q = torch.randn(rows, heads, head_dim, generator=g) * magnitude
    k = torch.randn(slots, kv_heads, head_dim, generator=g) * magnitude
    v = torch.randn(slots, kv_heads, head_dim, generator=g)
    step = AttentionStep(
        block_tables=tables,
        context_lens=torch.tensor(lengths, dtype=torch.int32),
        starts=torch.tensor(starts or [0] * rows, dtype=torch.int32),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        block_size=block_size,
        slots=slots,
        scale=head_dim**-0.5,
        dtype=dtype,
        groups=((0, rows, shared_blocks),) if shared_blocks else (),
    )
    return Case(step, q.to(dtype), k.to(dtype), v.to(dtype))


def only(case: Case, row: int) -> Case:
    """One row of a case, alone in its batch."""
    s = case.step
    step = AttentionStep(
        block_tables=s.block_tables[row : row + 1].clone(),
        context_lens=s.context_lens[row : row + 1].clone(),
        starts=s.starts[row : row + 1].clone(),
        heads=s.heads,
        kv_heads=s.kv_heads,
        head_dim=s.head_dim,
        block_size=s.block_size,
        slots=s.slots,
        scale=s.scale,
        dtype=s.dtype,
    )
    return Case(step, case.q[row : row + 1].clone(), case.k_pool, case.v_pool)
