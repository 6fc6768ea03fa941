"""What a training log says of the two answers: where they go, and why, in one sentence.

A measured pair is in trouble to first order (2410.13828, section 3) where its step lowers the
chosen log-prob (counts 1) or raises the rejected one (counts 1/2: the margin still grows). Both are
recomputed from the logged products, so that other weights d_w and d_l can be tried on the same log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tenfold.align.run import Column, Run

FEW = 0.05  # share of pairs up to which a trouble calls for no change
BLAME = 0.3  # share of pairs from which entanglement is what makes chosen answers fall
COVER = 0.9  # share of pairs that a suggested weight is to be enough for
STILL = 0.1  # nats: smaller moves of a log-prob are none


@dataclass(frozen=True, slots=True)
class Trouble:
    """Shares of measured pairs whose step goes the wrong way."""

    falls: float  # chosen falls
    rises: float  # rejected rises
    ideal: float  # neither

    @property
    def total(self) -> float:
        """1 for a falling chosen answer, 1/2 for a rising rejected one."""
        return self.falls + self.rises / 2


def trouble(table: Mapping[str, Column], d_w: Column, d_l: Column) -> Trouble:
    """Of pairs with the products of `table`, were the loss's weights d_w and d_l."""
    if not len(d_w):
        return Trouble(0.0, 0.0, 1.0)
    chosen = d_w * table["chosen_sq"] - d_l * table["inner"]
    rejected = d_w * table["inner"] - d_l * table["rejected_sq"]
    falls, rises = chosen < 0, rejected > 0
    return Trouble(*(float(x.mean()) for x in (falls, rises, ~falls & ~rises)))


@dataclass(frozen=True, slots=True)
class Move:
    """How far a log-prob went over the run, in nats: the last tenth of steps against the first."""

    by: float
    noise: float  # two standard errors

    @property
    def way(self) -> str:
        """rise, fall or stay."""
        if not abs(self.by) > max(self.noise, STILL):
            return "stay"
        return "rise" if self.by > 0 else "fall"

    @classmethod
    def of(cls, values: Column) -> Move | None:
        """None for fewer than two steps."""
        known = values[np.isfinite(values)]
        if len(known) < 2:
            return None
        part = max(1, len(known) // 10)
        first, last = known[:part], known[-part:]
        noise = 2 * ((first.var() + last.var()) / part) ** 0.5
        return cls(float(last.mean() - first.mean()), float(noise))


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the report's head says; shares and medians are over measured pairs, None without any."""

    sentence: str
    good: bool
    chosen: Move | None
    rejected: Move | None
    pairs: int  # measured ones, or steps where the log knows no pairs
    by_pair: bool
    now: Trouble
    cosine: float
    needed: tuple[float, float]  # d_w / d_l: median and what is enough for COVER of the pairs
    given: float  # the loss's d_w / d_l, median
    longer: float  # |g_l| / |g_w|, median
    alike: float  # median cosine of the pairs in trouble

    @property
    def unit(self) -> str:
        """What was measured."""
        return "pairs" if self.by_pair else "batches"

    @property
    def figures(self) -> str:
        """The numbers behind the sentence; empty where nothing was measured."""
        if not self.pairs:
            return ""
        return (
            f"Median cosine of the two gradients {self.cosine:.2f}, the rejected one"
            f" {self.longer:.3g} times as long as the chosen one. To keep the chosen answer from"
            f" falling d_w/d_l has to be {self.needed[0]:.2f} (median; {self.needed[1]:.2f} is"
            f" enough for {COVER:.0%} of {self.unit}); the loss gives {self.given:.2f}."
        )


def measured(run: Run) -> tuple[dict[str, Column], bool]:
    """Products and weights of the measured pairs that the loss moves, and whether they are pairs.

    Where the log knows batches only, each counts as a pair whose products hold the weights.
    """
    table = run.moved()
    if len(table["inner"]):
        return table, True
    keep = np.isfinite(run.batch["inner"]) & (run.batch["chosen_sq"] > 0)
    table = {name: column[keep] for name, column in run.batch.items()}
    return table | {"d_w": np.ones(keep.sum()), "d_l": np.ones(keep.sum())}, False


def moves(run: Run) -> tuple[Move | None, Move | None]:
    """Of the chosen and the rejected log-prob; of gains over the reference where they are known.

    Gains of different batches differ less than their log-probs, which depend on lengths.
    """
    found = []
    for side in ("chosen", "rejected"):
        gain = run.progress[f"{side}_gain"]
        found.append(Move.of(gain if np.isfinite(gain).any() else run.progress[f"{side}_logp"]))
    return found[0], found[1]


def overshoot(run: Run) -> tuple[float, float] | None:
    """How far steps fell short of what they promised: (share of bad ones, median kept).

    For each measured step the weighed margin, sum(d_w dl_w - d_l dl_l), is held against its
    first-order change. A step is bad where less than half came about and the promise is exact
    (plain SGD, one pair a step), or where nothing did: to first order no descent on the same pairs
    can shrink it, so the step was too long. None without realised changes.
    """
    pairs = run.moved()
    known = np.isfinite(pairs["chosen_realised"]) & np.isfinite(pairs["rejected_realised"])
    if not known.any():
        return None
    p = {name: column[known] for name, column in pairs.items()}
    steps, place = np.unique(p["step"], return_inverse=True)
    came, promised = (
        np.bincount(place, p["d_w"] * p[f"chosen_{of}"] - p["d_l"] * p[f"rejected_{of}"])
        for of in ("realised", "change")
    )
    kept = came / np.where(promised > 0, promised, np.nan)
    exact = run.optimizer == "sgd" and len(steps) == len(place) and _alone(run)
    bad = kept < 0.5 if exact else came <= 0
    return float(bad.mean()), float(np.nanmedian(kept)) if exact else float("nan")


def _alone(run: Run) -> bool:
    return bool(run.about.get("pairs_a_step", 1) == 1)


def diagnose(run: Run) -> Diagnosis:
    """The verdict on a run; `sentence` begins with where the chosen log-probs go."""
    table, by_pair = measured(run)
    chosen, rejected = moves(run)
    needed = np.maximum(table["inner"] / table["chosen_sq"], 0)
    with np.errstate(divide="ignore"):
        given = table["d_w"] / table["d_l"]
    some = len(needed) > 0
    found = Diagnosis(
        "",
        False,
        chosen,
        rejected,
        len(needed),
        by_pair,
        trouble(table, table["d_w"], table["d_l"]),
        float(np.median(table["cosine"])) if some else float("nan"),
        (float(np.median(needed)), float(np.quantile(needed, COVER))) if some else (0.0, 0.0),
        float(np.median(given)) if some else float("nan"),
        float(np.median((table["rejected_sq"] / table["chosen_sq"]) ** 0.5)) if some else 1.0,
        _alike(table),
    )
    sentence, good = _sentence(found, run)
    return replace(found, sentence=sentence, good=good)


def _alike(table: Mapping[str, Column]) -> float:
    d_w, d_l, inner = table["d_w"], table["d_l"], table["inner"]
    wrong = d_w * table["chosen_sq"] < d_l * inner
    wrong |= d_w * inner > d_l * table["rejected_sq"]
    return float(np.median(table["cosine"][wrong])) if wrong.any() else float("nan")


def _sentence(d: Diagnosis, run: Run) -> tuple[str, bool]:
    if d.chosen is None or d.rejected is None:
        return "The log holds too few steps to say where the log-probs go.", False
    chosen, rejected = d.chosen.way, d.rejected.way
    went = f"Chosen log-probs {_went(d.chosen)} and rejected ones {_went(d.rejected)}"
    if chosen == "fall":
        return f"Chosen log-probs {_went(d.chosen)} {_why_falling(d, run)}", False
    if not d.pairs:
        return f"{went}; nothing was measured that could say why.", rejected == "fall"
    if d.now.total > FEW and d.now.falls >= d.now.rises:
        return f"{went}, but {_dragged(d)}", False
    if d.now.total > FEW:
        return (
            f"{went}: {_overlap(d)} that lifting the chosen one lifts the rejected one too in"
            f" {d.now.rises:.0%} of measured {d.unit}.",
            False,
        )
    return (
        f"{went}: in {d.now.ideal:.0%} of measured {d.unit} the step does to both what the loss"
        " wants.",
        True,
    )


def _went(move: Move) -> str:
    if move.way == "stay":
        return "stay where they are"
    return f"{move.way} by {abs(move.by):.1f} nats"


def _why_falling(d: Diagnosis, run: Run) -> str:
    if not d.pairs:
        return "and nothing was measured that could say why: set the monitor to measure steps."
    if d.now.falls >= BLAME:
        return f"because {_dragged(d)}"
    short = overshoot(run)
    if short is not None and short[0] > FEW:
        return (
            f"because the steps are too long: {short[0]:.0%} of them do not bring about what they"
            f" promise, and to first order only {d.now.falls:.0%} of measured {d.unit} would have"
            " their chosen answer pushed down."
        )
    return (
        f"although the step of its own pair lifts the chosen answer in {1 - d.now.falls:.0%} of"
        f" measured {d.unit}: other pairs of the batch, or the optimizer, pull it down."
    )


def _dragged(d: Diagnosis) -> str:
    return (
        f"{_overlap(d)} that pushing the rejected one down drags the chosen one along in"
        f" {d.now.falls:.0%} of measured {d.unit}."
    )


def _overlap(d: Diagnosis) -> str:
    how = "are so alike" if d.alike >= 0.5 else "overlap so far, beside how short one of them is,"
    return f"the gradients of the two answers {how}"
