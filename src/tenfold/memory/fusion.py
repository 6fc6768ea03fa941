"""Weights of the reasons, learnt from questions whose evidence is known.

A logistic loss holds each piece of evidence against the candidates that would keep it out of the
first ten: the fifth to tenth best of those that are not evidence. What is further up or down does
not change who is among the ten. The loss is minimised by L-BFGS from zero: no seed, same weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tenfold.errors import InvalidRequest
from tenfold.memory.features import FEATURES, Values

RIVALS = slice(4, 10)  # which of the best others evidence has to beat
SHRINK = 1e-3  # L2 penalty on weights of features scaled to unit deviation
STEPS = 60


@dataclass(frozen=True, slots=True)
class Judged:
    """The features of one question's candidates [candidates, FEATURES] and which are evidence."""

    features: Values
    evidence: NDArray[np.bool_]


def fit(judged: Sequence[Judged], *, shrink: float = SHRINK) -> dict[str, float]:
    """A weight for each feature. Questions with no evidence, or nothing else, teach nothing.

    Raises InvalidRequest when no question teaches anything.
    """
    import torch
    from torch.nn.functional import softplus

    useful = [j for j in judged if j.evidence.any() and not j.evidence.all()]
    if not useful:
        raise InvalidRequest(
            "no question has both evidence and other candidates", param="judged",
            hint="weights are learnt from at least one judged question",
        )  # fmt: skip
    most = max(len(j.evidence) for j in useful)
    x = torch.zeros(len(useful), most, len(FEATURES), dtype=torch.float64)
    there = torch.zeros(len(useful), most, dtype=torch.bool)
    evidence = torch.zeros(len(useful), most, dtype=torch.bool)
    for i, j in enumerate(useful):
        x[i, : len(j.evidence)] = torch.from_numpy(j.features)
        there[i, : len(j.evidence)] = True
        evidence[i, : len(j.evidence)] = torch.from_numpy(j.evidence)
    deviation = x[there].std(0, correction=0)
    # A feature that never differs says nothing, and gets no weight.
    x /= torch.where(deviation > 0, deviation, torch.inf)
    share = evidence / evidence.sum(1, keepdim=True)
    weights = torch.zeros(len(FEATURES), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=STEPS, line_search_fn="strong_wolfe")
    others = there & ~evidence
    ranked = min(RIVALS.stop, int(others.sum(1).max()))

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        scores = x @ weights
        best = scores.masked_fill(~others, -torch.inf).topk(ranked, dim=1).values
        rivals = _rivals(best)
        value = (share * softplus(rivals[:, None] - scores)).sum(1).mean()
        value = value + shrink * (weights**2).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    def _rivals(best: torch.Tensor) -> torch.Tensor:
        """The mean of the rivals; where a question has fewer others, of the last ones it has."""
        real = torch.isfinite(best)
        counts = real.sum(1, keepdim=True)
        start = torch.minimum(torch.tensor(RIVALS.start), counts - 1)
        taken = real & (torch.arange(best.shape[1]) >= start)
        return torch.where(taken, best, 0.0).sum(1) / taken.sum(1)

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    raw = torch.where(deviation > 0, weights.detach() / deviation, 0.0)
    return dict(zip(FEATURES, raw.tolist(), strict=True))
