"""What to change in a preference training, from its log: each advice with the figure behind it.

An advice's `effect` is the trouble it would remove, a share of the measured pairs: each fix is
tried on the logged products, so effects compare (diagnosis.Trouble; a beta, a mask and a learning
rate are estimates). Suggested weights are the smallest that are enough for COVER (90 %) of the
pairs; trouble in at most FEW (5 %) calls for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tenfold.align.diagnosis import COVER, FEW, Trouble, measured, moves, overshoot, trouble
from tenfold.align.masks import own_tokens
from tenfold.align.run import Column, Heat, Run, read_run

_LEARNT = {"dpo": "|w|", "cpo": "", "slic": "", "rrhf": ""}  # losses with `nll`, and its unit
_REFERENCED = ("dpo", "ipo", "rdpo", "dpop", "kto", "sppo", "caldpo")
_WORTH = 0.02  # of trouble: less is not worth a line
_LOST = 1.0  # nats a chosen answer may fall while its pair is learnt


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to change; `value` is the suggested number where there is one."""

    name: str  # learning_rate, beta, nll, penalty, lengths, mask, normalised or none
    what: str
    why: str
    setting: str  # as the configuration of `tenfold train preference` has it
    figure: float  # what motivates it, as `why` says
    effect: float  # 0 to 1
    value: float | None = None


def advise(log: Run | Path | str) -> list[Advice]:
    """Ranked, the largest effect first; one advice named `none` where all is well.

    Empty where the log has no measured step. Raises InvalidRequest for a log that cannot be read.
    """
    run = log if isinstance(log, Run) else read_run(log)
    table, by_pair = measured(run)
    if not len(table["inner"]):
        return []
    now = trouble(table, table["d_w"], table["d_l"])
    found = [*_learning_rate(run), *_beta(run)]
    if now.total > FEW:
        found += [*_normalised(run, table, now), *_mask(run, now)]
        if "auto_lambda" not in run.fixes:  # it sees to the chosen answer's own weight
            found += [*_penalty(run, table, now), *(_nll(run, table, now) if by_pair else ())]
        found += _lengths(run, table, now) if by_pair else ()
    found = sorted((a for a in found if a.effect > _WORTH), key=lambda a: -a.effect)
    if found or now.total > FEW:
        return found
    return [
        Advice(
            "none",
            "Change nothing",
            f"In {now.ideal:.0%} of {len(table['inner'])} measurements the step raises the chosen"
            " and lowers the rejected answer.",
            "",
            now.ideal,
            0.0,
        )
    ]


def _normalised(run: Run, table: Mapping[str, Column], now: Trouble) -> Iterator[Advice]:
    if "normalised" in run.fixes:
        return
    cosine = float(np.median(table["cosine"]))
    alike = float((table["cosine"] > 0.9999).mean())
    yield Advice(
        "normalised",
        "Take the pairwise normalised gradient",
        f"The two gradients' median cosine is {cosine:.2f}, and in {now.falls:.0%} of measurements"
        f" the chosen answer is dragged down, in {now.rises:.0%} the rejected one up. Steps along"
        " g_w/|g_w| − g_l/|g_l| do neither for any cosine below 1. Costs a second backward pass.",
        "fix: [normalised]",
        cosine,
        max(now.total - alike, 0.0),
    )


def _nll(run: Run, table: Mapping[str, Column], now: Trouble) -> Iterator[Advice]:
    """The SFT term: alpha more on d_w for every pair, or less of it."""
    d_w, d_l = table["d_w"], table["d_l"]
    per_token = _LEARNT.get(run.loss, "|w|") == "|w|" or bool(run.parameters.get("per_token"))
    unit = table["chosen_tokens"] if per_token else np.ones_like(d_w)
    have = float(run.parameters.get("nll", 0.0))
    more = (table["inner"] * d_l / table["chosen_sq"] - d_w) * unit
    least = max(have + float(np.quantile(more, COVER)), 0.0)
    then = trouble(table, d_w + (least - have) / unit, d_l)
    if least == have or (least < have and now.falls > FEW):
        return
    ratio = float(np.quantile(np.maximum(table["inner"] / table["chosen_sq"], 0), COVER))
    what = "Learn the chosen answers besides (SFT term)" if least > have else "Weaken the SFT term"
    yield Advice(
        "nll",
        what,
        f"{COVER:.0%} of pairs need d_w/d_l of at most {ratio:.2f}; the smallest weight that gives"
        f" it is {least:.3g}{' a token' if per_token else ''}, the loss has {have:.3g}. Chosen"
        f" answers that fall: {now.falls:.0%} → {then.falls:.0%}; rejected ones that rise:"
        f" {now.rises:.0%} → {then.rises:.0%}.",
        f"loss: {{name: {run.loss}, {_own_beta(run)}nll: {least:.3g}}}"
        if run.loss in _LEARNT
        else "fix: [auto_lambda]",
        ratio,
        now.total - then.total,
        least,
    )


def _own_beta(run: Run) -> str:
    """The run's own beta, so that a changed loss does not fall back to its paper's."""
    beta = run.parameters.get("beta")
    return "" if beta is None else f"beta: {float(beta):g}, "


def _penalty(run: Run, table: Mapping[str, Column], now: Trouble) -> Iterator[Advice]:
    """DPOP's lambda: d_w (1 + lambda) where the chosen answer is below its reference."""
    if run.about.get("reference") is False or run.loss not in _REFERENCED:
        return
    ratio = table["inner"] / table["chosen_sq"]
    least = max(float(np.quantile(ratio, COVER)) - 1, 0.0)
    d_l = table["d_l"]
    then = trouble(table, d_l * (1 + least), d_l)
    have = float(run.parameters.get("penalty", 50.0)) if run.loss == "dpop" else None
    if have is not None and least > have:
        what = "Raise DPOP's penalty"
    elif have is not None:
        what = "Lower DPOP's penalty to what is enough"
    else:
        what = "Take DPOP, with the smallest penalty that is enough"
    also = "" if have is None else f" The run has {have:.3g}."
    yield Advice(
        "penalty",
        what,
        f"<g_w, g_l>/|g_w|^2 is at most {1 + least:.2f} in {COVER:.0%} of measurements, so that"
        f" lambda = {least:.3g} keeps those chosen answers from falling below the reference.{also}"
        f" There, chosen answers that fall: {now.falls:.0%} → {then.falls:.0%}; rejected ones that"
        f" rise: {now.rises:.0%} → {then.rises:.0%}.",
        f"loss: {{name: dpop, {_own_beta(run)}penalty: {least:.3g}}}",
        1 + least,
        now.total - then.total,
        least,
    )


def _lengths(run: Run, table: Mapping[str, Column], now: Trouble) -> Iterator[Advice]:
    """Log-probs a token instead of sums, or the reverse: d_w/d_l = |l|/|w| against 1."""
    d_l, lengths = table["d_l"], table["rejected_tokens"] / table["chosen_tokens"]
    given = table["d_w"] / np.where(d_l == 0, np.nan, d_l)
    means = _close(given, lengths)
    if not means and not _close(given, np.ones_like(given)):
        return  # the loss weighs the two otherwise
    then = trouble(table, d_l * (1 if means else lengths), d_l)
    ratio = float(np.median(lengths))
    yield Advice(
        "lengths",
        "Sum log-probs instead of averaging over tokens"
        if means
        else "Average log-probs over tokens",
        f"Rejected answers have {ratio:.2f} times the chosen ones' tokens (median), and averaging"
        f" makes d_w/d_l of that. {'Sums' if means else 'Means'} would change chosen answers that"
        f" fall: {now.falls:.0%} → {then.falls:.0%}; rejected ones that rise: {now.rises:.0%} →"
        f" {then.rises:.0%}.",
        "loss: dpo" if means else "loss: {name: ipo, per_token: true}, or simpo without reference",
        ratio,
        now.total - then.total,
    )


def _close(a: Column, b: Column) -> bool:
    return bool(np.nanmedian(np.abs(a / b - 1)) < 0.01)


def _mask(run: Run, now: Trouble) -> Iterator[Advice]:
    found = [shared_part(heat) for heat in run.heats]
    if not found or any(name.endswith("_mask") for name in run.fixes):
        return
    tokens, carried = (float(x) for x in np.mean(found, 0))
    yield Advice(
        "mask",
        "Leave the tokens out that both answers share",
        f"{tokens:.0%} of the answers' tokens are shared, and in {len(found)} token maps they carry"
        f" {carried:.0%} of the gradients' inner product.",
        "fix: [shared_mask]",
        carried,
        now.total * min(max(carried, 0.0), 1.0),
        tokens,
    )


def shared_part(heat: Heat) -> tuple[float, float]:
    """Shares of shared tokens and of the inner product that goes if they are left out.

    Shared are the tokens of the longest common subsequence.
    """
    own_w, own_l = own_tokens(heat.chosen, heat.rejected)
    count = len(heat.chosen) + len(heat.rejected)
    shared = 1 - (len(own_w) + len(own_l)) / max(count, 1)
    whole = float(np.nansum(heat.inner))
    left = float(np.nansum(heat.inner[np.ix_(own_w, own_l)]))
    return shared, (whole - left) / whole if whole > 0 else 0.0


def _learning_rate(run: Run) -> Iterator[Advice]:
    short = overshoot(run)
    if short is None or short[0] <= FEW:
        return
    bad, kept = short
    rates = run.batch["lr"]
    rate = float(np.nanmedian(rates))
    if np.isfinite(kept) and kept < 0.5:
        # what a step keeps is 1 - a lr for a quadratic: 3/4 of the promise at a quarter of 1/a
        factor, told = 0.25 / (1 - kept), f"the median step brings about {kept:.0%} of its promise"
    else:
        factor = 0.5 if bad < 0.25 else 0.25
        told = f"{bad:.0%} of measured steps shrink the margin of the very pairs they are taken on"
    yield Advice(
        "learning_rate",
        "Lower the learning rate",
        f"First order fails: {told}. The steps are longer than the gradient is good for.",
        f"learning_rate: {rate * factor:.2g}",
        kept if np.isfinite(kept) and kept < 0.5 else bad,
        bad,
        rate * factor,
    )


def _beta(run: Run) -> Iterator[Advice]:
    """A larger beta asks for less margin: the same share of it is lost on the chosen answer."""
    beta = run.parameters.get("beta")
    chosen, _ = moves(run)
    gain, margin, right = (_end(run.progress[n]) for n in ("chosen_gain", "margin", "accuracy"))
    if not beta or run.loss not in ("dpo", "rdpo", "dpop") or chosen is None:
        return
    if chosen.way != "fall" or not gain < -_LOST or not margin > 0 or not right > 0.8:
        return
    more = min(-gain / _LOST, 10.0)
    lost = min(-gain / margin, 1.0)
    yield Advice(
        "beta",
        "Raise beta, or stop earlier",
        f"{right:.0%} of pairs are in order, but the margin has grown to {margin:.1f} nats"
        f" (beta times it: {float(beta) * margin:.1f}), and each nat of it costs the chosen answer"
        f" {-gain / margin:.2f}. A larger beta is content with less margin; it changes how far the"
        " log-probs go, not which way.",
        f"loss: {{name: {run.loss}, beta: {float(beta) * more:.2g}}}",
        -gain / margin,
        (1 - 1 / more) * lost / 2,
        float(beta) * more,
    )


def _end(values: Column) -> float:
    """Mean of the last tenth."""
    known = values[np.isfinite(values)]
    return float(known[-max(1, len(known) // 10) :].mean()) if len(known) else float("nan")
