import numpy as np
import pytest
import torch

from tenfold.engine.randomness import draw, philox4x32, uniform, uniforms


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # known-answer vectors published with the Random123 library for philox4x32, 10 rounds
        (
            [0, 0, 0, 0],
            [0, 0],
            [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8],
        ),
        (
            [0xFFFFFFFF] * 4,
            [0xFFFFFFFF] * 2,
            [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
        ),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_published_answers(counter, key, expected):
    out = philox4x32(
        np.array(counter, dtype=np.uint64)[:, None], np.array(key, dtype=np.uint64)[:, None]
    )
    assert out[:, 0].tolist() == expected


def test_one_row_equals_the_same_row_in_a_batch():
    seeds = [0, 1, -1, 2**64 - 1, -(2**63), 12345]
    candidates = [0, 3, 2**40, 7, 1, 2**63]
    positions = [0, 1, 2, 100_000, 2**32 - 1, 5]
    batch = uniforms(seeds, candidates, positions)
    alone = [uniform(*row) for row in zip(seeds, candidates, positions, strict=True)]
    assert batch.tolist() == alone
    assert uniform(-1, 0, 0) == uniform(2**64 - 1, 0, 0)
    assert uniform(1, 0, 0, stream=1) != uniform(1, 0, 0)


def test_numbers_stay_the_same_from_release_to_release():
    """Users keep seeds; a changed mapping changes their texts."""
    assert uniform(0, 0, 0) == (((0x6627E8D5E169C58D >> 12) + 0.5) * 2.0**-52)


def test_different_lengths_are_refused():
    with pytest.raises(ValueError, match="length"):
        uniforms([1, 2], [0, 0], [0])


@pytest.mark.parametrize("axis", ["seed", "candidate", "position"])
def test_uniform_along_each_argument(axis):
    n, bins = 20_000, 100
    args = {"seed": [7] * n, "candidate": [0] * n, "position": [0] * n, axis: list(range(n))}
    u = uniforms(args["seed"], args["candidate"], args["position"])
    assert 0.0 < u.min() < u.max() < 1.0
    # Kolmogorov-Smirnov: 1.95 / sqrt(n) is passed once in a thousand times.
    ordered = np.sort(u)
    steps = np.arange(1, n + 1) / n
    distance = max(np.abs(steps - ordered).max(), np.abs(steps - 1 / n - ordered).max())
    assert distance < 1.95 / np.sqrt(n)
    # Neighbours fill the unit square evenly: chi-square, 99 degrees of freedom, p = 0.001 at 148.2.
    pairs = (u[:-1:2] * 10).astype(int) * 10 + (u[1::2] * 10).astype(int)
    counts = np.bincount(pairs, minlength=bins)
    expected = len(pairs) / bins
    assert ((counts - expected) ** 2 / expected).sum() < 148.2
    # No correlation at small lags.
    z = (u - 0.5) * np.sqrt(12)
    for lag in (1, 2, 3, 16):
        assert abs((z[:-lag] * z[lag:]).mean()) < 4 / np.sqrt(n)


def test_streams_seeds_and_candidates_do_not_correlate():
    n = 20_000
    base = uniforms([1] * n, [0] * n, range(n)) - 0.5
    for other in (
        uniforms([2] * n, [0] * n, range(n)),
        uniforms([1] * n, [1] * n, range(n)),
        uniforms([1] * n, [0] * n, range(n), stream=1),
    ):
        assert abs((base * (other - 0.5)).mean() * 12) < 4 / np.sqrt(n)


@pytest.mark.parametrize("vocab", [1, 2, 255, 256, 257, 1000])
def test_draw_inverts_the_cumulative_distribution(vocab):
    rng = np.random.default_rng(vocab)
    weights = rng.random((200, vocab)).astype(np.float32)
    weights[rng.random(weights.shape) < 0.3] = 0
    weights[:, rng.integers(vocab)] = 0.5
    u = rng.random(200)
    tokens = draw(torch.from_numpy(weights), torch.from_numpy(u)).numpy()
    cumulative = weights.astype(np.float64).cumsum(1)
    point = u * cumulative[:, -1]
    rows = np.arange(200)
    slack = 1e-5 * cumulative[:, -1]  # block sums are float32
    assert (cumulative[rows, tokens] > point - slack).all()
    assert (cumulative[rows, tokens] - weights[rows, tokens] <= point + slack).all()
    assert (weights[rows, tokens] > 0).all()


@pytest.mark.parametrize("u", [2.0**-53, 0.5, 1 - 2.0**-53])
def test_draw_never_takes_a_weight_of_zero(u):
    weights = torch.zeros(3, 700)
    weights[0, 300] = 1.0
    weights[1, [0, 699]] = 1.0
    weights[2, [255, 256]] = torch.tensor([1e-30, 1.0])
    tokens = draw(weights, torch.full((3,), u, dtype=torch.double))
    assert (weights[torch.arange(3), tokens] > 0).all()
