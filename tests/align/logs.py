"""Training logs with known products, written as the monitor writes them.

Every pair has |g_w| = 1 and |g_l| = `longer`; both log-probs move by what first order says, so that
curves and verdicts belong together.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tenfold.align.entanglement import PairStats
from tenfold.align.record import VERSION, PairRecord, RunLog, StepRecord


def write_log(
    path: Path,
    *,
    steps: int = 100,
    every: int = 5,
    pairs: int = 4,
    cosine: float = 0.9,
    longer: float = 1.5,
    spread: float = 0.0,
    d_w: float = 0.05,
    d_l: float = 0.05,
    lr: float = 0.1,
    kept: float | None = None,
    tokens: tuple[int, int] = (40, 50),
    layers: tuple[str, ...] = (),
    heats: int = 0,
    about: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Path:
    """`kept`: the share of the predicted changes that comes about, None for no realised changes.

    `spread` is the deviation of cosines and of the logarithm of lengths.
    """
    drawn, log = np.random.default_rng(seed), RunLog(path)
    log.append(
        {
            "kind": "run", "version": VERSION, "loss": "dpo", "loss_parameters": {"beta": 0.1},
            "backend": "ghost", "every": every, "parameters": 4_984_064, "reference": True,
            "optimizer": "sgd", "pairs_a_step": pairs, **(about or {}),
        }
    )  # fmt: skip
    chosen, rejected = 0.0, 0.0
    for step in range(1, steps + 1):
        c = np.clip(cosine + spread * drawn.standard_normal(pairs), -0.99, 0.99)
        size = longer * np.exp(spread * drawn.standard_normal(pairs))
        stats = PairStats(
            *(torch.tensor(x) for x in (c * size, np.ones(pairs), size**2)),
            *(torch.full((pairs,), d, dtype=torch.float64) for d in (d_w, d_l)),
        )
        up, down = (lr * x.numpy() for x in (stats.chosen_change, stats.rejected_change))
        log.append(
            {
                "kind": "progress", "step": step, "lr": lr, "loss": 0.69 * 0.99**step,
                "chosen_logp": chosen - 60, "rejected_logp": rejected - 75,
                "chosen_gain": chosen, "rejected_gain": rejected,
                "accuracy": 1 - 0.5 * 0.95**step, "margin": chosen - rejected,
                "chosen_tokens": tokens[0], "rejected_tokens": tokens[1],
            }
        )  # fmt: skip
        chosen, rejected = chosen + up.mean() * pairs, rejected + down.mean() * pairs
        if (step - 1) % every:
            continue
        came = None if kept is None else (kept * up, kept * down)
        records = [
            PairRecord(
                int(drawn.integers(1, 400)), chosen - 60, rejected - 75, *map(float, tokens),
                *(float(getattr(stats, n)[i]) for n in (
                    "inner", "chosen_sq", "rejected_sq", "cosine", "d_w", "d_l")),
                float(up[i]), float(down[i]), str(verdict),
                *((None, None) if came is None else (float(came[0][i]), float(came[1][i]))),
            )
            for i, verdict in enumerate(stats.verdicts())
        ]  # fmt: skip
        names = ("inner", "chosen_sq", "rejected_sq", "cosine", "chosen_change", "rejected_change")
        means = {n: float(np.mean([getattr(r, n) for r in records])) for n in names}
        products = {
            name: {
                "inner": (0.2 + 0.7 * i / len(layers)) * longer / len(layers),
                "chosen_sq": 1 / len(layers), "rejected_sq": longer**2 / len(layers),
                "cosine": 0.2 + 0.7 * i / len(layers),
            }
            for i, name in enumerate(layers)
        }  # fmt: skip
        batch = {"of": "pairs", **means, "verdict": records[0].verdict}
        log.append(StepRecord(step, lr, records, batch, products).line())
    for i in range(heats):
        log.append(token_line(steps, i + 1, drawn))
    return path


def token_line(step: int, row: int, drawn: np.random.Generator) -> dict[str, Any]:
    """A map of two answers that share how they begin and how they end."""
    start = [
        "The",
        "answer",
        "to",
        "your",
        "question",
        "about",
        "the",
        "room",
        "is",
        "that",
        "it",
        "costs",
    ]
    end = ["euros", "a", "night", ",", "breakfast", "included", "."]
    chosen, rejected = [*start, "ninety", *end], [*start, "a", "hundred", "and", "two", *end]
    same = np.array([[a == b for b in rejected] for a in chosen])
    noise = 0.15 * drawn.standard_normal(same.shape)
    cosine = np.clip(np.where(same, 0.85, 0.05) + noise, -1, 1)
    return {
        "kind": "tokens", "step": step, "row": row, "chosen": [f" {t}" for t in chosen],
        "rejected": [f" {t}" for t in rejected], "cosine": cosine.tolist(),
    }  # fmt: skip
