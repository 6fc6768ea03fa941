"""Each fix with every loss, against models that take the step."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors.torch import load_file

from tenfold.align.entanglement import PairStats
from tenfold.align.fixes import FIXES, AutoLambda, Fixes, Reweighted, normalised
from tenfold.align.logps import token_logps
from tenfold.align.losses import LOSSES, PairLogps, autograd_weights, make_loss
from tenfold.align.monitor import EntanglementMonitor
from tenfold.errors import InvalidRequest, TenfoldError, UnknownName
from tests.align.models import Batch, by_a_loop, gpt2, llama

pytest.importorskip("transformers")
NAMES = sorted(LOSSES)
SEEDS = range(3)


def cut_short(pairs: int = 1, seed: int = 0) -> Batch:
    """The chosen answer is how the rejected one begins: plain steps drag it down."""
    batch = Batch(pairs=pairs, seed=seed)
    drawn = torch.Generator().manual_seed(seed)
    batch.ids = torch.randint(3, 97, (pairs, 20), generator=drawn).repeat(2, 1)
    lengths = torch.tensor([14] * pairs + [20] * pairs)
    place = torch.arange(20)[None]
    batch.attention = (place < lengths[:, None]).long()
    batch.answer = (place >= 8) & (batch.attention == 1)
    return batch


def tokens(model, batch: Batch) -> torch.Tensor:
    out = model(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False)
    return token_logps(out.logits, batch.ids)


def pairs_of(model, batch: Batch, fix: Fixes, loss, counted=None) -> PairLogps:
    """Log-probs as a trainer has them; the reference's a little off, so that chosen has fallen."""
    counted = batch.answer if counted is None else counted
    found = tokens(model, batch)
    counts = counted[:, 1:].sum(1).to(found)
    summed = fix.logps(found, counted)
    ref = (None, None)
    if loss.referenced:
        base = fix.logps(found.detach() * 0.98, counted)  # less surprised than the policy
        ref = base.chunk(2)
    return PairLogps(*summed.chunk(2), *counts.chunk(2), *ref)


def fixed_step(model, batch: Batch, fixes: Fixes, name: str, counted=None) -> PairLogps:
    """The gradients of one mended step."""
    model.zero_grad()
    loss = make_loss(name)
    with fixes.watch(batch.pairs) as fix:
        pairs = pairs_of(model, batch, fix, loss, counted)
        (fix.loss(loss, pairs)(pairs).mean() + fix.penalty()).backward()
    return pairs


def moved(model, batch: Batch, rate: float = 1e-7, counted=None) -> tuple[list, list]:
    """How fast descent along the gradients there are moves both log-probs, [pairs] each."""
    counted = (batch.answer if counted is None else counted)[:, 1:]
    with torch.no_grad():
        before = (tokens(model, batch) * counted).sum(1)
        for p in model.parameters():
            p.sub_(rate * p.grad)
        after = (tokens(model, batch) * counted).sum(1)
        for p in model.parameters():
            p.add_(rate * p.grad)
    change = (after - before) / rate
    return [half.tolist() for half in change.chunk(2)]


def length(model) -> float:
    return float(sum((p.grad**2).sum() for p in model.parameters())) ** 0.5


@pytest.mark.parametrize("name", NAMES)
def test_with_the_normalised_gradient_each_answer_goes_where_the_loss_wants_it(name):
    model = gpt2().double()
    loss, fixes = make_loss(name), Fixes(model, {"normalised": {}})
    for seed in SEEDS:
        batch = cut_short(seed=seed)
        pairs = fixed_step(model, batch, fixes, name)
        up, down = (change[0] for change in moved(model, batch))
        d_w, d_l = (float(d) for d in autograd_weights(loss, pairs))
        if d_w and d_l:  # a hinge may be silent
            assert up * d_w > 0
            assert down * d_l < 0
        mended = length(model)
        model.zero_grad()
        loss(pairs_of(model, batch, fixes, loss)).mean().backward()
        assert mended == pytest.approx(length(model), rel=1e-4)


def test_the_plain_step_drags_these_answers():
    model, loss = gpt2().double(), make_loss("dpo")
    none, down = Fixes(model), 0
    for seed in SEEDS:
        batch = cut_short(seed=seed)
        fixed_step(model, batch, none, loss.name)
        down += moved(model, batch)[0][0] < 0
    assert down >= 2  # else the fixes have nothing to mend


def test_the_normalised_step_of_a_batch_is_the_sum_of_its_pairs():
    model, batch = llama(), cut_short(pairs=3)
    fixes = Fixes(model, {"normalised": {}})
    pairs = fixed_step(model, batch, fixes, "dpo")
    found = [p.grad.clone() for p in model.parameters()]
    d = make_loss("dpo").weights(pairs)[0].tolist()
    expected = [torch.zeros_like(p) for p in model.parameters()]
    for row in range(3):
        both = [
            torch.autograd.grad(
                batch.logps(model, slice(r, r + 1))[0].sum(), list(model.parameters())
            )
            for r in (row, row + 3)
        ]
        norms = [sum(float((g**2).sum()) for g in side) ** 0.5 for side in both]
        unit = [a / norms[0] - b / norms[1] for a, b in zip(*both, strict=True)]
        plain = [a - b for a, b in zip(*both, strict=True)]
        longer, away = (sum(float((g**2).sum()) for g in x) ** 0.5 for x in (plain, unit))
        for sum_, u in zip(expected, unit, strict=True):
            sum_.sub_(d[row] * longer / away * u / 3)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-6)


def test_the_split_back_end_mends_a_single_pair_alike():
    model, batch = llama(), cut_short()
    grads = []
    for backend in ("ghost", "split"):
        fixed_step(model, batch, Fixes(model, {"normalised": {}}, backend=backend), "cpo")
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-5)
    with pytest.raises(InvalidRequest, match="2 pairs of a batch"):
        fixed_step(model, cut_short(2), Fixes(model, {"normalised": {}}, backend="split"), "dpo")


@pytest.mark.parametrize("fix", [{}, {"normalised": {}}, {"auto_lambda": {}}])
@pytest.mark.parametrize("name", ["dpo", "ipo", "cpo"])
def test_the_learnt_mask_has_one_gradient_whatever_back_end_measures(name, fix):
    """Through policy and reference, scaled by the trainer, in every parameter of the mask."""
    loss, grads = make_loss(name), {}
    for backend in (None, "ghost", "split"):
        model, batch = llama().double(), cut_short()
        ahead = "split" if backend == "split" else "ghost"
        fixes = Fixes(model, {"learned_mask": {}, **fix}, backend=ahead)
        monitor = EntanglementMonitor(model, every=1, backend=backend or "ghost")
        with monitor.watch(pairs=1) as step, fixes.watch(1) as inside:
            pairs = pairs_of(model, batch, inside, loss)
            mended = inside.loss(loss, pairs)
            watched = step.loss(mended, pairs)
            value = watched if backend else mended(pairs).mean()
            (8 * (value + inside.penalty())).backward()
        trained = [*fixes.parameters(), *model.parameters()]
        grads[backend] = [p.grad.flatten().double() for p in trained]
    for backend in ("ghost", "split"):
        for plain, found in zip(grads[None], grads[backend], strict=True):
            torch.testing.assert_close(found, plain, rtol=2e-3, atol=1e-6)


def test_what_is_trained_beside_the_model_is_differentiated_by_the_split_back_end():
    model, batch, loss = llama(), Batch(), make_loss("cpo")
    grads = []
    for backend in ("ghost", "split"):
        weight = torch.ones(6, requires_grad=True)
        monitor = EntanglementMonitor(model, every=1, backend=backend)
        for _ in range(2):  # accumulated
            with monitor.watch(pairs=3) as step:
                summed, counts = batch.logps(model)
                (step.loss(loss, PairLogps(*(summed * weight).chunk(2), *counts.chunk(2))) / 2
                 ).backward()  # fmt: skip
        grads.append(weight.grad)
    torch.testing.assert_close(*grads)


def test_accumulated_micro_batches_are_the_batch():
    model, whole = llama(), cut_short(pairs=2)
    fixes = Fixes(model, {"normalised": {}})
    fixed_step(model, whole, fixes, "dpo")
    grads = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    for row in range(2):
        part, loss = cut_short(), make_loss("dpo")
        for name in ("ids", "attention", "answer"):
            setattr(part, name, getattr(whole, name)[[row, row + 2]])
        with fixes.watch(1) as fix:
            pairs = pairs_of(model, part, fix, loss)
            (fix.loss(loss, pairs)(pairs).mean() / 2).backward()
    for p, grad in zip(model.parameters(), grads, strict=True):
        torch.testing.assert_close(p.grad, grad, rtol=1e-3, atol=2e-6)


vectors = st.lists(st.floats(-3, 3), min_size=3, max_size=3)
weights = st.floats(-4, 4).filter(lambda d: abs(d) > 0.05)


@given(vectors, vectors, weights, weights)
def test_normalised_weights_are_of_the_plain_steps_length_and_of_the_losss_signs(
    g_w, g_l, d_w, d_l
):
    a, b = torch.tensor(g_w, dtype=torch.float64), torch.tensor(g_l, dtype=torch.float64)
    assume(a.norm() > 0.1 and b.norm() > 0.1 and abs(float(a @ b / a.norm() / b.norm())) < 0.999)
    values = (a @ b, a @ a, b @ b, d_w, d_l)
    stats = PairStats(*(torch.as_tensor(v, dtype=torch.float64)[None] for v in values))
    a_w, a_l = (float(x) for x in normalised(stats))
    step = a_w * a - a_l * b
    assert float(step.norm()) == pytest.approx(float((d_w * a - d_l * b).norm()), rel=1e-6)
    assert float(a @ step) * d_w > 0
    assert float(b @ step) * d_l < 0


def test_gradients_that_are_the_same_move_nothing():
    same = PairStats(*(torch.tensor([v], dtype=torch.float64) for v in (2.0, 2.0, 2.0, 1.0, 1.0)))
    assert [float(a) for a in normalised(same)] == [0.0, 0.0]


@pytest.mark.parametrize("name", NAMES)
def test_with_the_automatic_lambda_no_chosen_answer_falls(name):
    model, loss = gpt2().double(), make_loss(name)
    for seed in SEEDS:
        batch = cut_short(seed=seed)
        fixes = Fixes(model, {"auto_lambda": {"cap": 1e6}})
        pairs = fixed_step(model, batch, fixes, name)
        most = max(abs(float(d)) for d in autograd_weights(loss, pairs))
        up = moved(model, batch, 1e-7 / max(most, 1.0))[0][0]
        inner, chosen, _ = by_a_loop(model, batch)[0].tolist()
        scale = most * (chosen + abs(inner))
        if fixes.auto.value == 0:
            assert up >= -1e-6 * scale
            continue
        assert up == pytest.approx(0, abs=3e-5 * scale)  # the smallest: it just does not fall
        d_w, d_l = autograd_weights(fixes.auto.loss(loss), pairs)
        assert float(d_w / d_l) == pytest.approx(inner / chosen, rel=1e-3)


def test_dpops_lambda_is_the_closed_form_and_the_worst_pairs():
    loss, auto = make_loss("dpop"), AutoLambda()
    one = torch.ones(3)
    pairs = PairLogps(-5 * one, -6 * one, one, one, torch.tensor([-4.0, -4.0, -6.0]), -6 * one)
    products = [torch.tensor(x).double() for x in ([3.0, 2.0, 9.0], [2.0, 2.0, 1.0], [9.0] * 3)]
    stats = PairStats(*products, one.double(), one.double())
    assert auto.update(loss, pairs, stats) == pytest.approx(0.5)  # the third is above its reference
    assert auto.loss(loss) == replace(loss, penalty=auto.value)


def test_lambda_rises_at_once_falls_slowly_and_never_passes_its_cap():
    loss, auto = make_loss("slic"), AutoLambda(every=3, cap=2.0, keep=0.5)
    one = torch.ones(1)
    pairs = PairLogps(-5 * one, -5 * one, one, one)

    def step(inner: float) -> float:
        due = auto.due
        if due:
            values = (inner, 1.0, 100.0, 1.0, 1.0)
            auto.update(loss, pairs, PairStats(*(torch.tensor([v]).double() for v in values)))
        auto.stepped()
        return auto.value

    assert [step(1.8), step(0), step(0)] == pytest.approx([0.8] * 3, rel=1e-6)
    assert step(0) == pytest.approx(0.4, rel=1e-6)  # due again: half of what it was
    assert [step(0), step(0)] == pytest.approx([0.4] * 2, rel=1e-6)
    assert step(50) == pytest.approx(2.0)
    assert auto.capped == 1
    other = AutoLambda()
    other.load(auto.state())
    assert (other.value, other.due) == (2.0, False)


ALONE = """
import sys, torch, torch.distributed as dist
from tenfold.align.entanglement import PairStats
from tenfold.align.fixes import AutoLambda
from tenfold.align.losses import PairLogps, make_loss
rank, meeting = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
loss, auto, pairs = make_loss("slic"), AutoLambda(every=1), 1 + rank
for inner in ((1.8, 1.2), (1.0, 1.5)):
    one = torch.ones(pairs)
    values = (inner[rank], 1.0, 100.0, 1.0, 1.0)
    stats = PairStats(*(torch.full((pairs,), v).double() for v in values))
    auto.update(loss, PairLogps(-5 * one, -5 * one, one, one), stats)
    auto.stepped()
    print(f"{auto.value:.4f}")
dist.destroy_process_group()
"""


def test_all_processes_have_the_lambda_of_the_neediest_pair(tmp_path):
    about = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", ALONE, str(rank), str(tmp_path / "meeting")],
            stdout=subprocess.PIPE,
            text=True,
            env=about,
        )
        for rank in (0, 1)
    ]
    try:
        told = [one.communicate(timeout=100)[0].split() for one in running]
    finally:
        for one in running:
            one.kill()
            one.wait()
    assert told == [["0.8000", "0.7700"]] * 2  # the first one's need, then 0.9 x 0.8 + 0.1 x 0.5


@pytest.mark.parametrize("name", NAMES)
def test_a_reweighted_loss_is_a_loss_with_these_weights(name):
    loss = make_loss(name)
    one = torch.ones(2)
    ref = (-4 * one, -5 * one) if loss.referenced else (None, None)
    pairs = PairLogps(-5 * one, -6 * one, 3 * one, 4 * one, *ref)
    given = (torch.tensor([0.5, -1.0]), torch.tensor([2.0, 0.0]))
    mended = Reweighted(loss, given)
    torch.testing.assert_close(mended(pairs), loss(pairs))
    for found, wanted in zip(autograd_weights(mended, pairs), given, strict=True):
        torch.testing.assert_close(found, wanted)
    assert (mended.name, mended.referenced) == (loss.name, loss.referenced)


@pytest.mark.parametrize("name", NAMES)
def test_reweighted_with_its_own_weights_a_loss_teaches_a_mask_the_same(name):
    loss, drawn = make_loss(name), torch.Generator().manual_seed(3)
    tokens = -torch.rand(4, 5, generator=drawn, dtype=torch.float64)
    off = 0.1 * torch.randn(4, 5, generator=drawn, dtype=torch.float64)
    mu = torch.rand(4, 5, generator=drawn, dtype=torch.float64).requires_grad_()
    summed, ref = (tokens * mu).sum(1), ((tokens + off) * mu).sum(1)
    count = torch.full((2,), 5.0, dtype=torch.float64)
    refs = ref.chunk(2) if loss.referenced else ()
    pairs = PairLogps(*summed.chunk(2), count, count, *refs)
    mended = Reweighted(loss, autograd_weights(loss, pairs))
    found, plain = (
        torch.autograd.grad(x(pairs).sum(), mu, retain_graph=True) for x in (mended, loss)
    )
    torch.testing.assert_close(found, plain)


@pytest.mark.parametrize("fix", [{}, {"normalised": {}}])
def test_a_policy_that_is_its_reference_teaches_the_mask_nothing(fix):
    model, batch, loss = gpt2().double(), cut_short(), make_loss("dpo")
    fixes = Fixes(model, {"learned_mask": {"l1": 0.0}, **fix})
    with fixes.watch(1) as inside:
        found = tokens(model, batch)
        own, ref = (inside.logps(t, batch.answer).chunk(2) for t in (found, found.detach()))
        count = batch.answer[:, 1:].sum(1).to(found).chunk(2)
        pairs = PairLogps(*own, *count, *ref)
        inside.loss(loss, pairs)(pairs).mean().backward()
    for p in fixes.parameters():
        torch.testing.assert_close(p.grad, torch.zeros_like(p), rtol=0, atol=1e-6)
    assert length(model) > 0


def test_the_monitor_records_the_mended_step():
    model, batch, loss = gpt2().double(), cut_short(), make_loss("dpo")
    monitor, fixes = EntanglementMonitor(model, every=1), Fixes(model, {"normalised": {}})
    with monitor.watch(pairs=1) as step, fixes.watch(1) as fix:
        pairs = pairs_of(model, batch, fix, loss)
        step.loss(fix.loss(loss, pairs), pairs).backward()
    up, down = (change[0] for change in moved(model, batch))
    monitor.stepped(lr=1.0)
    (record,) = monitor.last.pairs
    assert record.verdict == "ideal"
    assert record.chosen_change == pytest.approx(up, rel=1e-3)
    assert record.rejected_change == pytest.approx(down, rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("second", ["normalised", "auto_lambda"])
def test_fixes_work_together(name, second):
    model, batch = gpt2().double(), Batch(pairs=2)
    fixes = Fixes(model, {key: {} for key in ("shared_mask", "learned_mask", second)})
    counted = fixes.counted(batch.ids, batch.answer)
    fixed_step(model, batch, fixes, name, counted)
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    assert all(bool(p.grad.isfinite().all()) for p in fixes.parameters())
    again = Fixes(model, {key: {} for key in ("shared_mask", "learned_mask", second)})
    again.load(fixes.state())
    assert all(bool((again.state()[n] == t).all()) for n, t in fixes.state().items())


def test_without_fixes_nothing_changes():
    model, loss = llama(), make_loss("dpo")
    fixes, batch = Fixes(model), Batch()
    with fixes.watch(3) as fix:
        pairs = pairs_of(model, batch, fix, loss)
        assert fix.loss(loss, pairs) is loss
    torch.testing.assert_close(pairs.chosen, batch.logps(model)[0][:3])
    assert fixes.counted(batch.ids, batch.answer) is batch.answer


def test_what_does_not_exist_is_named():
    model = llama()
    with pytest.raises(UnknownName, match="fix 'normalized'"):
        Fixes(model, {"normalized": {}})
    with pytest.raises(UnknownName, match="l2"):
        Fixes(model, {"learned_mask": {"l2": 1}})
    with pytest.raises(UnknownName, match="middle"):
        Fixes(model, {"shared_mask": {"kind": "middle"}})
    with pytest.raises(InvalidRequest, match="keep is True"):
        Fixes(model, {"auto_lambda": {"keep": True}})
    with pytest.raises(InvalidRequest, match="cap is 0"):
        Fixes(model, {"auto_lambda": {"cap": 0}})
    pairs = pairs_of(model, Batch(), Fixes(model), make_loss("dpo"))
    with pytest.raises(TenfoldError, match="no pass is watched"):
        Fixes(model, {"normalised": {}}).loss(make_loss("dpo"), pairs)
    assert set(FIXES) == {"normalised", "shared_mask", "learned_mask", "auto_lambda"}


@pytest.mark.parametrize("fix", [{n: {}} for n in FIXES] + [dict.fromkeys(FIXES, {})])  # noqa: RUF024
def test_the_trainer_trains_with_it_and_goes_on_where_it_was_killed(tmp_path, fix):
    pytest.importorskip("peft")
    from tenfold.align.trainer import PreferenceTrainer
    from tests.align.runs import config, lines

    whole = config(tmp_path, fix=fix, lora=None, steps=6, checkpoint_every=2)
    PreferenceTrainer(whole).run()
    part = config(
        tmp_path, fix=fix, lora=None, steps=6, checkpoint_every=2, output=str(tmp_path / "part")
    )
    trainer = PreferenceTrainer(part)
    advance, done = trainer._advance, []

    def killed() -> None:
        done.append(advance())
        if len(done) == 3:
            raise KeyboardInterrupt

    trainer._advance = killed
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert PreferenceTrainer(part).run().resumed == 2
    for kind in ("progress", "entanglement"):
        assert lines(tmp_path / "part", kind) == lines(Path(whole.output), kind)
    saved = load_file(Path(whole.output) / "model.safetensors")
    assert not any("head." in n and "lm_head" not in n for n in saved)  # the mask stays behind
