"""From a model to its quantized form, in memory.

On the main path of `tenfold quantize`: statistics of the text, permutations folded into the
weights, blocks marked, weights rounded layer by layer against the moments of what they will really
read: the inputs after rounding, in a model whose earlier layers are rounded already (as many layers
at once as `memory` allows).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from tenfold.models.spec import DecoderSpec
from tenfold.quant.blocks import find_permutations, mark_blocks
from tenfold.quant.calibration import (
    CalibrationText,
    Progress,
    channel_statistics,
    input_moments,
)
from tenfold.quant.formats import QuantizedWeight
from tenfold.quant.forward import TappedDecoder, rounding_tap
from tenfold.quant.packing import packed_columns
from tenfold.quant.permute import Permutations, fold
from tenfold.quant.rounding import gptq, round_to_nearest
from tenfold.quant.scheme import QuantConfig, kv_formats
from tenfold.quant.sites import Site, sites
from tenfold.quant.statistics import ChannelStatistics

MEMORY = 2 * 2**30  # bytes of moments kept at once


@dataclass(frozen=True, slots=True)
class SiteReport:
    """What became of one input's weights: the share of 4-bit blocks, the relative squared error of
    the outputs on the calibration text, bytes, and channel magnitudes before and after."""

    site: Site
    share_a4: float | None  # None: activations are not quantized
    error: float
    bytes: int
    before: Tensor = field(repr=False)  # [width] largest magnitudes in the old order
    after: Tensor = field(repr=False)  # the same in the new order


@dataclass(frozen=True, slots=True)
class QuantizedModel:
    """A model in integers: `weights` by linear layer, `rest` everything else, folded alike.

    `block_bits` [width / block] by input, None where activations stay as they are.
    """

    spec: DecoderSpec
    config: QuantConfig
    weights: Mapping[str, QuantizedWeight]
    rest: Mapping[str, Tensor]
    block_bits: Mapping[Site, Tensor | None]
    reports: tuple[SiteReport, ...] = ()

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the layout, weights dequantized in float32."""
        whole = {f"{n}.weight": w.dequantize() for n, w in self.weights.items()}
        return {**self.rest, **whole}

    def decoder(self, dtype: torch.dtype = torch.float32) -> TappedDecoder:
        """The reference forward on this model's numbers: inputs and cache rounded as marked."""
        tap = rounding_tap(self.block_bits)
        kv = kv_formats(self.config.scheme.kv, self.spec.head_dim)
        return TappedDecoder(self.spec, self.tensors(), tap, kv, dtype)

    @property
    def share_a4(self) -> float:
        """The share of multiplications whose activations are 4 bits wide."""
        part = whole = 0
        for site, bits in self.block_bits.items():
            cost = site.width(self.spec) * site.rows(self.spec)
            whole += cost
            if bits is not None:
                part += cost * int((bits == 4).sum()) // bits.numel()
        return part / whole


def quantize(
    spec: DecoderSpec,
    tensors: Mapping[str, Tensor],
    text: CalibrationText,
    config: QuantConfig,
    *,
    progress: Progress = lambda stage, share: None,
    state: Path | None = None,
    memory: int = MEMORY,
) -> QuantizedModel:
    """Calibrates, permutes, marks and rounds.

    Raises InvalidRequest when sizes do not divide or an activation or weight is not finite. `state`
    is where interrupted calibration goes on (see `channel_statistics`).
    """
    config.check(spec)
    statistics = channel_statistics(spec, tensors, text, progress, state)
    orders = _orders(spec, tensors, statistics, config)
    folded = fold(spec, tensors, orders)
    block_bits = {
        site: _bits(config, seen.largest[orders.of(spec, site)])
        for site, seen in statistics.items()
    }
    done: dict[str, QuantizedWeight] = {}
    errors: dict[Site, float] = {}
    for batch in _batches(spec, memory):
        current = {**folded, **{f"{n}.weight": w.dequantize() for n, w in done.items()}}
        moments = input_moments(spec, current, text, batch, rounding_tap(block_bits), progress)
        for number, site in enumerate(batch):
            progress(f"rounding layer {site.layer}", number / len(batch))
            own = moments.pop(site).products
            rounded = _round(folded, site, own, config)
            errors[site] = _error(folded, rounded, own)
            done |= rounded
    reports = tuple(
        SiteReport(
            site,
            None if (bits := block_bits[site]) is None else float((bits == 4).float().mean()),
            errors[site],
            sum(_bytes(done[n]) for n in site.linears),
            statistics[site].largest,
            statistics[site].largest[orders.of(spec, site)],
        )
        for site in sites(spec)
    )
    rest = {n: t for n, t in folded.items() if n.removesuffix(".weight") not in done}
    return QuantizedModel(spec, config, done, rest, block_bits, reports)


def _orders(
    spec: DecoderSpec,
    tensors: Mapping[str, Tensor],
    statistics: Mapping[Site, ChannelStatistics],
    config: QuantConfig,
) -> Permutations:
    if not config.permute:
        return Permutations.identity(spec)
    energies = {}
    for site, seen in statistics.items():
        columns = sum(tensors[f"{n}.weight"].float().square().sum(0) for n in site.linears)
        energies[site] = seen.mean_square() * columns
    return find_permutations(spec, statistics, energies, config.block, config.threshold)


def _bits(config: QuantConfig, largest: Tensor) -> Tensor | None:
    if config.scheme.activations == 16:
        return None
    if config.scheme.activations == 8:
        return torch.full((len(largest) // config.block,), 8, dtype=torch.uint8)
    return mark_blocks(largest, config.block, config.threshold, config.most_a8)


def _batches(spec: DecoderSpec, memory: int) -> Iterator[list[Site]]:
    """Inputs of whole layers, as many as their moments fit into `memory`; one layer at least."""
    one = sum(4 * s.width(spec) ** 2 for s in sites(spec) if s.layer == 0)
    at_once = max(1, memory // one)
    for _, group in groupby(sites(spec), key=lambda s: s.layer // at_once):
        yield list(group)


def _round(
    tensors: Mapping[str, Tensor], site: Site, moments: Tensor, config: QuantConfig
) -> dict[str, QuantizedWeight]:
    """The weights that read an input, by name; rows do not touch, so all go through at once."""
    bits, block, dtype = config.scheme.weights, config.block, config.scale_dtype
    parts = [tensors[f"{name}.weight"] for name in site.linears]
    weight = torch.cat(parts)
    if config.method == "nearest":
        whole = round_to_nearest(weight, bits, block, moments.diagonal(), dtype)
    else:
        whole = gptq(weight, moments, bits, block, damping=config.damping, dtype=dtype)
    rows = [len(p) for p in parts]
    pairs = zip(torch.split(whole.values, rows), torch.split(whole.scales, rows), strict=True)
    return {
        name: QuantizedWeight(values.clone(), scales.clone(), bits, block)
        for name, (values, scales) in zip(site.linears, pairs, strict=True)
    }


def _error(
    true: Mapping[str, Tensor], rounded: Mapping[str, QuantizedWeight], moments: Tensor
) -> float:
    """The squared error of the outputs over their square, of all weights that read an input."""
    lost = whole = 0.0
    for name, weight in rounded.items():
        w = true[f"{name}.weight"].float()
        e = weight.dequantize() - w
        lost += float(((e @ moments) * e).sum())
        whole += float(((w @ moments) * w).sum())
    return lost / whole if whole > 0 else 0.0


def _bytes(weight: QuantizedWeight) -> int:
    rows, columns = weight.values.shape
    return rows * (4 * packed_columns(columns, weight.bits) + 2 * (columns // weight.group))


def linear_names(spec: DecoderSpec) -> list[str]:
    """Every linear layer inside the decoder, without `.weight`."""
    return [name for site in sites(spec) for name in site.linears]
