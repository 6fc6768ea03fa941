"""Folded permutations and injected outliers leave the function of every family as it was."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tenfold.errors import InvalidRequest
from tenfold.models.decoder import Decoder
from tenfold.models.reference import reference_logits, reference_scores
from tenfold.models.spec import DecoderSpec
from tenfold.quant.forward import TappedDecoder
from tenfold.quant.outliers import HIGH, LOW, inject_outliers
from tenfold.quant.permute import Permutations, fold
from tenfold.quant.sites import Site, sites

from .small_models import FAMILIES, some_tokens, spec_of, weights_of


def shuffled(spec: DecoderSpec, seed: int = 3) -> Permutations:
    generator = torch.Generator().manual_seed(seed)

    def order(width: int) -> Tensor:
        return torch.randperm(width, generator=generator)

    return Permutations(
        order(spec.hidden_size),
        tuple(order(spec.intermediate_size) for _ in range(spec.layers)),
        tuple(
            torch.stack([order(spec.head_dim) for _ in range(spec.kv_heads)])
            for _ in range(spec.layers)
        ),
    )


def outputs(spec: DecoderSpec, decoder: Decoder) -> Tensor:
    tokens = some_tokens(spec)
    if spec.num_labels:
        return reference_scores(decoder, tokens)
    return reference_logits(decoder, tokens)


def inputs_of(spec: DecoderSpec, tensors: dict[str, Tensor]) -> dict[Site, Tensor]:
    seen: dict[Site, Tensor] = {}

    def tap(site: Site, x: Tensor) -> Tensor:
        seen[site] = x.clone()
        return x

    outputs(spec, TappedDecoder(spec, tensors, tap))
    return seen


@pytest.mark.parametrize("family", FAMILIES)
def test_folding_keeps_the_function(family: str) -> None:
    spec = spec_of(family)
    tensors = weights_of(spec)
    folded = fold(spec, tensors, shuffled(spec))
    changed = [n for n in tensors if not torch.equal(folded[n], tensors[n])]
    kept = {
        n
        for n in tensors
        if "q_norm" in n or "k_norm" in n or n.endswith(("q_proj.bias", "k_proj.bias"))
    }
    assert set(tensors) - set(changed) == kept  # all else has moved
    torch.testing.assert_close(
        outputs(spec, Decoder(spec, folded)),
        outputs(spec, Decoder(spec, tensors)),
        rtol=2e-5,
        atol=2e-5,
    )


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_inputs_stand_where_the_permutation_says(family: str) -> None:
    spec = spec_of(family)
    tensors, orders = weights_of(spec), shuffled(spec)
    before, after = inputs_of(spec, tensors), inputs_of(spec, fold(spec, tensors, orders))
    for site in sites(spec):
        expected = before[site][:, orders.of(spec, site)]
        torch.testing.assert_close(after[site], expected, rtol=2e-5, atol=2e-5)


def test_the_identity_changes_nothing() -> None:
    spec = spec_of("llama")
    tensors = weights_of(spec)
    folded = fold(spec, tensors, Permutations.identity(spec))
    assert all(torch.equal(folded[n], tensors[n]) for n in tensors)


def test_what_is_no_permutation_is_refused() -> None:
    spec = spec_of("llama")
    good = Permutations.identity(spec)
    twice = torch.cat((torch.tensor([1]), torch.arange(1, spec.hidden_size)))
    with pytest.raises(InvalidRequest, match="residual stream is none of 64"):
        fold(spec, weights_of(spec), Permutations(twice, good.inner, good.heads))
    with pytest.raises(InvalidRequest, match="1 of 2 layers"):
        fold(spec, weights_of(spec), Permutations(good.residual, good.inner[:1], good.heads))
    one_head = tuple(h[:1] for h in good.heads)
    with pytest.raises(InvalidRequest, match="each of its heads"):
        fold(spec, weights_of(spec), Permutations(good.residual, good.inner, one_head))


@pytest.mark.parametrize("family", FAMILIES)
def test_injected_outliers_keep_the_function_and_are_there(family: str) -> None:
    spec = spec_of(family)
    tensors = weights_of(spec)
    injected = inject_outliers(spec, tensors, seed=5)
    torch.testing.assert_close(
        outputs(spec, Decoder(spec, injected.tensors)),
        outputs(spec, Decoder(spec, tensors)),
        rtol=2e-4,
        atol=2e-4,
    )
    before, after = inputs_of(spec, tensors), inputs_of(spec, injected.tensors)
    for site in sites(spec):
        factors = injected.factors[site]
        torch.testing.assert_close(after[site], before[site] * factors, rtol=2e-4, atol=2e-3)
        scaled = factors[factors != 1]
        assert len(scaled) >= 2
        assert LOW <= float(scaled.min()) <= float(scaled.max()) <= HIGH


def test_injection_is_fixed_by_its_seed_and_draws_each_input_anew() -> None:
    spec = spec_of("llama")
    tensors = weights_of(spec)
    one, same, other = (inject_outliers(spec, tensors, seed=s) for s in (5, 5, 6))
    assert all(torch.equal(one.tensors[n], same.tensors[n]) for n in tensors)
    assert any(not torch.equal(one.factors[s], other.factors[s]) for s in sites(spec))
    drawn = {tuple(one.factors[s].tolist()) for s in sites(spec) if s.kind == "mlp"}
    assert len(drawn) == spec.layers
