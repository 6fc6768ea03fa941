"""kernels: operation signatures, memory layouts, backends and how one is picked.

    plan = plan_attention(AttentionStep(...))            # once per step
    out = plan(q, k_pool, v_pool)                        # once per layer
    kv_write(k, v, k_pool, v_pool, slot_mapping)

torch is imported when a backend is first used, never by importing this package.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from tenfold.kernels import library
from tenfold.kernels.ops import KV_WRITE, PAGED_ATTENTION, AttentionStep, Group, PagedAttention
from tenfold.kernels.registry import backends, call, ops, register

if TYPE_CHECKING:
    import torch

__all__ = ["AttentionStep", "Group", "PagedAttention", "backends", "kv_write", "ops"]
__all__ += ["plan_attention", "register"]


def plan_attention(step: AttentionStep, *, backend: str | None = None) -> PagedAttention:
    """Prepares paged decode attention for all layers of a step.

    Raises BackendUnavailable when no backend takes it, or the one asked for does not.
    """
    plan: PagedAttention = call(PAGED_ATTENTION, step, backend=backend)
    return plan


def kv_write(
    k: torch.Tensor,
    v: torch.Tensor,
    k_pool: torch.Tensor,
    v_pool: torch.Tensor,
    slot_mapping: torch.Tensor,
    *,
    backend: str | None = None,
) -> None:
    """Copies new keys and values `[tokens, kv_heads, head_dim]` to their slots, in place."""
    call(KV_WRITE, k, v, k_pool, v_pool, slot_mapping, backend=backend)


def _native(op: str) -> Callable[..., Any]:
    from tenfold.kernels import native

    return native.plan_attention if op == PAGED_ATTENTION else native.kv_write


def _reference(op: str) -> Callable[..., Any]:
    from tenfold.kernels import reference

    return reference.ReferenceAttention if op == PAGED_ATTENTION else reference.kv_write


def _batched() -> Callable[..., Any]:
    from tenfold.kernels import batched

    return batched.BatchedAttention


for _op in (PAGED_ATTENTION, KV_WRITE):
    register(_op, "native", partial(_native, _op), absent=library.absent, rank=10)
    register(_op, "reference", partial(_reference, _op), rank=0)
register(PAGED_ATTENTION, "torch", _batched, rank=5)
