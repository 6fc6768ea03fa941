"""Verdicts, first-order predictions and the halves of a step, against models that take the step."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from tenfold.align.entanglement import PairStats, Verdict
from tenfold.align.fixes import normalised
from tenfold.align.losses import LOSSES, make_loss
from tenfold.align.split import halves
from tests.align.models import Batch, by_a_loop, gpt2, llama, pair_logps, train_once

pytest.importorskip("transformers")


def stats(inner, chosen, rejected, d_w=1.0, d_l=1.0) -> PairStats:
    return PairStats(
        *(
            torch.tensor([float(v)], dtype=torch.float64)
            for v in (inner, chosen, rejected, d_w, d_l)
        )
    )


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((0.0, 1.0, 1.0), Verdict.IDEAL),
        ((2.0, 1.0, 5.0), Verdict.BOTH_DOWN),  # the chosen gradient is the short one
        ((2.0, 5.0, 1.0), Verdict.BOTH_UP),
        ((2.0, 1.0, 5.0, 3.0), Verdict.BOTH_UP),
        ((2.0, 1.5, 3.0, 1.0, 1.0), Verdict.BOTH_DOWN),
        ((0.0, 1.0, 1.0, 0.0, 0.0), Verdict.INACTIVE),
    ],
)
def test_the_verdict_is_the_one_of_the_two_conditions(values, verdict):
    assert stats(*values).verdicts() == [verdict]


vectors = st.lists(st.floats(-3, 3), min_size=3, max_size=3)
weights = st.floats(0.05, 4)


@given(vectors, vectors, weights, weights)
def test_conditions_and_changes_agree_with_the_step_itself(g_w, g_l, d_w, d_l):
    a, b = torch.tensor(g_w, dtype=torch.float64), torch.tensor(g_l, dtype=torch.float64)
    assume(a.norm() > 0.1 and b.norm() > 0.1)
    step = d_w * a - d_l * b
    s = stats(a @ b, a @ a, b @ b, d_w, d_l)
    assert float(s.chosen_change) == pytest.approx(float(a @ step), abs=1e-9)
    assert float(s.rejected_change) == pytest.approx(float(b @ step), abs=1e-9)
    assume(abs(float(a @ step)) > 1e-9 and abs(float(b @ step)) > 1e-9)
    assert (s.inner < s.chosen_limit).item() == (float(a @ step) > 0)
    assert (s.inner < s.rejected_limit).item() == (float(b @ step) < 0)


@given(vectors, vectors, weights)
def test_a_loss_of_the_margin_always_widens_it(g_w, g_l, d):
    a, b = torch.tensor(g_w, dtype=torch.float64), torch.tensor(g_l, dtype=torch.float64)
    s = stats(a @ b, a @ a, b @ b, d, d)
    assert float(s.chosen_change - s.rejected_change) >= -1e-9
    assert s.verdicts() != [Verdict.ADVERSE]


@given(vectors, vectors, st.floats(0.1, 2))
def test_the_ratio_needed_is_where_the_chosen_answer_stops_falling(g_w, g_l, d_l):
    a, b = torch.tensor(g_w, dtype=torch.float64), torch.tensor(g_l, dtype=torch.float64)
    assume(float(a @ b) > 0.01 and a.norm() > 0.1)
    needed = float(stats(a @ b, a @ a, b @ b).ratio_needed)
    assert float(stats(a @ b, a @ a, b @ b, needed * d_l, d_l).chosen_change) == pytest.approx(
        0, abs=1e-9
    )
    assert float(stats(a @ b, a @ a, b @ b, 0.99 * needed * d_l, d_l).chosen_change) < 0


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_both_halves_together_are_the_training_gradient(name):
    model, batch, loss = llama().double(), Batch(), make_loss(name)
    pairs = train_once(model, batch, loss)
    parameters = list(model.parameters())
    plain = [p.grad.clone() for p in parameters]
    model.zero_grad()
    b = batch.pairs
    chosen, rejected = (batch.logps(model, rows)[0] for rows in (slice(0, b), slice(b, 2 * b)))
    both = halves(chosen, rejected, loss.weights(pairs), parameters, share=1 / b)
    for step, grad in zip(both.difference(), plain, strict=True):
        torch.testing.assert_close(-step, grad, rtol=2e-5, atol=1e-8)


def test_the_halves_of_one_pair_have_the_pairs_products():
    model, batch, loss = gpt2().double(), Batch(pairs=1), make_loss("cpo")
    both, pairs = _halves(model, batch, loss)
    d_w, d_l = (d.item() for d in loss.weights(pairs))
    inner, chosen, rejected = by_a_loop(model, batch)[0].tolist()
    found = both.stats()
    assert float(found.inner) == pytest.approx(inner * d_w * d_l, rel=1e-4)
    assert float(found.chosen_sq) == pytest.approx(chosen * d_w**2, rel=1e-4)
    assert float(found.rejected_sq) == pytest.approx(rejected * d_l**2, rel=1e-4)


def _halves(model, batch, loss):
    b = batch.pairs
    (chosen, n), (rejected, m) = (
        batch.logps(model, rows) for rows in (slice(0, b), slice(b, 2 * b))
    )
    pairs = pair_logps(torch.cat([chosen, rejected]), torch.cat([n, m]), referenced=loss.referenced)
    weights = loss.weights(pairs)
    return halves(chosen, rejected, weights, list(model.parameters()), share=1 / b), pairs


def _moved(model, batch, direction, rate):
    with torch.no_grad():
        before = batch.logps(model)[0].clone()
        for p, step in zip(model.parameters(), direction, strict=True):
            p.add_(rate * step)
        after = batch.logps(model)[0]
        for p, step in zip(model.parameters(), direction, strict=True):
            p.sub_(rate * step)
    return ((after - before) / rate).tolist()


@pytest.mark.parametrize("name", ["dpo", "simpo", "dpop", "slic"])
def test_what_is_predicted_happens_when_the_step_is_small(name):
    model, loss = gpt2().double(), make_loss(name)  # all of it in float64, unlike llama's norms
    for seed in range(4):
        batch = Batch(pairs=1, seed=seed)
        both, pairs = _halves(model, batch, loss)
        d_w, d_l = (d.detach() for d in loss.weights(pairs))
        inner, chosen, rejected = by_a_loop(model, batch).unbind(1)
        predicted = PairStats(inner, chosen, rejected, d_w.double(), d_l.double())
        up, down = _moved(model, batch, both.difference(), 1e-7)
        assert up == pytest.approx(float(predicted.chosen_change), rel=1e-3, abs=1e-4)
        assert down == pytest.approx(float(predicted.rejected_change), rel=1e-3, abs=1e-4)


def _cut_short(seed: int) -> Batch:
    """The chosen answer is how the rejected one begins: nothing speaks for it alone."""
    batch = Batch(pairs=1, seed=seed)
    batch.ids = torch.randint(3, 97, (1, 20), generator=torch.Generator().manual_seed(seed))
    batch.ids = batch.ids.repeat(2, 1)
    place = torch.arange(20)[None]
    batch.attention = (place < torch.tensor([[14], [20]])).long()
    batch.answer = (place >= 8) & (batch.attention == 1)
    return batch


def test_normalised_halves_never_drag_the_other_answer():
    model, loss = gpt2().double(), make_loss("dpo")
    dragged = 0
    for seed in range(12):
        batch = _cut_short(seed)
        both, _ = _halves(model, batch, loss)
        dragged += _moved(model, batch, both.difference(), 1e-7)[0] < 0
        a_w, a_l = (float(a) for a in normalised(both.stats()))
        mended = [a_w * u - a_l * v for u, v in zip(both.chosen, both.rejected, strict=True)]
        up, down = _moved(model, batch, mended, 1e-7)
        assert up > 0 > down
        lengths = [sum(float((p**2).sum()) for p in d) ** 0.5 for d in (mended, both.difference())]
        assert lengths[0] == pytest.approx(lengths[1], rel=1e-6)
    assert dragged  # else the plain step had nothing to mend
