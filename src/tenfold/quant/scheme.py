"""What a quantized model is to be: bits of weights, activations and cache, sizes, method.

`w4a4-kv4` names weights, activations and keys and values; `w4a4` means blocks of 4 and 8 bits
mixed (FMPQ), since nothing below 8 bits survives outliers otherwise. Without `-kvN` the cache keeps
its 16 bits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

import torch

from tenfold.errors import InvalidRequest, UnknownName
from tenfold.models.spec import DecoderSpec
from tenfold.quant.blocks import MOST_A8, THRESHOLD
from tenfold.quant.formats import BLOCK_SIZES, KV_BITS, SCALE_DTYPES, check_bits, check_group
from tenfold.quant.forward import KvFormats
from tenfold.quant.kv import KvFormat
from tenfold.quant.rounding import DAMPING
from tenfold.quant.sites import sites

Method = Literal["gptq", "nearest"]
LINEAR_SCHEMES = {"w4a16": (4, 16), "w4a8": (4, 8), "w4a4": (4, 4), "w8a8": (8, 8)}
_NAME = re.compile(r"(w\d+a\d+)(?:-kv(\d+))?")
_BLOCKS = 8  # an input is cut into so many blocks at least, where block sizes allow


@dataclass(frozen=True, slots=True)
class Scheme:
    """Bits: weights 4 or 8, activations 4 (mixed with 8), 8 or 16, cache 4, 8 or 16."""

    weights: int
    activations: int
    kv: int = 16

    @classmethod
    def parse(cls, name: str) -> Scheme:
        """Reads a name such as `w4a4-kv4`. Raises UnknownName."""
        match = _NAME.fullmatch(name.strip().lower())
        if match is None or match[1] not in LINEAR_SCHEMES or match[2] not in (None, *_KV_NAMES):
            known = [f"{s}{kv}" for s in LINEAR_SCHEMES for kv in ("", "-kv8", "-kv4")]
            raise UnknownName("scheme", name, known, param="scheme")
        return cls(*LINEAR_SCHEMES[match[1]], int(match[2] or 16))

    @property
    def name(self) -> str:
        kv = "" if self.kv == 16 else f"-kv{self.kv}"
        return f"w{self.weights}a{self.activations}{kv}"


_KV_NAMES = tuple(str(b) for b in KV_BITS)


@dataclass(frozen=True, slots=True)
class QuantConfig:
    """A scheme and how it is reached.

    `block` is both the group of weights that shares a scale and the block of activations that
    shares bits and a scale; `block_for` picks one for a model.
    """

    scheme: Scheme
    block: int = 128
    method: Method = "gptq"
    permute: bool = True
    threshold: float = THRESHOLD
    most_a8: float = MOST_A8
    damping: float = DAMPING
    scale_dtype: torch.dtype = field(default=torch.bfloat16)

    def __post_init__(self) -> None:
        if self.block not in BLOCK_SIZES:
            raise InvalidRequest(
                f"blocks of {self.block} are not supported",
                param="block_size",
                hint=f"one of {', '.join(map(str, BLOCK_SIZES))}",
            )
        if self.method not in ("gptq", "nearest"):
            raise UnknownName("method", self.method, ["gptq", "nearest"], param="method")
        if self.threshold <= 1 or not 0 <= self.most_a8 <= 1 or self.damping <= 0:
            raise InvalidRequest(
                "threshold must be above 1, most_a8 between 0 and 1, damping above 0",
                param="threshold",
            )
        if self.scale_dtype not in SCALE_DTYPES:
            raise InvalidRequest(f"scales cannot be {self.scale_dtype}", param="scale_dtype")

    def check(self, spec: DecoderSpec) -> None:
        """Raises InvalidRequest unless the block divides every linear input of the model."""
        for site in sites(spec):
            check_group(site.width(spec), self.block, "block_size")


def block_for(spec: DecoderSpec) -> int:
    """The largest block size that divides every input and cuts each into eight blocks at least;
    else the smallest that divides. Raises InvalidRequest when none does."""
    widths = {s.width(spec) for s in sites(spec)}
    dividing = [b for b in BLOCK_SIZES if all(w % b == 0 for w in widths)]
    if not dividing:
        raise InvalidRequest(
            f"no block size of {', '.join(map(str, BLOCK_SIZES))} divides widths "
            f"{', '.join(map(str, sorted(widths)))}",
            param="block_size",
            hint="such a model cannot be quantized",
        )
    return next((b for b in dividing if min(widths) // b >= _BLOCKS), dividing[-1])


def kv_formats(bits: int, head_dim: int) -> KvFormats:
    """The cache of a scheme: keys in even groups of 32 (whole heads where those do not divide),
    values with a leading group for outliers."""
    check_bits(bits, KV_BITS, "kv_bits")
    keys = KvFormat.even(bits, head_dim, 32 if head_dim % 32 == 0 else head_dim)
    if bits == 16 or head_dim <= 8:
        return KvFormats(keys, keys)
    return KvFormats(keys, KvFormat.leading(bits, head_dim))
