import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tenfold.engine.randomness import uniform
from tenfold.engine.sampler import SampleRow, SamplingFailed, sample
from tenfold.types import SamplingParams


def row(params=None, seed=1, candidate=0, position=0, prompt=(), output=(), forbid=(), state=None):
    return SampleRow(
        params or SamplingParams(),
        seed,
        candidate,
        position,
        prompt,
        output,
        frozenset(forbid),
        state,
    )


def random_logits(rows, vocab, seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, vocab, generator=generator) * scale


def softmax(x):
    weights = np.exp(x - x.max())
    return weights / weights.sum()


def naive(logits, r):
    """The distribution to draw from, float64 [vocab], and how near top-p's cut is to a tie."""
    p = r.params
    x = logits.numpy().astype(np.float64)
    for i in {*r.prompt_ids, *r.output_ids}:
        x[i] = x[i] * p.repetition_penalty if x[i] < 0 else x[i] / p.repetition_penalty
    for i in r.output_ids:
        x[i] -= p.frequency_penalty
    for i in set(r.output_ids):
        x[i] -= p.presence_penalty
    for i, bias in p.logit_bias.items():
        x[i] += bias
    for i in r.forbid:
        x[i] = -np.inf
    probs = softmax(x / p.temperature)
    order = np.argsort(-probs)
    if p.top_k:
        probs[order[p.top_k :]] = 0
        probs /= probs.sum()
    before = np.concatenate([[0], probs[order].cumsum()[:-1]])
    margin = np.abs(before - p.top_p).min() if p.top_p < 1 else 1.0
    probs[order[before >= p.top_p]] = 0
    if p.min_p:
        ratio = probs / probs.max()
        margin = min(margin, np.abs(ratio - p.min_p)[ratio < 1].min(initial=1.0))
        probs[ratio < p.min_p] = 0
    return probs / probs.sum(), margin


def agrees(token, probs, u):
    """`token` is where u falls in the distribution, give or take float32 rounding."""
    cumulative = probs.cumsum()
    return probs[token] > 0 and (
        cumulative[token] - probs[token] - 2e-5 <= u <= cumulative[token] + 2e-5
    )


some_params = st.builds(
    SamplingParams,
    temperature=st.floats(0.05, 2.0),
    top_k=st.one_of(st.just(0), st.integers(1, 400)),
    top_p=st.one_of(st.just(1.0), st.floats(0.05, 0.999)),
    min_p=st.one_of(st.just(0.0), st.floats(0.001, 0.9)),
    repetition_penalty=st.one_of(st.just(1.0), st.floats(0.5, 2.0)),
    presence_penalty=st.sampled_from([0.0, 0.7, -0.7]),
    frequency_penalty=st.sampled_from([0.0, 0.3]),
    logit_bias=st.dictionaries(st.integers(0, 99), st.floats(-20, 20), max_size=3),
)


@settings(max_examples=150, deadline=None)
@given(
    some_params, st.sampled_from([100, 257, 300, 9000]), st.floats(0.3, 8), st.integers(0, 2**20)
)
def test_every_draw_is_where_the_naive_distribution_puts_it(params, vocab, scale, seed):
    logits = random_logits(1, vocab, seed, scale)
    r = row(params, seed=seed, prompt=[3, 5], output=[5, 7, 7, 20], forbid={11})
    probs, margin = naive(logits[0], r)
    assume(margin > 1e-5)
    for position in range(5):
        r.position = position
        token = sample(logits, [r])[0].token_id
        assert agrees(token, probs, uniform(seed, 0, position))


@pytest.mark.parametrize("params", [SamplingParams(), SamplingParams(temperature=0.6, top_k=7)])
def test_sampled_frequencies_follow_softmax(params):
    vocab, draws, at_once = 20, 20_000, 500
    logits = random_logits(1, vocab, scale=1.0)
    probs, _ = naive(logits[0], row(params))
    counts = np.zeros(vocab)
    for start in range(0, draws, at_once):
        rows = [row(params, seed=42, position=start + i) for i in range(at_once)]
        for s in sample(logits.expand(at_once, -1), rows):
            counts[s.token_id] += 1
    assert counts[probs == 0].sum() == 0
    expected = probs[probs > 0] * draws
    chi_square = ((counts[probs > 0] - expected) ** 2 / expected).sum()
    assert chi_square < {20: 43.8, 7: 22.5}[len(expected)]  # p = 0.001 at 19 and 6 degrees


PROCESSORS = [
    (SamplingParams(repetition_penalty=1.3), [RepetitionPenaltyLogitsProcessor(1.3)]),
    (SamplingParams(repetition_penalty=0.7), [RepetitionPenaltyLogitsProcessor(0.7)]),
    (SamplingParams(top_k=13), [TopKLogitsWarper(13)]),
    (SamplingParams(top_p=0.8), [TopPLogitsWarper(0.8)]),
    (SamplingParams(min_p=0.1), [MinPLogitsWarper(0.1)]),
    (
        SamplingParams(temperature=1.4, top_k=40, top_p=0.7, min_p=0.02, repetition_penalty=1.2),
        [
            RepetitionPenaltyLogitsProcessor(1.2),
            TemperatureLogitsWarper(1.4),
            TopKLogitsWarper(40),
            TopPLogitsWarper(0.7),
            MinPLogitsWarper(0.02),
        ],
    ),
]


@pytest.mark.parametrize(("params", "processors"), PROCESSORS)
def test_agrees_with_transformers(params, processors):
    logits = random_logits(4, 500)
    prompt, output = [3, 5, 499], [5, 7, 7, 20]
    ids = torch.tensor([prompt + output] * 4)
    wanted = LogitsProcessorList(processors)(ids, logits.clone()).double().softmax(-1).numpy()
    for position in range(50):
        rows = [row(params, seed=i, position=position, prompt=prompt, output=output)
                for i in range(4)]  # fmt: skip
        for i, got in enumerate(sample(logits, rows)):
            assert agrees(got.token_id, wanted[i], uniform(i, 0, position))


KINDS = [
    SamplingParams(),
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=0.7, logprobs=3),
    SamplingParams(temperature=0.7, top_k=50),
    SamplingParams(top_k=500),
    SamplingParams(top_p=0.9, logprobs=20),
    SamplingParams(top_p=0.999, temperature=1.9),
    SamplingParams(min_p=0.05),
    SamplingParams(repetition_penalty=1.2, presence_penalty=0.5, logit_bias={4: 3.0}),
    SamplingParams(temperature=1.3, top_k=130, top_p=0.95, min_p=0.001),
]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("vocab", [700, 9001, 40_000])
def test_a_row_has_the_same_bits_alone_and_among_others(vocab, threads):
    count = 65
    # bfloat16's steps make ties, which no sort may break differently.
    logits = random_logits(count, vocab, scale=2.0).bfloat16().float()
    rows = [row(KINDS[i % len(KINDS)], i, i % 3, 100 + i, [1, 2], [2, 9]) for i in range(count)]
    torch.set_num_threads(threads)
    try:
        together = sample(logits, rows)
        for i in range(0, count, 1 if vocab < 1000 else 3):
            assert sample(logits[i : i + 1], [rows[i]]) == [together[i]]
        reverse = sample(logits.flip(0), rows[::-1])
    finally:
        torch.set_num_threads(1)
    assert reverse[::-1] == together


def test_logprobs_are_of_the_raw_distribution():
    logits = random_logits(3, 1000)
    params = SamplingParams(temperature=0.5, top_k=5, logit_bias={3: 30.0}, logprobs=4)
    wanted = torch.log_softmax(logits.double(), -1)
    for i, got in enumerate(sample(logits, [row(params)] * 3)):
        assert got.token_id == 3
        assert got.logprob == pytest.approx(wanted[i, 3].item(), abs=1e-5)
        values, ids = wanted[i].topk(4)
        assert [t for t, _ in got.top] == ids.tolist()
        assert [v for _, v in got.top] == pytest.approx(values.tolist(), abs=1e-5)


def test_alternatives_only_when_asked_for():
    logits = random_logits(2, 10)
    none, zero = sample(logits, [row(), row(SamplingParams(logprobs=0))])
    assert none.top == zero.top == ()
    assert len(sample(logits[:1], [row(SamplingParams(logprobs=20))])[0].top) == 10


def test_greedy_takes_the_largest_and_the_first_of_equals():
    logits = random_logits(4, 1000)
    logits[2, [30, 700]] = 50.0
    got = sample(logits, [row(SamplingParams(temperature=0.0))] * 4)
    assert [s.token_id for s in got] == logits.numpy().argmax(1).tolist()
    assert got[2].token_id == 30


def test_a_tiny_temperature_is_greedy():
    logits = random_logits(4, 1000)
    got = sample(logits, [row(SamplingParams(temperature=5e-324))] * 4)
    assert [s.token_id for s in got] == logits.argmax(-1).tolist()


def test_ties_at_the_cut_are_all_kept():
    logits = torch.zeros(1, 300)
    logits[0, :4] = torch.tensor([5.0, 4.0, 4.0, 4.0])
    for params in (SamplingParams(top_k=2, temperature=2.0), SamplingParams(top_p=0.4)):
        seen = {sample(logits, [row(params, position=i)])[0].token_id for i in range(200)}
        assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize("vocab", [300, 5000])
@pytest.mark.parametrize(
    "params",
    [SamplingParams(top_p=0.9), SamplingParams(min_p=0.1), SamplingParams(top_k=2100, top_p=0.9)],
)
def test_cuts_wider_than_the_first_candidates(vocab, params):
    """Flat logits: most of the vocabulary survives, far more than the first stage looks at."""
    logits = random_logits(1, vocab, scale=0.5)
    wanted, _ = naive(logits[0], row(params))
    assert (wanted > 0).sum() > 200
    for position in range(30):
        token = sample(logits, [row(params, position=position)])[0].token_id
        assert agrees(token, wanted, uniform(1, 0, position))


def test_alternatives_that_tie_do_not_depend_on_what_other_rows_ask_for():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randint(0, 3, (12, 5000), generator=generator).float()
    rows = [row(SamplingParams(logprobs=1 + i)) for i in range(12)]
    together = sample(logits, rows)
    assert [sample(logits[i : i + 1], [rows[i]])[0] for i in range(12)] == together


def test_forbidden_ids_are_never_taken_whatever_the_bias():
    logits = random_logits(1, 50)
    params = SamplingParams(logit_bias={7: 100.0})
    assert sample(logits, [row(params)])[0].token_id == 7
    tokens = {sample(logits, [row(params, position=i, forbid={7})])[0].token_id for i in range(50)}
    assert 7 not in tokens


def test_logits_are_left_as_they_are():
    logits = random_logits(len(KINDS), 900)
    before = logits.clone()
    sample(logits, [row(p, prompt=[1], output=[2], forbid={3}) for p in KINDS])
    assert torch.equal(logits, before)


def test_rows_that_are_not_numbers_are_named_and_the_others_can_go_on():
    logits = random_logits(4, 100)
    logits[1, 50] = torch.nan
    logits[3, 7] = torch.inf
    rows = [row(seed=i) for i in range(4)]
    with pytest.raises(SamplingFailed, match="row 1: the model's logits are not finite") as caught:
        sample(logits, rows)
    assert sorted(caught.value.rows) == [1, 3]
    assert len(sample(logits[[0, 2]], [rows[0], rows[2]])) == 2


def test_no_token_left_is_an_error_naming_the_row():
    logits = random_logits(2, 5)
    with pytest.raises(SamplingFailed, match="leave no token") as caught:
        sample(logits, [row(), row(forbid=range(5))])
    assert list(caught.value.rows) == [1]


def test_a_top_k_of_any_size_is_no_limit():
    logits = random_logits(1, 300)
    plain = SamplingParams(top_p=0.9)
    wide = SamplingParams(top_p=0.9, top_k=2**80)
    for i in range(20):
        assert sample(logits, [row(wide, position=i)]) == sample(logits, [row(plain, position=i)])


@pytest.mark.parametrize("token", [5, -1, 2**80])
def test_ids_outside_the_vocabulary_are_named(token):
    params = SamplingParams(logit_bias={token: 1.0})
    with pytest.raises(SamplingFailed, match=f"logit_bias names token {token}"):
        sample(random_logits(1, 5), [row(params)])


def test_impossible_tokens_with_a_wide_top_k():
    """A constraint may leave fewer tokens than top-k asks for."""
    logits = torch.full((1, 5000), -torch.inf)
    logits[0, [10, 4000]] = 1.0
    params = SamplingParams(top_k=50, top_p=0.99)
    seen = {sample(logits, [row(params, position=i)])[0].token_id for i in range(40)}
    assert seen == {10, 4000}


def test_no_rows_and_wrong_shapes():
    assert sample(torch.empty(0, 10), []) == []
    with pytest.raises(ValueError, match="2 rows"):
        sample(random_logits(1, 10), [row(), row()])
