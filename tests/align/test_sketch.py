"""Sketched products against exact ones: unbiased over seeds, off by as much as they say."""

from __future__ import annotations

import pytest
import torch

from tenfold.align.losses import make_loss
from tenfold.align.sketch import Signs, SketchProducts
from tests.align.models import Batch, by_a_loop, gpt2, llama, train_once

pytest.importorskip("transformers")


def sketched(model, batch, seed):
    loss = make_loss("dpo")
    with SketchProducts(model, batch.pairs, signs=Signs(seed)) as sketch:
        pairs = train_once(model, batch, loss)
    weights = loss.weights(pairs)
    stats = sketch.stats(*weights, share=1 / batch.pairs)
    return stats, sketch.errors(*weights, share=1 / batch.pairs), sketch, weights


@pytest.mark.parametrize("make", [llama, lambda: llama(tied=False), gpt2])
def test_estimates_are_unbiased_and_as_far_off_as_their_standard_error(make):
    model, batch = make(), Batch(pairs=2, tokens=40)
    exact = by_a_loop(model, batch)
    seen, errors = [], []
    for seed in range(40):
        stats, error, *_ = sketched(model, batch, seed)
        seen.append(torch.stack([stats.inner, stats.chosen_sq, stats.rejected_sq], 1))
        errors.append(error)
    found = torch.stack(seen)
    spread = found.std(0)
    assert bool(((found.mean(0) - exact).abs() < 4 * spread / 40**0.5).all())
    assert bool((spread < 0.12 * exact[:, 1:].max(1, keepdim=True).values).all())
    told = torch.stack(errors).square().mean(0).sqrt()
    torch.testing.assert_close(told, spread[:, 0], rtol=0.5, atol=0)  # of 40 draws
    within = ((found[..., 0] - exact[:, 0]).abs() < 3 * torch.stack(errors)).double().mean()
    assert within > 0.9


def test_a_seed_gives_the_same_signs_and_layers_add_up():
    model, batch = gpt2(), Batch()
    stats, _, sketch, weights = sketched(model, batch, 3)
    again, *_ = sketched(model, batch, 3)
    assert torch.equal(stats.inner, again.inner)
    layers = sketch.layer_stats(*weights, share=1 / 3)
    torch.testing.assert_close(sum(s.inner for s in layers.values()), stats.inner)
