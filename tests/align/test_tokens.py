"""Products of single tokens' gradients: what they add up to, and what is refused."""

from __future__ import annotations

import pytest
import torch

from tenfold.align.monitor import EntanglementMonitor
from tenfold.align.record import read_log
from tenfold.align.token_products import token_products
from tenfold.errors import InvalidRequest
from tests.align.models import Batch, by_a_loop, llama
from tests.align.test_monitor import one_step

pytest.importorskip("transformers")


def test_tokens_add_up_to_the_pair():
    model, batch = llama(), Batch(pairs=1)
    found = token_products(model, batch.ids, batch.attention, batch.answer)
    assert found.inner.shape == tuple(int(batch.answer[side].sum()) for side in (0, 1))
    inner, _, _ = by_a_loop(model, batch)[0].tolist()
    assert found.inner.double().sum().item() == pytest.approx(inner, rel=1e-5)
    assert all(p.grad is None for p in model.parameters())


def test_the_same_token_after_the_same_words_has_the_same_gradient():
    model, batch = llama(), Batch(pairs=1, alike=12)  # answers begin at 8 and agree up to 12
    cosine = token_products(model, batch.ids, batch.attention, batch.answer).cosine
    torch.testing.assert_close(cosine.diagonal()[:4], torch.ones(4))
    assert bool((cosine.diagonal()[4:] < 0.999).all())


def test_named_parameters_only():
    model, batch = llama(), Batch(pairs=1)
    model.requires_grad_(False)
    last = model.model.layers[1].mlp.down_proj.weight.requires_grad_(True)
    inner, _, _ = by_a_loop(model, batch)[0].tolist()
    model.requires_grad_(True)
    found = token_products(
        model, batch.ids, batch.attention, batch.answer, only=lambda n: "1.mlp.down_proj" in n
    )
    assert found.inner.double().sum().item() == pytest.approx(inner, rel=1e-5)
    assert last.grad is None


def test_too_much_and_nothing_are_refused():
    model, batch = llama(), Batch(pairs=1)
    with pytest.raises(InvalidRequest, match="GB"):
        token_products(model, batch.ids, batch.attention, batch.answer, most_bytes=1000)
    with pytest.raises(InvalidRequest, match="no trained parameter"):
        token_products(model, batch.ids, batch.attention, batch.answer, only=lambda _: False)
    with pytest.raises(InvalidRequest, match="no token"):
        token_products(model, batch.ids, batch.attention, torch.zeros_like(batch.answer))


def test_the_log_has_the_heat_map(tmp_path):
    model, batch = llama(), Batch(pairs=1)
    monitor = EntanglementMonitor(model, log=tmp_path / "log.jsonl")
    one_step(model, batch, monitor)
    monitor.tokens(7, batch.ids, batch.attention, batch.answer, lambda i: f"<{i}>")
    line = list(read_log(tmp_path / "log.jsonl"))[-1]
    assert (line["kind"], line["step"], line["row"]) == ("tokens", 1, 7)
    assert line["chosen"] == [f"<{i}>" for i in batch.ids[0][batch.answer[0]].tolist()]
    assert (len(line["cosine"]), len(line["cosine"][0])) == (
        len(line["chosen"]),
        len(line["rejected"]),
    )
