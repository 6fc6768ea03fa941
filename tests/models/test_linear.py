"""The packed product: right, and the same for a row in any batch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tenfold.models.linear import Linear, packs
from tenfold.models.loading import random_model
from tenfold.models.spec import DecoderSpec

SHAPES = [(64, 96), (40, 3), (768, 1), (768, 2304), (2048, 768), (4096, 64)]
wide = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512",
    reason="that rows do not depend on each other was only measured with AVX-512",
)


def operands(rows: int, columns: int, out: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(rows + columns + out)
    shapes = [(rows, columns), (out, columns), (out,)]
    x, weight, bias = (torch.randn(s, generator=generator).to(dtype) for s in shapes)
    return x, weight, bias


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rows", [0, 1, 7, 33])
def test_equals_the_plain_product(shape: tuple[int, int], rows: int, dtype: torch.dtype) -> None:
    x, weight, bias = operands(rows, *shape, dtype)
    with torch.inference_mode():
        for b in (None, bias):
            linear = Linear(weight, b)
            expected = F.linear(x.double(), weight.double(), None if b is None else b.double())
            tolerance = {torch.float32: 3e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}[dtype]
            assert linear(x).dtype == dtype
            scale = shape[0] ** 0.5 * 4
            torch.testing.assert_close(
                linear(x).double(), expected, atol=tolerance * scale, rtol=tolerance
            )
        assert torch.equal(Linear(weight).weight, weight)


@wide
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_is_the_same_in_any_batch(shape: tuple[int, int], dtype: torch.dtype) -> None:
    x, weight, _ = operands(70, *shape, dtype)
    assert packs(weight)
    with torch.inference_mode():
        linear = Linear(weight)
        whole = linear(x)
        for first, last in ((0, 1), (5, 6), (0, 2), (3, 10), (0, 16), (1, 34), (0, 69)):
            assert torch.equal(linear(x[first:last]), whole[first:last])


@wide
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_token_s_hidden_state_is_the_same_in_any_batch(dtype: torch.dtype) -> None:
    spec = DecoderSpec("qwen3", 500, 256, 1536, 3, 4, 2, 64, 64, qk_norm=True)
    decoder = random_model(spec, 0, dtype)
    ids, positions = torch.arange(40), torch.arange(40) % 17

    def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return q + k.repeat_interleave(2, dim=1) * v.repeat_interleave(2, dim=1)

    whole = decoder.logits(decoder.forward(ids, positions, attend))
    for first, last in ((0, 1), (9, 10), (3, 5), (7, 20)):
        part = decoder.forward(ids[first:last], positions[first:last], attend)
        assert torch.equal(decoder.logits(part), whole[first:last])
