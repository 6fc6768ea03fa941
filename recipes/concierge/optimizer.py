"""Muon for the matrices, AdamW for the rest, with a cosine schedule; state saved as safetensors."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn


def learning_rate_scale(progress: float, warmup: float = 0.01, floor: float = 0.03) -> float:
    """Return the share of the peak rate at ``progress`` in [0, 1]: warm-up, then a cosine."""
    cosine = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return min(1.0, (progress + 1e-4) / warmup) * cosine


class MixedOptimizer:
    """Muon on hidden matrices and AdamW on embeddings and norms, stepped together."""

    def __init__(self, model: nn.Module, matrix_rate: float, vector_rate: float) -> None:
        matrices, others = {}, {}
        for name, parameter in model.named_parameters():
            hidden = parameter.dim() == 2 and "embed" not in name and "lm_head" not in name
            (matrices if hidden else others)[name] = parameter
        self.names = [list(matrices), list(others)]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                list(matrices.values()),
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
        """Step both parts at the rate for ``progress`` and clear the gradients."""
        for part, rate in zip(self.parts, self.rates, strict=True):
            for group in part.param_groups:
                group["lr"] = rate * learning_rate_scale(progress)
            part.step()
            part.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the whole state as named tensors."""
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
