"""The operations kernels implement: names, signatures and memory layouts. Nothing runs here.

Layouts, the same for every backend:

- KV pool: `[slots, kv_heads, head_dim]`, contiguous, one for keys and one for values per layer.
  Slot = block * block_size + offset; blocks belong to whoever fills the block tables.
- Block table: int32 `[rows, max_blocks]`; entry i holds positions i * block_size and following.
  Entries beyond a row's context may be anything.
- A step's rows are ordered; a group `(begin, end, shared_blocks)` says that these rows begin with
  the same whole physical blocks, which a backend may read once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

PAGED_ATTENTION = "paged_attention"
KV_WRITE = "kv_write"

Group = tuple[int, int, int]  # row_begin, row_end, shared_blocks


@dataclass(frozen=True, slots=True)
class AttentionStep:
    """What all layers of one decode step have in common: one query token per row.

    Row r attends to positions `starts[r] <= p < context_lens[r]`; `starts` is above 0 only for
    sliding windows. `groups` are ascending and disjoint; rows in none stand alone.
    """

    block_tables: torch.Tensor  # int32 [rows, max_blocks]
    context_lens: torch.Tensor  # int32 [rows]
    starts: torch.Tensor  # int32 [rows]
    heads: int
    kv_heads: int
    head_dim: int
    block_size: int
    slots: int  # in each pool
    scale: float
    dtype: torch.dtype  # of queries, pools and output
    groups: tuple[Group, ...] = ()

    @property
    def rows(self) -> int:
        return int(self.block_tables.shape[0])


class PagedAttention(Protocol):
    """A step prepared by a backend; called once per layer.

    q: `[rows, heads, head_dim]`, pools: `[slots, kv_heads, head_dim]`, out: like q. The last two
    dimensions of q are contiguous, so that q may be a slice of a fused projection. Returns `out`,
    which is allocated when not given. Scores and sums are kept in float32.
    """

    def __call__(
        self,
        q: torch.Tensor,
        k_pool: torch.Tensor,
        v_pool: torch.Tensor,
        out: torch.Tensor | None = None,
    ) -> torch.Tensor: ...


# `plan(step)` returns the prepared step, or None: this backend declines (see registry.py).
PlanAttention = Callable[[AttentionStep], "PagedAttention | None"]


class KvWrite(Protocol):
    """Copies new keys and values, `[tokens, kv_heads, head_dim]`, to slots of the pools, in place.

    `slot_mapping` is int64 `[tokens]`; a negative slot is skipped. Returns True, or None when this
    backend declines.
    """

    def __call__(
        self,
        k: torch.Tensor,
        v: torch.Tensor,
        k_pool: torch.Tensor,
        v_pool: torch.Tensor,
        slot_mapping: torch.Tensor,
    ) -> bool | None: ...
