"""The mathematics of `tenfold bench concierge`: plain functions of numbers and texts."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from typing import Any

_DIGITS = re.compile(r"\d+")


def ratio(part: float, whole: float) -> float:
    """`part` over `whole`, 0 where there is nothing."""
    return part / whole if whole else 0.0


def within_prompt_correlation(
    prompts: Iterable[tuple[Sequence[float], Sequence[float]]],
) -> tuple[float | None, int]:
    """Pearson's correlation of x and y, pooled after each prompt's means are taken away, and how
    many prompts were skipped because their x or y does not vary. None when all were.

    What prompts differ in among themselves (one is easier, one asks for more) has no part in it.
    """
    xy = xx = yy = 0.0
    skipped = 0
    for x, y in prompts:
        if len(set(x)) < 2 or len(set(y)) < 2:
            skipped += 1
            continue
        dx, dy = _centred(x), _centred(y)
        xy += sum(a * b for a, b in zip(dx, dy, strict=True))
        xx += sum(a * a for a in dx)
        yy += sum(b * b for b in dy)
    return (xy / sqrt(xx * yy) if xx and yy else None), skipped


def _centred(values: Sequence[float]) -> list[float]:
    mean = statistics.fmean(values)
    return [v - mean for v in values]


def within_prompt_sd(prompts: Sequence[Sequence[float]]) -> float:
    """The mean over prompts of the standard deviation of their samples' scores."""
    return statistics.fmean(statistics.pstdev(scores) for scores in prompts)


def oracle_gain(prompts: Sequence[Sequence[float]]) -> float:
    """The mean over prompts of the best sample's score above the average sample's."""
    return statistics.fmean(max(scores) - statistics.fmean(scores) for scores in prompts)


def chosen(scores: Sequence[float], values: Sequence[float], n: int) -> list[float]:
    """The values that best-of-n keeps: of each whole group of n candidates, that of the highest
    score (the first of equals)."""
    begins = range(0, len(scores) - n + 1, n)
    return [values[max(range(b, b + n), key=lambda i: (scores[i], -i))] for b in begins]


def masked(text: str, phrases: Iterable[str]) -> str:
    """A text with every phrase (values, names) blanked, whatever its case, and every number: what
    remains is how it is said. Longer phrases go first."""
    known = sorted({p for p in phrases if p.strip()}, key=lambda p: (-len(p), p))
    if known:
        anyone = "|".join(map(re.escape, known))
        text = re.sub(rf"(?<!\w)(?:{anyone})(?!\w)", "_", text, flags=re.IGNORECASE)
    return " ".join(_DIGITS.sub("#", text).split())


def distinct_share(texts: Sequence[str], phrases: Iterable[str]) -> float:
    """How many of the texts are still different after masking, as a share."""
    phrases = list(phrases)
    return len({masked(t, phrases) for t in texts}) / len(texts)


def over_best_baseline(errors: float, baselines: Mapping[str, float]) -> float | None:
    """The model's error rate over that of the best baseline; None when that one has no errors."""
    best = min(baselines.values(), default=0.0)
    return errors / best if best else None


def total_variation(p: Any, q: Any) -> Any:
    """Half the L1 distance of distributions in the last dimension of two tensors or arrays.

    A draft token is accepted with probability one minus this (2211.17192, theorem 3.5).
    """
    return abs(p - q).sum(-1) / 2
