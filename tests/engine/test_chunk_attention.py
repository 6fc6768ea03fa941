"""Prefill attention against the plain reference, for every split and shape."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.engine.chunk_attention import chunk_attention
from tenfold.models.reference import dense_attention


@given(
    tokens=st.integers(1, 150),
    past=st.integers(0, 90),
    kv_heads=st.integers(1, 3),
    each=st.integers(1, 3),
    window=st.none() | st.integers(1, 100),
    half=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_any_shape(
    tokens: int, past: int, kv_heads: int, each: int, window: int | None, half: bool
) -> None:
    generator = torch.Generator().manual_seed(tokens * 100 + past)
    dtype = torch.bfloat16 if half else torch.float32
    fused = torch.randn(tokens, kv_heads * each, 16, generator=generator).to(dtype)
    k, v = (torch.randn(past + tokens, kv_heads, 16, generator=generator).to(dtype) for _ in "kv")
    got = chunk_attention(fused, k, v, past, 0.25, window)
    want = dense_attention(fused, k, v, scale=0.25, window=window, past=past)
    bound = 3e-2 if half else 1e-5
    torch.testing.assert_close(got.float(), want.float(), atol=bound, rtol=bound)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_slice_of_a_fused_projection_is_as_good(dtype: torch.dtype) -> None:
    fused = torch.randn(70, 12, 16).to(dtype)
    q, k, v = fused[:, :6], fused[:, 6:9], fused[:, 9:]
    got = chunk_attention(q, k, v, 0, 0.25, None)
    want = chunk_attention(q.contiguous(), k.contiguous(), v.contiguous(), 0, 0.25, None)
    torch.testing.assert_close(got, want)
