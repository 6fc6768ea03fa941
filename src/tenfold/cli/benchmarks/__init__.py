"""The benchmarks behind `tenfold bench NAME`: a module each, imported when asked for.

A module offers `run(quick: bool) -> Figures`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tenfold.errors import UnknownName

NAMES = {
    "engine": "decode, prefill, prefix cache and soundness beside transformers",
    "kernels": "native kernels beside plain torch",
}


@dataclass(frozen=True, slots=True)
class Figures:
    """Measured numbers by key, the bound each is judged by (">= 1.3"), and how they were taken."""

    figures: Mapping[str, float]
    settings: Mapping[str, Any]
    bounds: Mapping[str, str] = field(default_factory=dict)


def find(name: str) -> str:
    """The module of a benchmark; raises UnknownName."""
    if name not in NAMES:
        raise UnknownName("benchmark", name, NAMES)
    return f"tenfold.cli.benchmarks.{name}"
