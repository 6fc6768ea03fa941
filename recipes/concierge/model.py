"""The models: plain Llamas, scaled so that learning rates transfer, that can look up from step 0.

*Scaling* follows the mean-field parametrisation (2410.23610, §2: residual branches weigh 1/depth,
each layer averages over its heads and neurons): multipliers while training, folded away by
``fold``, so that the exported file is an ordinary Llama. *Look-up from step 0*: the first two
layers start as a soft k-gram matcher. Both only choose where training starts and how far it steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM

from .tokenizer import MAX_POSITIONS

QUERIES = 128  # query rows that attend at once
BASE_HIDDEN, BASE_LAYERS = 128, 4  # the draft: rates found there hold for every other size


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a model; heads share keys with no other."""

    hidden: int
    layers: int
    heads: int
    inner: int


SHAPES = {
    "concierge": Shape(256, 6, 4, 512),
    "concierge-draft": Shape(BASE_HIDDEN, BASE_LAYERS, 4, 256),
}


def packed_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    documents: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within documents; query, key, value [rows, heads, length, head_dim].

    ``documents`` [rows, length] numbers the conversation each token belongs to. Compiled, this is
    twice as fast as torch's kernel on CPUs, since it stops at the diagonal and runs in bfloat16.
    """
    length = query.shape[2]
    position = torch.arange(length, device=query.device)
    out = []
    for begin in range(0, length, QUERIES):
        end = min(begin + QUERIES, length)
        scores = (query[:, :, begin:end] * module.scaling) @ key[:, :, :end].transpose(-1, -2)
        hidden = position[None, begin:end, None] < position[None, None, :end]
        if documents is not None:
            hidden = hidden | (documents[:, begin:end, None] != documents[:, None, :end])
        scores = scores.float().masked_fill(hidden[:, None], -1e9)
        out.append(torch.softmax(scores, -1).to(value.dtype) @ value[:, :, :end])
    return torch.cat(out, 2).transpose(1, 2).contiguous(), None


AttentionInterface.register("packed", packed_attention)


def llama_config(shape: Shape, vocabulary: int) -> LlamaConfig:
    """Return the configuration of a plain Llama of this shape."""
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        initializer_range=0.03,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        attn_implementation="packed",
    )


class Scaled(nn.Module):
    """A linear map times a constant that is folded into its weight at export."""

    def __init__(self, linear: nn.Linear, multiplier: float) -> None:
        super().__init__()
        self.linear, self.multiplier = linear, multiplier

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scaled product."""
        return self.linear(x) * self.multiplier


@dataclass(frozen=True, slots=True)
class Scaling:
    """Multipliers relative to the base model; all are 1 for the base itself."""

    branch: float  # on attention and MLP outputs: 1/depth
    readout: float  # on the last norm: 1/width, since the tied embedding steps by entry
    matrix_rate: float  # on Muon's rate: keeps the spectral size of a step, not that of an entry

    @classmethod
    def of(cls, shape: Shape, scaled: bool = True) -> Scaling:
        """Return the scaling of ``shape``, or none for the comparison without."""
        if not scaled:
            return cls(1.0, 1.0, 1.0)
        wide, deep = BASE_HIDDEN / shape.hidden, BASE_LAYERS / shape.layers
        return cls(deep, wide, math.sqrt(wide))


def build_model(shape: Shape, vocabulary: int, seed: int, scaled: bool = True) -> LlamaForCausalLM:
    """Return a fresh model with its multipliers in place and its look-up circuit laid out."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(llama_config(shape, vocabulary))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and "embed" not in name:
                nn.init.normal_(parameter, std=0.5 / math.sqrt(parameter.shape[1]))
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(0.2)
            layer.mlp.down_proj.weight.mul_(0.2)
    scaling = Scaling.of(shape, scaled)
    lay_out_look_up(model, shape, scaling)
    for layer in model.model.layers:
        layer.self_attn.o_proj = Scaled(layer.self_attn.o_proj, scaling.branch)
        layer.mlp.down_proj = Scaled(layer.mlp.down_proj, scaling.branch)
    model.readout = scaling.readout
    return model


def plain_weights(model: LlamaForCausalLM) -> dict[str, torch.Tensor]:
    """Return the weights of an ordinary Llama that computes the same: multipliers folded in."""
    folded = {}
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight":
            continue  # tied
        plain = name.replace(".linear.", ".")
        if plain != name:
            weight = weight * model.get_submodule(name.removesuffix(".linear.weight")).multiplier
        if plain == "model.norm.weight":
            weight = weight * model.readout
        folded[plain] = weight.detach().clone()
    return folded


def load_plain(model: LlamaForCausalLM, weights: dict[str, torch.Tensor]) -> None:
    """Undo ``plain_weights``: begin ``model`` with the weights of an exported folder.

    Raises KeyError or RuntimeError where they are those of another shape.
    """
    begun = {}
    for name in model.state_dict():
        if name == "lm_head.weight":
            continue
        plain = name.replace(".linear.", ".")
        weight = weights[plain].float()
        if plain != name:
            weight = weight / model.get_submodule(name.removesuffix(".linear.weight")).multiplier
        begun[name] = weight / model.readout if plain == "model.norm.weight" else weight
    model.load_state_dict(begun, strict=False)


@contextmanager
def evaluating(model: LlamaForCausalLM) -> Iterator[None]:
    """Switch to evaluation without gradients, and back."""
    model.eval()
    with torch.no_grad():
        yield
    model.train()


# ------------------------------------------------------------------------------ look-up at step 0
CONSTANT = 6.0  # share of one channel in a normalised embedding (of sqrt(hidden)), for positions
SHARP, BROAD = 6.0, 3.0  # how narrowly a head looks at one place, or at a window
MATCH, OUTPUT = 12.0, 3.0  # how strongly equal contexts attract, and how loudly they speak


def _orthonormal(rows: int, columns: int, random: torch.Generator) -> torch.Tensor:
    drawn = torch.randn(max(rows, columns), min(rows, columns), generator=random)
    q, _ = torch.linalg.qr(drawn)
    return q if rows >= columns else q.T


def lay_out_look_up(model: LlamaForCausalLM, shape: Shape, scaling: Scaling, seed: int = 0) -> None:
    """Start the first two layers as a matcher of contexts; everything stays trainable.

    Layer 0: one head looks at the token before, one at a window that ends before the token, one at
    a window that ends with it (rotary embeddings make a head prefer a distance when its query and
    key are constant vectors a phase apart). Layer 1: two heads compare the present token and window
    with the token and window before each earlier place, and copy the token at the best place: what
    followed the most similar words, an induction head (2209.11895) with a longer memory.
    """
    random = torch.Generator().manual_seed(seed)
    width, dim = shape.hidden, shape.hidden // shape.heads
    half = dim // 2
    frequency = model.config.rope_parameters["rope_theta"] ** (-torch.arange(half) / half)
    embedding = model.model.embed_tokens.weight
    spread = embedding.std().item()
    constant = CONSTANT * math.sqrt(width / 256)
    first, second = (layer.self_attn for layer in model.model.layers[:2])

    def head(index: int) -> slice:
        return slice(index * dim, (index + 1) * dim)

    def look_at(index: int, distance: float, used: range, strength: float) -> None:
        size = math.sqrt(strength * math.sqrt(dim)) / constant
        for f in used:
            turn = -frequency[f] * distance
            first.k_proj.weight[index * dim + f, 0] += size
            first.q_proj.weight[index * dim + f, 0] += size * math.cos(turn)
            first.q_proj.weight[index * dim + f + half, 0] += size * math.sin(turn)

    with torch.no_grad():
        embedding[:, 0] = spread * constant * math.sqrt((width - 1) / (width - constant**2))
        read = _orthonormal(dim, width, random)
        read[:, 0] = 0
        written = [_orthonormal(width, dim, random) for _ in range(3)]
        sharp, broad = range(half // 4), range(half // 8, half // 2 - half // 16)
        for index, (distance, used, strength) in enumerate(
            ((1.0, sharp, SHARP), (4.5, broad, BROAD), (3.5, broad, BROAD))
        ):
            first.q_proj.weight[head(index)] *= 0.1
            first.k_proj.weight[head(index)] *= 0.1
            look_at(index, distance, used, strength)
            first.v_proj.weight[head(index)] = read
            loud = spread * (1.0 if index == 0 else 2.0) / scaling.branch
            first.o_proj.weight[:, head(index)] = written[index] * loud
        slow = [f for f in range(half) if frequency[f] < 0.02]  # pairs that hardly turn
        places = slow + [f + half for f in slow]
        token, window = places[: len(places) // 2], places[len(places) // 2 :]
        mix_token, mix_window = (_orthonormal(len(p), dim, random) for p in (token, window))
        strength = math.sqrt(MATCH / 2)
        for index in (0, 1):
            query, key = torch.zeros(dim, width), torch.zeros(dim, width)
            query[token], key[token] = mix_token @ read, mix_token @ written[0].T
            query[window], key[window] = mix_window @ written[2].T, mix_window @ written[1].T
            second.q_proj.weight[head(index)] = query * strength
            second.k_proj.weight[head(index)] = key * strength
            copied = _orthonormal(dim, width, random)
            copied[:, 0] = 0
            second.v_proj.weight[head(index)] = copied
            second.o_proj.weight[:, head(index)] = copied.T * spread * 4 * OUTPUT / scaling.branch
