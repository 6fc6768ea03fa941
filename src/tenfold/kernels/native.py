"""The native kernels on torch tensors: checks once per step, then plain pointers, no copies."""

from __future__ import annotations

import ctypes
from typing import Any

import torch

from tenfold.errors import InvalidRequest
from tenfold.kernels.library import CAttention, CGroup, library
from tenfold.kernels.ops import AttentionStep
from tenfold.kernels.registry import decline

_DTYPES = {torch.float32: 0, torch.bfloat16: 1}


class NativeAttention:
    """`ops.PagedAttention` with everything but the layer's own tensors turned into C."""

    __slots__ = ("_call", "_keep", "_out_shape", "_pool_shape", "_reference", "_step", "dtype")

    def __init__(self, step: AttentionStep) -> None:
        lib = library()
        tables = _int32(step.block_tables)
        lengths = _int32(step.context_lens)
        starts = _int32(step.starts)
        groups = (CGroup * len(step.groups))(*(CGroup(*g) for g in step.groups))
        self._step = CAttention(
            _DTYPES[step.dtype],
            step.rows,
            step.heads,
            step.kv_heads,
            step.head_dim,
            step.block_size,
            tables.shape[1],
            len(step.groups),
            step.slots,
            step.scale,
            tables.data_ptr(),
            lengths.data_ptr(),
            starts.data_ptr(),
            ctypes.addressof(groups),
        )
        self._keep = (tables, lengths, starts, groups)  # the structure only borrows them
        self._reference = ctypes.byref(self._step)
        self._call = lib.tf_paged_attention
        self._out_shape = (step.rows, step.heads, step.head_dim)
        self._pool_shape = (step.slots, step.kv_heads, step.head_dim)
        self.dtype = step.dtype
        code = lib.tf_attention_check(self._reference)
        if code:
            raise InvalidRequest(f"paged_attention: {lib.tf_error(code).decode()}")

    def __call__(
        self,
        q: torch.Tensor,
        k_pool: torch.Tensor,
        v_pool: torch.Tensor,
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See ops.PagedAttention. Raises InvalidRequest for another shape, dtype or layout than
        the step was made for."""
        if out is None:
            out = torch.empty(self._out_shape, dtype=self.dtype)
        if (
            q.dtype is not self.dtype
            or k_pool.dtype is not self.dtype
            or v_pool.dtype is not self.dtype
            or out.dtype is not self.dtype
            or q.shape != self._out_shape
            or out.shape != self._out_shape
            or k_pool.shape != self._pool_shape
            or v_pool.shape != self._pool_shape
            or not (out.is_contiguous() and k_pool.is_contiguous() and v_pool.is_contiguous())
            or q.stride()[1:] != (self._out_shape[2], 1)
        ):
            self._refuse(q=q, k_pool=k_pool, v_pool=v_pool, out=out)
        self._call(
            self._reference,
            q.data_ptr(),
            q.stride(0),
            k_pool.data_ptr(),
            v_pool.data_ptr(),
            out.data_ptr(),
        )
        return out

    def _refuse(self, **tensors: torch.Tensor) -> None:
        got = ", ".join(
            f"{n} {tuple(t.shape)} {t.dtype} strides {t.stride()}" for n, t in tensors.items()
        )
        raise InvalidRequest(
            f"paged_attention was prepared for {self.dtype}, q and out {self._out_shape}, "
            f"pools {self._pool_shape}; got {got}"
        )


def plan_attention(step: AttentionStep) -> NativeAttention | None:
    """Prepares a step; declines other devices, dtypes and head sizes."""
    if step.block_tables.device.type != "cpu":
        decline(f"runs on the CPU, not on {step.block_tables.device}")
        return None
    if step.dtype not in _DTYPES:
        decline(f"takes float32 and bfloat16, not {step.dtype}")
        return None
    if step.head_dim % 16 or not 16 <= step.head_dim <= 256:
        decline(f"takes head_dim in multiples of 16 up to 256, not {step.head_dim}")
        return None
    return NativeAttention(step)


def kv_write(
    k: torch.Tensor,
    v: torch.Tensor,
    k_pool: torch.Tensor,
    v_pool: torch.Tensor,
    slot_mapping: torch.Tensor,
) -> bool | None:
    """`ops.KvWrite`; k and v may be slices of a fused projection (rows any distance apart)."""
    if k_pool.device.type != "cpu":
        decline(f"runs on the CPU, not on {k_pool.device}")
        return None
    size = k_pool.element_size()
    shape = k_pool.shape[1:]
    inner = (shape[1], 1)
    if (
        k.shape != v.shape
        or k.shape[1:] != shape
        or k_pool.shape != v_pool.shape
        or len({k.dtype, v.dtype, k_pool.dtype, v_pool.dtype}) != 1
        or slot_mapping.dtype is not torch.int64
        or slot_mapping.shape != k.shape[:1]
    ):
        raise InvalidRequest("kv_write: shapes or dtypes of keys, values, pools and slots differ")
    if not (
        k.stride()[1:] == inner
        and v.stride()[1:] == inner
        and k_pool.is_contiguous()
        and v_pool.is_contiguous()
        and slot_mapping.is_contiguous()
    ):
        decline("needs contiguous pools, slots and heads")
        return None
    bad = library().tf_kv_write(
        k.data_ptr(),
        k.stride(0) * size,
        v.data_ptr(),
        v.stride(0) * size,
        k_pool.data_ptr(),
        v_pool.data_ptr(),
        slot_mapping.data_ptr(),
        k.shape[0],
        shape.numel() * size,
        k_pool.shape[0],
    )
    if bad:
        raise InvalidRequest("kv_write: a slot lies outside the pool; nothing was written")
    return True


def _int32(t: torch.Tensor) -> Any:
    if t.dtype is not torch.int32:
        raise InvalidRequest(f"block tables, lengths and starts are int32, not {t.dtype}")
    return t.contiguous()
