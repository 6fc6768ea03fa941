"""Permutations of channels and their folding into the weights.

After folding, the checkpoint is an ordinary one that computes the same function: nothing is
permuted at run time. Three kinds are possible, and no more:

- one of the residual stream, since RMSNorm treats all channels alike: embedding, norm weights, the
  inputs of attention and MLP, the outputs of both, and the heads;
- one per layer between gate/up and down;
- one per layer and key-value head between v and o, the same for all query heads that read it.

A permutation `p` lists the old channel that stands at each new place: new[i] = old[p[i]].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tenfold.errors import InvalidRequest
from tenfold.models.layout import CLASSIFIER, EMBEDDING, FINAL_NORM, LANGUAGE_HEAD, layer_prefix
from tenfold.models.spec import DecoderSpec
from tenfold.quant.sites import Site


@dataclass(frozen=True, slots=True)
class Permutations:
    """Which old channel stands where. `residual` [hidden], `inner` one [intermediate] per layer,
    `heads` one [kv_heads, head_dim] per layer, channels numbered inside their head."""

    residual: Tensor
    inner: tuple[Tensor, ...]
    heads: tuple[Tensor, ...]

    @classmethod
    def identity(cls, spec: DecoderSpec) -> Permutations:
        one = torch.arange(spec.head_dim).expand(spec.kv_heads, -1).clone()
        return cls(
            torch.arange(spec.hidden_size),
            tuple(torch.arange(spec.intermediate_size) for _ in range(spec.layers)),
            tuple(one.clone() for _ in range(spec.layers)),
        )

    def check(self, spec: DecoderSpec) -> None:
        """Raises InvalidRequest unless each is a permutation of the right size."""
        if len(self.inner) != spec.layers or len(self.heads) != spec.layers:
            raise InvalidRequest(f"permutations for {len(self.inner)} of {spec.layers} layers")
        _check(self.residual, spec.hidden_size, "of the residual stream")
        for layer in range(spec.layers):
            _check(self.inner[layer], spec.intermediate_size, f"inside the MLP of layer {layer}")
            for head in self.heads[layer].unbind(0):
                _check(head, spec.head_dim, f"inside a head of layer {layer}")
            if len(self.heads[layer]) != spec.kv_heads:
                raise InvalidRequest(f"layer {layer} has no permutation for each of its heads")

    def values(self, spec: DecoderSpec, layer: int) -> Tensor:
        """The order of the value projection's rows, [kv_size]."""
        begins = torch.arange(spec.kv_heads).unsqueeze(1) * spec.head_dim
        return (self.heads[layer] + begins).flatten()

    def of(self, spec: DecoderSpec, site: Site) -> Tensor:
        """The order of an input's channels, [width]."""
        if site.kind == "down":
            return self.inner[site.layer]
        if site.kind != "output":
            return self.residual
        shared = self.heads[site.layer].repeat_interleave(spec.heads // spec.kv_heads, dim=0)
        return (shared + torch.arange(spec.heads).unsqueeze(1) * spec.head_dim).flatten()


def _check(order: Tensor, width: int, what: str) -> None:
    if order.shape != (width,) or not torch.equal(order.sort().values, torch.arange(width)):
        raise InvalidRequest(
            f"the permutation {what} is none of {width} channels",
            hint="each channel must stand in it once",
        )


def fold(
    spec: DecoderSpec, tensors: Mapping[str, Tensor], permutations: Permutations
) -> dict[str, Tensor]:
    """The weights with their channels in the new order: the same function, other places.

    Takes and returns the tensors of `layout.expected_shapes`. Raises InvalidRequest when a
    permutation is none.
    """
    permutations.check(spec)
    residual = permutations.residual
    folded = {name: tensors[name] for name in tensors}
    for name in (EMBEDDING, LANGUAGE_HEAD, CLASSIFIER):
        if name in folded:
            folded[name] = folded[name][:, residual]
    folded[FINAL_NORM] = folded[FINAL_NORM][residual]
    for layer in range(spec.layers):
        _fold_layer(spec, folded, permutations, layer)
    return folded


def _fold_layer(
    spec: DecoderSpec, folded: dict[str, Tensor], permutations: Permutations, layer: int
) -> None:
    prefix, residual = layer_prefix(layer), permutations.residual
    for norm in ("input_layernorm", "post_attention_layernorm"):
        folded[f"{prefix}{norm}.weight"] = folded[f"{prefix}{norm}.weight"][residual]
    inner, values = permutations.inner[layer], permutations.values(spec, layer)
    outputs = permutations.of(spec, Site(layer, "output"))
    columns = {
        **{f"self_attn.{n}_proj": residual for n in "qkv"},
        "self_attn.o_proj": outputs,
        "mlp.gate_proj": residual,
        "mlp.up_proj": residual,
        "mlp.down_proj": inner,
    }
    rows = {
        "self_attn.v_proj": values,
        "self_attn.o_proj": residual,
        "mlp.gate_proj": inner,
        "mlp.up_proj": inner,
        "mlp.down_proj": residual,
    }
    for name, order in columns.items():
        weight = folded[f"{prefix}{name}.weight"][:, order]
        bias = folded.get(f"{prefix}{name}.bias")
        if name in rows:
            weight = weight[rows[name]]
            if bias is not None:
                folded[f"{prefix}{name}.bias"] = bias[rows[name]]
        folded[f"{prefix}{name}.weight"] = weight
