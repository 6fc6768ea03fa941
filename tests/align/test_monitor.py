"""The monitor in training loops: what it says against a loop over pairs, and what it writes."""

from __future__ import annotations

import json
import math

import pytest
import torch

from tenfold.align.losses import PairLogps, make_loss
from tenfold.align.monitor import EntanglementMonitor
from tenfold.align.record import RunLog, read_log
from tenfold.errors import InvalidRequest, TenfoldError
from tests.align.models import Batch, by_a_loop, llama, pair_logps

pytest.importorskip("transformers")


def one_step(model, batch, monitor, *, name="dpo", lr=0.1, scale=1.0, rows=None, **more):
    loss = make_loss(name)
    with monitor.watch(pairs=batch.pairs, rows=rows) as step:
        pairs = logps(model, batch, monitor, loss)
        (scale * step.loss(loss, pairs)).backward()
    monitor.stepped(lr=lr, **more)
    return pairs


def logps(model, batch, monitor, loss) -> PairLogps:
    if monitor.backend != "split":
        return pair_logps(*batch.logps(model), referenced=loss.referenced)
    b = batch.pairs
    found = [batch.logps(model, rows) for rows in (slice(0, b), slice(b, 2 * b))]
    summed, counts = (torch.cat([one[i] for one in found]) for i in (0, 1))
    return pair_logps(summed, counts, referenced=loss.referenced)


@pytest.mark.parametrize("scale", [1.0, 0.25, 1024.0])
def test_products_are_the_loops_whatever_the_trainer_multiplies_the_loss_by(scale):
    model, batch = llama(), Batch()
    monitor = EntanglementMonitor(model)
    pairs = one_step(model, batch, monitor, scale=scale, rows=[5, 6, 9])
    d = make_loss("dpo").weights(pairs)[0].tolist()
    for record, (inner, chosen, rejected), d_w in zip(
        monitor.last.pairs, by_a_loop(model, batch).tolist(), d, strict=True
    ):
        assert record.inner == pytest.approx(inner, rel=2e-5)
        assert record.cosine == pytest.approx(inner / math.sqrt(chosen * rejected), rel=2e-5)
        own = 0.1 * scale / 3 * d_w  # learning rate, share of the mean, weight
        assert record.chosen_change == pytest.approx(own * (chosen - inner), rel=1e-4)
        assert record.rejected_change == pytest.approx(own * (inner - rejected), rel=1e-4)
    assert [r.row for r in monitor.last.pairs] == [5, 6, 9]


def test_split_has_the_pairs_products_where_the_step_is_one_pair():
    model, batch = llama(), Batch(pairs=1)
    monitor = EntanglementMonitor(model, backend="split", layers=True)
    one_step(model, batch, monitor, name="cpo")
    inner, chosen, rejected = by_a_loop(model, batch)[0].tolist()
    (record,) = monitor.last.pairs
    assert record.inner == pytest.approx(inner, rel=2e-5)
    assert record.chosen_sq == pytest.approx(chosen, rel=2e-5)
    assert record.rejected_sq == pytest.approx(rejected, rel=2e-5)
    assert sum(p["inner"] for p in monitor.last.layers.values()) == pytest.approx(inner, rel=2e-5)


@pytest.mark.parametrize("backend", ["ghost", "split"])
def test_the_training_gradient_is_the_plain_one(backend):
    model, batch, loss = llama(), Batch(), make_loss("dpo")
    loss(pair_logps(*batch.logps(model))).mean().backward()
    plain = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    one_step(model, batch, EntanglementMonitor(model, backend=backend))
    for p, grad in zip(model.parameters(), plain, strict=True):
        torch.testing.assert_close(p.grad, grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("backend", ["ghost", "split"])
def test_accumulated_micro_batches_are_one_step(backend, tmp_path):
    model, loss = llama(), make_loss("dpo")
    monitor = EntanglementMonitor(model, backend=backend, log=tmp_path / "log.jsonl")
    parts = [Batch(pairs=2, seed=s) for s in (1, 2)]
    for batch in parts:
        with monitor.watch(pairs=2, rows=[1, 2]) as step:
            (step.loss(loss, logps(model, batch, monitor, loss)) / 2).backward()
    monitor.stepped(lr=1.0)
    lines = list(read_log(tmp_path / "log.jsonl"))
    assert [x["kind"] for x in lines] == ["run", "progress", "entanglement"]
    if backend == "ghost":
        found = torch.tensor([[r.inner, r.chosen_sq, r.rejected_sq] for r in monitor.last.pairs])
        expected = torch.cat([by_a_loop(model, batch) for batch in parts])
        torch.testing.assert_close(found.double(), expected, rtol=2e-5, atol=1e-9)
        return
    u, v = _halves_by_autograd(model, parts, loss)
    d = sum(loss.weights(pair_logps(*b.logps(model)))[0].sum().item() / 4 for b in parts)
    assert monitor.last.batch["inner"] == pytest.approx(float(u @ v) / d**2, rel=1e-4)
    assert monitor.last.batch["chosen_change"] == pytest.approx(float(u @ (u - v)) / d, rel=1e-3)


def _halves_by_autograd(model, parts, loss):
    total = [0.0, 0.0]
    for batch in parts:
        pairs = pair_logps(*batch.logps(model))
        for place, (d, side) in enumerate(
            zip(loss.weights(pairs), (pairs.chosen, pairs.rejected), strict=True)
        ):
            grads = torch.autograd.grad(
                (d.detach() * side).sum() / 4, list(model.parameters()), retain_graph=True
            )
            total[place] = total[place] + torch.cat([g.flatten().double() for g in grads])
    return total


def test_only_steps_that_are_due_are_measured_and_every_step_leaves_a_line(tmp_path):
    model, batch = llama(), Batch()
    monitor = EntanglementMonitor(model, every=2, log=tmp_path / "log.jsonl")
    for _ in range(4):
        one_step(model, batch, monitor)
    lines = list(read_log(tmp_path / "log.jsonl"))
    assert [x["step"] for x in lines if x["kind"] == "progress"] == [1, 2, 3, 4]
    assert [x["step"] for x in lines if x["kind"] == "entanglement"] == [1, 3]
    assert lines[0]["loss"] == "dpo"
    assert lines[0]["loss_parameters"]["beta"] == 0.1


def test_a_training_that_goes_on_drops_what_comes_again_and_a_torn_line(tmp_path):
    log = tmp_path / "log.jsonl"
    model, batch = llama(), Batch()
    monitor = EntanglementMonitor(model, every=1, log=log)
    for _ in range(3):
        one_step(model, batch, monitor)
    with log.open("a") as out:
        out.write('{"kind": "progress", "st')
    with pytest.raises(InvalidRequest, match="log of another run"):
        EntanglementMonitor(model, log=log)
    monitor = EntanglementMonitor(model, every=1, log=log, step=2)
    one_step(model, batch, monitor)
    lines = list(read_log(log))
    assert [x["step"] for x in lines if x["kind"] == "progress"] == [1, 2, 3]
    assert [x["kind"] for x in lines].count("run") == 2


def test_what_is_no_number_is_null_and_a_wrong_line_is_named(tmp_path):
    log = tmp_path / "log.jsonl"
    RunLog(log).append({"kind": "progress", "loss": math.nan, "x": [math.inf, 1.5]})
    assert json.loads(log.read_text()) == {"kind": "progress", "loss": None, "x": [None, 1.5]}
    log.write_text(log.read_text() + "nonsense\n")
    with pytest.raises(InvalidRequest, match=r"log\.jsonl:2"):
        list(read_log(log))


def test_an_inactive_pair_has_a_verdict_and_no_products():
    model, batch = llama(), Batch()
    monitor = EntanglementMonitor(model)
    pairs = one_step(model, batch, monitor, name="rrhf")
    dead = (make_loss("rrhf").weights(pairs)[1] == 0).tolist()
    assert any(dead)
    assert not all(dead)
    for record, is_dead in zip(monitor.last.pairs, dead, strict=True):
        assert (record.verdict == "inactive") == is_dead
        assert math.isnan(record.inner) == is_dead
        assert record.chosen_change == record.chosen_change  # it is learnt all the same
    assert not math.isnan(monitor.last.batch["cosine"])


class _Broken:
    name, source, referenced = "broken", "", True

    def __call__(self, pairs):
        return torch.where(torch.arange(len(pairs.chosen)) == 1, math.nan, 1.0) * pairs.chosen


def test_a_loss_that_is_no_number_is_refused_with_the_row_and_nothing_stays_behind():
    model, batch = llama(), Batch()
    monitor = EntanglementMonitor(model)
    with (
        pytest.raises(InvalidRequest, match="row 32: the loss is nan"),
        monitor.watch(pairs=3, rows=[31, 32, 33]) as step,
    ):
        step.loss(_Broken(), pair_logps(*batch.logps(model)))
    assert not any(m._forward_hooks for m in model.modules())
    one_step(model, batch, monitor)
    assert len(monitor.last.pairs) == 3


def test_wrong_use_says_what_to_do():
    model, batch = llama(), Batch()
    with pytest.raises(InvalidRequest, match="every is 0"):
        EntanglementMonitor(model, every=0)
    with pytest.raises(InvalidRequest, match="ghots"):
        EntanglementMonitor(model, backend="ghots")
    monitor = EntanglementMonitor(model)
    with pytest.raises(InvalidRequest, match="no pass was watched"):
        monitor.stepped(lr=0.1)
    with pytest.raises(InvalidRequest, match="told nothing"), monitor.watch(pairs=1):
        pass
    with pytest.raises(InvalidRequest, match="2 rows"):
        monitor.watch(pairs=3, rows=[1, 2])
    with pytest.raises(TenfoldError, match="not differentiated"), monitor.watch(pairs=3) as step:
        step.loss(make_loss("dpo"), pair_logps(*batch.logps(model)))


def test_a_loss_made_elsewhere_is_measured_by_its_weights():
    model, batch, loss = llama(), Batch(), make_loss("dpo")
    monitor = EntanglementMonitor(model)
    with monitor.watch(pairs=3) as step:
        pairs = pair_logps(*batch.logps(model))
        value = loss(pairs).mean()
        step.weighed(pairs, *loss.weights(pairs), share=1 / 6, value=value)
        (value / 2).backward()
    monitor.stepped(lr=0.1)
    found = torch.tensor([r.inner for r in monitor.last.pairs])
    torch.testing.assert_close(found.double(), by_a_loop(model, batch)[:, 0], rtol=2e-5, atol=1e-9)


def test_realised_changes_are_what_the_step_did():
    model, batch = llama().double(), Batch(pairs=1)
    monitor = EntanglementMonitor(model, every=1)
    optimizer, loss, rate = torch.optim.SGD(model.parameters(), lr=1e-5), make_loss("dpo"), 1e-5
    with monitor.watch(pairs=1) as step:
        step.loss(loss, pair_logps(*batch.logps(model))).backward()
    optimizer.step()
    monitor.stepped(lr=rate, after=lambda: batch.logps(model)[0].chunk(2))
    (record,) = monitor.last.pairs
    assert record.chosen_realised == pytest.approx(record.chosen_change, rel=0.05)
    assert record.rejected_realised == pytest.approx(record.rejected_change, rel=0.05)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("modules", [None, ["lm_head"]])
def test_of_a_model_with_adapters_what_is_trained_counts(modules):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(
        r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=False, modules_to_save=modules
    )
    torch.manual_seed(2)
    model, batch = peft.get_peft_model(llama(tied=False), config), Batch()
    monitor = EntanglementMonitor(model, layers=True)
    one_step(model, batch, monitor)
    _agrees(monitor.last.pairs, by_a_loop(model, batch))
    assert ("lm_head" in str(monitor.last.layers)) == bool(modules)


def _agrees(records, exact, rel=2e-5) -> None:
    found = torch.tensor(
        [[r.inner, r.chosen_sq, r.rejected_sq] for r in records], dtype=torch.float64
    )
    torch.testing.assert_close(found, exact, rtol=rel, atol=1e-9)


@pytest.mark.parametrize("backend", ["ghost", "split"])
def test_named_parameters_only_and_the_log_says_so(backend, tmp_path):
    model, batch = llama(), Batch(pairs=1)
    log = tmp_path / "log.jsonl"
    monitor = EntanglementMonitor(
        model, backend=backend, only=lambda n: ".1.self_attn" in n, log=log
    )
    one_step(model, batch, monitor)
    assert all(p.grad is not None for p in model.parameters())
    for name, p in model.named_parameters():
        p.requires_grad_(".1.self_attn" in name)
    _agrees(monitor.last.pairs, by_a_loop(model, batch))
    run = next(read_log(log))
    assert run["parameters_measured"] == sum(
        p.numel() for p in model.parameters() if p.requires_grad
    )
    assert run["parameters"] > run["parameters_measured"]


def test_padding_on_the_left_counts_nothing():
    model, batch = llama(), Batch()
    lengths = batch.attention.sum(1).tolist()
    for name in ("ids", "attention", "answer"):
        rows = getattr(batch, name)
        turned = [torch.roll(x, 20 - n) for x, n in zip(rows, lengths, strict=True)]
        setattr(batch, name, torch.stack(turned))
    monitor = EntanglementMonitor(model)
    one_step(model, batch, monitor)
    _agrees(monitor.last.pairs, by_a_loop(model, batch))


def test_a_token_that_pads_has_no_gradient_where_it_ends_an_answer():
    model, batch = llama(tied=False), Batch()
    model.get_input_embeddings().padding_idx = 0
    batch.ids[0, 10] = 0  # an answer's token, with others behind it
    monitor = EntanglementMonitor(model)
    one_step(model, batch, monitor)
    _agrees(monitor.last.pairs, by_a_loop(model, batch))


def test_a_model_in_bf16_is_measured_in_float32():
    exact = by_a_loop(llama(), Batch())
    model, batch = llama().bfloat16(), Batch()
    monitor = EntanglementMonitor(model)
    one_step(model, batch, monitor)
    _agrees(monitor.last.pairs, by_a_loop(model, batch), rel=0.02)
    cosine = exact[:, 0] / (exact[:, 1] * exact[:, 2]).sqrt()
    for record, expected in zip(monitor.last.pairs, cosine.tolist(), strict=True):
        assert record.cosine == pytest.approx(expected, abs=0.03)


def test_a_hinge_that_is_not_active_leaves_the_pair_inactive():
    model, batch = llama(), Batch()
    loss = make_loss("slic", nll=0.0, delta=-1e3)
    monitor = EntanglementMonitor(model)
    with monitor.watch(pairs=3) as step:
        pairs = pair_logps(*batch.logps(model), referenced=False)
        step.loss(loss, pairs).backward()
    monitor.stepped(lr=0.1)
    assert {r.verdict for r in monitor.last.pairs} == {"inactive"}
    assert monitor.last.batch["verdict"] == "inactive"
    assert monitor.last.metrics()["inactive"] == 1.0


def test_predicted_signs_come_true_in_a_small_step_of_sgd():
    right = seen = 0
    for seed in range(12):
        torch.manual_seed(seed)
        model, batch = llama().double(), Batch(pairs=1, seed=seed, alike=8 + seed % 6)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.05 * torch.randn_like(p))
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
        monitor = EntanglementMonitor(model)
        with monitor.watch(pairs=1) as step:
            step.loss(make_loss("dpo"), pair_logps(*batch.logps(model))).backward()
        optimizer.step()
        monitor.stepped(lr=1e-6, after=lambda m=model, b=batch: b.logps(m)[0].chunk(2))
        (r,) = monitor.last.pairs
        for told, did in (
            (r.chosen_change, r.chosen_realised),
            (r.rejected_change, r.rejected_realised),
        ):
            right, seen = right + (told * did > 0), seen + 1
    assert right >= 0.95 * seen
