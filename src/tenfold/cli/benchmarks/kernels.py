"""Paged decode attention and KV writes: native beside plain torch, in turn, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from tenfold.cli.benchmarks import Figures, Report
from tenfold.kernels import AttentionStep, kv_write, library, plan_attention

ROWS, HEADS, HEAD_DIM, SHARED, OWN, BLOCK = 32, 12, 64, 128, 64, 16


def _step(dtype: torch.dtype, rows: int) -> AttentionStep:
    shared, own = SHARED // BLOCK, OWN // BLOCK
    tables = torch.empty(rows, shared + own, dtype=torch.int32)
    tables[:, :shared] = torch.arange(shared)
    tables[:, shared:] = shared + torch.randperm(rows * own).reshape(rows, own)
    return AttentionStep(
        block_tables=tables,
        context_lens=torch.full((rows,), SHARED + OWN, dtype=torch.int32),
        starts=torch.zeros(rows, dtype=torch.int32),
        heads=HEADS,
        kv_heads=HEADS,
        head_dim=HEAD_DIM,
        block_size=BLOCK,
        slots=(shared + rows * own) * BLOCK,
        scale=HEAD_DIM**-0.5,
        dtype=dtype,
        groups=((0, rows, shared),),
    )


def _milliseconds(runs: int, *functions: Callable[[], object]) -> list[float]:
    """Medians of interleaved runs."""
    times: list[list[float]] = [[] for _ in functions]
    for i in range(runs + 3):
        for function, taken in zip(functions, times, strict=True):
            began = time.perf_counter()
            function()
            if i >= 3:
                taken.append((time.perf_counter() - began) * 1e3)
    return [statistics.median(t) for t in times]


def _gathered(
    step: AttentionStep, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
) -> torch.Tensor:
    """torch's own best: gather every row's context, then scaled_dot_product_attention."""
    offsets = torch.arange(step.block_size)
    slots = (step.block_tables.long()[:, :, None] * step.block_size + offsets).flatten(1)
    keys, values = (pool[slots].transpose(1, 2) for pool in (k, v))
    return torch.nn.functional.scaled_dot_product_attention(q[:, :, None], keys, values)[:, :, 0]


def run(quick: bool, report: Report) -> Figures:
    """Times one decode step of 32 rows that share their prompt."""
    torch.manual_seed(0)
    runs = 50 if quick else 400
    figures: dict[str, float] = {}
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        report(name, 0.0 if name == "bf16" else 0.5)
        step = _step(dtype, ROWS)
        q = torch.randn(ROWS, HEADS, HEAD_DIM).to(dtype)
        k, v = (torch.randn(step.slots, HEADS, HEAD_DIM).to(dtype) for _ in range(2))
        out = torch.empty_like(q)
        grouped = plan_attention(step, backend="native")
        alone = plan_attention(replace(step, groups=()), backend="native")

        ms = _milliseconds(
            runs,
            partial(grouped, q, k, v, out),
            partial(alone, q, k, v, out),
            partial(_gathered, step, q, k, v),
        )
        figures[f"attention_{name}_ms"] = ms[0]
        figures[f"attention_{name}_ungrouped_ms"] = ms[1]
        figures[f"attention_{name}_torch_ms"] = ms[2]
    figures.update(_overheads(runs))
    settings = {"rows": ROWS, "heads": HEADS, "head_dim": HEAD_DIM, "shared": SHARED, "own": OWN}
    return Figures(figures, {**settings, "threads": torch.get_num_threads(), "isa": library.isa()})


def _overheads(runs: int) -> dict[str, float]:
    """What a call costs when there is next to nothing to compute, in microseconds."""
    step = _step(torch.float32, 2)
    small = replace(step, context_lens=torch.ones(2, dtype=torch.int32), groups=())
    q = torch.randn(2, HEADS, HEAD_DIM)
    k, v = torch.randn(step.slots, HEADS, HEAD_DIM), torch.randn(step.slots, HEADS, HEAD_DIM)
    out, slots = torch.empty_like(q), torch.tensor([1, 2])
    plan = plan_attention(small, backend="native")
    ms = _milliseconds(
        runs,
        lambda: plan(q, k, v, out),
        lambda: plan_attention(small, backend="native"),
        lambda: kv_write(q, q, k, v, slots, backend="native"),
    )
    names = ("attention_call_us", "attention_plan_us", "kv_write_us")
    return {name: value * 1e3 for name, value in zip(names, ms, strict=True)}
