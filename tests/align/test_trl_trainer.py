"""The mixin in TRL's own trainers: against a loop over pairs, against training without it, killed."""

from __future__ import annotations

import copy

import pytest
import torch
from trl import DPOTrainer
from trl.experimental.cpo import CPOTrainer

from tenfold.align.record import read_log
from tenfold.align.trl_trainer import EntanglementMixin
from tests.align import trl_models as trl_
from tests.align.models import gpt2, llama

pytestmark = [pytest.mark.filterwarnings(w) for w in trl_.WARNINGS]


class Entangled(EntanglementMixin, DPOTrainer):
    pass


class EntangledCPO(EntanglementMixin, CPOTrainer):
    pass


def lora(**more):
    from peft import LoraConfig

    return LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "down_proj"], **more)


def log_of(trainer, kind="entanglement"):
    path = f"{trainer.args.output_dir}/entanglement.jsonl"
    return [line for line in read_log(path) if line["kind"] == kind]


def by_a_loop(model, pair, **ld):
    """<g_w, g_l>, |g_w|^2, |g_l|^2 of one pair by two passes."""
    g_w, g_l = (
        trl_.gradient(model, trl_.answer_logp(model, pair, side, **ld))
        for side in ("chosen", "rejected")
    )
    return [float(g_w @ g_l), float(g_w @ g_w), float(g_l @ g_l)]


def adapted(model, trainer):
    """The model with the adapters that the trainer began with: B is 0 there, so A does not count."""
    from peft import get_peft_model

    torch.manual_seed(trainer.args.seed)
    return get_peft_model(model, lora())


@pytest.mark.parametrize(
    ("make", "more"),
    [
        (llama, {}),
        (lambda: llama(tied=False), {"gradient_accumulation_steps": 2}),
        (gpt2, {"precompute_ref_log_probs": True}),
        (llama, {"gradient_checkpointing": True}),
        (
            llama,
            {
                "gradient_checkpointing": True,
                "gradient_checkpointing_kwargs": {"use_reentrant": True},
            },
        ),
    ],
    ids=["tied", "untied, accumulated", "gpt2, precomputed", "checkpointed", "reentrant"],
)
def test_products_are_those_of_a_loop_over_pairs(make, more, tmp_path):
    model = make()
    start = copy.deepcopy(model)
    trainer = trl_.dpo(Entangled, model, tmp_path, **more)
    trainer.train()
    (step,) = log_of(trainer)
    data = trl_.rows()
    assert len(step["pairs"]) == 2 * more.get("gradient_accumulation_steps", 1)
    assert len({pair["row"] for pair in step["pairs"]}) == len(step["pairs"])
    for found in step["pairs"]:
        products = [found["inner"], found["chosen_sq"], found["rejected_sq"]]
        pair = data[found["row"] - 1]
        assert products == pytest.approx(by_a_loop(start, pair), rel=1e-4)
        assert found["chosen_logp"] == pytest.approx(
            trl_.answer_logp(start, pair, "chosen").item(), rel=1e-5
        )
        assert found["chosen_tokens"] == len(pair["chosen"]) + 1
        assert found["d_w"] == found["d_l"] == pytest.approx(0.05)  # beta / 2 at the reference
        own = 1e-2 * 0.05 / len(step["pairs"])
        assert found["chosen_change"] == pytest.approx(own * (products[1] - products[0]), rel=1e-3)
