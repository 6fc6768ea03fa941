"""What `tenfold bench preference` is made of, on a model that trains in a moment."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tenfold.align.masks import own_tokens
from tenfold.align.pairs import words
from tenfold.cli.benchmarks import preference, preference_training
from tenfold.cli.benchmarks.preference_pairs import damaged, encoded, from_data, tail
from tenfold.cli.benchmarks.preference_speed import ratios
from tenfold.cli.benchmarks.preference_training import Ground, products, signs
from tenfold.cli.held_out import read_held_out, shipped

transformers = pytest.importorskip("transformers")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Callable[[], torch.nn.Module]:
    """Puts a random model with the concierge's vocabulary in its place."""

    def load() -> torch.nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return transformers.LlamaForCausalLM(
                transformers.LlamaConfig(
                    vocab_size=4096,
                    hidden_size=16,
                    intermediate_size=24,
                    num_hidden_layers=2,
                    num_attention_heads=2,
                    num_key_value_heads=2,
                    max_position_embeddings=1024,
                    tie_word_embeddings=True,
                )
            )

    monkeypatch.setattr(preference_training, "load", load)
    return load


def test_every_figure_of_the_issue_has_its_bound():
    assert {
        "ghost_max_rel_error": "<= 1e-5",
        "monitor_overhead_split": "<= 1.08",
        "monitor_overhead_ghost": "<= 1.35",
        "monitor_overhead_ghost_every10": "<= 1.06",
        "naive_extra_over_ghost_extra": ">= 4",
        "predicted_sign_agreement": ">= 0.95",
        "dpo_chosen_drop_nats": ">= 2",
        "fixed_chosen_change_nats": ">= 0",
        "rm_pairwise_accuracy": ">= 0.85",
        "rm_wrong_slot_accuracy": ">= 0.75",
        "rm_partial_final_corr_25": ">= 0.45",
        "rm_partial_final_corr_50": ">= 0.6",
        "policy_ser_relative": "<= 0.8",
    }.items() <= preference.BOUNDS.items()


def test_damaged_answers_are_true_ones_with_a_wrong_value():
    asked = read_held_out(shipped("concierge"))
    by_answer = {q.reference: q for q in asked.questions}
    pairs = damaged()
    assert len(pairs) > 250
    for pair in pairs[::25]:
        verifier = asked.verifier(by_answer[words(pair.chosen)])
        assert verifier.check(words(pair.chosen)).slot_errors == 0
        assert verifier.check(words(pair.rejected)).slot_errors > 0
    shared = [
        1 - len(own_tokens(e.chosen, e.rejected)[0]) / len(e.chosen) for e in encoded(pairs[:20])
    ]
    assert min(shared) > 0.6


def test_a_pairs_tail_begins_where_its_answers_part():
    whole = encoded(damaged()[:20])[0]
    for tokens in (1, 16):
        short = tail(whole, tokens)
        assert len(short.chosen) == len(short.rejected) == tokens
        assert short.chosen[0] != short.rejected[0]
        begun = short.prompt + short.chosen
        assert begun == (whole.prompt + whole.chosen)[: len(begun)]
    assert tail(whole, None) is whole


def test_without_the_data_there_are_no_pairs_of_it(monkeypatch):
    monkeypatch.delenv("TENFOLD_DATA", raising=False)
    assert from_data() == {}


def test_a_course_trains_a_copy_and_says_where_log_probs_went(small):
    pairs = [tail(p, 4) for p in encoded(damaged()[:40])]
    ground = Ground(pairs[2:], pairs[:2])
    plain = ground.course("dpo", rate=1e-3, epochs=2)
    assert plain.curve[0] == (0, 0.0, 0.0)
    assert plain.curve[-1][1:] == (plain.chosen, plain.rejected)
    assert plain.chosen - plain.rejected > 0
    assert ground.course("dpo", rate=1e-3, epochs=2) == plain
    masked = ground.course("simpo", {"learned_mask": {}}, rate=1e-3, epochs=1)
    assert masked.chosen != plain.chosen
    assert 0 <= masked.held_accuracy <= 1


def test_products_are_in_the_pairs_order_and_predict_signs(small):
    pairs = [tail(p, 4) for p in encoded(damaged()[:40])][:5]
    together = products(small(), pairs)
    alone = [products(small(), [p]) for p in pairs]
    torch.testing.assert_close(
        together.inner, torch.cat([a.inner for a in alone]), rtol=1e-4, atol=1e-6
    )
    right, total = signs(pairs, "dpo")
    assert (right, total) == (10, 10)


def test_a_ratio_holds_a_step_against_the_plain_ones_beside_it():
    order = []
    found, same = ratios(lambda: order.append("step"), lambda: order.append("plain"), 2, 1)
    assert len(found) == len(same) == 2
    assert order[2:] == ["plain", "step", "plain"] * 2
