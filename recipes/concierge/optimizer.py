"""Muon for the matrices, AdamW for the rest; the matrices are shared out among processes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import distributed, nn


def learning_rate_scale(
    progress: float, warmup: float = 0.01, decay: float = 0.43, floor: float = 0.02
) -> float:
    """Return the share of the peak rate at ``progress``: warm-up, a plateau, a straight descent."""
    rising = (progress + 1e-4) / warmup
    falling = floor + (1 - floor) * (1 - progress) / decay
    return max(0.0, min(1.0, rising, falling))


class MixedOptimizer:
    """Muon on hidden matrices and AdamW on embeddings and norms, stepped together.

    Each of ``world`` processes keeps the momentum of every ``world``-th matrix, steps those, and
    sends them to the others: the orthogonalisation costs as much as a tenth of the step.
    """

    def __init__(
        self, model: nn.Module, matrix_rate: float, vector_rate: float, rank: int, world: int
    ) -> None:
        self.matrices: dict[str, nn.Parameter] = {}
        others: dict[str, nn.Parameter] = {}
        for name, parameter in model.named_parameters():
            hidden = parameter.dim() == 2 and "embed" not in name and "lm_head" not in name
            (self.matrices if hidden else others)[name] = parameter
        self.world = world
        own = {n: p for i, (n, p) in enumerate(self.matrices.items()) if i % world == rank}
        self.names = [list(own), list(others)]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                list(own.values()),
                lr=matrix_rate,
                weight_decay=0.05,
                adjust_lr_fn="match_rms_adamw",
            ),
            torch.optim.AdamW(
                list(others.values()),
                lr=vector_rate,
                betas=(0.9, 0.95),
                weight_decay=0.0,
                fused=True,
            ),
        ]
        self.rates = [matrix_rate, vector_rate]

    def step(self, progress: float) -> None:
        """Step both parts at the rate for ``progress``."""
        for part, rate in zip(self.parts, self.rates, strict=True):
            for group in part.param_groups:
                group["lr"] = rate * learning_rate_scale(progress)
            part.step()
        if self.world > 1:
            for i, parameter in enumerate(self.matrices.values()):
                distributed.broadcast(parameter.data, src=i % self.world)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the state this process keeps as named tensors."""
        state: dict[str, torch.Tensor] = {}
        for part, names in zip(self.parts, self.names, strict=True):
            for index, values in part.state_dict()["state"].items():
                for key, value in values.items():
                    state[f"{names[index]}|{key}"] = value.contiguous()
        return state

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take back a state returned by ``tensors``."""
        for part, names in zip(self.parts, self.names, strict=True):
            whole = part.state_dict()
            places = {name: index for index, name in enumerate(names)}
            whole["state"] = {}
            for joined, value in tensors.items():
                name, key = joined.rsplit("|", 1)
                if name in places:
                    whole["state"].setdefault(places[name], {})[key] = value
            part.load_state_dict(whole)
