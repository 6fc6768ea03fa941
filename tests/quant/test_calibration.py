"""Statistics in one pass are those of all inputs at once; stopped and gone on with, the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tenfold.errors import InvalidRequest
from tenfold.quant import calibration
from tenfold.quant.calibration import (
    FEWEST_TOKENS,
    CalibrationText,
    channel_statistics,
    input_moments,
)
from tenfold.quant.forward import TappedDecoder
from tenfold.quant.sites import Site, sites

from .small_models import some_tokens, spec_of, weights_of

SPEC = spec_of("llama")


def some_text(tokens: int = FEWEST_TOKENS + 30, seed: int = 2) -> CalibrationText:
    return CalibrationText.cut(some_tokens(SPEC, tokens, seed).tolist(), 32)


def all_inputs(text: CalibrationText, weights: dict[str, Tensor]) -> dict[Site, Tensor]:
    seen: dict[Site, list[Tensor]] = {site: [] for site in sites(SPEC)}

    def tap(site: Site, x: Tensor) -> Tensor:
        seen[site].append(x.clone())
        return x

    decoder = TappedDecoder(SPEC, weights, tap)
    for window in text.windows:
        calibration.read_window(decoder, window)
    return {site: torch.cat(rows) for site, rows in seen.items()}


def test_statistics_are_those_of_all_inputs_together() -> None:
    text, weights = some_text(), weights_of(SPEC)
    seen = all_inputs(text, weights)
    told: list[float] = []
    found = channel_statistics(SPEC, weights, text, lambda _, share: told.append(share))
    assert told == sorted(told)
    assert len(told) == len(text.windows)
    for site in sites(SPEC):
        assert torch.equal(found[site].largest, seen[site].abs().amax(0))
        torch.testing.assert_close(
            found[site].mean_square(), seen[site].double().square().mean(0).float()
        )
        assert found[site].tokens == text.tokens


def test_an_interrupted_calibration_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "SAVE_EVERY", 3)
    text, weights, state = some_text(), weights_of(SPEC), tmp_path / "state"
    whole = channel_statistics(SPEC, weights, text)
    read: list[int] = []

    def progress(_: str, share: float) -> None:
        number = round(share * len(text.windows))
        if number == 8 and 8 not in read:
            read.append(number)
            raise KeyboardInterrupt
        read.append(number)

    with pytest.raises(KeyboardInterrupt):
        channel_statistics(SPEC, weights, text, progress, state)
    again = channel_statistics(SPEC, weights, text, progress, state)
    assert read[9] == 6  # two windows are read again, six are not
    for site in sites(SPEC):
        assert torch.equal(again[site].largest, whole[site].largest)
        torch.testing.assert_close(again[site].squares, whole[site].squares)
        assert again[site].tokens == whole[site].tokens


def test_a_state_of_another_text_or_model_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "SAVE_EVERY", 1)
    state, weights = tmp_path / "state", weights_of(SPEC)
    channel_statistics(SPEC, weights, some_text(), state=state)
    other = some_text(seed=9)
    fresh = channel_statistics(SPEC, weights, other)
    found = channel_statistics(SPEC, weights, other, state=state)
    assert all(torch.equal(found[s].largest, fresh[s].largest) for s in sites(SPEC))
    changed = weights_of(SPEC, seed=8)
    found = channel_statistics(SPEC, changed, other, state=state)
    assert any(not torch.equal(found[s].largest, fresh[s].largest) for s in sites(SPEC))


def test_moments_are_the_outer_products_of_what_is_read() -> None:
    text, weights = some_text(), weights_of(SPEC)
    wanted = [s for s in sites(SPEC) if s.layer == 0]
    found = input_moments(SPEC, weights, text, wanted, lambda site, x: x)
    seen = all_inputs(text, weights)
    assert set(found) == set(wanted)
    for site in wanted:
        torch.testing.assert_close(
            found[site].products, seen[site].T @ seen[site], rtol=1e-4, atol=1e-3
        )

    def halves(site: Site, x: Tensor) -> Tensor:
        return x / 2 if site.kind == "attention" else x

    halved = input_moments(SPEC, weights, text, wanted[:1], halves)
    torch.testing.assert_close(halved[wanted[0]].products, found[wanted[0]].products / 4)


def test_too_little_text_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="empty: 0 tokens") as e:
        CalibrationText.cut([])
    assert e.value.param == "calibrate"
    with pytest.raises(InvalidRequest, match="too short: 100 tokens"):
        CalibrationText.cut([1] * 100)
    assert CalibrationText.cut([1] * 10_000, 100, 700).tokens == 700


def test_a_model_that_overflows_is_said_not_counted() -> None:
    weights = weights_of(SPEC)
    weights["model.layers.0.mlp.up_proj.weight"] *= float("inf")
    with pytest.raises(InvalidRequest, match="NaN or infinite"):
        channel_statistics(SPEC, weights, some_text())
