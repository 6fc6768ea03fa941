"""FMPQ: which channels are outliers, how they are gathered, which blocks get 8 bits.

COMET 2410.12168 §3.2: inputs are cut along the channels into blocks; a block with an outlier
channel is kept in int8, all others in int4; a permutation of the channels, folded into the weights,
gathers the outliers into few blocks. The paper names no threshold: a channel counts as an outlier
here when its largest magnitude on the calibration text is more than `THRESHOLD` times the median
channel's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tenfold.models.spec import DecoderSpec
from tenfold.quant.permute import Permutations
from tenfold.quant.sites import Site, sites
from tenfold.quant.statistics import ChannelStatistics

THRESHOLD = 8.0
MOST_A8 = 0.25  # of an input's blocks


def outliers(largest: Tensor, threshold: float = THRESHOLD) -> Tensor:
    """Which channels are outliers, bool like `largest` (largest magnitudes, along the last
    dimension)."""
    median = largest.median(dim=-1, keepdim=True).values
    return largest > threshold * median


def mark_blocks(
    largest: Tensor, block: int, threshold: float = THRESHOLD, most: float = MOST_A8
) -> Tensor:
    """The bits of each block, uint8 [width / block]: 8 where an outlier stands, 4 elsewhere.

    No more than `most` of the blocks (one at least) get 8 bits: those with the largest channels.
    """
    peaks = largest.view(-1, block).amax(-1)
    held = outliers(largest, threshold).view(-1, block).any(-1)
    limit = max(1, int(most * len(peaks)))
    order = torch.where(held, peaks, torch.zeros_like(peaks)).argsort(descending=True)
    marked = order[:limit]
    bits = torch.full((len(peaks),), 4, dtype=torch.uint8)
    bits[marked[held[marked]]] = 8
    return bits


def find_permutations(
    spec: DecoderSpec,
    statistics: Mapping[Site, ChannelStatistics],
    energies: Mapping[Site, Tensor],
    block: int,
    threshold: float = THRESHOLD,
) -> Permutations:
    """The orders of channels that gather outliers into few blocks of every input.

    `energies` [width] per input: how much of the outputs passes through each channel (mean square
    times the squared norm of the weights that read it). The channels that fill a block up beside
    outliers are those where it matters least, since their grid is the outliers'.
    """
    normed = [s for s in sites(spec) if s.kind in ("attention", "mlp")]
    residual = _gather(
        torch.stack([outliers(statistics[s].largest, threshold) for s in normed]),
        torch.stack([_share(energies[s]) for s in normed]).mean(0),
        block,
    )
    inner, heads = [], []
    for layer in range(spec.layers):
        down, output = Site(layer, "down"), Site(layer, "output")
        found = outliers(statistics[down].largest, threshold)
        inner.append(_gather(found.unsqueeze(0), _share(energies[down]), block))
        found = outliers(statistics[output].largest, threshold)
        heads.append(_gather_heads(spec, found, _share(energies[output]), block))
    return Permutations(residual, tuple(inner), tuple(heads))


def _gather_heads(spec: DecoderSpec, found: Tensor, energy: Tensor, block: int) -> Tensor:
    """One order for each key-value head, [kv_heads, head_dim], from its query heads together."""
    shape = (spec.kv_heads, spec.heads // spec.kv_heads, spec.head_dim)
    found, energy = found.view(shape).any(1), energy.view(shape).sum(1)
    size = min(block, spec.head_dim)
    pairs = zip(found.unbind(0), energy.unbind(0), strict=True)
    return torch.stack([_gather(f.unsqueeze(0), e, size) for f, e in pairs])


def _share(energy: Tensor) -> Tensor:
    return energy / energy.sum().clamp_min(torch.finfo(torch.float32).tiny)


def _gather(found: Tensor, energy: Tensor, block: int) -> Tensor:
    """An order of channels in which each input's outliers stand in few blocks.

    found bool [inputs, width], energy [width]. Channels that are outliers of one input belong
    together; such families are laid into blocks, the largest first. What is left of a block with
    outliers is filled with the channels of the least energy; all others follow, the strongest
    first, so that like stands with like.
    """
    width = found.shape[1]
    blocks = _lay(_families(found), block)
    count = sum(found.any(0).tolist())
    weakest = [c for c in energy.argsort().tolist() if not bool(found[:, c].any())]
    order: list[int] = []
    for members in blocks:
        gap = min(block - len(members), width - count)
        fill, weakest = weakest[:gap], weakest[gap:]
        count += len(fill)
        order += members + fill
    return torch.tensor(order + weakest[::-1])


def _families(found: Tensor) -> list[list[int]]:
    """Channels joined whenever they are outliers of the same input, the largest family first; in a
    family those that are outliers most often come first."""
    parent: dict[int, int] = {}

    def root(c: int) -> int:
        while parent.setdefault(c, c) != c:
            c = parent[c]
        return c

    for row in found:
        members = row.nonzero().flatten().tolist()
        for c in members:
            parent[root(c)] = root(members[0])
    families: dict[int, list[int]] = {}
    for c in sorted(parent):
        families.setdefault(root(c), []).append(c)
    often = found.sum(0).tolist()
    whole = [sorted(f, key=lambda c: (-often[c], c)) for f in families.values()]
    return sorted(whole, key=lambda f: (-len(f), f))


def _lay(families: Sequence[list[int]], block: int) -> list[list[int]]:
    """Families into blocks, each into the first with room; one that is larger than a block takes
    several."""
    blocks: list[list[int]] = []
    for family in families:
        for begin in range(0, len(family), block):
            part = family[begin : begin + block]
            home = next((b for b in blocks if len(b) + len(part) <= block), None)
            if home is None:
                blocks.append(list(part))
            else:
                home += part
    return blocks
