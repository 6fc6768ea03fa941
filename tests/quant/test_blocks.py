"""Outliers are found, gathered into the fewest blocks there can be, and marked."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.quant.blocks import _gather, find_permutations, mark_blocks, outliers
from tenfold.quant.outliers import inject_outliers
from tenfold.quant.permute import Permutations, fold
from tenfold.quant.sites import Site, sites
from tenfold.quant.statistics import ChannelStatistics

from .small_models import some_tokens, spec_of, weights_of
from .test_permute import inputs_of


def test_outliers_stand_out_from_the_median() -> None:
    assert outliers(torch.tensor([1.0, 2.0, 1.0, 9.0, 1.0]), 8).tolist() == [0, 0, 0, 1, 0]
    assert not outliers(torch.tensor([1.0, 2.0, 1.0, 7.9, 1.0]), 8).any()


def test_blocks_with_outliers_get_eight_bits_the_largest_first_under_the_cap() -> None:
    largest = torch.ones(8, 4)
    largest[2, 1], largest[5, 0], largest[6, 3] = 20, 50, 30
    assert mark_blocks(largest.flatten(), 4, most=1).tolist() == [4, 4, 8, 4, 4, 8, 8, 4]
    assert mark_blocks(largest.flatten(), 4, most=0.25).tolist() == [4, 4, 4, 4, 4, 8, 8, 4]
    assert mark_blocks(largest.flatten(), 4, most=0.0).tolist() == [4, 4, 4, 4, 4, 8, 4, 4]
    assert mark_blocks(torch.ones(8), 4).tolist() == [4, 4]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(0, 4), st.sampled_from([4, 8]))
def test_gathering_is_a_permutation_into_the_fewest_blocks(
    seed: int, inputs: int, each: int, block: int
) -> None:
    width = 8 * block
    generator = torch.Generator().manual_seed(seed)
    found = torch.zeros(inputs, width, dtype=torch.bool)
    for row in found:
        row[torch.randperm(width, generator=generator)[:each]] = True
    order = _gather(found, torch.rand(width, generator=generator), block)
    assert sorted(order.tolist()) == list(range(width))
    marked = found[:, order].view(inputs, -1, block).any(-1)
    count = int(found.any(0).sum())
    if count <= block:
        assert int(marked.any(0).sum()) == math.ceil(count / block)
    if inputs == 1:
        assert int(marked.sum()) == math.ceil(each / block)


def test_the_weakest_channels_stand_beside_outliers_and_the_strongest_follow() -> None:
    found = torch.tensor([[False, True, False, False, False, False]])
    energy = torch.tensor([5.0, 9.0, 1.0, 2.0, 7.0, 6.0])
    assert _gather(found, energy, 3).tolist() == [1, 2, 3, 4, 5, 0]


def test_two_inputs_whose_outliers_are_others_need_one_block_each() -> None:
    # Six inputs with two outliers each, twelve channels in blocks of four: no input needs two.
    found = torch.zeros(6, 32, dtype=torch.bool)
    for i in range(6):
        found[i, [i, 31 - i]] = True
    order = _gather(found, torch.ones(32), 4)
    assert found[:, order].view(6, 8, 4).any(-1).sum(-1).tolist() == [1] * 6


def test_injected_outliers_end_up_in_few_blocks_of_every_input() -> None:
    spec = spec_of("qwen2", hidden_size=128, intermediate_size=128)
    injected = inject_outliers(spec, weights_of(spec))
    block = 16
    statistics, energies = {}, {}
    for site, x in inputs_of(spec, injected.tensors).items():
        statistics[site] = ChannelStatistics.empty(x.shape[1])
        statistics[site].add(x)
        energies[site] = statistics[site].mean_square()
    orders = find_permutations(spec, statistics, energies, block)
    folded = fold(spec, injected.tensors, orders)

    def marked(tensors: dict[str, torch.Tensor]) -> dict[Site, int]:
        seen = inputs_of(spec, tensors)
        return {s: int((mark_blocks(seen[s].abs().amax(0), block) == 8).sum()) for s in sites(spec)}

    after = marked(folded)
    assert len(some_tokens(spec)) > 0
    for site in sites(spec):
        assert 1 <= after[site] <= (spec.heads if site.kind == "output" else 1)
    assert sum(after.values()) < sum(marked(injected.tensors).values())
    assert not torch.equal(orders.residual, Permutations.identity(spec).residual)
