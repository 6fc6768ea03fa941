"""Screening of pairs: overlaps by brute force, readout gradients by autograd, findings."""

from __future__ import annotations

import difflib
import gzip
import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tenfold.align.encoding import EncodedPair, PairEncoder, collate
from tenfold.align.findings import LengthBias
from tenfold.align.ghost import GhostProducts
from tenfold.align.logps import answer_logps
from tenfold.align.overlap import common_tokens, edits, overlap
from tenfold.align.pairs import Pair, read_pairs
from tenfold.align.readout import likeness
from tenfold.align.screen import screen
from tenfold.errors import InvalidRequest
from tenfold.models.folders import locate
from tenfold.models.tokenizer import Tokenizer
from tests.align.models import llama

pytest.importorskip("transformers")

texts = st.lists(st.integers(0, 4), max_size=90).map(tuple)


def by_a_table(a, b) -> tuple[int, int]:
    """Longest common subsequence and edit distance by the textbook's tables."""

    @cache
    def cell(i: int, j: int) -> tuple[int, int]:
        if not i or not j:
            return 0, i + j
        up, left, corner = cell(i - 1, j), cell(i, j - 1), cell(i - 1, j - 1)
        same = a[i - 1] == b[j - 1]
        return (
            corner[0] + 1 if same else max(up[0], left[0]),
            min(up[1] + 1, left[1] + 1, corner[1] + (not same)),
        )

    for i in range(len(a)):  # short recursions
        for j in range(0, len(b), 20):
            cell(i, j)
    return cell(len(a), len(b))


@given(texts, texts)
def test_overlaps_are_those_of_the_textbook(a, b):
    longest, fewest = by_a_table(a, b)
    assert (common_tokens(a, b), edits(a, b)) == (longest, fewest)
    found = overlap(a, b)
    assert (found.common, found.edits) == (longest, fewest)
    assert a[: found.prefix] == b[: found.prefix]
    assert a[found.prefix : found.prefix + 1] != b[found.prefix : found.prefix + 1] or a == b
    rest, other = a[found.prefix :][::-1], b[found.prefix :][::-1]
    assert rest[: found.suffix] == other[: found.suffix]
    end = slice(found.suffix, found.suffix + 1)
    assert rest[end] != other[end] or found.suffix in (len(rest), len(other))
    assert 0 <= found.distance <= 1
    assert found.shared >= difflib.SequenceMatcher(None, a, b, autojunk=False).ratio() - 1e-9 or (
        not a and not b
    )


def some_pairs(count: int = 5, seed: int = 0) -> list[EncodedPair]:
    drawn = np.random.default_rng(seed)
    found = []
    for row in range(1, count + 1):
        prompt, chosen, rejected = (
            tuple(drawn.integers(3, 97, drawn.integers(3, 11)).tolist()) for _ in range(3)
        )
        found.append(EncodedPair(row, prompt, (*chosen, 2), (*chosen[:2], *rejected, 2)))
    return found


def test_readout_products_are_those_of_autograd_on_the_last_layer():
    model, pairs = llama(tied=False), some_pairs()
    model.train()
    seen = likeness(model, pairs)
    assert model.training
    for pair, found in zip(pairs, seen, strict=True):
        grads, sums = [], []
        for answer in (pair.chosen, pair.rejected):
            ids = torch.tensor([[*pair.prompt, *answer]])
            out = model(input_ids=ids, output_hidden_states=True)
            marked = torch.zeros_like(ids, dtype=torch.bool)
            marked[:, len(pair.prompt) :] = True
            logp = answer_logps(out.logits, ids, marked)[0].sum()
            grads.append(torch.autograd.grad(logp, model.lm_head.weight)[0].flatten())
            states = out.hidden_states[-1][0].detach()  # the last one predicts nothing
            sums.append(states[len(pair.prompt) - 1 : -1].sum(0))
        (g_w, g_l), (s_w, s_l) = grads, sums
        n_w, n_l = len(pair.chosen), len(pair.rejected)
        assert found.row == pair.row
        assert found.cosine == pytest.approx(float(torch.cosine_similarity(g_w, g_l, 0)), rel=1e-4)
        assert found.ratio_needed == pytest.approx(float(g_w @ g_l / (g_w @ g_w)), rel=1e-4)
        assert found.ches == pytest.approx(float(s_w @ s_l - s_w @ s_w), rel=1e-3, abs=1e-3)
        mean = float((s_w / n_w) @ (s_l / n_l) - (s_w / n_w) @ (s_w / n_w))
        assert found.ches_mean == pytest.approx(mean, rel=1e-3, abs=1e-3)


def test_what_a_model_sees_does_not_depend_on_the_batch(monkeypatch):
    model, pairs = llama(), some_pairs(7)
    together = likeness(model, pairs)
    monkeypatch.setattr("tenfold.align.readout._NUMBERS", 1)
    done: list[int] = []
    alone = likeness(model, pairs, done.append)
    assert done == [1] * 7
    for one, other in zip(together, alone, strict=True):
        assert one.cosine == pytest.approx(other.cosine, rel=1e-4)


def pair(row: int, prompt: str = "Q", chosen: str = "yes it is", rejected: str = "no") -> Pair:
    return Pair(row, prompt, chosen, rejected)


def test_faults_are_all_collected_with_row_and_field():
    found = screen(
        [
            pair(1),
            pair(2, chosen="  "),
            pair(3, rejected=""),
            pair(4, chosen="A b", rejected="a  B"),
            pair(5, chosen="", rejected=""),
        ]
    )
    assert [(f.row, f.field, f.kind) for f in found.findings] == [
        (2, "chosen", "empty"),
        (3, "rejected", "empty"),
        (4, "rejected", "identical"),
        (5, "chosen", "empty"),
        (5, "rejected", "empty"),
    ]
    assert [p.row for p in found.pairs] == [1]
    assert found.rows == 5


def test_repeats_and_contradictions_name_the_earlier_row():
    found = screen(
        [
            pair(1),
            pair(2, chosen="Yes  it is"),
            pair(3, chosen="no", rejected="yes it is"),
            pair(4, prompt="Another", chosen="no", rejected="yes it is"),
        ]
    )
    assert [(f.row, f.kind, f.other) for f in found.findings] == [
        (2, "duplicate", 1),
        (3, "contradiction", 1),
    ]
    assert (found.prompts, found.most_repeated) == (2, 3)


def test_near_duplicates_are_found_and_others_are_not():
    drawn = np.random.default_rng(3)

    def text() -> str:
        return " ".join(f"w{i}" for i in drawn.integers(0, 5000, 150))

    base = [(text(), text(), text()) for _ in range(60)]
    near = [(p, w.replace(w.split()[70], "changed"), l_ + " indeed") for p, w, l_ in base[:20]]
    moved = [(p, l_, w) for p, w, l_ in base[20:30]]  # the same runs in the other answer
    rows = [Pair(i, *t) for i, t in enumerate([*base, *near, *moved], 1)]
    found = [f for f in screen(rows).findings if f.kind == "near duplicate"]
    assert [(f.row, f.other) for f in found] == [(61 + i, 1 + i) for i in range(20)]


def test_rows_over_the_limit_are_found_and_not_ranked_by_a_model():
    tokenizer, model = _concierge()
    rows = [pair(1), pair(2, chosen="word " * 50), pair(3, prompt="why " * 60)]
    found = screen(rows, tokenizer, model, max_tokens=40)
    assert [(f.row, f.field, f.kind) for f in found.findings] == [
        (2, "chosen", "too long"),
        (3, "prompt", "too long"),
    ]
    assert [p.row for p in found.pairs] == [1]
    assert found.pairs[0].score == found.pairs[0].seen.cosine
    assert "CHES" in found.table()


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=40))
def test_length_bias_is_what_counting_says(lengths):
    found = LengthBias.of(*zip(*lengths, strict=True))
    right = sum(1.0 if w > l_ else 0.5 if w == l_ else 0.0 for w, l_ in lengths)
    assert found.longer_wins == pytest.approx(right / len(lengths))
    assert found.ratio == pytest.approx(
        float(np.prod([(w / l_) for w, l_ in lengths])) ** (1 / len(lengths))
    )
    assert -1 <= found.correlation <= 1


def test_length_that_gives_the_label_away_is_said():
    rows = [Pair(i, f"q{i}", "word " * (5 + i % 7), "word " * (2 + i % 5)) for i in range(100)]
    found = screen(rows)
    assert found.length.biased
    assert found.length.longer_wins > 0.75
    assert "gives the label away" in found.table()
    even = [Pair(i, f"q{i}", "word " * 5 + "a", "word " * 5 + "b") for i in range(100)]
    assert not screen(even).length.biased


def test_pairs_are_ranked_by_what_they_share_and_json_holds_no_text():
    rows = [
        Pair(7, "secret", "one two three four", "five six seven eight"),
        Pair(8, "secret", "one two three four", "one two three five"),
        Pair(9, "secret", "one two three four", "one two six seven"),
    ]
    found = screen(rows)
    assert [p.row for p in found.pairs] == [8, 9, 7]
    assert found.worst(0.4) == [8]
    written = json.dumps(found.as_dict(), allow_nan=False)
    assert "secret" not in written
    assert json.loads(written)["pairs"][0]["shared"] == pytest.approx(0.75)
    assert found.unit == "words"


def test_what_cannot_be_screened_says_why():
    with pytest.raises(InvalidRequest, match="no pairs"):
        screen([])
    with pytest.raises(InvalidRequest, match="needs its tokenizer"):
        screen([pair(1)], model=llama())
    only = screen([pair(1, chosen="", rejected="")])
    assert "no pair can be ranked" in only.table()
    json.dumps(only.as_dict()["findings"])


def test_a_row_that_cannot_be_encoded_is_a_finding_unless_all_are():
    tokenizer, _ = _concierge()
    encoder = PairEncoder(tokenizer)
    found = screen([pair(1), pair(2, prompt="")], encoder)
    assert [(f.row, f.field, f.kind) for f in found.findings] == [(2, "prompt", "unreadable")]
    with pytest.raises(InvalidRequest, match="row 2"):
        screen([pair(2, prompt="")], encoder)


def _concierge():
    from transformers import AutoModelForCausalLM

    folder = locate("concierge-draft")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return Tokenizer.from_folder(folder), model


def _spearman(a, b) -> float:
    ranks = [np.argsort(np.argsort(x)) for x in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def test_the_ranking_follows_the_exact_cosines_of_real_pairs(tmp_path: Path):
    """On pairs of answers to sums, with all of the model's gradients; see docs/preference.md."""
    if "TENFOLD_DATA" not in os.environ:
        pytest.skip("TENFOLD_DATA is not set")
    source = Path(os.environ["TENFOLD_DATA"]) / "maths" / "gsm8k-model-solutions.jsonl.gz"
    lines = []
    with gzip.open(source, "rt", encoding="utf-8") as items:
        for item in map(json.loads, items):
            solved = [s for s in item.values() if isinstance(s, dict)]
            right, wrong = (
                [s["solution"] for s in solved if s["is_correct"] is ok] for ok in (True, False)
            )
            lines += [
                json.dumps({"prompt": item["question"] + "\n", "chosen": a, "rejected": b})
                for a, b in zip(right, wrong, strict=False)
                if len(a) + len(b) < 400
            ][:1]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(lines[:24]), encoding="utf-8")
    pairs, (tokenizer, model) = read_pairs(path), _concierge()
    exact = {}
    for encoded in map(PairEncoder(tokenizer), pairs):
        batch = collate([encoded])
        with GhostProducts(model, 1) as products:
            logits = model(input_ids=batch.ids, attention_mask=batch.attention).logits
            chosen, rejected = answer_logps(logits, batch.ids, batch.answer)[0]
            (rejected - chosen).backward()
        exact[encoded.row] = float(products.stats(torch.ones(1), torch.ones(1)).cosine)
        model.zero_grad()
    for model_or_none, least in ((None, 0.4), (model, 0.7)):
        ranked = screen(pairs, tokenizer, model_or_none).pairs
        found = _spearman([p.score for p in ranked], [exact[p.row] for p in ranked])
        assert found > least, found
