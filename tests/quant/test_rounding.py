"""GPTQ against an implementation that recomputes the inverse at every step, and its properties."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tenfold.errors import InvalidRequest
from tenfold.quant.rounding import gptq, round_to_nearest, searched_scales


def correlated(width: int, tokens: int = 300, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width // 4, width, generator=generator)
    own = torch.randn(tokens, width, generator=generator)
    return torch.randn(tokens, width // 4, generator=generator) @ mix + 0.5 * own


def weight(rows: int, columns: int, seed: int = 1) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def naive_gptq(w: Tensor, hessian: Tensor, scales: Tensor, group: int, damping: float) -> Tensor:
    """Optimal brain surgery column by column: after each, the best change of the others by
    solving the normal equations of those left. float64, no factorization shared between steps."""
    w = w.double().clone()
    h = hessian.double().clone()
    h += torch.eye(len(h), dtype=torch.float64) * damping * h.diagonal().mean()
    for i in range(w.shape[1]):
        step = scales[:, i // group].double()
        q = (w[:, i] / step).round().clamp(-8, 7) * step
        error = w[:, i] - q
        w[:, i] = q
        if i + 1 < w.shape[1]:
            # minimise the squared error of what is left, given this column's error
            rest = torch.linalg.solve(h[i + 1 :, i + 1 :], h[i + 1 :, i])
            w[:, i + 1 :] += error.unsqueeze(1) * rest.unsqueeze(0)
    return w.float()


def test_gptq_agrees_with_solving_anew_at_every_column() -> None:
    # One group, so that its scales are known before the first column is rounded.
    x, w = correlated(32), weight(16, 32)
    hessian = x.T @ x
    got = gptq(w, hessian, 4, 32)
    scales = searched_scales(w, 4, 32, hessian.diagonal())
    assert torch.equal(got.scales, scales)
    expected = naive_gptq(w, hessian, scales, 32, 0.01)
    same = (got.dequantize() - expected).abs() < 1e-4
    assert float(same.float().mean()) > 0.99  # a tie may fall the other way in float32


def test_gptq_carries_errors_across_groups() -> None:
    x, w = correlated(64), weight(16, 64)
    hessian = x.T @ x
    got = gptq(w, hessian, 4, 16)
    expected = naive_gptq(w, hessian, got.scales, 16, 0.01)
    same = (got.dequantize() - expected).abs() < 1e-4
    assert float(same.float().mean()) > 0.97


def test_gptq_loses_less_than_rounding_on_correlated_inputs() -> None:
    x, w = correlated(64), weight(32, 64)
    hessian = x.T @ x
    lost = {
        name: float(((q.dequantize() - w) @ x.T).square().sum())
        for name, q in (
            ("gptq", gptq(w, hessian, 4, 32)),
            ("nearest", round_to_nearest(w, 4, 32, hessian.diagonal())),
        )
    }
    assert lost["gptq"] < 0.6 * lost["nearest"]


def test_gptq_equals_rounding_when_the_hessian_is_the_identity() -> None:
    w = weight(24, 64)
    one, other = gptq(w, torch.eye(64), 4, 32), round_to_nearest(w, 4, 32)
    assert torch.equal(one.values, other.values)
    assert torch.equal(one.scales, other.scales)


def test_searched_clipping_never_loses_more_than_the_largest_magnitude() -> None:
    generator = torch.Generator().manual_seed(4)
    w = torch.randn(16, 64, generator=generator) ** 3  # heavy tails: clipping pays
    importance = torch.rand(64, generator=generator)
    plain = searched_scales(w, 4, 32, importance, clips=(1.0,))
    best = searched_scales(w, 4, 32, importance)

    def loss(scales: Tensor) -> Tensor:
        steps = scales.repeat_interleave(32, 1)
        back = (w / steps).round().clamp(-8, 7) * steps
        return ((back - w).square() * importance).view(16, 2, 32).sum(-1)

    assert bool((loss(best) <= loss(plain)).all())
    assert float(loss(best).sum()) < 0.9 * float(loss(plain).sum())


def test_channels_that_never_spoke_do_no_harm() -> None:
    x, w = correlated(32), weight(8, 32)
    x[:, 5] = 0
    assert bool(torch.isfinite(gptq(w, x.T @ x, 4, 32).dequantize()).all())


def test_wrong_hessians_are_refused() -> None:
    w = weight(8, 32)
    with pytest.raises(InvalidRequest, match=r"\[16, 16\]"):
        gptq(w, torch.eye(16), 4, 32)
    with pytest.raises(InvalidRequest, match="NaN"):
        gptq(w, torch.full((32, 32), float("nan")), 4, 32)
    with pytest.raises(InvalidRequest, match="not positive definite"):
        gptq(w, -torch.eye(32), 4, 32)
    with pytest.raises(InvalidRequest, match="NaN"):
        gptq(w * float("nan"), torch.eye(32), 4, 32)
