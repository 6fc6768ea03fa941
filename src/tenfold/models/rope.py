"""Rotary position embeddings: what a config asks for, and the frequencies that follow.

On the main path `decoder.Decoder` builds one table of cosines and sines from `inverse_frequencies`
at load. Formulas: RoFormer 2104.09864 §3.4; linear interpolation 2306.15595; YaRN 2309.00071 §3;
the `llama3` rule as published with Llama 3.1 (2407.21783 §3.4.2 gives the setting). No torch at
import.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tenfold.errors import CheckpointError
from tenfold.models.values import integer, number

if TYPE_CHECKING:
    from torch import Tensor

RopeKind = Literal["default", "linear", "llama3", "yarn"]
_READABLE: tuple[RopeKind, ...] = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True, slots=True)
class Rope:
    """One model's rotary embedding. Fields that `kind` does not use keep their defaults."""

    theta: float = 10000.0
    kind: RopeKind = "default"
    factor: float = 1.0
    original_positions: int = 0  # context of the model before it was stretched (llama3, yarn)
    low_freq_factor: float = 1.0  # llama3
    high_freq_factor: float = 4.0  # llama3
    beta_fast: float = 32.0  # yarn
    beta_slow: float = 1.0  # yarn
    truncate: bool = True  # yarn: round the ramp's ends to whole dimensions
    attention_factor: float = 1.0  # yarn: cos and sin are multiplied by this

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> Rope:
        """Read `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (earlier).

        Raises CheckpointError on a kind of scaling, or a partial rotation, tenfold does not
        compute.
        """
        found = config.get("rope_parameters") or config.get("rope_scaling") or {}
        if not isinstance(found, Mapping) or any(isinstance(v, Mapping) for v in found.values()):
            raise CheckpointError(
                f"rope parameters of an unknown shape: {found!r}",
                hint="expected one object with rope_type and its numbers, the same for all layers",
            )
        partial = found.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
        if partial not in (None, 1, 1.0):
            raise CheckpointError(
                f"partial_rotary_factor {partial} is not supported",
                hint="tenfold rotates whole heads only",
            )
        holder = found if found.get("rope_theta") is not None else config
        theta = number(holder, "rope_theta", 10000.0, above=1)
        kind = found.get("rope_type") or found.get("type") or "default"
        if kind not in _READABLE:
            raise CheckpointError(
                f"rope type {kind!r} is not supported", hint=f"supported: {', '.join(_READABLE)}"
            )
        try:
            return cls._scaled(kind, theta, found, config)
        except KeyError as e:
            raise CheckpointError(
                f"rope scaling {kind!r} lacks {e.args[0]!r}", hint="see rope_scaling in config.json"
            ) from None

    @classmethod
    def _scaled(
        cls, kind: RopeKind, theta: float, found: Mapping[str, Any], config: Mapping[str, Any]
    ) -> Rope:
        if kind == "default":
            return cls(theta=theta)
        if kind == "linear":
            return cls(theta=theta, kind=kind, factor=number(found, "factor", above=0))
        stated = "original_max_position_embeddings"
        context = integer(config, "max_position_embeddings", high=2**31)
        original = integer(found, stated, context, high=2**31)
        if kind == "llama3":
            low = number(found, "low_freq_factor", above=0)
            return cls(
                theta=theta,
                kind=kind,
                factor=number(found, "factor", above=0),
                original_positions=original,
                low_freq_factor=low,
                high_freq_factor=number(found, "high_freq_factor", above=low),
            )
        factor = number(found, "factor", context / original, above=0)
        return cls(
            theta=theta,
            kind=kind,
            factor=factor,
            original_positions=original,
            beta_fast=number(found, "beta_fast", 32.0, above=0),
            beta_slow=number(found, "beta_slow", 1.0, above=0),
            truncate=bool(found.get("truncate", True)),
            attention_factor=_yarn_attention(factor, found),
        )

    def to_hf(self) -> dict[str, Any]:
        """This embedding as the keys of a config.json that transformers 4 and 5 both read."""
        if self.kind == "default":
            return {"rope_theta": self.theta, "rope_scaling": None}
        scaling: dict[str, Any] = {"rope_type": self.kind, "factor": self.factor}
        if self.kind in ("llama3", "yarn"):
            scaling["original_max_position_embeddings"] = self.original_positions
        if self.kind == "llama3":
            scaling["low_freq_factor"] = self.low_freq_factor
            scaling["high_freq_factor"] = self.high_freq_factor
        if self.kind == "yarn":
            scaling |= {
                "beta_fast": self.beta_fast,
                "beta_slow": self.beta_slow,
                "truncate": self.truncate,
                "attention_factor": self.attention_factor,
            }
        return {"rope_theta": self.theta, "rope_scaling": scaling}


def _yarn_attention(factor: float, found: Mapping[str, Any]) -> float:
    """YaRN's attention temperature, 2309.00071 §3.4, as a multiplier of cos and sin."""
    if found.get("attention_factor") is not None:
        return number(found, "attention_factor", above=0)

    def grown(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    mscale, mscale_all = (number(found, k, 0, low=0) for k in ("mscale", "mscale_all_dim"))
    if mscale and mscale_all:
        return grown(mscale) / grown(mscale_all)
    return grown(1.0)


def inverse_frequencies(rope: Rope, head_dim: int) -> Tensor:
    """Angle per position of each pair of dimensions, [head_dim / 2], float32."""
    import torch

    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).to(torch.float32) / head_dim
    frequencies = 1.0 / (rope.theta**exponents)
    if rope.kind == "linear":
        return frequencies / rope.factor
    if rope.kind == "llama3":
        return _llama3(rope, frequencies)
    if rope.kind == "yarn":
        return _yarn(rope, frequencies, head_dim)
    return frequencies


def _llama3(rope: Rope, frequencies: Tensor) -> Tensor:
    """Long waves are stretched by `factor`, short ones kept, those between blended."""
    import torch

    # How often each pair turns within the context the model was first trained on.
    turns = rope.original_positions * frequencies / (2 * math.pi)
    keep = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    keep = torch.clamp(keep, 0.0, 1.0)
    return (1 - keep) * frequencies / rope.factor + keep * frequencies


def _yarn(rope: Rope, frequencies: Tensor, head_dim: int) -> Tensor:
    """Pairs turning less than `beta_slow` times are stretched, more than `beta_fast` kept."""
    import torch

    def dimension(rotations: float) -> float:
        ratio = math.log(rope.original_positions / (rotations * 2 * math.pi))
        return head_dim * ratio / (2 * math.log(rope.theta))

    low, high = dimension(rope.beta_fast), dimension(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    if low == high:
        high += 0.001
    ramp = (torch.arange(head_dim // 2, dtype=torch.float32) - low) / (high - low)
    stretch = torch.clamp(ramp, 0.0, 1.0)
    return stretch * frequencies / rope.factor + (1 - stretch) * frequencies
