"""The mixin in TRL's own trainers: against a loop over pairs and against training without it."""

from __future__ import annotations

import copy
import math
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerCallback
from trl import DPOTrainer, KTOTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOTrainer

from tenfold.align.trl_trainer import Entanglement, EntanglementMixin
from tenfold.errors import InvalidRequest
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


def by_a_loop(model, pair, **ld):
    """<g_w, g_l>, |g_w|^2, |g_l|^2 of one pair by two passes."""
    g_w, g_l = (
        trl_.gradient(model, trl_.answer_logp(model, pair, side, **ld))
        for side in ("chosen", "rejected")
    )
    return [float(g_w @ g_l), float(g_w @ g_w), float(g_l @ g_l)]


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
    (step,) = trl_.log_of(trainer)
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


@pytest.mark.parametrize(("bf16", "close"), [(False, 1e-4), (True, 0.05)])
def test_adapters_are_measured_alone_and_compared_with_the_model_without_them(
    bf16, close, tmp_path
):
    more = {"peft_config": lora(init_lora_weights=False), "learning_rate": 0.0, "bf16": bf16}
    trainer = trl_.dpo(Entangled, llama(), tmp_path, **more)
    trainer.train()
    (step,), (run,) = trl_.log_of(trainer), trl_.log_of(trainer, "run")
    model = trainer.model.float().eval()
    assert run["parameters"] == sum(p.numel() for p in model.parameters() if p.requires_grad)
    gains = []
    for found in step["pairs"]:
        products = [found["inner"], found["chosen_sq"], found["rejected_sq"]]
        pair = trl_.rows()[found["row"] - 1]
        with plain_forward(model):
            assert products == pytest.approx(by_a_loop(model, pair), rel=close)
            with model.disable_adapter(), torch.no_grad():
                before = trl_.answer_logp(model, pair, "chosen").item()
        gains.append(found["chosen_logp"] - before)
    (progress,) = trl_.log_of(trainer, "progress")
    assert progress["chosen_gain"] == pytest.approx(sum(gains) / 2, abs=0.01 if bf16 else 1e-4)
    assert abs(progress["chosen_gain"]) > 0.05


@contextmanager
def plain_forward(model):
    """Without what accelerate and TRL put before the model's own forward pass."""
    kept = {}
    for one in (model, model.get_base_model()):
        kept[one] = one.__dict__.pop("forward", None)
    try:
        yield
    finally:
        for one, forward in kept.items():
            if forward is not None:
                one.forward = forward


LOSSES = [
    (["sigmoid"], {}),
    (["sigmoid", "sft"], {"loss_weights": [1.0, 0.3]}),
    (["hinge"], {}),
    (["ipo"], {}),
    (["exo_pair"], {"label_smoothing": 0.1}),
    (["nca_pair"], {}),
    (["robust"], {"label_smoothing": 0.1}),
    (["bco_pair"], {}),
    (["sppo_hard"], {"beta": 0.01}),
    (["aot"], {}),
    (["aot_unpaired"], {}),
    (["apo_zero"], {}),
    (["apo_down"], {}),
    (["discopop"], {}),
    (["sigmoid_norm"], {}),
    (["sigmoid"], {"ld_alpha": 0.4}),
    (["sigmoid"], {"use_weighting": True}),
    (["sigmoid"], {"f_divergence_type": "js_divergence"}),
    (["bco_pair", "sigmoid", "sft"], {"loss_weights": [0.8, 0.2, 1.0]}),
]


@pytest.fixture(scope="module")
def one_trainer(tmp_path_factory):
    """A trainer whose loss is set from outside, and a batch."""
    model, other = llama(), llama()
    with torch.no_grad():
        for p in other.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(7)))
    trainer = trl_.dpo(
        Entangled,
        model,
        tmp_path_factory.mktemp("losses"),
        per_device_train_batch_size=4,
        data=4,
        ref_model=other,
        use_weighting=True,
        entanglement=Entanglement(every=1, log=False),
    )
    trainer.use_weighting = False
    trainer.current_gradient_accumulation_steps = 1
    trainer.create_optimizer_and_scheduler(1)
    return trainer, next(iter(trainer.get_train_dataloader()))


@pytest.mark.parametrize(("kinds", "more"), LOSSES, ids=lambda x: "+".join(x) or "plain")
def test_the_weights_are_those_of_trls_loss_whatever_it_is(kinds, more, one_trainer, monkeypatch):
    trainer, batch = one_trainer
    monkeypatch.setattr(trainer, "loss_types", kinds)
    monkeypatch.setattr(trainer, "loss_weights", [1.0] * len(kinds))
    for name, value in more.items():
        monkeypatch.setattr(trainer, name, value)
    trainer.model.zero_grad()
    trainer.training_step(trainer.model, dict(batch))
    trainer.monitor.stepped(lr=1.0)
    trained = torch.cat([p.grad.flatten().double() for p in trainer.model.parameters()])
    composed = torch.zeros_like(trained)
    alpha = more.get("ld_alpha", 1.0)
    with plain_causal(trainer.model) as model:
        for found in trainer.monitor.last.pairs:
            pair = trl_.rows()[found.row - 1]
            shared = min(len(pair["chosen"]), len(pair["rejected"])) + 1
            for side, weight in (("chosen", -found.d_w), ("rejected", found.d_l)):
                logp = trl_.answer_logp(model, pair, side, alpha, shared=shared)
                composed += weight / 4 * trl_.gradient(model, logp)
    assert trained.norm() > 0
    assert (composed - trained).norm() <= 1e-5 * trained.norm()


@contextmanager
def plain_causal(model):
    forward = model.__dict__.pop("forward")
    try:
        yield model
    finally:
        model.forward = forward


def test_what_a_gradient_scaler_multiplies_the_loss_by_changes_nothing(one_trainer, monkeypatch):
    trainer, batch = one_trainer
    found = []
    for scale in (1.0, 1024.0):
        monkeypatch.setattr(trainer.accelerator, "backward", lambda x, s=scale: (s * x).backward())
        monkeypatch.setattr(
            trainer.accelerator, "scaler", SimpleNamespace(get_scale=lambda s=scale: s)
        )
        trainer.model.zero_grad()
        trainer.training_step(trainer.model, dict(batch))
        trainer._end(lr=0.1)
        found.append(
            [(p.inner, p.chosen_change, p.rejected_change) for p in trainer.monitor.last.pairs]
        )
    for a, b in zip(*found, strict=True):
        assert a == pytest.approx(b, rel=1e-4)


def test_sketches_come_near_what_they_estimate_the_fused_head_included(tmp_path):
    steps = []
    for backend in ("ghost", "sketch"):
        how = Entanglement(every=1, backend=backend)
        trainer = trl_.dpo(Entangled, llama(), tmp_path / backend, entanglement=how)
        trainer.train()
        steps += trl_.log_of(trainer)
    for exact, near in zip(steps[0]["pairs"], steps[1]["pairs"], strict=True):
        assert exact["row"] == near["row"]
        assert 0 < abs(exact["inner"] - near["inner"]) < 6 * near["inner_error"]
        assert near["inner_error"] < 0.5 * exact["chosen_sq"]


def test_tokens_that_are_weighed_unlike_within_an_answer_are_refused(one_trainer, monkeypatch):
    trainer, batch = one_trainer
    monkeypatch.setattr(trainer, "loss_types", ["sigmoid", "sft"])
    monkeypatch.setattr(trainer, "loss_weights", [1.0, 1.0])
    monkeypatch.setattr(trainer, "ld_alpha", 0.4)
    with pytest.raises(InvalidRequest, match="weighs the tokens of one answer unlike"):
        trainer.training_step(trainer.model, dict(batch))
    assert not any(m._forward_hooks for m in trainer.model.modules())
    monkeypatch.setattr(trainer, "ld_alpha", None)
    trainer.training_step(trainer.model, dict(batch))  # the next one works
    trainer.monitor.stepped(lr=1.0)


def test_a_log_prob_that_is_no_number_is_refused_by_row(tmp_path):
    model = llama(tied=False)
    trainer = trl_.dpo(Entangled, model, tmp_path, data=2)
    spoilt = trl_.tokenizer().convert_tokens_to_ids("z")
    model.get_input_embeddings().weight.data[spoilt] = math.nan
    trainer.train_dataset = trainer.train_dataset.map(
        lambda example: (
            {"chosen_ids": [spoilt, *example["chosen_ids"]]} if example["row"] == 2 else {}
        )
    )
    with pytest.raises(InvalidRequest, match="row 2: the chosen log-prob is nan"):
        trainer.train()
    assert not any(m._forward_hooks for m in model.modules())


class Reporter(TrainerCallback):
    """What TRL's reporters are given."""

    def __init__(self):
        self.seen = []

    def on_log(self, args, state, control, logs=None, **_):
        self.seen.append(dict(logs))


def trained(kind, folder, *, adapters, **more):
    if adapters:
        more["peft_config"] = lora(lora_dropout=0.2)
    trainer = trl_.dpo(
        kind,
        llama(),
        folder,
        max_steps=4,
        optim="adamw_torch",
        disable_dropout=False,
        gradient_accumulation_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        eval_dataset=trl_.dataset(3),
        **more,
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize("adapters", [False, True], ids=["full", "lora with dropout"])
def test_training_is_what_it_is_without_the_mixin_bit_for_bit(adapters, tmp_path):
    reporter = Reporter()
    how = Entanglement(every=2, realised=True, layers=True, tokens=1)
    ours = trained(
        Entangled, tmp_path / "a", adapters=adapters, entanglement=how, callbacks=[reporter]
    )
    plain = trained(DPOTrainer, tmp_path / "b", adapters=adapters)
    for (name, a), (_, b) in zip(
        ours.model.named_parameters(), plain.model.named_parameters(), strict=True
    ):
        assert torch.equal(a, b), name
    timing = ("runtime", "per_second")

    def figures(trainer):
        return [
            {
                k: v
                for k, v in line.items()
                if not k.startswith("entangle/") and not k.endswith(timing)
            }
            for line in trainer.state.log_history
        ]

    assert figures(ours) == figures(plain)
    measured = [line["step"] for line in ours.state.log_history if "entangle/cosine" in line]
    assert measured == [1, 3]  # each second optimizer step, not micro-batch
    assert sum("entangle/chosen_change" in line for line in reporter.seen) == 2
    assert not any("entangle" in k for line in reporter.seen for k in line if k.startswith("eval"))
    for line in trl_.log_of(ours):
        assert len(line["pairs"]) == 4
        assert "layers" in line
        for pair in line["pairs"]:
            assert pair["chosen_realised"] is not None
        (tokens,) = [x for x in trl_.log_of(ours, "tokens") if x["step"] == line["step"]]
        closest = max(line["pairs"], key=lambda pair: pair["cosine"])
        assert tokens["row"] == closest["row"]
        for side in ("chosen", "rejected"):
            said = trl_.rows()[closest["row"] - 1][side]
            assert "".join(tokens[side]) == said + "</s>"
        assert len(tokens["cosine"]) == len(tokens["chosen"])


def test_what_was_predicted_is_what_plain_descent_does(tmp_path):
    how = Entanglement(every=1, realised=True)
    one = {"per_device_train_batch_size": 1, "learning_rate": 1e-3, "max_steps": 3}
    trainer = trl_.dpo(Entangled, llama(), tmp_path, entanglement=how, **one)
    trainer.train()
    for line in trl_.log_of(trainer):
        (pair,) = line["pairs"]
        for side in ("chosen", "rejected"):
            assert pair[f"{side}_realised"] == pytest.approx(pair[f"{side}_change"], rel=0.05)


def cpo(folder, **more):
    args = CPOConfig(**trl_.settings(folder, **{"max_length": 64, **more}))
    how = Entanglement(every=1, realised=True, tokens=1)
    return EntangledCPO(
        model=llama(),
        args=args,
        train_dataset=trl_.dataset(4),
        processing_class=trl_.tokenizer(),
        entanglement=how,
    )


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"loss_type": "sigmoid", "cpo_alpha": 0.7}, "cpo"),
        ({"loss_type": "simpo", "cpo_alpha": 0.0, "beta": 2.0}, "simpo"),
        ({"loss_type": "ipo", "cpo_alpha": 1.0}, "trl cpo ipo"),
    ],
)
def test_cpo_is_measured_as_it_is(more, name, tmp_path):
    trainer = cpo(tmp_path, per_device_train_batch_size=4, **more)
    start = llama()
    trainer.train()
    (line,), (run,) = trl_.log_of(trainer), trl_.log_of(trainer, "run")
    assert run["loss"] == name
    assert run["reference"] is False
    changed = [
        (b - a).detach().flatten().double()
        for a, b in zip(start.parameters(), trainer.model.parameters(), strict=True)
    ]
    composed = 0
    for found in line["pairs"]:
        pair = trl_.rows(4)[found["row"] - 1]
        products = [found["inner"], found["chosen_sq"], found["rejected_sq"]]
        begin = (1,)  # CPOTrainer puts the beginning of text before the prompt
        assert products == pytest.approx(by_a_loop(start, pair, begin=begin), rel=1e-4)
        for side, weight in (("chosen", found["d_w"]), ("rejected", -found["d_l"])):
            logp = trl_.answer_logp(start, pair, side, begin=begin)
            composed = composed + 1e-2 * weight / 4 * trl_.gradient(start, logp)
    moved = torch.cat(changed)
    assert (composed - moved).norm() <= 1e-3 * moved.norm()
    assert "entangle/cosine" in trainer.state.log_history[0]
    (tokens,) = trl_.log_of(trainer, "tokens")
    assert "".join(tokens["rejected"]) == trl_.rows(4)[tokens["row"] - 1]["rejected"] + "</s>"


def test_trainers_and_settings_that_hide_a_pairs_gradient_are_refused(tmp_path):
    for kind, says in ((ORPOTrainer, "learns the prompt"), (KTOTrainer, "answers, not pairs")):
        mixed = type("Mixed", (EntanglementMixin, kind), {})
        with pytest.raises(InvalidRequest, match=f"{says}.*EntanglementCallback"):
            mixed(model=llama())
    with pytest.raises(InvalidRequest, match="torch_compile"):
        trl_.dpo(Entangled, llama(), tmp_path, torch_compile=True)
    with pytest.raises(InvalidRequest, match="every is 0"):
        trl_.dpo(Entangled, llama(), tmp_path, entanglement=Entanglement(every=0))


def test_a_head_that_caps_its_scores_is_refused(tmp_path):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        final_logit_softcapping=2.0,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
    )
    model = Gemma2ForCausalLM(config)
    model.get_input_embeddings().requires_grad_(False)  # it scales: refused for that otherwise
    model.get_output_embeddings().weight.data.mul_(40)
    with pytest.raises(InvalidRequest, match="caps its scores"):
        trl_.dpo(Entangled, model, tmp_path).train()


def test_an_earlier_runs_log_is_kept_under_another_name(tmp_path, caplog):
    for _ in range(2):
        trainer = trl_.dpo(Entangled, llama(), tmp_path, data=2)
        trainer.train()
    assert "was another run's log" in caplog.text
    assert len(trl_.log_of(trainer)) == 1
    assert (tmp_path / "entanglement.1.jsonl").exists()
