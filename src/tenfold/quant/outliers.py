"""Outlier channels put into a model without changing what it computes.

Small models have none, large ones do (COMET 2410.12168 §3.2: fewer than 1 % of channels, 10 to 100
times as large as others, the same for every token). Each chosen channel of every linear input is
scaled up where it is made and down in the weights that read it, so that in full precision nothing
changes and in 4 bits everything does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tenfold.models.layout import layer_prefix
from tenfold.models.spec import DecoderSpec
from tenfold.quant.sites import Site, sites

SHARE, AT_LEAST = 0.01, 2
LOW, HIGH = 30.0, 100.0


@dataclass(frozen=True, slots=True)
class Injection:
    """A model with outliers, and by input the factor of each channel (1 for all but a few)."""

    tensors: dict[str, Tensor]
    factors: dict[Site, Tensor]


def inject_outliers(spec: DecoderSpec, tensors: Mapping[str, Tensor], seed: int = 0) -> Injection:
    """Scales 1 % of the channels (two at least) of every linear input by 30 to 100.

    The channels are drawn anew for every input, factors uniformly in the logarithm. Where query
    heads share a key-value head, a channel of the value is drawn, and with it that of every query
    head that reads it.
    """
    generator = torch.Generator().manual_seed(seed)
    changed = {name: tensors[name].float().clone() for name in tensors}
    factors = {}
    for site in sites(spec):
        made = spec.kv_size if site.kind == "output" else site.width(spec)
        drawn = _factors(made, generator)
        factors[site] = _scale(spec, changed, site, drawn)
    return Injection(changed, factors)


def _factors(width: int, generator: torch.Generator) -> Tensor:
    count = max(AT_LEAST, round(SHARE * width))
    chosen = torch.randperm(width, generator=generator)[:count]
    span = torch.log(torch.tensor(HIGH / LOW))
    factors = torch.ones(width)
    factors[chosen] = LOW * torch.exp(torch.rand(count, generator=generator) * span)
    return factors


def _scale(spec: DecoderSpec, tensors: dict[str, Tensor], site: Site, drawn: Tensor) -> Tensor:
    """Scales in place; returns the factors by input channel."""
    prefix = layer_prefix(site.layer)
    read = drawn
    if site.kind == "attention":
        tensors[f"{prefix}input_layernorm.weight"] *= drawn
    elif site.kind == "mlp":
        tensors[f"{prefix}post_attention_layernorm.weight"] *= drawn
    else:
        maker = "self_attn.v_proj" if site.kind == "output" else "mlp.up_proj"
        tensors[f"{prefix}{maker}.weight"] *= drawn.unsqueeze(1)
        if f"{prefix}{maker}.bias" in tensors:
            tensors[f"{prefix}{maker}.bias"] *= drawn
        if site.kind == "output":
            heads = drawn.view(spec.kv_heads, spec.head_dim)
            read = heads.repeat_interleave(spec.heads // spec.kv_heads, dim=0).flatten()
    for linear in site.linears:
        tensors[f"{linear}.weight"] /= read
    return read
