"""Specs of every family at small sizes, with random weights that leave no tensor out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tenfold.models.layout import expected_shapes
from tenfold.models.spec import DecoderSpec

SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 64,
    "intermediate_size": 96,
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 32,
    "max_positions": 64,
    "eos_ids": (2,),
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-biases": {"qkv_bias": True, "output_bias": True, "mlp_bias": True},
    "mistral": {"family": "mistral", "windows": (7, 7)},
    "qwen2": {"family": "qwen2", "qkv_bias": True, "tied_embeddings": True},
    "qwen3": {"family": "qwen3", "qk_norm": True, "kv_heads": 4},
    "granite": {
        "family": "granite",
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.5,
        "attention_multiplier": 0.2,
        "logits_divisor": 2.0,
        "tied_embeddings": True,
    },
    "classifier": {"num_labels": 3, "language_head": False},
}


def spec_of(family: str, **changes: Any) -> DecoderSpec:
    return DecoderSpec(**{"family": "llama", **SIZES, **FAMILIES[family], **changes})


def weights_of(spec: DecoderSpec, seed: int = 0) -> dict[str, Tensor]:
    """Random weights of sizes that keep activations near 1; norms and biases vary as well."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in expected_shapes(spec).items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith("norm.weight"):
            found[name] = 1 + 0.2 * noise
        else:
            found[name] = noise * (0.2 if len(shape) == 1 else shape[-1] ** -0.5)
    return found


def some_tokens(spec: DecoderSpec, count: int = 24, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(spec.vocab_size, (count,), generator=generator)
