from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tenfold.align.config import config_of
from tenfold.align.encoding import PairEncoder, collate, encode, plan
from tenfold.align.logps import answer_logps
from tenfold.align.losses import DPO, PairLogps, make_loss
from tenfold.align.pairs import read_pairs
from tenfold.align.schedule import Schedule
from tenfold.align.trainer import PreferenceTrainer, Progress
from tenfold.errors import CheckpointError, InvalidRequest, PromptTooLong, UnknownName
from tests.align.runs import config, lines, model_folder, pairs_file, train

pytest.importorskip("peft")


def by_hand(root: Path, **changes: Any) -> dict[str, torch.Tensor]:
    """The same training in a plain loop: all weights, DPO, AdamW, the rate falling to 0."""
    from transformers import AutoModelForCausalLM

    chosen = config(root, **changes)
    model = AutoModelForCausalLM.from_pretrained(chosen.model).eval()
    reference = AutoModelForCausalLM.from_pretrained(chosen.model).eval()
    encoded = encode(read_pairs(chosen.data), PairEncoder.of(chosen.model))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.0)
    warm, total = math.ceil(chosen.warmup * chosen.steps), chosen.steps
    micro = [b for e in range(9) for b in plan([x.tokens for x in encoded], chosen.batch, e)]
    for step in range(total):
        own = micro[step * chosen.accumulation : (step + 1) * chosen.accumulation]
        pairs = [encoded[i] for batch in own for i in batch]
        batch = collate(pairs)
        logps = [
            answer_logps(
                m(batch.ids, attention_mask=batch.attention).logits, batch.ids, batch.answer
            )
            for m in (model, reference)
        ]
        margin = (logps[0][0] - logps[1][0].detach()).reshape(2, -1)
        (-torch.nn.functional.logsigmoid(0.1 * (margin[0] - margin[1])).mean()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), chosen.clip)
        rate = (step + 1) / warm if step < warm else (total - step) / (total - warm)
        optimizer.param_groups[0]["lr"] = chosen.learning_rate * rate
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()


def test_training_is_what_a_plain_loop_does(tmp_path: Path) -> None:
    changes = {"lora": None, "learning_rate": 1e-3, "monitor": None}
    train(tmp_path, **changes)
    expected = by_hand(tmp_path, **changes)
    start = load_file(tmp_path / "model" / "model.safetensors")
    for name, weights in load_file(tmp_path / "run" / "model.safetensors").items():
        assert torch.allclose(weights, expected[name], atol=2e-6), name
        assert not torch.allclose(weights, start[name], atol=1e-4), name


@pytest.mark.parametrize("monitor", [None, {"backend": "split"}, {"every": 1}])
def test_measuring_does_not_change_what_is_trained(monitor: Any, tmp_path: Path) -> None:
    train(tmp_path, lora=None, learning_rate=1e-3, monitor={"every": 3})
    train(tmp_path, lora=None, learning_rate=1e-3, monitor=monitor, output=str(tmp_path / "other"))
    one, other = (load_file(tmp_path / r / "model.safetensors") for r in ("run", "other"))
    assert all(torch.allclose(one[name], other[name], atol=1e-5) for name in one)


class Killed(BaseException):
    pass


def killed_at(root: Path, step: int, **changes: Any) -> None:
    """Runs until `step` steps are done, then dies without a word."""

    def die(seen: Progress) -> None:
        if seen.stage == "training" and seen.done == step:
            raise Killed

    with pytest.raises(Killed):
        PreferenceTrainer(config(root, **changes), die).run()


@pytest.mark.parametrize("deaths", [(1,), (3,), (5,), (2, 4, 7)])
def test_a_killed_training_ends_as_one_that_was_left_alone(
    deaths: tuple[int, ...], tmp_path: Path
) -> None:
    changes = {
        "lora": {"r": 2, "dropout": 0.2},
        "eval_data": str(tmp_path / "held.jsonl"),
        "eval_every": 2,
    }
    whole = train(tmp_path, output=str(tmp_path / "whole"), **changes)
    for step in deaths:
        killed_at(tmp_path, step, **changes)
    resumed = train(tmp_path, **changes)
    assert resumed.resumed == deaths[-1] // 3 * 3 if deaths[-1] < 7 else 7
    assert resumed.evaluation == whole.evaluation
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")
    for name in ("adapter_model.safetensors", "checkpoint.safetensors"):
        one, other = (load_file(tmp_path / r / name) for r in ("run", "whole"))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[k], other[k]) for k in one)


def test_a_training_that_is_stopped_keeps_its_last_step_and_goes_on(tmp_path: Path) -> None:
    train(tmp_path, output=str(tmp_path / "whole"))

    def stop(seen: Progress) -> None:
        if seen.stage == "training" and seen.done == 4:
            trainer.stop()

    trainer = PreferenceTrainer(config(tmp_path), stop)
    first = trainer.run()
    assert (first.finished, first.steps, first.total) == (False, 4, 7)
    assert not (tmp_path / "run" / "adapter_config.json").exists()
    second = train(tmp_path)
    assert (second.finished, second.resumed) == (True, 4)
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")


def test_a_finished_training_is_left_as_it_is(tmp_path: Path) -> None:
    first = train(tmp_path, eval_data=str(tmp_path / "held.jsonl"))
    log = (tmp_path / "run" / "entanglement.jsonl").read_bytes()
    again = train(tmp_path, eval_data=str(tmp_path / "held.jsonl"))
    assert (again.finished, again.resumed, again.steps) == (True, 7, 7)
    assert again.evaluation == first.evaluation
    assert (tmp_path / "run" / "entanglement.jsonl").read_bytes() == log


def test_epochs_have_every_pair_once_and_the_last_step_may_be_short(tmp_path: Path) -> None:
    config(tmp_path)
    pairs_file(tmp_path / "pairs.jsonl", 11)
    seen = train(tmp_path, steps=None, epochs=2, monitor={"every": 1})
    rows = [[p["row"] for p in e["pairs"]] for e in lines(tmp_path / "run", "entanglement")]
    assert seen.total == 6
    assert [len(r) for r in rows] == [4, 4, 3, 4, 4, 3] or sorted(map(len, rows)) == [
        3,
        3,
        4,
        4,
        4,
        4,
    ]
    for epoch in (rows[:3], rows[3:]):
        assert sorted(r for step in epoch for r in step) == list(range(1, 12))


def test_evaluation_is_of_the_held_out_pairs_alone(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    chosen = config(tmp_path, lora=None, eval_data=str(tmp_path / "held.jsonl"), eval_every=0)
    result = PreferenceTrainer(chosen).run()
    encoded = encode(read_pairs(tmp_path / "held.jsonl"), PairEncoder.of(chosen.model))
    batch, found = collate(encoded), []
    for folder in (tmp_path / "run", tmp_path / "model"):
        model = AutoModelForCausalLM.from_pretrained(folder)
        with torch.no_grad():
            logits = model(batch.ids, attention_mask=batch.attention).logits
        found.append(answer_logps(logits, batch.ids, batch.answer))
    (now, counts), (then, _) = found
    sides = zip(now.chunk(2), counts.chunk(2), strict=True)
    (w, w_tokens), (l_, l_tokens) = sides
    pairs = PairLogps(w, l_, w_tokens, l_tokens, *then.chunk(2))
    gain, other = pairs.gains()
    for key, value in {
        "loss": DPO()(pairs).mean(),
        "accuracy": (gain > other).float().mean(),
        "margin": pairs.margin().mean(),
        "chosen_logp": w.mean(),
        "rejected_logp": l_.mean(),
        "chosen_gain": gain.mean(),
        "rejected_gain": other.mean(),
    }.items():
        assert result.evaluation[key] == pytest.approx(float(value), abs=2e-4), key
    assert [e["step"] for e in lines(tmp_path / "run", "evaluation")] == [0, 7]
    assert (tmp_path / "run" / "entanglement.jsonl").read_text().startswith('{"kind": "run"')


def test_the_reference_is_asked_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def count(seen: Progress) -> None:
        asked.append(seen.stage)

    PreferenceTrainer(config(tmp_path, checkpoint_every=50), count).run()
    assert asked.count("reference") == 6  # batches of two
    (tmp_path / "run" / "checkpoint.safetensors").unlink()
    asked.clear()
    PreferenceTrainer(config(tmp_path, checkpoint_every=50), count).run()
    assert asked.count("reference") == 0


def test_log_probs_of_another_model_or_other_data_are_not_taken(tmp_path: Path) -> None:
    train(tmp_path)
    right = load_file(tmp_path / "run" / "reference-data.safetensors")["tokens"]
    other = model_folder(tmp_path / "third", seed=3)
    train(tmp_path, reference=str(other), output=str(tmp_path / "other"))
    path = tmp_path / "other" / "reference-data.safetensors"
    wrong = load_file(path)["tokens"]
    assert not torch.allclose(right, wrong, atol=0.1)
    path.replace(tmp_path / "run" / "reference-data.safetensors")
    train(tmp_path)
    assert torch.equal(load_file(tmp_path / "run" / "reference-data.safetensors")["tokens"], right)


def test_gains_are_measured_from_the_reference_that_was_named(tmp_path: Path) -> None:
    other = model_folder(tmp_path / "third", seed=3)
    train(tmp_path, reference=str(other))
    first = lines(tmp_path / "run", "progress")[0]
    assert abs(first["chosen_gain"]) > 0.1
    train(tmp_path, output=str(tmp_path / "plain"))
    assert lines(tmp_path / "plain", "progress")[0]["chosen_gain"] == pytest.approx(0, abs=1e-4)


def test_a_reference_with_another_tokenizer_is_refused(tmp_path: Path) -> None:
    other = model_folder(tmp_path / "third", shift=5)
    with pytest.raises(InvalidRequest, match="third has another tokenizer") as raised:
        train(tmp_path, reference=str(other))
    assert raised.value.param == "reference"
    assert not (tmp_path / "run").exists()


def test_a_loss_without_its_reference_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="dpo compares with a reference model and there is no"):
        train(tmp_path, reference=None)


@pytest.mark.parametrize("name", ["simpo", "orpo"])
def test_a_loss_without_a_reference_asks_none(name: str, tmp_path: Path) -> None:
    train(tmp_path, loss=name, eval_data=str(tmp_path / "held.jsonl"))
    assert not list((tmp_path / "run").glob("reference*"))
    assert all(p["chosen_gain"] is None for p in lines(tmp_path / "run", "progress"))
    assert "chosen_gain" not in lines(tmp_path / "run", "evaluation")[-1]


def test_what_changed_since_a_run_began_is_named(tmp_path: Path) -> None:
    killed_at(tmp_path, 4)
    with pytest.raises(InvalidRequest, match=r"another run: steps 7, now 9, learning_rate 0"):
        train(tmp_path, learning_rate=0.02, steps=9)
    text = (tmp_path / "pairs.jsonl").read_text()
    (tmp_path / "pairs.jsonl").write_text(text.replace("It is 2", "It is two", 1))
    with pytest.raises(InvalidRequest, match="data changed since the run") as raised:
        train(tmp_path)
    assert raised.value.param == "data"
    (tmp_path / "pairs.jsonl").write_text(text)
    model_folder(tmp_path / "model", seed=8)
    with pytest.raises(InvalidRequest, match="model, reference changed since"):
        train(tmp_path)
    model_folder(tmp_path / "model")
    assert train(tmp_path).finished


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    chosen = config(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    with pytest.raises(InvalidRequest, match="holds files and no training"):
        PreferenceTrainer(chosen)


def test_long_rows_are_refused_or_left_out_by_name(tmp_path: Path) -> None:
    config(tmp_path)
    with (tmp_path / "pairs.jsonl").open("a") as out:
        row = {
            "prompt": "What is " + "very " * 20 + "long?",
            "chosen": " This.",
            "rejected": " It.",
        }
        out.write(json.dumps(row) + "\n")
    with pytest.raises(PromptTooLong, match=r"row 13 has 12\d tokens .* limit is 96; 1 of 13 rows"):
        train(tmp_path)
    assert train(tmp_path, too_long="drop").dropped == {str(tmp_path / "pairs.jsonl"): [13]}
    with pytest.raises(InvalidRequest, match="max_tokens is 500 and the model's context 96"):
        train(tmp_path, max_tokens=500, output=str(tmp_path / "more"))


def test_a_model_that_overflows_is_named_with_step_and_rows_and_keeps_its_checkpoint(
    tmp_path: Path,
) -> None:
    changes = {"learning_rate": 1e20, "clip": 0, "checkpoint_every": 1, "optimizer": "sgd"}
    with pytest.raises(InvalidRequest, match=r"step \d+: .* row.* \d+.*is no number") as raised:
        train(tmp_path, **changes)
    step = int(raised.value.message.split(":")[0].removeprefix("step "))
    assert f"the checkpoint of step {step - 1} is kept" in str(raised.value)
    assert (tmp_path / "run" / "checkpoint.safetensors").is_file()
    assert len(lines(tmp_path / "run", "progress")) == step - 1


def test_a_full_disk_is_said_and_the_last_checkpoint_stays(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    killed_at(tmp_path, 4)
    before = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) - 100, hard))  # as if nothing were left
    try:
        with pytest.raises(CheckpointError, match=r"cannot be written") as raised:
            train(tmp_path, output=str(tmp_path / "run"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "run the same command again" in str(raised.value)
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == before
    assert train(tmp_path).resumed == 3


def test_a_checkpoint_that_is_damaged_is_said(tmp_path: Path) -> None:
    killed_at(tmp_path, 4)
    path = tmp_path / "run" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors cannot be read"):
        train(tmp_path)


def test_a_fix_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="fix 'hope'"):
        train(tmp_path, fix="hope")


def test_targets_that_the_model_lacks_are_refused_with_those_it_has(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"query.*q_proj") as raised:
        train(tmp_path, lora={"targets": ["query"]})
    assert raised.value.param == "lora.targets"


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="device abacus cannot be used"):
        train(tmp_path, device="abacus")


def test_forward_passes_in_bfloat16_train_weights_in_float32(tmp_path: Path) -> None:
    train(tmp_path, lora=None, autocast=True, learning_rate=1e-3)
    train(tmp_path, lora=None, learning_rate=1e-3, output=str(tmp_path / "plain"))
    rough, exact = (lines(tmp_path / r, "progress") for r in ("run", "plain"))
    assert [p["loss"] for p in rough] == pytest.approx([p["loss"] for p in exact], abs=0.05)
    assert rough != exact
    saved = load_file(tmp_path / "run" / "model.safetensors")
    assert {t.dtype for t in saved.values()} == {torch.float32}


def test_adapters_are_trained_over_weights_in_bfloat16(tmp_path: Path) -> None:
    train(tmp_path, dtype="bfloat16")
    saved = load_file(tmp_path / "run" / "adapter_model.safetensors")
    assert {t.dtype for t in saved.values()} == {torch.float32}
    assert any(float(t.abs().max()) > 0 for n, t in saved.items() if "lora_B" in n)


@pytest.mark.parametrize("name", ["ipo", "rdpo", "cpo", "dpop", "slic", "kto", "rrhf", "sppo"])
def test_every_loss_trains(name: str, tmp_path: Path) -> None:
    train(tmp_path, loss=name, steps=2, learning_rate=1e-4)
    (run,) = lines(tmp_path / "run", "run")
    assert (run["loss"], run["reference"]) == (name, make_loss(name).referenced)


@pytest.mark.parametrize(("clip", "rate"), [(0, 1e-4), (0.5, 2e-3)])
def test_realised_changes_are_those_of_the_step_clipped_or_not(
    tmp_path: Path, clip: float, rate: float
) -> None:
    changes = {"lora": None, "optimizer": "sgd", "learning_rate": rate, "warmup": 0, "clip": clip}
    train(tmp_path, monitor={"every": 1, "realised": True}, batch=1, accumulation=1, **changes)
    for step in lines(tmp_path / "run", "entanglement"):
        (pair,) = step["pairs"]
        for side in ("chosen", "rejected"):
            predicted, realised = pair[f"{side}_change"], pair[f"{side}_realised"]
            assert realised == pytest.approx(predicted, rel=0.1, abs=2e-5)


def test_the_rate_warms_up_and_falls(tmp_path: Path) -> None:
    schedule = Schedule(config(tmp_path, warmup=0.2, schedule="cosine", steps=10), [1] * 12)
    rates = [schedule.rate(step) / 0.01 for step in range(10)]
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert rates[6] == pytest.approx(0.5)
    assert rates == sorted(rates[:2]) + sorted(rates[2:], reverse=True)
    assert config_of({"data": "a", "output": "b"}).schedule == "linear"


def test_tokens_of_rows_that_are_named_are_held_against_each_other(tmp_path: Path) -> None:
    train(tmp_path, monitor={"every": 5, "tokens": [3, 7]})
    found = lines(tmp_path / "run", "tokens")
    assert [(f["step"], f["row"]) for f in found] == [(1, 3), (1, 7), (7, 3), (7, 7)]
    rows = read_pairs(tmp_path / "pairs.jsonl")
    assert "".join(found[0]["chosen"]) == str(rows[2].chosen) + "</s>"
    assert len(found[1]["cosine"]) == len(found[1]["chosen"])
    with pytest.raises(InvalidRequest, match="has no row 99 to train on"):
        train(tmp_path, monitor={"tokens": [99]}, output=str(tmp_path / "b"))


def test_nothing_is_dropped_where_pairs_are_only_read(tmp_path: Path) -> None:
    changes = {"lora": {"r": 2, "dropout": 0.9}, "eval_data": str(tmp_path / "pairs.jsonl")}
    result = train(tmp_path, eval_every=0, **changes)
    adapter = PreferenceTrainer(
        config(tmp_path, model=str(tmp_path / "run"), output=str(tmp_path / "b"), **changes)
    )
    adapter.stop()
    adapter.run()
    assert adapter.evaluation["chosen_logp"] == pytest.approx(
        result.evaluation["chosen_logp"], abs=1e-3
    )
