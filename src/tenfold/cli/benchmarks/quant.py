"""`tenfold bench quant`: what few bits cost in accuracy, on the embedded concierge.

Perplexity of the true answers to held-out questions, each behind its conversation; calibration
reads other questions, which no figure is measured on. The same again after outlier channels were
put into the model without changing what it computes (`quant.outliers`), since a small model has
none of its own. Slot errors are those of greedy answers, made by the engine on the fake-quantized
decoder.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tenfold.cli.benchmarks import Figures, Report
from tenfold.cli.benchmarks.concierge_answers import answer_greedily
from tenfold.cli.benchmarks.concierge_teacher import Exchange, logits_along, reference_tokens
from tenfold.cli.held_out import HeldOut, HeldOutFile, drawn, read_held_out, shipped
from tenfold.engine.async_engine import AsyncEngine, in_passing_thread
from tenfold.models.loading import LoadedModel, load_model
from tenfold.models.spec import DecoderSpec
from tenfold.quant.calibration import CalibrationText
from tenfold.quant.formats import quantize_weight
from tenfold.quant.forward import TappedDecoder, rounding_tap
from tenfold.quant.outliers import inject_outliers
from tenfold.quant.quantize import QuantizedModel, linear_names, quantize
from tenfold.quant.scheme import QuantConfig, Scheme, block_for, kv_formats
from tenfold.quant.sites import sites
from tenfold.search.llm import AsyncLLM

BOUNDS = {
    "ppl_increase_w4a8kv4": "<= 0.04",
    "ppl_increase_fmpq_w4a4kv4": "<= 0.10",
    "ppl_increase_fmpq_outliers": "<= 0.12",
    "ppl_increase_naive_w4a4_outliers": ">= 0.5",
    "share_a4": ">= 0.80",
    "kv4_bytes_ratio": "<= 0.30",
}
HEAD = 64  # the head size that kv4_bytes_ratio is stated for
SEED = 0  # of the injected outliers


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured, per set of questions."""

    evaluated: int
    calibrated: int
    answered: int  # of those evaluated, greedily, for slot errors


FULL = Plan(evaluated=60, calibrated=30, answered=20)
QUICK = Plan(evaluated=4, calibrated=6, answered=0)


@dataclass(frozen=True, slots=True)
class Measured:
    """A model, the answers it is judged on, and its perplexity in full precision."""

    model: LoadedModel
    exchanges: Sequence[Exchange]
    full: float

    def increase(self, decoder: TappedDecoder) -> float:
        """By what share a quantized form's perplexity is higher."""
        return perplexity(replace(self.model, decoder=decoder), self.exchanges) / self.full - 1


def run(quick: bool, report: Report) -> Figures:
    """All figures of the shipped concierge; some minutes on one core, with `quick` under one."""
    return measure("concierge", QUICK if quick else FULL, report)


def measure(name: str, plan: Plan, report: Report) -> Figures:
    """All figures of a model that ships with held-out questions."""
    asked = read_held_out(shipped(name))
    model = in_passing_thread(lambda: load_model(name, dtype="float32"))
    figures, settings = in_passing_thread(lambda: _accuracy(model, asked, plan, report))
    ordered = {k: figures[k] for k in (*BOUNDS, *figures) if k in figures}
    return Figures(ordered, settings, BOUNDS)


def split(asked: HeldOutFile, plan: Plan) -> tuple[list[HeldOut], list[HeldOut]]:
    """Questions to evaluate on and others to calibrate on, by lot, of every set."""
    evaluated, calibrated = [], []
    for name in asked.sets:
        mixed = drawn(asked.of(name), len(asked.of(name)))
        # From the two ends, so that neither depends on how many the other takes.
        cut = min(plan.calibrated, max(1, len(mixed) // 2))
        calibrated += mixed[len(mixed) - cut :]
        evaluated += mixed[: min(plan.evaluated, len(mixed) - cut)]
    return evaluated, calibrated


def perplexity(model: LoadedModel, exchanges: Sequence[Exchange]) -> float:
    """Of the answers' tokens, teacher forced."""
    lost = tokens = 0.0
    with torch.inference_mode():
        for prompt, answer in exchanges:
            logits = logits_along(model, prompt, answer)
            true = torch.tensor(answer)
            lost += float(torch.nn.functional.cross_entropy(logits, true, reduction="sum"))
            tokens += len(answer)
    return math.exp(lost / tokens)


def naive_w4a4(spec: DecoderSpec, tensors: Mapping[str, Tensor], block: int) -> TappedDecoder:
    """Every weight to its nearest of 4 bits, every input to 4 bits with one scale per token: what
    FMPQ is there to avoid."""
    rounded = dict(tensors)
    for name in linear_names(spec):
        rounded[f"{name}.weight"] = quantize_weight(
            tensors[f"{name}.weight"], 4, block
        ).dequantize()
    whole = torch.full((1,), 4, dtype=torch.uint8)
    tap = rounding_tap(dict.fromkeys(sites(spec), whole))
    return TappedDecoder(spec, rounded, tap, kv_formats(4, spec.head_dim))


def _accuracy(
    model: LoadedModel, asked: HeldOutFile, plan: Plan, report: Report
) -> tuple[dict[str, float], dict[str, Any]]:
    spec, block = model.spec, block_for(model.spec)
    evaluated, calibrated = split(asked, plan)
    exchanges = [reference_tokens(model, q) for q in evaluated]
    text = CalibrationText(
        tuple((*p, *a) for p, a in (reference_tokens(model, q) for q in calibrated))
    )
    report("full precision", 0.0)
    measured = Measured(model, exchanges, perplexity(model, exchanges))
    tensors = dict(model.decoder.tensors())
    injected = inject_outliers(spec, tensors, SEED).tensors
    mixed, eight = (QuantConfig(Scheme.parse(s), block) for s in ("w4a4-kv4", "w4a8-kv4"))

    def made(weights: Mapping[str, Tensor], config: QuantConfig) -> QuantizedModel:
        return quantize(spec, weights, text, config, progress=report)

    plain, outliers = made(tensors, mixed), made(injected, mixed)
    figures = {
        "ppl_increase_w4a8kv4": measured.increase(made(tensors, eight).decoder()),
        "ppl_increase_fmpq_w4a4kv4": measured.increase(plain.decoder()),
        "ppl_increase_fmpq_outliers": measured.increase(outliers.decoder()),
        "ppl_increase_naive_w4a4_outliers": measured.increase(naive_w4a4(spec, injected, block)),
        "ppl_increase_naive_w4a4": measured.increase(naive_w4a4(spec, tensors, block)),
        "share_a4": outliers.share_a4,
        "share_a4_without_outliers": plain.share_a4,
        "kv4_bytes_ratio": kv_formats(4, HEAD).bytes_per_token / (2 * 2 * HEAD),
        "ppl_full": measured.full,
    }
    if plan.answered:
        by_set = {name: [q for q in evaluated if q.set == name] for name in asked.sets}
        chosen = [q for rows in by_set.values() for q in rows[: plan.answered]]
        forms = {
            "full": model.decoder,
            "fmpq": plain.decoder(),
            "fmpq_outliers": outliers.decoder(),
        }
        for key, decoder in forms.items():
            form = replace(model, decoder=decoder)
            figures[f"ser_{key}"] = asyncio.run(_slot_errors(form, asked, chosen, report))
    settings = {
        "model": model.name,
        "block": block,
        "method": mixed.method,
        "questions_evaluated": len(evaluated),
        "answer_tokens_evaluated": sum(len(a) for _, a in exchanges),
        "calibration_tokens": text.tokens,
        "outlier_seed": SEED,
    }
    return figures, settings


async def _slot_errors(
    model: LoadedModel, asked: HeldOutFile, questions: Sequence[HeldOut], report: Report
) -> float:
    """Slots wrong, missing or invented in greedy answers, over those required."""
    llm = AsyncLLM(model, AsyncEngine.for_model(model))
    try:
        answers = await answer_greedily(llm, asked, questions, report)
    finally:
        await llm.close()
    required = sum(a.verdict.required for a in answers)
    return sum(a.verdict.slot_errors for a in answers) / required if required else 0.0
