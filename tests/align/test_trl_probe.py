"""The callback: fixed pairs measured beside a training that does not notice it."""

from __future__ import annotations

import pytest
import torch
from trl import DPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from tenfold.align.losses import make_loss
from tenfold.align.pairs import Pair
from tenfold.align.trl_probe import EntanglementCallback
from tenfold.errors import InvalidRequest
from tenfold.types import Message
from tests.align import trl_models as trl_
from tests.align.models import llama

pytestmark = [pytest.mark.filterwarnings(w) for w in trl_.WARNINGS]


def trainer(folder, model=None, **more):
    more = {"optim": "adamw_torch", "disable_dropout": False, **more}
    return trl_.dpo(DPOTrainer, model or llama(), folder, **more)


def lora():
    from peft import LoraConfig

    return LoraConfig(r=2, target_modules=["q_proj"], lora_dropout=0.3)


def probes(of):
    return [x for x in of.state.log_history if "entangle/probe_cosine" in x]


def test_its_figures_are_those_of_a_loop_over_the_pairs_and_training_is_untouched(tmp_path):
    more = {
        "max_steps": 4,
        "eval_strategy": "steps",
        "eval_steps": 3,
        "eval_dataset": trl_.dataset(2),
        "logging_steps": 2,
        "peft_config": lora(),
    }
    plain = trainer(tmp_path / "a", **more)
    plain.train()
    ours = trainer(tmp_path / "b", **more)
    pairs = trl_.rows(3, seed=9)
    ours.add_callback(EntanglementCallback(ours, pairs, every=2, batch=2))
    ours.train()
    for (name, a), (_, b) in zip(
        ours.model.named_parameters(), plain.model.named_parameters(), strict=True
    ):
        assert torch.equal(a, b), name
    own = [x for x in ours.state.log_history if "loss" in x]
    theirs = [x for x in plain.state.log_history if "loss" in x]
    assert own == theirs
    assert [x["step"] for x in probes(ours)] == [0, 2, 3, 4]

    model = ours.model.eval()
    for one in (model, model.get_base_model()):
        one.__dict__.pop("forward", None)
    cosines, chosen, norms = [], [], []
    for pair in pairs:
        logps = [trl_.answer_logp(model, pair, side) for side in ("chosen", "rejected")]
        g_w, g_l = (trl_.gradient(model, x) for x in logps)
        cosines.append(float(g_w @ g_l / (g_w.norm() * g_l.norm())))
        norms.append(float(g_w.norm()))
        chosen.append(logps[0].item())
    last, first = probes(ours)[-1], probes(ours)[0]
    assert last["entangle/probe_cosine"] == pytest.approx(sum(cosines) / 3, rel=1e-4)
    assert last["entangle/probe_chosen_norm"] == pytest.approx(sum(norms) / 3, rel=1e-4)
    assert last["entangle/probe_chosen_logp"] == pytest.approx(sum(chosen) / 3, rel=1e-5)
    assert first["entangle/probe_chosen_gain"] == 0
    moved = last["entangle/probe_chosen_logp"] - first["entangle/probe_chosen_logp"]
    assert last["entangle/probe_chosen_gain"] == pytest.approx(moved, abs=1e-5)


def test_a_training_that_goes_on_compares_with_the_same_start(tmp_path):
    more = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    pairs = trl_.rows(2, seed=9)
    steady = trainer(tmp_path / "a", **more)
    steady.add_callback(EntanglementCallback(steady, pairs, every=1))
    steady.train()
    resumed = trainer(tmp_path / "a", **more)
    resumed.add_callback(EntanglementCallback(resumed, pairs, every=1))
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    timeless = [probes(t) for t in (steady, resumed)]
    assert timeless[0] == timeless[1]

    (tmp_path / "a" / "entangle_probe.json").write_text("[[1.0], [2.0]]")
    with pytest.raises(InvalidRequest, match="of other pairs"):
        resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    (tmp_path / "a" / "entangle_probe.json").unlink()
    with pytest.raises(InvalidRequest, match="does not hold the probe's log-probs"):
        resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))


def test_it_measures_trainers_whose_batches_cannot_be_and_with_another_loss(tmp_path):
    args = ORPOConfig(**trl_.settings(tmp_path, max_length=64))
    orpo = ORPOTrainer(
        model=llama(), args=args, train_dataset=trl_.dataset(2), processing_class=trl_.tokenizer()
    )
    pairs = [Pair(i, **row) for i, row in enumerate(trl_.rows(3, seed=9), 1)]
    slic = make_loss("slic", nll=1e6)  # the chosen answer all but alone: it must rise
    orpo.add_callback(EntanglementCallback(orpo, pairs, every=1, loss=slic))
    orpo.train()
    assert [x["step"] for x in probes(orpo)] == [0, 1]
    for line in probes(orpo):
        up = line["entangle/probe_ideal"] + line["entangle/probe_both_up"]
        assert up == 1


def test_chats_are_written_as_the_tokenizers_template_has_them(tmp_path):
    made = trl_.tokenizer()
    made.chat_template = (
        "{% for m in messages %}{{ m.role[0] }}: {{ m.content }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}a: {% endif %}"
    )
    ours = trainer(tmp_path, data=2)
    ours.processing_class = made
    chat = Pair(
        1, (Message("user", "hi"),), (Message("assistant", "go"),), (Message("assistant", "g"),)
    )
    (pair,) = EntanglementCallback(ours, [chat]).pairs
    words = made.convert_ids_to_tokens
    assert words(pair.prompt) == [*"u: hi", "</s>", *"a: "]
    assert words(pair.chosen) == [*"go", "</s>"]
    assert words(pair.rejected) == ["g", "</s>"]
    dataset = ours._prepare_dataset(
        trl_.dataset(1).map(
            lambda _: {
                side: [{"role": role, "content": text}]
                for side, role, text in (
                    ("prompt", "user", "hi"),
                    ("chosen", "assistant", "go"),
                    ("rejected", "assistant", "g"),
                )
            },
            remove_columns=["prompt", "chosen", "rejected"],
        ),
        made,
        ours.args,
        "train",
    )
    (theirs,) = dataset  # TRL's own tokens
    assert [theirs[f"{k}_ids"] for k in ("prompt", "chosen", "rejected")] == [
        list(x) for x in (pair.prompt, pair.chosen, pair.rejected)
    ]


def test_what_cannot_be_probed_is_refused(tmp_path):
    ours = trainer(tmp_path, data=2, max_length=20)
    good = trl_.rows(1)
    for pairs, more, says in (
        ([], {}, "pairs is 0"),
        (good, {"every": 0}, "every is 0"),
        ([{"prompt": "a", "chosen": "b"}], {}, "row 1 has no rejected"),
        ([{"prompt": "a", "chosen": "b", "rejected": "b"}], {}, "are the same"),
        ([{"prompt": "a" * 30, "chosen": "b", "rejected": "c"}], {}, "max_length is 20"),
        ([{"prompt": "", "chosen": "b", "rejected": "c"}], {}, "prompt has no tokens"),
    ):
        with pytest.raises(InvalidRequest, match=says):
            EntanglementCallback(ours, pairs, **more)
