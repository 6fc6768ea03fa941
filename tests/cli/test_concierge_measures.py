"""The bench's mathematics against numpy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tenfold.cli.bench import holds
from tenfold.cli.benchmarks import concierge_measures as measures
from tenfold.cli.benchmarks.concierge_teacher import first_tokens, logits_along, looked_up
from tenfold.models.loading import load_model
from tenfold.models.reference import reference_logits


def test_one_prompt_gives_pearson() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 50))
    found, skipped = measures.within_prompt_correlation([(x.tolist(), (x + y).tolist())])
    assert skipped == 0
    assert found == pytest.approx(np.corrcoef(x, x + y)[0, 1])


def test_what_prompts_differ_in_has_no_part() -> None:
    rng = np.random.default_rng(1)
    x, noise = rng.normal(size=(2, 6, 40))
    y = 0.5 * x + noise
    plain = measures.within_prompt_correlation(zip(x.tolist(), y.tolist(), strict=True))
    moved = x + np.arange(6)[:, None] * 100, y - np.arange(6)[:, None] * 70
    same = measures.within_prompt_correlation(
        zip(moved[0].tolist(), moved[1].tolist(), strict=True)
    )
    assert same[0] == pytest.approx(plain[0])
    centred = [(a - a.mean(1, keepdims=True)).ravel() for a in (x, y)]
    assert plain[0] == pytest.approx(np.corrcoef(*centred)[0, 1])


def test_prompts_without_variance_are_skipped_and_counted() -> None:
    flat, line = [1.0, 1.0, 1.0], [1.0, 2.0, 3.0]
    assert measures.within_prompt_correlation([(flat, line), (line, flat)]) == (None, 2)
    found, skipped = measures.within_prompt_correlation([(flat, line), (line, line[::-1])])
    assert (found, skipped) == (pytest.approx(-1.0), 1)


def test_spread_and_gain() -> None:
    scores = np.random.default_rng(2).random((5, 64))
    prompts = scores.tolist()
    assert measures.within_prompt_sd(prompts) == pytest.approx(scores.std(1).mean())
    gain = (scores.max(1) - scores.mean(1)).mean()
    assert measures.oracle_gain(prompts) == pytest.approx(gain)


def test_best_of_n_in_whole_groups() -> None:
    scores, values = [0.1, 0.9, 0.5, 0.5, 1.0], [1, 2, 3, 4, 5]
    assert measures.chosen(scores, values, 2) == [2, 3]  # the first of equals; no half group
    assert measures.chosen(scores, values, 5) == [5]


def test_masking_leaves_how_it_is_said() -> None:
    phrases = ["Blue Door", "Blue", "4.1", "Porto"]
    a = measures.masked("Blue Door is in Porto, rated 4.1.", phrases)
    assert a == "_ is in _, rated _."
    assert measures.masked("Blueprints by blue", phrases) == "Blueprints by _"
    assert measures.masked("call  408-971", []) == "call #-#"
    texts = ["Blue Door is in Porto.", "blue is in Porto.", "In Porto is Blue Door.", "No."]
    assert measures.distinct_share(texts, phrases) == 0.75


def test_total_variation() -> None:
    rng = np.random.default_rng(3)
    p, q = rng.dirichlet(np.ones(7), size=(2, 4))
    accepted = np.minimum(p, q).sum(-1)  # 2211.17192: the other way to write 1 - TV
    assert measures.total_variation(p, q) == pytest.approx(1 - accepted)
    on_torch = measures.total_variation(torch.from_numpy(p), torch.from_numpy(q))
    assert on_torch.numpy() == pytest.approx(1 - accepted)
    assert measures.total_variation(np.array([1.0, 0]), np.array([0, 1.0])) == 1


def test_over_the_best_baseline() -> None:
    assert measures.over_best_baseline(0.1, {"a": 0.5, "b": 0.4}) == pytest.approx(0.25)
    assert measures.over_best_baseline(0.1, {"a": 0.0}) is None
    assert measures.over_best_baseline(0.1, {}) is None
    assert measures.ratio(1, 0) == 0


@pytest.mark.parametrize(
    ("value", "bound", "kept"),
    [
        (0.03, "0.03 .. 0.35", True),
        (0.35, "0.03 .. 0.35", True),
        (0.02, "0.03 .. 0.35", False),
        (0.4, "0.03 .. 0.35", False),
        (-1.0, "-2 .. 0", True),
    ],
)
def test_bounds_with_two_sides(value: float, bound: str, kept: bool) -> None:
    assert holds(value, bound) is kept


def test_the_token_that_must_be_looked_up() -> None:
    text = "It costs $25 at Blue."
    tokens = ["It", " costs", " $", "2", "5", " at", " Bl", "ue", "."]
    ends = np.cumsum([len(t) for t in tokens]).tolist()
    offsets = list(zip([0, *ends], ends, strict=False))
    assert first_tokens(text, [(9, 12), (16, 20), (15, 20), (9, 10)], offsets) == [3, 6, 6]


def test_a_name_that_is_only_repeated_is_no_look_up() -> None:
    text = "Blue Door is in Porto, Azit in Tiburon. Azit is open, Blue Door is not."
    spans = [(text.index(v), text.index(v) + len(v)) for v in ("Blue Door", "Porto", "Azit")]
    again = [(text.rindex(v), text.rindex(v) + len(v)) for v in ("Azit", "Blue Door")]
    names = ["Blue Door", "Azit", "Por"]
    found = looked_up(text, spans + again, names, "Is blue door like Azitlan in Porto?")
    assert found == spans[1:]  # Porto is a value, and Azit is part of another word


def test_logits_along_an_answer() -> None:
    model = load_model("concierge", dtype="float32")
    prompt, answer = list(range(300, 340)), [51, 52, 53]
    whole = reference_logits(model.decoder, torch.tensor([*prompt, *answer]))
    along = logits_along(model, prompt, answer)
    assert torch.allclose(along, whole[len(prompt) - 1 : -1], atol=1e-4)
