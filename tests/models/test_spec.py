"""Reading config.json: both generations of keys, every family's switches, every refusal."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tenfold.errors import CheckpointError
from tenfold.models.rope import Rope
from tenfold.models.spec import FAMILIES, DecoderSpec

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "eos_token_id": [2, 3],
}
SCALED = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def test_a_plain_llama() -> None:
    spec = DecoderSpec.from_hf(LLAMA)
    assert (spec.layers, spec.kv_heads, spec.head_dim, spec.max_positions) == (4, 2, 16, 128)
    assert (spec.query_size, spec.kv_size) == (64, 32)
    assert spec.attention_scale == 0.25
    assert spec.windows == (None,) * 4
    assert spec.eos_ids == (2, 3)
    assert spec.kv_bytes_per_token() == 4 * 2 * 32 * 2
    assert spec.kv_bytes_per_token(bits=4) == 4 * 2 * 32 // 2
    layer = 64 * 64 * 2 + 64 * 32 * 2 + 64 * 96 * 3 + 128
    assert spec.parameters == 4 * layer + 64 + 2 * 320 * 64
    tied = dataclasses.replace(spec, tied_embeddings=True)
    assert tied.parameters == spec.parameters - 320 * 64
    assert hash(spec) == hash(DecoderSpec.from_hf(LLAMA))


def test_both_forms_of_rope_settings_read_the_same() -> None:
    old = {**LLAMA, "rope_theta": 5e5, "rope_scaling": SCALED}
    new = {**LLAMA, "rope_parameters": {**SCALED, "rope_theta": 5e5}}
    older = {**LLAMA, "rope_theta": 5e5, "rope_scaling": {**SCALED, "type": "llama3"}}
    older["rope_scaling"].pop("rope_type")
    rope = DecoderSpec.from_hf(old).rope
    assert rope == DecoderSpec.from_hf(new).rope == DecoderSpec.from_hf(older).rope
    assert rope == Rope(5e5, "llama3", 8.0, 32, 1.0, 4.0)
    assert DecoderSpec.from_hf(LLAMA).rope == Rope()


def test_windows() -> None:
    def windows(**changes: Any) -> tuple[int | None, ...]:
        return DecoderSpec.from_hf({**LLAMA, **changes}).windows

    assert windows(model_type="mistral", sliding_window=8) == (8,) * 4
    assert windows(model_type="mistral", sliding_window=None) == (None,) * 4
    assert windows(model_type="mistral") == (4096,) * 4
    assert windows(model_type="qwen2", sliding_window=8) == (None,) * 4
    on = {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 8}
    assert windows(**on, max_window_layers=3) == (None, None, None, 8)
    kinds = ["sliding_attention", "full_attention"] * 2
    assert windows(**on, layer_types=kinds) == (8, None, 8, None)
    spec = DecoderSpec.from_hf({**LLAMA, **on, "layer_types": kinds})
    assert (spec.window(0), spec.window(1)) == (8, None)


def test_family_defaults() -> None:
    assert DecoderSpec.from_hf({**LLAMA, "model_type": "qwen2"}).qkv_bias
    qwen3 = DecoderSpec.from_hf({**LLAMA, "model_type": "qwen3"})
    assert (qwen3.head_dim, qwen3.qk_norm, qwen3.qkv_bias) == (128, True, False)
    granite = DecoderSpec.from_hf({**LLAMA, "model_type": "granite", "attention_multiplier": 0.1})
    assert granite.attention_scale == 0.1
    labelled = {**LLAMA, "architectures": ["LlamaForSequenceClassification"]}
    assert DecoderSpec.from_hf(labelled).num_labels == 2
    assert DecoderSpec.from_hf({**labelled, "id2label": {"0": "a"}}).num_labels == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_spec_survives_its_own_config(family: str) -> None:
    changes = {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 2}
    config = {**LLAMA, **changes, "model_type": family, "rope_scaling": SCALED, "bos_token_id": 1}
    spec = DecoderSpec.from_hf(config)
    again = DecoderSpec.from_hf(spec.to_hf())
    if family == "granite":
        spec = dataclasses.replace(spec, attention_multiplier=spec.attention_scale)
    assert again == spec


YARN = {"type": "yarn", "factor": 4.0, "mscale": 1.0, "mscale_all_dim": 0.5, "truncate": False}


@pytest.mark.parametrize("scaling", [None, {"type": "linear", "factor": 2.0}, SCALED, YARN])
def test_rope_survives_its_own_config(scaling: dict[str, Any] | None) -> None:
    spec = DecoderSpec.from_hf({**LLAMA, "rope_scaling": scaling, "rope_theta": 3e4})
    assert DecoderSpec.from_hf(spec.to_hf()).rope == spec.rope
    assert spec.rope.theta == 3e4


def test_yarn_stretches_the_context() -> None:
    spec = DecoderSpec.from_hf({**LLAMA, "rope_scaling": YARN})
    assert spec.max_positions == 512


BAD: list[tuple[dict[str, Any], str]] = [
    ({"model_type": "gpt2"}, r"'gpt2' is not supported \(supported: granite, llama, mistral"),
    ({"model_type": None}, "None is not supported"),
    ({"num_local_experts": 8}, "mixture of experts"),
    ({"quantization_config": {"quant_method": "gptq"}}, "quantized by 'gptq'"),
    ({"hidden_act": "gelu"}, "activation 'gelu'"),
    ({"rope_scaling": {"rope_type": "longrope", "factor": 2}}, "rope type 'longrope'"),
    ({"rope_scaling": {"rope_type": "dynamic", "factor": 2}}, "rope type 'dynamic'"),
    ({"rope_scaling": {"rope_type": "llama3", "factor": 2}}, "lacks 'low_freq_factor'"),
    ({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, "unknown shape"),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
    ({"architectures": ["LlamaForTokenClassification"]}, "LlamaForTokenClassification"),
    ({"num_key_value_heads": 3}, "cannot share 3"),
    ({"head_dim": 15}, "is odd"),
    ({"vocab_size": 0}, "vocab_size is 0"),
    ({"hidden_size": "many"}, r"config\.json: hidden_size is 'many'"),
    ({"num_attention_heads": 0}, r"config\.json: num_attention_heads is 0"),
    ({"num_hidden_layers": 10**7}, r"config\.json: num_hidden_layers is 10000000"),
    ({"max_position_embeddings": 10**12}, "max_position_embeddings is 10{12}"),
    ({"vocab_size": 10**400}, "vocab_size is a huge number"),
    ({"intermediate_size": 9.5}, r"intermediate_size is 9\.5"),
    ({"num_key_value_heads": True}, "num_key_value_heads is True"),
    ({"num_attention_heads": 128}, r"config\.json: head_dim is 0"),
    ({"rms_norm_eps": float("nan")}, "rms_norm_eps is nan"),
    ({"rope_theta": 0}, r"config\.json: rope_theta is 0"),
    ({"rope_theta": float("nan")}, "rope_theta is nan"),
    ({"rope_parameters": {"rope_theta": "far"}}, "rope_theta is 'far'"),
    ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "factor is 0"),
    ({"rope_scaling": {**SCALED, "high_freq_factor": 1.0}}, "high_freq_factor is 1.0"),
    ({"rope_scaling": {"type": "yarn", "factor": 1e300}}, "stretches the context"),
    ({"eos_token_id": "a"}, r"config\.json: eos_token_id is 'a'"),
    ({"eos_token_id": [1, "b"]}, "eos_token_id is .1, 'b'"),
    ({"eos_token_id": [10**9]}, "eos_token_id 1000000000 is outside the vocabulary of 320"),
    ({"bos_token_id": -1}, "bos_token_id -1 is outside"),
    ({"architectures": 5}, "architecture '5'"),
    ({"model_type": "granite", "logits_scaling": 0}, "logits_scaling is 0"),
    ({"model_type": "mistral", "sliding_window": 0}, "sliding_window is 0"),
    ({"model_type": "qwen2", "use_sliding_window": True, "layer_types": 5}, "layer_types"),
    (
        {
            "model_type": "qwen3",
            "use_sliding_window": True,
            "layer_types": ["chunked_attention"] * 4,
        },
        "chunked_attention",
    ),
    (
        {"model_type": "qwen3", "use_sliding_window": True, "layer_types": ["full_attention"]},
        "1 attention windows for 4 layers",
    ),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        DecoderSpec.from_hf({**LLAMA, **changes})
    assert caught.value.hint


def test_a_missing_key_is_named() -> None:
    config = {k: v for k, v in LLAMA.items() if k != "vocab_size"}
    with pytest.raises(CheckpointError, match="lacks 'vocab_size'"):
        DecoderSpec.from_hf(config)


def test_quantized_configs_are_read_for_those_who_can() -> None:
    config = {**LLAMA, "quantization_config": {"quant_method": "compressed-tensors"}}
    assert DecoderSpec.from_hf(config, quantized=True) == DecoderSpec.from_hf(LLAMA)
