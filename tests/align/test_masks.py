"""Which tokens count: against a table of common subsequences, gradients, a mask by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tenfold.align.fixes import Fixes
from tenfold.align.logps import token_logps
from tenfold.align.losses import LOSSES, PairLogps, make_loss
from tenfold.align.masks import LearntMask, distinct, own_tokens
from tenfold.errors import InvalidRequest, TenfoldError, UnknownName
from tests.align.models import Batch, by_a_loop, gpt2, llama

pytest.importorskip("transformers")
answers = st.lists(st.integers(0, 4), min_size=1, max_size=12)


def longest_common(a: list[int], b: list[int]) -> int:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            same = table[i - 1][j - 1] + 1
            table[i][j] = same if x == y else max(table[i - 1][j], table[i][j - 1])
    return table[-1][-1]


@given(answers, answers)
def test_what_is_left_out_is_a_longest_common_subsequence(a, b):
    if a == b:
        return
    parted = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    own = own_tokens(a, b)
    left = []
    for side, kept in zip((a, b), own, strict=True):
        assert kept == sorted(set(kept))
        assert min(len(side) - 1, len(a) if parted is None else parted) in kept or parted is None
        left.append([t for i, t in enumerate(side) if i not in kept])
    # only the place where the two part may count though it is shared
    most = longest_common(a, b)
    assert {most - len(x) for x in left} <= {0, 1}
    assert longest_common(*left) == min(map(len, left)) or len(left[0]) != len(left[1])


@given(answers, answers, st.sampled_from(["ends", "prefix", "suffix"]))
def test_ends_are_left_out_from_outside(a, b, kind):
    if a == b:
        return
    for side, kept in zip((a, b), own_tokens(a, b, kind), strict=True):
        assert kept == list(range(kept[0], kept[-1] + 1)) or kind == "suffix"
        if kind == "prefix":
            assert kept[-1] == len(side) - 1
        if kind == "suffix":
            assert kept[0] == 0


@pytest.mark.parametrize(
    ("chosen", "rejected", "kind", "expected"),
    [
        ("abXcd$", "abYcd$", "subsequence", ("X", "Y")),
        ("abXcYd$", "abPcQd$", "subsequence", ("XY", "PQ")),
        ("abXcYd$", "abPcQd$", "ends", ("XcY", "PcQ")),
        ("abXcd$", "abYcd$", "prefix", ("Xcd$", "Ycd$")),
        ("abXcd$", "abYcd$", "suffix", ("abX", "abY")),
        ("ab$", "abcd$", "subsequence", ("$", "cd")),  # an answer that only ends earlier
        ("Xab$", "ab$", "subsequence", ("X", "a")),
        ("ab", "abc", "subsequence", ("b", "c")),  # cut off, without an end of text
    ],
)
def test_tokens_that_tell_the_answers_apart(chosen, rejected, kind, expected):
    own = own_tokens(chosen, rejected, kind)
    found = tuple("".join(s[i] for i in k) for s, k in zip((chosen, rejected), own, strict=True))
    assert found == expected


def test_masks_of_a_batch_are_those_of_its_answers():
    batch = Batch()
    counted = distinct(batch.ids, batch.answer)
    assert bool((counted <= batch.answer).all())
    for row in range(batch.pairs):
        places = [batch.answer[r].nonzero().squeeze(1) for r in (row, row + batch.pairs)]
        own = own_tokens(*(batch.ids[r][batch.answer[r]].tolist() for r in (row, row + 3)))
        for r, at, kept in zip((row, row + 3), places, own, strict=True):
            assert counted[r].nonzero().squeeze(1).tolist() == at[kept].tolist()
    with pytest.raises(InvalidRequest, match="same tokens"):
        distinct(batch.ids[:1].repeat(2, 1), batch.answer[:1].repeat(2, 1))
    with pytest.raises(UnknownName, match="middle"):
        distinct(batch.ids, batch.answer, "middle")


def test_a_shared_beginning_takes_no_part_in_the_cosine():
    model, batch = gpt2(), Batch()
    whole = by_a_loop(model, batch)
    batch.answer = distinct(batch.ids, batch.answer, "prefix")
    masked = by_a_loop(model, batch)

    def cosine(p: torch.Tensor) -> torch.Tensor:
        return p[:, 0] / (p[:, 1] * p[:, 2]).sqrt()

    assert bool((cosine(masked) < cosine(whole)).all())


def test_the_learnt_masks_log_prob_is_the_weighted_sum():
    model, batch = llama(), Batch()
    mask = LearntMask.of(model, start=0.5)
    torch.nn.init.normal_(mask.head.weight, generator=torch.Generator().manual_seed(0))
    hidden = model.model(input_ids=batch.ids, attention_mask=batch.attention).last_hidden_state
    with mask.watch(model):
        logits = model(input_ids=batch.ids, attention_mask=batch.attention).logits
        mu = mask(batch.answer)
        mask.penalty()
    expected = torch.sigmoid(hidden @ mask.head.weight[0] + mask.head.bias)[:, 1:]
    torch.testing.assert_close(mu, expected * batch.answer[:, 1:])
    through = torch.autograd.grad(mu.sum(), list(model.parameters()), allow_unused=True)
    assert set(through) == {None}  # the model does not learn to be masked
    fixes = Fixes(model, {"learned_mask": {}})
    with fixes.watch(3) as fix:
        model(input_ids=batch.ids, attention_mask=batch.attention)
        found = fix.logps(token_logps(logits, batch.ids), batch.answer)
    at_start = torch.sigmoid(torch.tensor(2.0))
    whole = (token_logps(logits, batch.ids) * batch.answer[:, 1:]).sum(1)
    torch.testing.assert_close(found, at_start * whole)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_mask_learns_what_tells_the_answers_apart(name):
    """The loss falls by the mask alone, and a strong penalty empties it."""
    model, batch, loss = llama(), Batch(), make_loss(name)
    values = []
    for l1 in (0.0, 10.0):
        fixes = Fixes(model, {"learned_mask": {"l1": l1}})
        optimizer = torch.optim.Adam(fixes.parameters(), lr=0.05)
        for _ in range(30):
            optimizer.zero_grad()
            with fixes.watch(3) as fix, torch.no_grad():
                logits = model(input_ids=batch.ids, attention_mask=batch.attention).logits
                per_token = token_logps(logits, batch.ids)
                reference = per_token - 0.1 * torch.sin(torch.arange(19.0) * 2)
                with torch.enable_grad():
                    summed = fix.logps(per_token, batch.answer)
                    counts = batch.answer[:, 1:].sum(1).float()
                    ref = (None, None)
                    if loss.referenced:
                        ref = fix.logps(reference, batch.answer).chunk(2)
                    pairs = PairLogps(*summed.chunk(2), *counts.chunk(2), *ref)
                    value = loss(pairs).mean()
                    (value + fix.penalty()).backward()
                share = float(fix.mask._mu.sum() / counts.sum())
            optimizer.step()
            values.append((float(value.detach()), share))
    assert min(v for v, _ in values[:30]) < values[0][0]
    assert values[-1][1] < 0.5 * values[30][1] or name == "sppo"  # which pays more than 10 a nat


def test_a_mask_without_a_pass_says_so():
    mask = LearntMask.of(llama())
    with pytest.raises(TenfoldError, match="inside `watch`"):
        mask(torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(TenfoldError, match="not asked"):
        mask.penalty()
    with pytest.raises(InvalidRequest, match="readout"):
        LearntMask.of(torch.nn.Linear(2, 2))
    with pytest.raises(InvalidRequest, match="l1"):
        LearntMask(4, l1=-1)
