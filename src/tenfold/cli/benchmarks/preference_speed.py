"""What measuring gradient entanglement costs beside a plain training step, and how exact it is.

One model and batch: a Llama of 4.2 million parameters, tied embeddings, four pairs of 96 tokens,
float32. The ways take turns, and each run is held against the plain step beside it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tenfold.align.fixes import Fixes
from tenfold.align.ghost import GhostProducts
from tenfold.align.logps import answer_logps
from tenfold.align.losses import DPO, PairLogps
from tenfold.align.monitor import EntanglementMonitor
from tenfold.cli.benchmarks import Report

PAIRS, PROMPT, TOKENS, VOCABULARY = 4, 32, 96, 4096
SHORT = 80  # tokens of the padded rows
Step = Callable[[], None]


class Bed:
    """The model and its batch: half of each rejected answer is the chosen one's."""

    def __init__(self) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=256,
            intermediate_size=688,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            tie_word_embeddings=True,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
        drawn = torch.Generator().manual_seed(0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model: nn.Module = LlamaForCausalLM(config)
        self.trained = list(self.model.parameters())
        self.ids = torch.randint(3, VOCABULARY, (2 * PAIRS, TOKENS), generator=drawn)
        self.ids[PAIRS:, :PROMPT] = self.ids[:PAIRS, :PROMPT]
        self.ids[PAIRS:, 64:] = self.ids[:PAIRS, 64:]
        self.lengths = torch.full((2 * PAIRS,), TOKENS)
        self.loss = DPO()
        with torch.no_grad():
            self.reference = self.logps()[0]

    def padded(self) -> None:
        """Makes some rows shorter, as batches are."""
        self.lengths[::3] = SHORT
        with torch.no_grad():
            self.reference = self.logps()[0]

    def logps(self, rows: slice | None = None) -> tuple[Tensor, Tensor]:
        rows = rows or slice(None)
        place = torch.arange(TOKENS)[None]
        inside = place < self.lengths[rows, None]
        out = self.model(input_ids=self.ids[rows], attention_mask=inside.long(), use_cache=False)
        return answer_logps(out.logits, self.ids[rows], inside & (place >= PROMPT))

    def pairs(self, summed: Tensor, counts: Tensor) -> PairLogps:
        return PairLogps(*summed.chunk(2), *counts.chunk(2), *self.reference.chunk(2))

    def clear(self) -> None:
        for p in self.trained:
            p.grad = None

    def plain(self) -> None:
        """A step without the optimizer's part, which is the same for all."""
        self.clear()
        self.loss(self.pairs(*self.logps())).mean().backward()  # type: ignore[no-untyped-call]

    def naive(self) -> None:
        """The plain step, and each pair's two gradients by themselves."""
        self.plain()
        self.by_a_loop()

    def by_a_loop(self) -> Tensor:
        """<g_w, g_l>, |g_w|^2, |g_l|^2 of each pair: [pairs, 3]."""
        found = []
        for pair in range(PAIRS):
            both = []
            for row in (pair, pair + PAIRS):
                summed, _ = self.logps(slice(row, row + 1))
                both.append(torch.autograd.grad(summed.sum(), self.trained))
            products = ((0, 1), (0, 0), (1, 1))
            found.append([sum(float((a.double() * b.double()).sum())
                              for a, b in zip(both[i], both[j], strict=True))
                          for i, j in products])  # fmt: skip
        return torch.tensor(found, dtype=torch.float64)


def watched(bed: Bed, monitor: EntanglementMonitor) -> Step:
    """The same step under a monitor."""

    def step() -> None:
        bed.clear()
        with monitor.watch(pairs=PAIRS) as watch:
            if monitor.backend == "split":  # two forward passes, so that each half has its graph
                sides = [bed.logps(r) for r in (slice(0, PAIRS), slice(PAIRS, 2 * PAIRS))]
                (chosen, counts), (rejected, others) = sides
                pairs = PairLogps(chosen, rejected, counts, others, *bed.reference.chunk(2))
            else:
                pairs = bed.pairs(*bed.logps())
            watch.loss(bed.loss, pairs).backward()  # type: ignore[no-untyped-call]
        monitor.stepped(lr=0.0)

    return step


def mended(bed: Bed) -> Step:
    """The same step with the pairwise normalised gradient."""
    fixes = Fixes(bed.model, {"normalised": {}})

    def step() -> None:
        bed.clear()
        with fixes.watch(PAIRS) as fix:
            pairs = bed.pairs(*bed.logps())
            fix.loss(bed.loss, pairs)(pairs).mean().backward()  # type: ignore[no-untyped-call]

    return step


def ghost_max_rel_error() -> float:
    """The largest relative error of a product against a loop over the pairs; padded batch."""
    bed = Bed()
    bed.padded()
    with GhostProducts(bed.model, PAIRS) as ghost:
        pairs = bed.pairs(*bed.logps())
        bed.loss(pairs).mean().backward()  # type: ignore[no-untyped-call]
    stats = ghost.stats(*bed.loss.weights(pairs), share=1 / PAIRS)
    found = torch.stack([stats.inner, stats.chosen_sq, stats.rejected_sq], 1)
    exact = bed.by_a_loop()
    return float(((found - exact).abs() / exact.abs()).max())


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def ratios(step: Step, plain: Step, repeats: int, block: int) -> tuple[list[float], list[float]]:
    """Time of `block` steps over that of as many plain ones, and of plain over plain, each time
    measured between two plain runs. CPU time of the process: other work does not count."""
    found, same = [], []

    def seconds(run: Step) -> float:
        began = time.process_time()
        for _ in range(block):
            run()
        return time.process_time() - began

    step()
    plain()
    for _ in range(repeats):
        before = seconds(plain)
        between = seconds(step)
        after = seconds(plain)
        found.append(2 * between / (before + after))
        same.append(after / before)
    return found, same


def costs(quick: bool, report: Report) -> tuple[dict[str, float], dict[str, Any]]:
    """The figures of time and exactness, and how they were taken."""
    bed, repeats = Bed(), 9 if quick else 15
    figures = {"ghost_max_rel_error": ghost_max_rel_error()}
    ways: dict[str, tuple[Step, int]] = {
        "monitor_overhead_split": (
            watched(bed, EntanglementMonitor(bed.model, every=1, backend="split")), 2,
        ),
        "monitor_overhead_ghost": (watched(bed, EntanglementMonitor(bed.model, every=1)), 2),
        # blocks of ten steps hold one that is measured
        "monitor_overhead_ghost_every10": (
            watched(bed, EntanglementMonitor(bed.model, every=10)), 10,
        ),
        "normalised_overhead": (mended(bed), 2),
        "naive": (bed.naive, 1),
    }  # fmt: skip
    spread: dict[str, list[float]] = {}
    with _one_thread():
        for number, (name, (step, block)) in enumerate(ways.items()):
            report(name, number / len(ways))
            found, same = ratios(step, bed.plain, repeats, block)
            figures[name] = statistics.median(found)
            spread[name] = [round(x, 3) for x in (min(found), max(found), min(same), max(same))]
    naive, ghost = figures.pop("naive"), figures["monitor_overhead_ghost"]
    figures["naive_extra_over_ghost_extra"] = (naive - 1) / max(ghost - 1, 1e-9)
    return figures, {
        "speed_bed": f"Llama d 256, 4 layers, ff 688, vocabulary {VOCABULARY}, tied; {PAIRS} pairs"
        f" of {TOKENS} tokens, float32, one thread, CPU time of the process",
        "speed_repeats": repeats,
        "spread": {k: {"ratio": v[:2], "plain_over_plain": v[2:]} for k, v in spread.items()},
        "naive_over_plain": naive,
    }
