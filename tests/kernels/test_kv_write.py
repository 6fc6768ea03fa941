from __future__ import annotations

import pytest
import torch

from tenfold.errors import InvalidRequest
from tenfold.kernels import kv_write


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_rows_land_in_their_slots_and_nowhere_else(backend: str, dtype: torch.dtype) -> None:
    fused = torch.randn(4, 3 * 2, 32).to(dtype)  # keys and values are slices of one projection
    k, v = fused[:, 2:4], fused[:, 4:]
    pools = [torch.zeros(40, 2, 32, dtype=dtype) for _ in range(2)]
    slots = torch.tensor([7, -1, 39, 0])
    kv_write(k, v, *pools, slots, backend=backend)
    for source, pool in zip((k, v), pools, strict=True):
        want = torch.zeros_like(pool)
        want[[7, 39, 0]] = source[[0, 2, 3]]
        assert torch.equal(pool, want)


@pytest.mark.usefixtures("native")
def test_a_slot_outside_the_pool_is_refused_and_nothing_is_written() -> None:
    pool = torch.zeros(4, 1, 16)
    rows = torch.ones(2, 1, 16)
    with pytest.raises(InvalidRequest, match="outside the pool"):
        kv_write(rows, rows, pool, pool, torch.tensor([0, 4]), backend="native")
    assert not pool.any()
    with pytest.raises(InvalidRequest, match="differ"):
        kv_write(rows, rows, pool, pool, torch.tensor([0]), backend="native")
