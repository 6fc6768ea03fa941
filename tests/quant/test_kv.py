"""The cache's formats: error bounds, byte counts, extremes, and that tokens do not touch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.errors import InvalidRequest
from tenfold.quant.kv import KvFormat

SEEDS = st.integers(0, 2**31)


@settings(max_examples=50, deadline=None)
@given(
    SEEDS,
    st.sampled_from([4, 8]),
    st.sampled_from([(4, 12), (8, 8), (16,), (2, 6, 8)]),
    st.sampled_from([1e-3, 1.0, 300.0]),
    st.floats(-20, 20),
)
def test_numbers_come_back_within_a_step(
    seed: int, bits: int, groups: tuple[int, ...], size: float, shift: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = (torch.randn(5, 2, 16, generator=generator) + shift) * size
    form = KvFormat(bits, groups)
    back = form.through(x)
    for begin, end in form.starts():
        part = x[..., begin:end]
        low, high = part.amin(-1).clamp_max(0), part.amax(-1).clamp_min(0)
        step = ((high - low) / (2**bits - 1)).unsqueeze(-1)
        # half a step of rounding; at the ends, half a step more of the zero point's rounding and
        # of the scale's in float16 (2^-11 of the range, 2^-25 below 2^-14)
        allowed = step * 1.01 + (high - low).unsqueeze(-1) * 2**-10 + 2**bits * 2**-24
        assert bool(((back[..., begin:end] - part).abs() <= allowed).all())


def test_zero_comes_back_as_zero_even_beside_large_numbers() -> None:
    x = torch.tensor([[[0.0, 37.0, 5.0, 1.0]]])
    assert float(KvFormat(4, (4,)).through(x)[0, 0, 0]) == 0.0


def test_two_tokens_of_integers_by_hand() -> None:
    kv = KvFormat(4, (2, 2)).quantize(torch.tensor([[[-3.0, 12.0, 15.0, 0.0]]]))
    assert kv.scales.tolist() == [[[1.0, 1.0]]]
    assert kv.zeros.tolist() == [[[3, 0]]]
    assert kv.values.tolist() == [[[0, 15, 15, 0]]]


def test_what_is_written_depends_on_its_own_token_and_head_alone() -> None:
    x = torch.randn(6, 3, 64, generator=torch.Generator().manual_seed(0))
    form = KvFormat.leading(4, 64)
    whole = form.through(x)
    for token in range(6):
        for head in range(3):
            alone = form.through(x[token : token + 1, head : head + 1])
            assert torch.equal(alone[0, 0], whole[token, head])


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e30])
def test_extreme_sizes_stay_finite(size: float) -> None:
    kv = KvFormat.even(4, 32, 32).quantize(torch.linspace(-1, 1, 32).view(1, 1, 32) * size)
    assert bool(torch.isfinite(kv.scales).all())
    assert bool((kv.scales > 0).all())


def test_a_leading_group_keeps_an_outlier_from_the_others() -> None:
    x = torch.randn(20, 1, 64, generator=torch.Generator().manual_seed(1))
    x[..., 0] *= 60
    lost = {
        form: float((form.through(x) - x)[..., 4:].square().mean())
        for form in (KvFormat.leading(4, 64), KvFormat.even(4, 64, 32))
    }
    leading, even = lost.values()
    assert leading < even / 5


def test_bytes_count_scales_and_zero_points() -> None:
    assert KvFormat.even(4, 64, 32).bytes_per_head == 32 + 2 * 3
    assert KvFormat.leading(4, 64).bytes_per_head == 32 + 2 * 3
    assert KvFormat.leading(4, 128).groups == (4, 60, 64)
    assert KvFormat.even(8, 64, 64).bytes_per_head == 64 + 3
    assert KvFormat.even(16, 64, 64).bytes_per_head == 128


def test_sixteen_bits_change_nothing() -> None:
    x = torch.randn(2, 1, 8)
    assert KvFormat(16, (8,)).through(x) is x


def test_wrong_formats_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="do not divide a head of 64"):
        KvFormat.even(4, 64, 24)
    with pytest.raises(InvalidRequest, match="5 bits"):
        KvFormat(5, (64,))
    with pytest.raises(InvalidRequest, match="not sizes"):
        KvFormat(4, (0, 64))
