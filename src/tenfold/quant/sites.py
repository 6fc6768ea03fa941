"""Where a decoder's linear layers read: four inputs a layer, each shared by one to three weights.

Everything that quantization decides about channels (statistics, permutations, blocks) is decided
once per input, since the query, key and value weights read the same numbers, and so do gate and up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tenfold.models.layout import layer_prefix
from tenfold.models.spec import DecoderSpec

Kind = Literal["attention", "output", "mlp", "down"]
KINDS: tuple[Kind, ...] = ("attention", "output", "mlp", "down")
_LINEARS: dict[Kind, tuple[str, ...]] = {
    "attention": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "output": ("self_attn.o_proj",),
    "mlp": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}


@dataclass(frozen=True, slots=True)
class Site:
    """One input of linear layers: `attention` and `mlp` are normed residuals, `output` the heads'
    outputs, `down` the gated inner activations."""

    layer: int
    kind: Kind

    @property
    def name(self) -> str:
        return f"layers.{self.layer}.{self.kind}"

    @property
    def linears(self) -> tuple[str, ...]:
        """Names of the linear layers that read here, without `.weight`."""
        return tuple(layer_prefix(self.layer) + n for n in _LINEARS[self.kind])

    def width(self, spec: DecoderSpec) -> int:
        """Input channels."""
        widths = {"output": spec.query_size, "down": spec.intermediate_size}
        return widths.get(self.kind, spec.hidden_size)

    def rows(self, spec: DecoderSpec) -> int:
        """Output channels of all weights that read here."""
        rows = {
            "attention": spec.query_size + 2 * spec.kv_size,
            "mlp": 2 * spec.intermediate_size,
        }
        return rows.get(self.kind, spec.hidden_size)


def sites(spec: DecoderSpec) -> list[Site]:
    """All inputs in the order a token meets them."""
    return [Site(layer, kind) for layer in range(spec.layers) for kind in KINDS]


def site_of(linear: str) -> Site:
    """The input of a linear layer called `model.layers.N.self_attn.q_proj` or alike."""
    _, _, layer, name = linear.split(".", 3)
    kind = next(k for k, names in _LINEARS.items() if name in names)
    return Site(int(layer), kind)
