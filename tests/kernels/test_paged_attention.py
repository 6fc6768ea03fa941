"""The native kernel against the torch reference, and the promise that a row's bits are its own."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.errors import BackendUnavailable, InvalidRequest, UnknownName
from tenfold.kernels import library, plan_attention

from .steps import Case, make, only

pytestmark = pytest.mark.usefixtures("native")
BOUND = {torch.float32: 2e-5, torch.bfloat16: 2e-2}


def run(case: Case, backend: str) -> torch.Tensor:
    return plan_attention(case.step, backend=backend)(case.q, case.k_pool, case.v_pool)


def agree(case: Case) -> None:
    want = run(case, "reference").float()
    for backend in ("native", "torch"):
        got = run(case, backend)
        assert got.dtype == case.step.dtype
        bound = BOUND[case.step.dtype]
        torch.testing.assert_close(got.float(), want, atol=bound, rtol=bound)


@pytest.fixture(params=library.ISA_NAMES)
def isa(request: pytest.FixtureRequest) -> str:
    try:
        library.set_isa(request.param)
    except BackendUnavailable as e:
        pytest.skip(str(e))
    return str(request.param)


def test_torch_reference_is_scaled_dot_product_attention() -> None:
    case = make([37], heads=4, kv_heads=4)
    table = case.step.block_tables[0].long()
    slots = (table[:, None] * 16 + torch.arange(16)).flatten()[:37]
    want = torch.nn.functional.scaled_dot_product_attention(
        case.q[0][:, None], case.k_pool[slots].transpose(0, 1), case.v_pool[slots].transpose(0, 1)
    )
    torch.testing.assert_close(run(case, "reference")[0], want[:, 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("head_dim", [16, 48, 64, 80, 128])
@pytest.mark.parametrize(("heads", "kv_heads"), [(3, 3), (7, 1), (12, 4)])
def test_agrees_with_reference(
    isa: str, dtype: torch.dtype, head_dim: int, heads: int, kv_heads: int
) -> None:
    agree(
        make([1, 63, 64, 65, 200], heads=heads, kv_heads=kv_heads, head_dim=head_dim, dtype=dtype)
    )


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 150), min_size=1, max_size=9),
    shared=st.integers(0, 8),
    block_size=st.sampled_from([1, 3, 16, 32, 100]),
    ratio=st.integers(1, 5),
    window=st.none() | st.integers(1, 100),
    half=st.booleans(),
    seed=st.integers(0, 9),
)
def test_agrees_for_any_shape(
    lengths: list[int],
    shared: int,
    block_size: int,
    ratio: int,
    window: int | None,
    half: bool,
    seed: int,
) -> None:
    lengths = [n + shared * block_size for n in lengths]
    starts = [max(0, n - window) for n in lengths] if window else None
    agree(
        make(
            lengths,
            heads=2 * ratio,
            kv_heads=2,
            head_dim=32,
            block_size=block_size,
            dtype=torch.bfloat16 if half else torch.float32,
            shared_blocks=shared,
            starts=starts,
            seed=seed,
        )
    )


def test_long_context() -> None:
    agree(make([9000, 12345], heads=2, kv_heads=1))


@pytest.mark.parametrize("magnitude", [0.0, 1e-20, 30.0, 1e4])
def test_extreme_values(isa: str, magnitude: float) -> None:
    case = make([130, 5], magnitude=magnitude)
    got = run(case, "native")
    assert got.isfinite().all()
    torch.testing.assert_close(got, run(case, "reference"), atol=1e-3, rtol=1e-3)


def test_garbage_outside_the_context_is_never_seen() -> None:
    case = make([70, 3], dtype=torch.bfloat16)
    want = run(case, "native")
    used = {
        int(case.step.block_tables[r, p // 16]) * 16 + p % 16
        for r, n in enumerate([70, 3])
        for p in range(n)
    }
    unused = [s for s in range(case.step.slots) if s not in used]
    case.k_pool[unused] = math.nan
    case.v_pool[unused] = math.nan
    assert torch.equal(run(case, "native"), want)


def test_nan_is_not_hidden() -> None:
    case = make([70])
    case.k_pool[int(case.step.block_tables[0, 1]) * 16] = math.nan
    assert run(case, "native").isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_row_has_the_same_bits_alone_and_among_others(
    isa: str, dtype: torch.dtype, threads: int
) -> None:
    lengths = [130 + (i * 37) % 190 for i in range(65)]
    starts = [0 if i % 3 else (i * 5) % 160 for i in range(65)]
    case = make(lengths, heads=6, kv_heads=2, dtype=dtype, shared_blocks=8, starts=starts)
    library.set_threads(threads)
    together = run(case, "native")
    ungrouped = run(replace_groups(case), "native")
    assert torch.equal(together, ungrouped)
    library.set_threads(1)
    for row in (0, 1, 17, 64):
        assert torch.equal(run(only(case, row), "native")[0], together[row])


def replace_groups(case: Case) -> Case:
    return Case(replace(case.step, groups=()), case.q, case.k_pool, case.v_pool)


def test_q_may_be_a_slice_of_a_fused_projection() -> None:
    case = make([40, 50])
    fused = torch.randn(2, 4 + 2 + 2, 64)
    fused[:, :4] = case.q
    got = plan_attention(case.step)(fused[:, :4], case.k_pool, case.v_pool)
    assert torch.equal(got, run(case, "native"))


def test_out_is_filled_and_returned() -> None:
    case = make([40, 50])
    out = torch.empty_like(case.q)
    assert plan_attention(case.step)(case.q, case.k_pool, case.v_pool, out) is out
    assert torch.equal(out, run(case, "native"))


def test_no_rows() -> None:
    case = make([5])
    none = replace(
        case.step,
        block_tables=case.step.block_tables[:0],
        context_lens=case.step.context_lens[:0],
        starts=case.step.starts[:0],
    )
    assert run(Case(none, case.q[:0], case.k_pool, case.v_pool), "native").shape == (0, 4, 64)


def test_wrong_layout_is_refused() -> None:
    case = make([40, 50])
    plan = plan_attention(case.step)
    for q in (case.q.bfloat16(), case.q[:1], case.q.transpose(1, 2).contiguous().transpose(1, 2)):
        with pytest.raises(InvalidRequest, match="was prepared for"):
            plan(q, case.k_pool, case.v_pool)
    with pytest.raises(InvalidRequest, match="was prepared for"):
        plan(case.q, case.k_pool[:-1], case.v_pool)


def test_a_step_that_would_read_outside_the_pool_is_refused() -> None:
    case = make([40, 50])
    beyond = case.step.block_tables.clone()
    beyond[1, 2] = case.step.slots
    for broken, words in (
        (replace(case.step, block_tables=beyond), "outside the pool"),
        (replace(case.step, context_lens=case.step.context_lens + 1000), "does not fit"),
        (replace(case.step, groups=((0, 2, 1),)), "same whole blocks"),
        (replace(case.step, groups=((0, 5, 0),)), "inside the batch"),
    ):
        with pytest.raises(InvalidRequest, match=words):
            plan_attention(broken, backend="native")


def test_declines_with_a_reason_and_falls_back() -> None:
    case = make([20], head_dim=24)
    with pytest.raises(BackendUnavailable, match="head_dim in multiples of 16"):
        plan_attention(case.step, backend="native")
    assert plan_attention(case.step)(case.q, case.k_pool, case.v_pool).shape == case.q.shape
    with pytest.raises(UnknownName, match="native, reference, torch"):
        plan_attention(case.step, backend="cuda")
