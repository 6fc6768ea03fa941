"""What a step of training is made of, from its number alone: so that a killed run can go on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tenfold.align.config import TrainingConfig
from tenfold.align.encoding import plan


class Schedule:
    """Batches and learning rate of each step, counted from 0; `total` is how many there are.

    `lengths` are the pairs' numbers of tokens: like goes with like into a batch.
    """

    def __init__(self, config: TrainingConfig, lengths: Sequence[int]) -> None:
        self._config, self._lengths = config, lengths
        batches = math.ceil(len(lengths) / config.batch)
        self._per_epoch = math.ceil(batches / config.accumulation)
        self.total = config.steps or math.ceil(config.epochs * self._per_epoch)
        self._planned: tuple[int, list[list[int]]] | None = None

    def rate(self, step: int) -> float:
        """The learning rate: it rises over the first `warmup` of the steps, then falls."""
        config = self._config
        warm = math.ceil(config.warmup * self.total)
        if step < warm:
            return config.learning_rate * (step + 1) / warm
        if config.schedule == "constant":
            return config.learning_rate
        way = (step - warm) / max(self.total - warm, 1)
        fall = 1 - way if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * way))
        return config.learning_rate * fall

    def batches(self, step: int) -> list[list[int]]:
        """Places in the data; an epoch has each once, its last step may have fewer."""
        epoch, place = divmod(step, self._per_epoch)
        start = place * self._config.accumulation
        return self._plan(epoch)[start : start + self._config.accumulation]

    def seed(self, step: int) -> int:
        """What dropout is drawn from."""
        return (self._config.seed * 1_000_003 + step) % 2**63

    def _plan(self, epoch: int) -> list[list[int]]:
        if self._planned is None or self._planned[0] != epoch:
            seed = self._config.seed * 1_000_003 + epoch
            self._planned = epoch, plan(self._lengths, self._config.batch, seed)
        return self._planned[1]
