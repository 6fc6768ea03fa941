"""Train a reward model (or, with another part and seed, the judge) as an adapter of the concierge.

``python -m recipes.preference.reward_model --groups DIR/guide-groups.jsonl --out DIR/rm --minutes
45``; started again, it goes on from its checkpoint. ``--export FOLDER`` writes the adapter.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from recipes.concierge.checkpoint import (
    drop_entries_after,
    load_tensors,
    newest_checkpoint,
    read_state,
    replace_checkpoint,
)

from .groups import LONGEST, Group, read_groups
from .low_rank import Scorer, save_adapter
from .objective import HELPERS, Weights, accuracy, choose, loss_of

log = logging.getLogger(__name__)
BASE = "concierge"
DEVELOPMENT = 20  # every so many-th group is kept to watch the training
SAVE_SECONDS = 180
WARM_UP = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train."""

    minutes: float
    rank: int
    rate: float
    answers: int
    groups: int  # a step
    seed: int
    watch: int  # steps between two looks at the development groups


class Run:
    """One training run, and all that a checkpoint keeps of it."""

    def __init__(self, plan: Plan, groups: list[Group], composed: list[Group], out: Path) -> None:
        self.plan, self.out, self.composed = plan, out, composed
        self.development = groups[::DEVELOPMENT]
        self.groups = [g for i, g in enumerate(groups) if i % DEVELOPMENT]
        self.scorer = Scorer(BASE, plan.rank, plan.seed, HELPERS)
        named = self.scorer.trained()
        heads = [p for n, p in named.items() if not n.startswith("body.")]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for n, p in named.items() if n.startswith("body.")]},
                {"params": heads},
            ],
            lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.01,
        )  # fmt: skip
        self.step, self.seconds = 0, 0.0
        self._resume()

    def _state(self) -> dict[str, torch.Tensor]:
        tensors: dict[str, torch.Tensor] = {}
        for name, parameter in self.scorer.trained().items():
            tensors[name] = parameter.detach()
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{name}:{key}"] = value
        return {name: t.contiguous() for name, t in tensors.items()}

    def save(self) -> None:
        """Write a checkpoint; a kill at any moment leaves one that counts."""
        new = self.out / "checkpoint.new"
        new.mkdir(parents=True, exist_ok=True)
        state = json.dumps({"step": self.step, "seconds": self.seconds})
        save_file(self._state(), new / "model.safetensors", metadata={"state": state})
        replace_checkpoint(self.out)

    def _resume(self) -> None:
        found = newest_checkpoint(self.out)
        if found is None:
            return
        path = found / "model.safetensors"
        state, tensors = read_state(path), load_tensors(path)
        self.step, self.seconds = state["step"], state["seconds"]
        for name, parameter in self.scorer.trained().items():
            parameter.data.copy_(tensors[name])
            kept = {
                key: tensors[f"{name}:{key}"]
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"{name}:{key}" in tensors
            }
            if kept:
                self.optimizer.state[parameter] = kept
        drop_entries_after(self.out / "log.jsonl", self.step)
        log.info("going on after step %d", self.step)

    def train(self) -> None:
        """Train until the minutes are over."""
        end, begun, saved = self.plan.minutes * 60, time.monotonic(), time.monotonic()
        before = self.seconds
        while self.seconds < end:
            entry = self.one_step(min(1.0, self.seconds / end))
            self.step += 1
            self.seconds = before + time.monotonic() - begun
            if self.step % self.plan.watch == 0:
                entry |= self.look()
            self._note({"steps": self.step, "seconds": round(self.seconds), **entry})
            if time.monotonic() - saved > SAVE_SECONDS:
                self.save()
                saved = time.monotonic()
        self._note({"steps": self.step, "seconds": round(self.seconds), **self.look()})
        self.save()

    def one_step(self, progress: float) -> dict[str, Any]:
        """A step on groups that its number alone decides."""
        rate = self.plan.rate * min(1.0, (self.step + 1) / WARM_UP)
        rate *= 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress))
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.param_groups[1]["lr"] = rate
        totals: dict[str, float] = {}
        for number in range(self.plan.groups):
            rng = random.Random(f"{self.plan.seed}-{self.step}-{number}")
            group = rng.choice(self._lesson(progress, rng))
            chosen = choose(group, self.plan.answers, rng)
            parts = loss_of(self.scorer, group, chosen, Weights())
            total = torch.stack(list(parts.values())).sum() / self.plan.groups
            total.backward()
            for name, part in parts.items():
                totals[name] = totals.get(name, 0.0) + part.item() / self.plan.groups
        torch.nn.utils.clip_grad_norm_(list(self.scorer.trained().values()), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {"rate": rate, **{k: round(v, 4) for k, v in totals.items()}}

    def _lesson(self, progress: float, rng: random.Random) -> list[Group]:
        """Changed short answers first, which teach to look values up; then mostly samples."""
        share = min(1.0, max(0.2, 1.0 - 0.8 * (progress - 0.1) / 0.2))
        return self.composed if self.composed and rng.random() < share else self.groups

    def look(self) -> dict[str, Any]:
        """How well the development groups are told apart."""
        found = accuracy(self.scorer, self.development)
        pairs = {kind: round(r / n, 3) for kind, (r, n) in found.pairs.items()}
        seen = {k: None if c is None else round(c, 3) for k, c in found.correlations.items()}
        log.info(
            "step %d, %.0f s, macro %.3f %s %s", self.step, self.seconds, found.macro(), pairs, seen
        )
        return {"macro": found.macro(), "accuracy": pairs, "correlations": seen}

    def _note(self, entry: dict[str, Any]) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def short_enough(path: Path) -> list[Group]:
    """The groups of a file, but for those too long for the concierge's training."""
    return [
        g
        for g in read_groups(path)
        if len(g.prompt_ids) + max(len(a.ids) for a in g.answers) < LONGEST
    ]


def main() -> int:
    """Train, and export where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--groups", type=Path, required=True)
    parser.add_argument("--composed", type=Path, help="groups without samples, to begin with")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the run")
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--answers", type=int, default=7, help="of a group, a step")
    parser.add_argument("--groups-a-step", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--watch", type=int, default=100)
    parser.add_argument("--export", type=Path, help="folder for the adapter")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    plan = Plan(
        options.minutes, options.rank, options.rate, options.answers, options.groups_a_step,
        options.seed, options.watch,
    )  # fmt: skip
    groups = short_enough(options.groups)
    composed = short_enough(options.composed) if options.composed else []
    log.info("%d groups, %d composed", len(groups), len(composed))
    run = Run(plan, groups, composed, options.out)
    run.train()
    if options.export:
        save_adapter(run.scorer, options.export)
    return 0


if __name__ == "__main__":
    sys.exit(main())
