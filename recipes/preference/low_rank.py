"""A Llama with low-rank changes to all its linear maps, and PEFT's files of these changes.

W' = W + (alpha / r) B A (LoRA, 2106.09685, section 4.1). The sum is taken once a step, not per
token as PEFT does while training: a step over two thousand tokens costs no more than without.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import LlamaModel

from tenfold.models.folders import locate

from . import branches

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
assert branches  # it registers the attention


class LowRank(nn.Module):
    """W + B A for one weight [out, in]."""

    def __init__(self, outputs: int, inputs: int, rank: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(rank, inputs) / math.sqrt(inputs))
        self.b = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """The changed weight."""
        return weight + self.b @ self.a


class Scorer(nn.Module):
    """The base with its changes, the score head, and heads that only help while training."""

    def __init__(self, base: str, rank: int, seed: int, helpers: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.base, self.rank = base, rank
        self.body: Any = LlamaModel.from_pretrained(
            locate(base), dtype=torch.float32, attn_implementation="branched"
        )
        self.body.requires_grad_(requires_grad=False)
        for module in list(self.body.modules()):
            for name in TARGETS:
                linear = getattr(module, name, None)
                if isinstance(linear, nn.Linear):
                    change = LowRank(linear.out_features, linear.in_features, rank)
                    parametrize.register_parametrization(linear, "weight", change)
        width = self.body.config.hidden_size
        self.score = nn.Linear(width, 1, bias=False)
        self.helpers = nn.Linear(width, helpers)
        nn.init.normal_(self.score.weight, std=0.02)

    def forward(self, layout: branches.Layout) -> tuple[Tensor, Tensor]:
        """Scores [tokens] and helpers [tokens, n] of the answers' tokens of a flat row."""
        hidden = self.body(
            layout.ids, position_ids=layout.positions, use_cache=False, layout=layout
        ).last_hidden_state[0, layout.prompt :]
        hidden = hidden.float()
        with torch.autocast("cpu", enabled=False):
            return self.score(hidden)[:, 0], self.helpers(hidden)

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that learn, by name."""
        return {n: p for n, p in self.named_parameters() if p.requires_grad}


def save_adapter(scorer: Scorer, folder: Path) -> None:
    """Write the changes and the score head as a PEFT adapter of a sequence classifier."""
    tensors = {"base_model.model.score.weight": scorer.score.weight}
    for name, parameter in scorer.trained().items():
        if name.startswith("body."):
            module, half = name.removeprefix("body.").split(".parametrizations.weight.0.")
            tensors[f"base_model.model.model.{module}.lora_{half.upper()}.weight"] = parameter
    folder.mkdir(parents=True, exist_ok=True)
    stored = {n: t.detach().to(torch.bfloat16).contiguous() for n, t in tensors.items()}
    save_file(stored, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS",
        "base_model_name_or_path": scorer.base,
        "r": scorer.rank,
        "lora_alpha": scorer.rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
        "target_modules": sorted(TARGETS),
        "modules_to_save": ["score"],
    }
    text = json.dumps(config, indent=2) + "\n"
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")
