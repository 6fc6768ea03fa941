"""The whole way on small models: what is rounded, what stays, what gets better, what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tenfold.errors import InvalidRequest, UnknownName
from tenfold.models.decoder import Decoder
from tenfold.models.reference import reference_logits
from tenfold.models.spec import DecoderSpec
from tenfold.quant.calibration import CalibrationText
from tenfold.quant.formats import dequantize_blocks, quantize_blocks
from tenfold.quant.outliers import inject_outliers
from tenfold.quant.quantize import QuantizedModel, linear_names, quantize
from tenfold.quant.scheme import QuantConfig, Scheme, block_for, kv_formats
from tenfold.quant.sites import Site, sites

from .small_models import some_tokens, spec_of, weights_of

SPEC = spec_of("llama", hidden_size=128, intermediate_size=128, heads=4, head_dim=32)
W4A4 = QuantConfig(Scheme.parse("w4a4-kv4"), 32)


def text_for(spec: DecoderSpec) -> CalibrationText:
    return CalibrationText.cut(some_tokens(spec, 640, 2).tolist(), 64)


def distance(spec: DecoderSpec, one: Decoder, other: Decoder) -> float:
    """Relative squared error of the logits."""
    tokens = some_tokens(spec, 48, 7)
    a, b = reference_logits(one, tokens), reference_logits(other, tokens)
    return float((a - b).square().sum() / b.square().sum())


def test_more_bits_lose_less() -> None:
    weights = weights_of(SPEC)
    true = Decoder(SPEC, weights)
    lost = {}
    for name in ("w8a8", "w8a8-kv8", "w4a16", "w4a8-kv4", "w4a4-kv4"):
        made = quantize(SPEC, weights, text_for(SPEC), replace(W4A4, scheme=Scheme.parse(name)))
        lost[name] = distance(SPEC, made.decoder(), true)
    assert lost["w8a8"] < 1e-3
    assert lost["w8a8-kv8"] < lost["w4a16"] < lost["w4a8-kv4"] < lost["w4a4-kv4"]
    assert lost["w4a4-kv4"] < 0.2


def test_fmpq_survives_outliers_that_plain_blocks_do_not() -> None:
    weights = weights_of(SPEC)
    injected = inject_outliers(SPEC, weights).tensors
    true, text = Decoder(SPEC, weights), text_for(SPEC)
    made = quantize(SPEC, injected, text, replace(W4A4, most_a8=1.0))
    plain = quantize(SPEC, injected, text, replace(W4A4, permute=False, threshold=1e9))
    assert plain.share_a4 == 1
    assert distance(SPEC, made.decoder(), true) < 0.5 * distance(SPEC, plain.decoder(), true)
    assert made.share_a4 > 0.55


def test_gptq_loses_less_than_nearest_on_the_text() -> None:
    weights, text = weights_of(SPEC), text_for(SPEC)
    made = {m: quantize(SPEC, weights, text, replace(W4A4, method=m)) for m in ("gptq", "nearest")}
    errors = {m: sum(r.error for r in q.reports) for m, q in made.items()}
    assert errors["gptq"] < 0.9 * errors["nearest"]


def test_the_decoder_reads_rounded_inputs_and_keeps_rounded_keys() -> None:
    made = quantize(SPEC, weights_of(SPEC), text_for(SPEC), W4A4)
    tokens = some_tokens(SPEC, 12, 5)
    seen: dict[int, tuple[Tensor, Tensor]] = {}

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen[layer] = k, v
        return q

    made.decoder().forward(tokens, torch.arange(12), attend)
    kv = kv_formats(4, SPEC.head_dim)
    for k, v in seen.values():
        # A second way through the cache changes hardly anything: these are grid points already.
        for form, x in ((kv.keys, k), (kv.values, v)):
            torch.testing.assert_close(form.through(x), x, rtol=2e-3, atol=2e-3)
            levels = form.quantize(x).values
            assert int(levels.max()) <= 15
    # The first product by hand: integers times integers, scales outside.
    weight = made.weights["model.layers.0.self_attn.v_proj"]
    normed = torch.nn.functional.rms_norm(
        made.rest["model.embed_tokens.weight"][tokens],
        (SPEC.hidden_size,),
        made.rest["model.layers.0.input_layernorm.weight"],
        SPEC.norm_eps,
    )
    bits = made.block_bits[Site(0, "attention")]
    assert bits is not None
    values, scales = quantize_blocks(normed, bits, 32)
    blocks = [slice(i, i + 32) for i in range(0, SPEC.hidden_size, 32)]
    whole = [values[:, b].long() @ weight.values[:, b].long().T for b in blocks]
    v = sum(
        (part.float() * scales[:, i : i + 1] * weight.scales[:, i]) for i, part in enumerate(whole)
    )
    assert isinstance(v, Tensor)
    stored = kv.values.through(v.view(12, SPEC.kv_heads, SPEC.head_dim))
    close = (stored - seen[0][1]).abs() < 1e-4
    assert float(close.float().mean()) > 0.9  # sums in another order may cross a tie
    assert dequantize_blocks(values, scales, 32).shape == normed.shape


def test_every_linear_is_rounded_and_nothing_else() -> None:
    made = quantize(SPEC, weights_of(SPEC), text_for(SPEC), W4A4)
    assert set(made.weights) == set(linear_names(SPEC))
    assert {r.site for r in made.reports} == set(sites(SPEC))
    assert sum(r.bytes for r in made.reports) == sum(
        w.values.numel() // 2 + 2 * w.scales.numel() for w in made.weights.values()
    )


def test_small_memory_gives_layers_one_by_one_against_rounded_ones() -> None:
    weights, text = weights_of(SPEC), text_for(SPEC)
    stages: list[str] = []
    one = quantize(SPEC, weights, text, W4A4, progress=lambda s, _: stages.append(s), memory=1)
    assert {"layers 0 to 0", "layers 1 to 1"} <= set(stages)
    whole = quantize(SPEC, weights, text, W4A4)

    def first(model: QuantizedModel) -> Tensor:
        return model.weights["model.layers.0.mlp.down_proj"].values

    assert torch.equal(first(one), first(whole))
    assert distance(SPEC, one.decoder(), Decoder(SPEC, weights)) < 0.2


def test_schemes_have_names() -> None:
    assert Scheme.parse("w4a4-kv4") == Scheme(4, 4, 4)
    assert Scheme.parse(" W8A8 ") == Scheme(8, 8, 16)
    assert Scheme.parse("w4a8-kv8").name == "w4a8-kv8"
    for wrong in ("w4a4kv4", "w3a4", "w4a4-kv5", "", "w4a4-kv4-x"):
        with pytest.raises(UnknownName, match="unknown scheme"):
            Scheme.parse(wrong)


def test_blocks_fit_the_model() -> None:
    assert block_for(spec_of("llama", hidden_size=1024, intermediate_size=2048, heads=32)) == 128
    assert block_for(spec_of("llama", hidden_size=256, intermediate_size=512, heads=8)) == 32
    with pytest.raises(InvalidRequest, match="divides widths"):
        block_for(spec_of("llama", intermediate_size=100))
    with pytest.raises(InvalidRequest, match="do not divide 96"):
        quantize(spec_of("llama"), {}, text_for(SPEC), QuantConfig(Scheme.parse("w4a8"), 64))
    with pytest.raises(InvalidRequest, match="blocks of 48"):
        QuantConfig(Scheme.parse("w4a8"), 48)
    with pytest.raises(UnknownName, match="method"):
        QuantConfig(Scheme.parse("w4a8"), 32, "best")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="damping above 0"):
        QuantConfig(Scheme.parse("w4a8"), 32, damping=0)
