"""The number formats against exact arithmetic in Python, over shapes and extreme values."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.errors import InvalidRequest
from tenfold.quant.formats import (
    QuantizedWeight,
    check_block_bits,
    dequantize_blocks,
    quantize_blocks,
    quantize_weight,
    stored_scales,
)

SEEDS = st.integers(0, 2**31)
EXTREMES = st.sampled_from([1e-38, 1e-12, 1.0, 1e4, 1e30])


def nearest(x: float, scale: float, low: int, high: int) -> int:
    """Rounding of x / scale in exact fractions: Python's round takes ties to even as well."""
    return max(low, min(high, round(Fraction(x) / Fraction(scale))))


@settings(max_examples=50, deadline=None)
@given(
    SEEDS,
    st.sampled_from([4, 8]),
    st.sampled_from([8, 16, 32]),
    EXTREMES,
    st.sampled_from([torch.bfloat16, torch.float16]),
)
def test_weights_round_to_the_nearest_of_their_grid(
    seed: int, bits: int, group: int, size: float, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(3, 32, generator=generator) * size
    if dtype == torch.float16 and size > 1e5:
        with pytest.raises(InvalidRequest, match="does not fit"):
            quantize_weight(weight, bits, group, dtype)
        return
    got = quantize_weight(weight, bits, group, dtype)
    assert torch.equal(got.scales, got.scales.to(dtype).float())  # what is stored is what is used
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    for row in range(3):
        for column in range(32):
            scale = float(got.scales[row, column // group])
            exact = nearest(float(weight[row, column]), scale, low, high)
            ratio = Fraction(float(weight[row, column])) / Fraction(scale)
            # float32 division may fall on the other side of a tie, no further
            tie = abs(abs(ratio - int(ratio)) - Fraction(1, 2)) < Fraction(1, 10**5)
            assert abs(int(got.values[row, column]) - exact) <= int(tie)


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.lists(st.sampled_from([4, 8]), min_size=1, max_size=5), EXTREMES)
def test_activations_err_by_half_a_step_of_their_own_block(
    seed: int, bits: list[int], size: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    block = 8
    x = torch.randn(4, block * len(bits), generator=generator) * size
    values, scales = quantize_blocks(x, torch.tensor(bits, dtype=torch.uint8), block)
    back = dequantize_blocks(values, scales, block)
    for i, b in enumerate(bits):
        part = slice(i * block, (i + 1) * block)
        top = 2 ** (b - 1) - 1
        assert int(values[:, part].abs().max()) == top or size < 1e-30
        largest = x[:, part].abs().amax(1, keepdim=True)
        step = torch.maximum(largest / top, torch.tensor(torch.finfo(torch.float32).tiny))
        assert bool(((back[:, part] - x[:, part]).abs() <= step * 0.50001).all())


def test_a_row_is_quantized_the_same_whatever_stands_beside_it() -> None:
    x = torch.randn(9, 64, generator=torch.Generator().manual_seed(0))
    bits = torch.tensor([4, 8], dtype=torch.uint8)
    together, scales = quantize_blocks(x, bits, 32)
    for row in range(9):
        alone, own = quantize_blocks(x[row : row + 1], bits, 32)
        assert torch.equal(alone[0], together[row])
        assert torch.equal(own[0], scales[row])


def test_zeros_stay_zeros_with_scales_that_are_not() -> None:
    weight = quantize_weight(torch.zeros(2, 32), 4, 32)
    assert torch.equal(weight.dequantize(), torch.zeros(2, 32))
    assert bool((weight.scales > 0).all())
    values, scales = quantize_blocks(torch.zeros(1, 32), torch.tensor([4], dtype=torch.uint8), 32)
    assert int(values.abs().max()) == 0
    assert bool((scales > 0).all())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(bad: float) -> None:
    weight = torch.ones(2, 32)
    weight[1, 3] = bad
    with pytest.raises(InvalidRequest, match="1 NaN or infinite"):
        quantize_weight(weight, 4, 32)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_scales_that_cannot_be_are_refused(bad: float) -> None:
    weight = quantize_weight(torch.ones(2, 32), 4, 32)
    scales = weight.scales.clone()
    scales[0, 0] = bad
    with pytest.raises(InvalidRequest, match="layer 7"):
        QuantizedWeight(weight.values, scales, 4, 32).check("layer 7")


def test_integers_out_of_range_and_foreign_scales_are_refused() -> None:
    good = quantize_weight(torch.ones(2, 32), 4, 32)
    good.check("it")
    with pytest.raises(InvalidRequest, match="outside of 4 bits"):
        QuantizedWeight(good.values + 8, good.scales, 4, 32).check("it")
    with pytest.raises(InvalidRequest, match="expected \\[2, 2\\]"):
        QuantizedWeight(good.values, good.scales, 4, 16).check("it")


def test_sizes_that_do_not_divide_and_unknown_bits_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="do not divide 96") as e:
        quantize_weight(torch.ones(2, 96), 4, 64)
    assert e.value.param == "group_size"
    assert "32" in (e.value.hint or "")
    with pytest.raises(InvalidRequest, match="3 bits"):
        quantize_weight(torch.ones(2, 32), 3, 32)
    with pytest.raises(InvalidRequest, match="float32"):
        stored_scales(torch.ones(1), torch.float32)


@pytest.mark.parametrize(
    "bits",
    [
        torch.tensor([4, 8, 4], dtype=torch.uint8),
        torch.tensor([4, 8]),
        torch.tensor([4, 6], dtype=torch.uint8),
    ],
)
def test_wrong_block_bitmaps_are_refused(bits: torch.Tensor) -> None:
    check_block_bits(torch.tensor([4, 8], dtype=torch.uint8), 64, 32, "layer 1")
    with pytest.raises(InvalidRequest, match="layer 1: the block bitmap"):
        check_block_bits(bits, 64, 32, "layer 1")
