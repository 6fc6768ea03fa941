"""Advice and diagnosis on logs whose products are known in closed form: |g_w| = 1, |g_l| given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.align.advice import Advice, advise, shared_part
from tenfold.align.diagnosis import COVER, Move, diagnose, trouble
from tenfold.align.losses import make_loss
from tenfold.align.run import Heat, read_run
from tests.align.logs import write_log


def made(tmp_path: Path, **how: Any) -> dict[str, Advice]:
    found = advise(write_log(tmp_path / "log.jsonl", **how))
    assert [a.effect for a in found] == sorted((a.effect for a in found), reverse=True)
    assert all(0 <= a.effect <= 1.5 for a in found)
    return {a.name: a for a in found}


def test_ideal_verdicts_call_for_nothing(tmp_path: Path):
    found = made(tmp_path, cosine=0.3, longer=1.0)
    assert list(found) == ["none"]
    assert found["none"].figure == 1.0
    assert "100% of 80 measurements" in found["none"].why


def test_what_would_be_enough_is_the_inner_product_over_the_square(tmp_path: Path):
    """<g_w, g_l> / |g_w|^2 = 0.9 * 1.5: DPOP lacks 0.35, an SFT term 0.35 d_l |w| a token."""
    found = made(tmp_path, cosine=0.9, longer=1.5, d_w=0.05, d_l=0.05, tokens=(40, 50))
    assert next(iter(found)) == "normalised"
    assert found["normalised"].effect == pytest.approx(1.0)
    assert found["normalised"].figure == pytest.approx(0.9)
    assert found["penalty"].value == pytest.approx(0.35)
    assert found["penalty"].setting == "loss: {name: dpop, beta: 0.1, penalty: 0.35}"
    assert found["nll"].value == pytest.approx(0.35 * 0.05 * 40)
    assert found["nll"].figure == pytest.approx(1.35)
    assert found["nll"].setting == "loss: {name: dpo, beta: 0.1, nll: 0.7}"
    assert found["nll"].effect == found["penalty"].effect


def test_a_suggested_weight_is_enough_for_nine_pairs_in_ten_and_no_larger(tmp_path: Path):
    log = write_log(tmp_path / "log.jsonl", cosine=0.8, longer=1.4, spread=0.1, steps=400, every=2)
    run, found = read_run(log), {a.name: a for a in advise(log)}
    t = run.moved()
    more = found["nll"].value / t["chosen_tokens"]
    for size, right in ((1.001, True), (0.97, False)):
        falls = trouble(t, t["d_w"] + size * more, t["d_l"]).falls
        assert (falls < 1 - COVER + 1e-9) is right
        falls = trouble(t, t["d_l"] * (1 + size * found["penalty"].value), t["d_l"]).falls
        assert (falls < 1 - COVER + 1e-9) is right
    before = trouble(t, t["d_w"], t["d_l"])
    after = trouble(t, t["d_w"] + more, t["d_l"])
    assert found["nll"].effect == pytest.approx(before.total - after.total)


def test_an_sft_term_that_is_there_counts(tmp_path: Path):
    """d_w = d_l + nll / |w|: what is suggested replaces it."""
    have = 0.4
    found = made(
        tmp_path, d_w=0.05 + have / 40, d_l=0.05,
        about={"loss_parameters": {"beta": 0.1, "nll": have}},
    )  # fmt: skip
    assert found["nll"].value == pytest.approx(0.7)
    assert "lengths" not in found


def test_an_sft_term_that_lifts_rejected_answers_is_lowered(tmp_path: Path):
    """Needed is d_w/d_l = 0.9, from 1 / 0.9 on the rejected answer rises too."""
    found = made(
        tmp_path, cosine=0.9, longer=1.0, d_w=0.1, d_l=0.05,
        about={"loss": "cpo", "loss_parameters": {"beta": 0.1, "nll": 0.05}},
    )  # fmt: skip
    assert found["nll"].what == "Weaken the SFT term"
    assert found["nll"].value == pytest.approx(0.0)
    assert found["nll"].effect == pytest.approx(0.5)
    assert "penalty" not in found  # cpo has no reference


def test_a_penalty_that_is_too_large_is_lowered_to_what_is_enough(tmp_path: Path):
    found = made(
        tmp_path, cosine=0.9, longer=1.2, d_w=51 * 0.05, d_l=0.05,
        about={"loss": "dpop", "loss_parameters": {"beta": 0.3, "penalty": 50.0}},
    )  # fmt: skip
    assert found["penalty"].value == pytest.approx(0.08)
    assert found["penalty"].what == "Lower DPOP's penalty to what is enough"
    assert found["penalty"].effect == pytest.approx(0.5)


def test_log_probs_a_token_help_where_rejected_answers_are_longer(tmp_path: Path):
    """Averaging makes d_w/d_l = |l|/|w| = 1.25, and 1.08 is needed."""
    found = made(tmp_path, cosine=0.9, longer=1.2, tokens=(40, 50))
    assert found["lengths"].figure == pytest.approx(1.25)
    assert found["lengths"].what.startswith("Average")
    assert found["lengths"].effect == pytest.approx(1.0)  # rejected ones rise from 1.2 / 0.9 on
    found = made(tmp_path / "b", cosine=0.9, longer=1.2, tokens=(40, 60))
    assert found["lengths"].effect == pytest.approx(0.5)


def test_sums_help_where_averaging_makes_chosen_answers_fall(tmp_path: Path):
    found = made(
        tmp_path, cosine=0.9, longer=1.0, d_w=1 / 50, d_l=1 / 40, tokens=(50, 40),
        about={"loss": "simpo", "reference": False},
    )  # fmt: skip
    assert found["lengths"].what.startswith("Sum")
    assert found["lengths"].figure == pytest.approx(0.8)
    assert found["lengths"].effect == pytest.approx(1.0)
    assert "penalty" not in found


def test_no_advice_on_lengths_where_they_would_make_it_worse(tmp_path: Path):
    assert "lengths" not in made(tmp_path, cosine=0.9, longer=1.5, tokens=(50, 40))


def test_steps_that_are_too_long_ask_for_a_lower_learning_rate(tmp_path: Path):
    """A quadratic keeps 1 - a lr of its promise: -0.2 here, 3/4 at a learning rate of 0.25/1.2."""
    found = made(tmp_path, pairs=1, cosine=0.2, longer=1.0, kept=-0.2, lr=0.1)
    assert list(found) == ["learning_rate"]
    assert found["learning_rate"].value == pytest.approx(0.1 * 0.25 / 1.2)
    assert found["learning_rate"].figure == pytest.approx(-0.2)
    assert found["learning_rate"].effect == 1.0
    assert list(made(tmp_path / "b", pairs=1, cosine=0.2, longer=1.0, kept=0.6)) == ["none"]


def test_where_the_size_of_a_step_is_not_known_only_its_sign_counts(tmp_path: Path):
    adam = {"optimizer": "adamw"}
    kind = {"cosine": 0.2, "longer": 1.0, "lr": 0.1, "about": adam}
    assert list(made(tmp_path, kept=0.01, **kind)) == ["none"]
    found = made(tmp_path / "b", kept=-0.01, **kind)
    assert found["learning_rate"].value == pytest.approx(0.025)


def test_a_margin_that_is_larger_than_order_needs_asks_for_a_larger_beta(tmp_path: Path):
    found = made(tmp_path, cosine=0.9, longer=1.5, lr=1.0)
    run = read_run(tmp_path / "log.jsonl")
    gain, margin = (run.progress[n][-10:].mean() for n in ("chosen_gain", "margin"))
    assert gain < -1
    assert found["beta"].figure == pytest.approx(-gain / margin)
    assert found["beta"].value == pytest.approx(0.1 * min(-gain, 10))
    assert "beta" not in made(tmp_path / "b", cosine=0.9, longer=1.5, lr=0.01)


def test_the_share_that_shared_tokens_carry_is_what_masking_takes_away():
    cosine = np.array([[1.0, 0.2, 0.0], [0.1, 0.3, 0.0], [0.0, 0.0, 0.9]])
    shared, carried = shared_part(Heat(1, 1, ["a", "b", "z"], ["a", "c", "z"], cosine, cosine))
    assert shared == pytest.approx(2 / 3)
    assert carried == pytest.approx(1 - 0.3 / 2.5)  # only b with c is left
    longer = cosine * np.sqrt(np.outer([1, 100, 1], [1, 4, 1]))
    _, carried = shared_part(Heat(1, 1, ["a", "b", "z"], ["a", "c", "z"], cosine, longer))
    assert carried == pytest.approx(1 - 0.3 * 20 / longer.sum())


def test_a_fix_that_is_on_is_not_advised(tmp_path: Path):
    found = made(tmp_path, heats=1, about={"fix": {"normalised": {}, "shared_mask": {}}})
    assert "normalised" not in found
    assert "mask" not in found


def test_the_mask_is_advised_by_what_shared_tokens_carry(tmp_path: Path):
    assert "mask" not in made(tmp_path)
    found = made(tmp_path / "b", heats=2)
    assert found["mask"].figure > 0.8
    assert found["mask"].effect == pytest.approx(found["mask"].figure, abs=1e-9)


@settings(max_examples=25)
@given(st.floats(0.05, 0.95), st.floats(0.5, 2.0), st.sampled_from(["dpo", "simpo", "slic"]))
def test_what_is_advised_for_any_loss_keeps_chosen_answers_from_falling(cosine, longer, loss):
    import tempfile

    about = {"loss": loss, "loss_parameters": {"nll": 0.0}, "reference": loss == "dpo"}
    with tempfile.TemporaryDirectory() as folder:
        log = write_log(
            Path(folder) / "l.jsonl", cosine=cosine, longer=longer, steps=4, every=1, about=about
        )
        run, found = read_run(log), {a.name: a for a in advise(log)}
    t = run.moved()
    needed = cosine * longer
    if needed > 1.001:
        extra = found["nll"].value / (1.0 if loss == "slic" else t["chosen_tokens"])
        assert trouble(t, t["d_w"] + extra * (1 + 1e-9), t["d_l"]).falls == 0
    elif needed < 0.999:
        assert "nll" not in found or found["nll"].what != "Weaken the SFT term"


def test_advice_names_losses_and_parameters_that_exist(tmp_path: Path):
    for advice in made(tmp_path, lr=1.0).values():
        if advice.setting.startswith("loss: {"):
            inside = advice.setting.split(" or ")[0].rstrip(",")[len("loss: {") : -1]
            values = dict(part.split(": ") for part in inside.split(", "))
            name = values.pop("name")
            make_loss(
                name,
                **{
                    k: v == "true" if v in ("true", "false") else float(v)
                    for k, v in values.items()
                },
            )


def test_no_measured_step_gives_no_advice(tmp_path: Path):
    assert advise(write_log(tmp_path / "log.jsonl", steps=0)) == []


def test_why_chosen_log_probs_fall_is_one_sentence_by_cause(tmp_path: Path):
    def said(**how: Any) -> str:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
        return diagnose(read_run(write_log(path, lr=1.0, **how))).sentence

    assert "drags the chosen one along in 100% of measured pairs" in said()
    assert said().startswith("Chosen log-probs fall by ")
    fine = said(cosine=0.2, longer=1.0)
    assert fine.startswith("Chosen log-probs rise by ")
    assert "does to both what the loss wants" in fine
    both = said(cosine=0.9, longer=0.8)
    assert "lifts the rejected one too in 100%" in both


def test_falling_log_probs_with_ideal_steps_are_put_down_to_something_else(tmp_path: Path):
    def turned(path: Path, **how: Any) -> str:
        write_log(path, cosine=0.2, longer=1.0, lr=1.0, **how)
        text = path.read_text().replace('"chosen_gain": ', '"chosen_gain": -')
        path.write_text(text.replace("--", ""))
        return diagnose(read_run(path)).sentence

    assert "other pairs of the batch, or the optimizer" in turned(tmp_path / "a.jsonl")
    assert "the steps are too long" in turned(tmp_path / "b.jsonl", kept=-0.5)


def test_noise_is_no_move():
    drawn = np.random.default_rng(0)
    assert Move.of(drawn.standard_normal(200)).way == "stay"
    assert Move.of(drawn.standard_normal(200) + np.linspace(0, 8, 200)).way == "rise"
    assert Move.of(np.array([1.0, np.nan])) is None
