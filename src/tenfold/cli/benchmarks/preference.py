"""Preference training: the cost and exactness of the monitor, what it explains, what mends it, and
the reward model, judge and policy that were trained with it.

The findings of 2410.13828 are reproduced in shape on the concierge: both log-probs fall together
where answers share most tokens, a single differing token behaves ideally, losses differ by how far
they let the chosen answer fall. Real pairs under TENFOLD_DATA are added where they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from tenfold.align.encoding import EncodedPair
from tenfold.align.losses import LOSSES
from tenfold.cli.benchmarks import Figures, Report, preference_models
from tenfold.cli.benchmarks.concierge_answers import answer_greedily
from tenfold.cli.benchmarks.preference_pairs import (
    damaged,
    encoded,
    from_data,
    others_answers,
    tail,
)
from tenfold.cli.benchmarks.preference_speed import costs
from tenfold.cli.benchmarks.preference_training import ROW, Ground, load, products, signs
from tenfold.cli.held_out import read_held_out, shipped
from tenfold.errors import TenfoldError
from tenfold.models.folders import locate
from tenfold.search.llm import AsyncLLM

LOSS, RATE, EPOCHS, HELD = "dpo", 1e-4, 2, 20
FIX: Mapping[str, Mapping[str, Any]] = {"auto_lambda": {"every": 1}}
FIXES: tuple[Mapping[str, Mapping[str, Any]], ...] = (
    FIX,
    {"normalised": {}},
    {"shared_mask": {}},
    {"learned_mask": {}},
    {"shared_mask": {}, "normalised": {}},
)
POLICY = "concierge-policy"
BOUNDS = {
    "ghost_max_rel_error": "<= 1e-5",
    "monitor_overhead_split": "<= 1.08",
    "monitor_overhead_ghost": "<= 1.35",
    "monitor_overhead_ghost_every10": "<= 1.06",
    "naive_extra_over_ghost_extra": ">= 4",
    "predicted_sign_agreement": ">= 0.95",
    "dpo_chosen_drop_nats": ">= 2",
    "fixed_chosen_change_nats": ">= 0",
    "fixed_accuracy_change_points": ">= -1",
    **preference_models.BOUNDS,
    "policy_ser_relative": "<= 0.8",
}


def run(quick: bool, report: Report) -> Figures:
    """All figures; with `quick` the losses, the other fixes and the real pairs are left out."""
    figures, settings = costs(quick, report)
    absent: dict[str, str] = {}
    pairs = encoded(damaged())
    ground = Ground(pairs[HELD:], pairs[:HELD])
    _fix(ground, figures, settings, report)
    _predictions(pairs[:8] if quick else pairs, figures, settings, report)
    settings["tails"] = _tails(sorted(pairs, key=lambda p: p.tokens)[:12], report)
    settings["entangled"] = _entangled(8 if quick else 24, report)
    if not quick:
        settings["losses"] = _losses(ground, report)
        settings["fixes"] = _fixes(ground, report)
        settings["real_pairs"] = _real(report)
    _models(quick, figures, settings, absent, report)
    kept = {k: figures[k] for k in (*BOUNDS, *figures) if k in figures}
    return Figures(kept, settings, BOUNDS, absent)


def _fix(
    ground: Ground, figures: dict[str, float], settings: dict[str, Any], report: Report
) -> None:
    """The same data and budget with and without a fix."""
    report("DPO, plain", 0.0)
    plain = ground.course(LOSS, rate=RATE, epochs=EPOCHS)
    report("DPO, mended", 0.5)
    fixed = ground.course(LOSS, FIX, rate=RATE, epochs=EPOCHS)
    figures |= {
        "dpo_chosen_drop_nats": -plain.chosen,
        "fixed_chosen_change_nats": fixed.chosen,
        "dpo_chosen_drop_nats_held_out": -plain.held_chosen,
        "fixed_chosen_change_nats_held_out": fixed.held_chosen,
        "dpo_pairwise_accuracy": plain.accuracy,
        "fixed_pairwise_accuracy": fixed.accuracy,
        "dpo_pairwise_accuracy_held_out": plain.held_accuracy,
        "fixed_pairwise_accuracy_held_out": fixed.held_accuracy,
        "fixed_accuracy_change_points": 100
        * min(fixed.accuracy - plain.accuracy, fixed.held_accuracy - plain.held_accuracy),
    }
    settings |= {
        "training": f"concierge, all weights, AdamW, rate {RATE}, {EPOCHS} epochs, 4 pairs a step;"
        f" {len(ground.train)} damaged answers, {len(ground.held)} held out",
        "row": ROW,
        "before": ground.start,
        "dpo": plain.row(),
        "fix": [list(FIX), fixed.row()],
        "dpo_curve": plain.curve,
        "fix_curve": fixed.curve,
    }


def _predictions(
    pairs: list[EncodedPair], figures: dict[str, float], settings: dict[str, Any], report: Report
) -> None:
    by_loss = {}
    for number, name in enumerate(("dpo", "simpo", "dpop", "slic")):
        report("first-order predictions", number / 4)
        by_loss[name] = signs(pairs, name)
    figures["predicted_sign_agreement"] = sum(r for r, _ in by_loss.values()) / sum(
        n for _, n in by_loss.values()
    )
    settings["signs_by_loss"] = by_loss


def _tails(pairs: list[EncodedPair], report: Report) -> dict[str, Any]:
    """The same pairs with ever more of what their answers share: only the first token in which
    they part, with 15 tokens behind it, whole."""
    found, model = {}, load()
    for number, tokens in enumerate((1, 16, None)):
        name = "whole" if tokens is None else str(tokens)
        report(f"answers of {name} tokens", number / 3)
        some = [tail(p, tokens) for p in pairs]
        course = Ground(some, some[:1]).course(LOSS, rate=RATE, epochs=4)
        cosine = float(products(model, some).cosine.median())
        found[name] = {"cosine": round(cosine, 3), "changes": course.row()[:2]}
    return found


def _entangled(count: int, report: Report) -> dict[str, Any]:
    """How many chosen answers a step of DPO would drag down, by kind of pairs, before training."""
    model, found = load(), {}
    sources = {"damaged": damaged(), "others_answers": others_answers(), **from_data()}
    for number, (name, pairs) in enumerate(sources.items()):
        report(f"entanglement of {name}", number / len(sources))
        some = encoded(pairs[: 20 * count])[:count]
        stats = products(model, some)
        needed = stats.ratio_needed
        found[name] = {
            "pairs": len(some),
            "cosine": round(float(stats.cosine.median()), 3),
            "ratio_needed": round(float(needed.median()), 3),
            "chosen_falls": round(float((needed > 1).double().mean()), 3),
        }
    return found


def _losses(ground: Ground, report: Report) -> dict[str, list[float]]:
    """Each loss with its paper's numbers, same data and budget; the furthest fall first."""
    found = {}
    for number, name in enumerate(LOSSES):
        report(f"loss {name}", number / len(LOSSES))
        found[name] = ground.course(name, rate=RATE, epochs=EPOCHS).row()
    return dict(sorted(found.items(), key=lambda item: item[1][0]))


def _fixes(ground: Ground, report: Report) -> dict[str, list[float]]:
    found = {}
    for number, fix in enumerate(FIXES):
        report(f"fix {', '.join(fix)}", number / len(FIXES))
        found[" + ".join(fix)] = ground.course(LOSS, fix, rate=RATE, epochs=EPOCHS).row()
    return found


def _real(report: Report) -> dict[str, Any]:
    """DPO on other pairs, plain and mended. HH's are only looked at (see `entangled`)."""
    sources = {"others_answers": others_answers(), **from_data()}
    found: dict[str, Any] = {} if len(sources) > 1 else {"absent": "TENFOLD_DATA is not set"}
    for name in sources.keys() - {"hh_harmless"}:
        report(f"training on {name}", len(found) / len(sources))
        pairs = encoded(sources[name])[:40]
        ground = Ground(pairs[12:], pairs[:12])
        found[name] = {"before": ground.start} | {
            " + ".join(fix) or "none": ground.course(LOSS, fix, rate=RATE, epochs=EPOCHS).row()
            for fix in ({}, *FIXES[:3])
        }
    return found


def _models(
    quick: bool,
    figures: dict[str, float],
    settings: dict[str, Any],
    absent: dict[str, str],
    report: Report,
) -> None:
    """The reward model and the policy, where they are shipped."""
    try:
        found, more = preference_models.reward_figures(report, prompts=24 if quick else None)
        figures |= found
        settings |= more
    except TenfoldError as e:
        absent |= dict.fromkeys(preference_models.BOUNDS, e.message)
    try:
        locate(POLICY)
        rates = asyncio.run(_slot_errors(12 if quick else None, report))
        figures["policy_ser_relative"] = rates[POLICY] / rates["concierge"]
        settings["ser_long"] = rates
    except TenfoldError as e:
        absent["policy_ser_relative"] = e.message


async def _slot_errors(count: int | None, report: Report) -> dict[str, float]:
    """Errors over required values of greedy answers to the long held-out questions."""
    asked, rates = read_held_out(shipped("concierge")), {}
    questions = [q for name in ("long_seen", "long_unseen") for q in asked.of(name, count)]
    for model in ("concierge", POLICY):
        llm = AsyncLLM.load(model)
        try:
            answers = await answer_greedily(llm, asked, questions, report)
        finally:
            await llm.close()
        errors = sum(a.verdict.slot_errors for a in answers if a.verdict.required)
        rates[model] = errors / sum(a.verdict.required for a in answers)
    return rates
