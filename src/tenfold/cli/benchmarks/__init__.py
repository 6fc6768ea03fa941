"""The benchmarks behind `tenfold bench NAME`: a module each, imported when asked for.

A module offers `run(quick: bool, report: Report) -> Figures`, and may take paths of data by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tenfold.errors import UnknownName

Report = Callable[[str, float], None]  # what is being measured, and the share of it that is done

NAMES = {
    "concierge": "the embedded models: look-up, slot errors, room for search",
    "engine": "decode, prefill, prefix cache and soundness beside transformers",
    "kernels": "native kernels beside plain torch",
    "memory": "recall on LoCoMo, speed, durability, erasure, isolation, learning",
    "preference": "entanglement: cost and exactness of the monitor, fixes, the reward model",
    "quant": "what 4-bit weights, activations and cache cost in accuracy",
}


@dataclass(frozen=True, slots=True)
class Figures:
    """Measured numbers by key, how they were taken, the bound each is judged by (">= 1.3",
    "0.03 .. 0.35"), and why some that were due are absent."""

    figures: Mapping[str, float]
    settings: Mapping[str, Any]
    bounds: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)


def find(name: str) -> str:
    """The module of a benchmark; raises UnknownName."""
    if name not in NAMES:
        raise UnknownName("benchmark", name, NAMES)
    return f"tenfold.cli.benchmarks.{name}"
