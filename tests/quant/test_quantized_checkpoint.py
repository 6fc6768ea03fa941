"""Folders: ours read back, others' loaders read ours, damage and interruption are noticed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tenfold.errors import CheckpointError, InvalidRequest, UnknownName
from tenfold.models.reference import reference_logits
from tenfold.quant import checkpoint
from tenfold.quant.checkpoint import OWN, load_quantized, quantization_config, save_quantized
from tenfold.quant.quantize import QuantizedModel, quantize
from tenfold.quant.scheme import QuantConfig, Scheme

from .small_models import some_tokens, spec_of, weights_of
from .test_quantize import SPEC, text_for

Q = "model.layers.1.self_attn.q_proj"


@pytest.fixture(scope="module")
def made() -> QuantizedModel:
    weights = {n: t.bfloat16() for n, t in weights_of(SPEC).items()}
    config = QuantConfig(Scheme.parse("w4a4-kv4"), 32, "nearest")
    return quantize(SPEC, weights, text_for(SPEC), config)


@pytest.fixture
def folder(made: QuantizedModel, tmp_path: Path) -> Path:
    save_quantized(made, tmp_path / "small")
    return tmp_path / "small"


def test_what_is_written_is_read_back(made: QuantizedModel, folder: Path) -> None:
    back = load_quantized(folder)
    assert back.spec == made.spec
    assert (back.config.scheme, back.config.block) == (made.config.scheme, made.config.block)
    for name, weight in made.weights.items():
        assert torch.equal(back.weights[name].values, weight.values)
        assert torch.equal(back.weights[name].scales, weight.scales)
    assert all(torch.equal(back.rest[n], t) for n, t in made.rest.items())
    for site, bits in made.block_bits.items():
        assert bits is not None
        assert torch.equal(back.block_bits[site], bits)  # type: ignore[arg-type]
    tokens = some_tokens(SPEC)
    assert torch.equal(
        reference_logits(back.decoder(), tokens), reference_logits(made.decoder(), tokens)
    )


def test_compressed_tensors_decompresses_to_our_numbers(made: QuantizedModel, folder: Path) -> None:
    from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationConfig

    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    scheme = QuantizationConfig.model_validate(config).config_groups["group_0"]
    assert not isinstance(scheme, list)
    stored = load_file(folder / "model.safetensors")
    for name, weight in made.weights.items():
        parts = ("weight_packed", "weight_scale", "weight_shape")
        state = {p: stored[f"{name}.{p}"] for p in parts}
        back = PackedQuantizationCompressor.decompress(state, scheme)["weight"]
        # integers of 4 bits times 8 significant bits: exact in float32, rounded once in bfloat16
        assert torch.equal(back.float(), weight.dequantize().to(back.dtype).float())


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_transformers_gives_the_logits_of_our_weights(family: str, tmp_path: Path) -> None:
    import transformers

    spec = spec_of(family, hidden_size=128, intermediate_size=128)
    config = QuantConfig(Scheme.parse("w4a16"), 32, "nearest", scale_dtype=torch.float16)
    made = quantize(spec, weights_of(spec), text_for(spec), config)
    save_quantized(made, tmp_path / "q")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = transformers.AutoModelForCausalLM.from_pretrained(
            tmp_path / "q", dtype=torch.float32
        )
        tokens = some_tokens(spec)
        with torch.inference_mode():
            logits = theirs(tokens.unsqueeze(0)).logits[0]
    ours = reference_logits(made.decoder(), tokens)
    torch.testing.assert_close(logits, ours, rtol=5e-3, atol=5e-3)


def change(folder: Path, how: Callable[[dict[str, Tensor]], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    how(tensors)
    save_file(tensors, folder / "model.safetensors")


def _truncate(t: dict[str, Tensor]) -> None:
    t[f"{Q}.weight_packed"] = t[f"{Q}.weight_packed"][:, :-1].contiguous()


def _fewer_rows(t: dict[str, Tensor]) -> None:
    t[f"{Q}.weight_packed"] = t[f"{Q}.weight_packed"][:-1].contiguous()


def _set(name: str, value: Any) -> Callable[[dict[str, Tensor]], None]:
    def how(t: dict[str, Tensor]) -> None:
        t[name].view(-1)[0] = value

    return how


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (_truncate, "words in a row"),
        (_fewer_rows, "packed rows"),
        (_set(f"{Q}.weight_scale", 0.0), "0 or negative"),
        (_set(f"{Q}.weight_scale", float("nan")), "NaN"),
        (_set(f"{Q}.weight_shape", 7), "weight_shape"),
        (_set(f"{Q}.input_block_bits", 5), "block bitmap holds"),
        (_set(f"{Q}.input_block_bits", 8), "different block bits"),
        (lambda t: t.pop(f"{Q}.weight_packed"), "missing"),
        (lambda t: t.pop(f"{Q}.input_block_bits"), "missing"),
        (lambda t: t.pop("model.norm.weight"), "missing"),
    ],
)
def test_damage_is_refused(
    folder: Path, how: Callable[[dict[str, Tensor]], None], words: str
) -> None:
    change(folder, how)
    with pytest.raises(CheckpointError, match=words) as e:
        load_quantized(folder)
    assert e.value.hint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "nvfp4-pack-quantized"}, "'nvfp4-pack-quantized' is not read"),
        ({"config_groups": {}}, "one group"),
        ({"config_groups": {"a": {"weights": {"type": "float"}}}}, "are not read"),
    ],
)
def test_other_formats_are_refused(folder: Path, changes: dict[str, Any], words: str) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"] |= changes
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=words):
        load_quantized(folder)


def test_a_foreign_scheme_name_and_group_size_are_refused(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config[OWN]["scheme"] = "w8a8"
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="disagree"):
        load_quantized(folder)
    config[OWN]["scheme"] = "w5a5"
    path.write_text(json.dumps(config))
    with pytest.raises((CheckpointError, UnknownName), match="unknown scheme"):
        load_quantized(folder)


def test_what_others_wrote_without_our_keys_loads_as_w4a8(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config[OWN]
    path.write_text(json.dumps(config))
    back = load_quantized(folder)
    assert back.config.scheme == Scheme(4, 8, 16)
    assert {int(b) for bits in back.block_bits.values() for b in bits} == {8}  # type: ignore[union-attr]


@pytest.mark.parametrize("step", ["save_file", "quantization_config"])
def test_an_interrupted_writing_leaves_nothing(
    made: QuantizedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_quantized(made, tmp_path / "half")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    save_quantized(made, tmp_path / "half")
    load_quantized(tmp_path / "half")


def test_a_folder_that_is_there_is_not_overwritten(made: QuantizedModel, folder: Path) -> None:
    with pytest.raises(InvalidRequest, match="exists") as e:
        save_quantized(made, folder)
    assert e.value.param == "out"


def test_activations_of_16_bits_have_no_input_quantization() -> None:
    stated = quantization_config(QuantConfig(Scheme.parse("w4a16"), 32))
    assert stated["config_groups"]["group_0"]["input_activations"] is None
