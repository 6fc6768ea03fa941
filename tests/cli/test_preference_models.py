"""The rm_* figures: by hand from given scores, and the shipped model on a few shipped pairs."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch

from tenfold.cli.benchmarks.preference_models import (
    FILE,
    Held,
    Scored,
    figures_of,
    read_pairs,
    reward_figures,
)
from tenfold.cli.held_out import read_held_out, shipped
from tenfold.errors import InvalidRequest
from tenfold.models.folders import locate
from tenfold.models.loading import load_model
from tenfold.rewards.base import Answer


def scored(*scores: float) -> Scored:
    question = read_held_out(shipped("concierge")).questions[0]
    kinds = ("reference", "sample", "sample", "sample", "wrong_record", "wrong_slot")
    pairs = (("sample", 0, 1), ("sample", 0, 2), ("wrong_record", 0, 4), ("wrong_slot", 0, 5))
    pairs = (*pairs, ("partial", 0, 4))  # counted apart
    held = Held(question, kinds, tuple(Answer(k) for k in kinds), (1, 0, 0.5, 1, 0, 0), pairs)
    partial = dict.fromkeys((0.1, 0.25, 0.5, 0.75), (0.0, 1.0, 2.0))
    return Scored(held, scores, partial)


def test_kinds_weigh_the_same_and_a_tie_is_wrong() -> None:
    figures, settings = figures_of([scored(1, 0, 1, 2, 0, 3)], {})
    assert settings["rm_accuracy_by_kind"] == {
        "partial": 1,
        "sample": 0.5,
        "wrong_record": 1,
        "wrong_slot": 0,
    }
    assert figures["rm_pairwise_accuracy"] == pytest.approx(0.5)
    assert figures["rm_wrong_slot_accuracy"] == 0  # the worse of the two kinds
    assert figures["rm_partial_final_corr_25"] == pytest.approx(1.0)
    assert settings["rm_verifier_corr_final"] == pytest.approx(1.0)


def test_samples_that_turn_out_the_other_way_round_correlate_negatively() -> None:
    figures, _ = figures_of([scored(1, 2, 1, 0, 0, 0)], {})
    assert figures["rm_partial_final_corr_50"] == pytest.approx(-1.0)


def test_the_shipped_pairs_are_right_in_themselves() -> None:
    about, held = read_pairs(locate("concierge-rm") / FILE)
    assert len(held) >= 200
    assert sum(about["counts"].values()) == sum(len(h.pairs) for h in held)
    for one in held:
        for kind, better, worse in one.pairs:
            assert kind == "partial" or one.verified[better] > one.verified[worse]


def test_the_shipped_reward_model_beats_chance_by_far_on_a_few_questions() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        figures, settings = reward_figures(lambda *_: None, prompts=8)
    finally:
        torch.set_num_threads(before)
    assert settings["rm_questions"] == 8
    assert figures["rm_pairwise_accuracy"] > 0.7
    for name in ("concierge-rm", "concierge-judge"):
        assert load_model(name).spec.num_labels == 1


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    for content in (b"no gzip", gzip.compress(b"{}\n"), gzip.compress(b"")):
        (tmp_path / FILE).write_bytes(content)
        with pytest.raises(InvalidRequest, match="no held-out pairs"):
            read_pairs(tmp_path / FILE)
    with pytest.raises(InvalidRequest, match="no held-out pairs"):
        read_pairs(tmp_path / "nothing.gz")
    row = {"id": "no such question", "answers": [["sample", "a", 0, 1.0, True]], "pairs": []}
    lines = json.dumps({"about": {}}) + "\n" + json.dumps(row) + "\n"
    (tmp_path / FILE).write_bytes(gzip.compress(lines.encode()))
    with pytest.raises(InvalidRequest, match="no held-out pairs"):
        read_pairs(tmp_path / FILE)
