"""Tiny checkpoints, saved by transformers itself, and tokenizers trained on the spot."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

SIZES = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
GRANITE = {
    "embedding_multiplier": 3.0,
    "logits_scaling": 2.0,
    "residual_multiplier": 0.5,
    "attention_multiplier": 0.2,
    "attention_bias": True,
    "mlp_bias": True,
    "tie_word_embeddings": True,
}

# Every family and switch: name -> (config class, model class, extra settings)
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama2": ("LlamaConfig", "LlamaForCausalLM", {}),
    "llama2-biases": (
        "LlamaConfig",
        "LlamaForCausalLM",
        {"attention_bias": True, "mlp_bias": True, "head_dim": 32},
    ),
    "llama3": (
        "LlamaConfig",
        "LlamaForCausalLM",
        {"rope_parameters": LLAMA3_ROPE, "tie_word_embeddings": True},
    ),
    "llama-linear": ("LlamaConfig", "LlamaForCausalLM", {"rope_parameters": LINEAR_ROPE}),
    "llama-classifier": ("LlamaConfig", "LlamaForSequenceClassification", {"num_labels": 3}),
    "mistral": ("MistralConfig", "MistralForCausalLM", {"sliding_window": 7}),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", {"tie_word_embeddings": True}),
    "qwen2-window": (
        "Qwen2Config",
        "Qwen2ForCausalLM",
        {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
    "qwen2-yarn": ("Qwen2Config", "Qwen2ForCausalLM", {"rope_parameters": YARN_ROPE}),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {"head_dim": 24}),
    "granite": ("GraniteConfig", "GraniteForCausalLM", GRANITE),
}


def build(case: str, seed: int = 0) -> Any:
    """A transformers model with random weights of a size that makes errors visible."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers

        config_class, model_class, extra = CASES[case]
        config = getattr(transformers, config_class)(**{**SIZES, "pad_token_id": 0, **extra})
        config._attn_implementation = "eager"
        model = getattr(transformers, model_class)(config).float().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name:
                parameter.copy_(1 + 0.2 * noise)
            else:
                parameter.copy_(
                    noise * (0.2 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5)
                )
    return model


@pytest.fixture(scope="session")
def hf_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Any]]:
    """Saves a case once with transformers' save_pretrained; returns (folder, model)."""
    made: dict[str, tuple[Path, Any]] = {}

    def make(case: str) -> tuple[Path, Any]:
        if case not in made:
            folder = tmp_path_factory.mktemp(case)
            model = build(case)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.save_pretrained(folder)
            made[case] = (folder, model)
        return made[case]

    return make
