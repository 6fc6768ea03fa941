"""Losses and their gradient weights against autograd, printed formulas and each other."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.align.losses import (
    LOSSES,
    PairLogps,
    autograd_weights,
    check_reference,
    make_loss,
)
from tenfold.errors import InvalidRequest, UnknownName

logps = st.floats(-60.0, -0.05)
lengths = st.integers(1, 40)


def pair(chosen, rejected, ref_chosen, ref_rejected, n, m) -> PairLogps:
    values = (chosen, rejected, n, m, ref_chosen, ref_rejected)
    return PairLogps(*(torch.tensor([float(v)], dtype=torch.float64) for v in values))


@pytest.mark.parametrize("name", LOSSES)
@given(logps, logps, logps, logps, lengths, lengths)
@settings(max_examples=40, deadline=None)
def test_the_closed_form_of_the_weights_is_what_autograd_finds(name, a, b, c, d, n, m):
    pairs, loss = pair(a, b, c, d, n, m), make_loss(name)
    for ours, truth in zip(loss.weights(pairs), autograd_weights(loss, pairs), strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("dpo", {"label_smoothing": 0.2}),
        ("dpo", {"nll": 0.5}),
        ("ipo", {"per_token": False}),
        ("cpo", {"per_token": True}),
        ("kto", {"z": 1.5, "desirable": 2.0, "undesirable": 0.5}),
    ],
)
def test_the_closed_form_holds_for_other_parameters(name, parameters):
    pairs, loss = pair(-12.0, -9.0, -11.0, -10.0, 7, 3), make_loss(name, **parameters)
    for ours, truth in zip(loss.weights(pairs), autograd_weights(loss, pairs), strict=True):
        torch.testing.assert_close(ours, truth)


def log_s(x: float) -> float:
    return -math.log1p(math.exp(-x))


A, B, RA, RB, W, L = -12.0, -9.0, -11.0, -10.5, 6.0, 3.0
GW, GL = A - RA, B - RB
FORMULAS = {  # written out again, in plain arithmetic
    "dpo": -log_s(0.1 * (GW - GL)),
    "ipo": (GW / W - GL / L - 5.0) ** 2,
    "rdpo": -log_s(0.1 * (GW - GL) + 0.2 * (W - L)),
    "simpo": -log_s(2.0 * A / W - 2.0 * B / L - 1.0),
    "cpo": -log_s(0.1 * (A - B)) - A,
    "dpop": -log_s(0.3 * (GW - GL - 50 * max(0.0, RA - A))),
    "slic": max(0.0, 1 - A + B) - 0.1 * A,
    "orpo": -A / W
    - 0.1
    * log_s(
        math.log(math.exp(A / W) / (1 - math.exp(A / W)))
        - math.log(math.exp(B / L) / (1 - math.exp(B / L)))
    ),
    "kto": (1 - math.exp(log_s(0.1 * GW))) + (1 - math.exp(log_s(-0.1 * GL))),
    "rrhf": max(0.0, B / L - A / W) - A,
    "sppo": (GW - 500) ** 2 + (GL + 500) ** 2,
    "caldpo": -log_s(GW - GL) + (GW - 5) ** 2 + (GL + 5) ** 2,
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_is_the_papers_formula(name):
    value = make_loss(name)(pair(A, B, RA, RB, W, L))
    assert float(value) == pytest.approx(FORMULAS[name], rel=1e-12)


def test_losses_of_the_margin_alone_weigh_both_answers_alike():
    pairs = pair(A, B, RA, RB, W, L)
    for name in ("dpo", "rdpo"):
        d_w, d_l = make_loss(name).weights(pairs)
        assert float(d_w / d_l) == 1.0
    d_w, d_l = make_loss("simpo").weights(pairs)
    assert float(d_w / d_l) == pytest.approx(L / W)


def test_an_inactive_hinge_moves_nothing_but_what_is_learnt():
    far = pair(-1.0, -50.0, 0, 0, 5, 5)
    assert [float(d) for d in make_loss("slic", nll=0.0).weights(far)] == [0.0, 0.0]
    assert float(make_loss("slic").weights(far)[0]) == pytest.approx(0.1)


def test_dpop_holds_only_a_chosen_answer_that_has_fallen():
    fallen, risen = pair(-12, -9, -11, -10, 4, 4), pair(-10, -9, -11, -10, 4, 4)
    ratios = [float(d_w / d_l) for d_w, d_l in map(make_loss("dpop").weights, (fallen, risen))]
    assert ratios == [pytest.approx(51.0), 1.0]


def test_orpo_is_finite_where_an_answer_is_almost_certain():
    sure = pair(-1e-9, -400.0, 0, 0, 1, 1)
    assert math.isfinite(float(make_loss("orpo")(sure)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"chosen_tokens": torch.tensor([3.0, 0.0])}, "row 1: chosen_tokens is 0"),
        ({"rejected": torch.tensor([-1.0, float("nan")])}, "row 1: rejected is nan"),
        ({"ref_chosen": None}, "of neither"),
        ({"rejected": torch.tensor([-1.0])}, "one value a pair"),
    ],
)
def test_what_cannot_be_compared_is_refused_by_row_and_field(change, says):
    two = torch.tensor([-1.0, -2.0])
    good = PairLogps(two, two, two * -1, two * -1, two, two)
    with pytest.raises(InvalidRequest, match=says):
        replace(good, **change)


def test_names_and_parameters_that_do_not_exist_are_refused():
    with pytest.raises(UnknownName, match="did you mean 'simpo'"):
        make_loss("simp")
    with pytest.raises(UnknownName, match="parameter of dpo"):
        make_loss("dpo", gamma=1.0)
    with pytest.raises(InvalidRequest, match="beta is 0"):
        make_loss("dpo", beta=0.0)


def test_a_reference_is_wanted_exactly_where_the_loss_has_one():
    check_reference(make_loss("dpo"), True)
    check_reference(make_loss("simpo"), False)
    with pytest.raises(InvalidRequest, match="there is none"):
        check_reference(make_loss("dpo"), False)
    with pytest.raises(InvalidRequest, match="has no reference model"):
        check_reference(make_loss("orpo"), True)
