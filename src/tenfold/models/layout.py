"""Which tensors, of which shapes, a checkpoint in Hugging Face layout holds for a spec.

On the main path: `checkpoint` checks a folder against `expected_shapes`, `decoder` asks for tensors
by these names, `lora` merges into them. No torch.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenfold.models.spec import DecoderSpec

EMBEDDING = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
LANGUAGE_HEAD = "lm_head.weight"
CLASSIFIER = "score.weight"

# Old exports carry the rope frequencies as a buffer; they follow from the config.
_ROPE_BUFFER = re.compile(r"^model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq$")


def layer_prefix(layer: int) -> str:
    """What the names of layer `layer`'s tensors begin with."""
    return f"model.layers.{layer}."


def expected_shapes(spec: DecoderSpec) -> dict[str, tuple[int, ...]]:
    """Every tensor name of the layout with its shape; linear weights are [out, in]."""
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (spec.vocab_size, spec.hidden_size)}
    for layer in range(spec.layers):
        prefix = layer_prefix(layer)
        shapes |= {prefix + name: shape for name, shape in _layer_shapes(spec).items()}
    shapes[FINAL_NORM] = (spec.hidden_size,)
    if spec.language_head and not spec.tied_embeddings:
        shapes[LANGUAGE_HEAD] = (spec.vocab_size, spec.hidden_size)
    if spec.num_labels:
        shapes[CLASSIFIER] = (spec.num_labels, spec.hidden_size)
    return shapes


def _layer_shapes(spec: DecoderSpec) -> dict[str, tuple[int, ...]]:
    hidden, inner = spec.hidden_size, spec.intermediate_size
    linears = {
        "self_attn.q_proj": (spec.query_size, hidden, spec.qkv_bias),
        "self_attn.k_proj": (spec.kv_size, hidden, spec.qkv_bias),
        "self_attn.v_proj": (spec.kv_size, hidden, spec.qkv_bias),
        "self_attn.o_proj": (hidden, spec.query_size, spec.output_bias),
        "mlp.gate_proj": (inner, hidden, spec.mlp_bias),
        "mlp.up_proj": (inner, hidden, spec.mlp_bias),
        "mlp.down_proj": (hidden, inner, spec.mlp_bias),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
    }
    for name, (rows, columns, bias) in linears.items():
        shapes[f"{name}.weight"] = (rows, columns)
        if bias:
            shapes[f"{name}.bias"] = (rows,)
    if spec.qk_norm:
        shapes["self_attn.q_norm.weight"] = (spec.head_dim,)
        shapes["self_attn.k_norm.weight"] = (spec.head_dim,)
    return shapes


def ignored(name: str, spec: DecoderSpec) -> bool:
    """Is this a tensor a checkpoint may carry though the model does not need it?

    Rope frequency buffers, the copy of tied embeddings, and a classifier's unused language head.
    """
    if _ROPE_BUFFER.match(name):
        return True
    return name == LANGUAGE_HEAD and (spec.tied_embeddings or not spec.language_head)
