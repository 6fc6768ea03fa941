"""The bank of solved cases: votes by hand, what experience teaches, what forgetting takes along."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tenfold.errors import InvalidRequest
from tenfold.memory.cases import (
    EVEN,
    CaseBank,
    Readout,
    adapter,
    evened,
    nearest,
    plain_votes,
    utilities,
    votes,
)
from tests.memory.stores import unit_vectors


def test_nearest_are_those_of_a_full_sort() -> None:
    similar = np.random.default_rng(0).normal(size=(7, 40)).astype(np.float32)
    near, cosine = nearest(similar, 5)
    assert near.tolist() == np.argsort(-similar, axis=1)[:, :5].tolist()
    np.testing.assert_allclose(cosine, -np.sort(-similar, axis=1)[:, :5])


def test_votes_are_exponentials_of_similarity_and_utility() -> None:
    near, cosine = np.array([[2, 0, 1]]), np.array([[0.9, 0.8, 0.7]])
    labels, utility = np.array([0, 1, 0]), np.array([0.0, 0.5, -1.0])
    weights = [np.exp(0.9 / 0.1 - 1.0), np.exp(0.8 / 0.1), np.exp(0.7 / 0.1 + 0.5)]  # 2, 0, 1
    expected = np.array([weights[0] + weights[1], weights[2]]) / sum(weights)
    np.testing.assert_allclose(votes(near, cosine, labels, 2, utility, 0.1)[0], expected)


def test_plain_neighbours_take_the_most_frequent_answer_and_of_equals_the_nearer_one() -> None:
    labels = np.array([0, 1, 1, 2])
    near = np.array([[0, 1, 2, 3], [3, 1, 0, 2]])
    for k in (1, 2, 3, 4):
        expected = []
        for row in near:
            counts = Counter(labels[row[:k]].tolist())
            most = max(counts.values())
            expected.append(next(int(labels[i]) for i in row if counts[int(labels[i])] == most))
        assert plain_votes(near, labels, 3, k).tolist() == expected


def bank_with_liars(count: int = 60) -> tuple[CaseBank, np.ndarray]:
    """Two clouds of cases with their answers; some between them that always say the other one."""
    rng = np.random.default_rng(0)
    centres = np.eye(8, dtype=np.float32)[:2]
    bank = CaseBank(8)
    for i in range(count):
        side = i % 2
        vector = centres[side] + 0.25 * rng.normal(size=8).astype(np.float32)
        lies = i < 6
        near_centre = centres[side] if lies else vector
        answer = ("left", "right")[side if not lies else 1 - side]
        bank.add(f"case{i}", near_centre / np.linalg.norm(near_centre), answer)
    return bank, centres


def test_cases_that_mislead_lose_their_say() -> None:
    bank, centres = bank_with_liars()
    before = bank.solve(centres)
    assert [s.answer for s in before] == ["right", "left"]  # the liars are nearest
    bank.learn()
    liars, honest = bank._utility[:6], bank._utility[6:]
    assert liars.max() < -0.1
    assert liars.max() < honest.min()


def test_a_solution_names_the_cases_that_spoke_for_it() -> None:
    bank = CaseBank(16)
    vectors = unit_vectors(3)
    for name, vector, answer in zip("abc", vectors, ("x", "y", "x"), strict=True):
        bank.add(name, vector, answer)
    (solution,) = bank.solve(vectors[1:2])
    assert (solution.answer, solution.cases) == ("y", ("b",))


def test_the_metric_is_the_inverse_root_of_the_shrunk_covariance_within_answers() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 40)
    bank = rng.normal(size=(5, 6))[labels] + rng.normal(size=(200, 6)) * [3, 1, 1, 1, 1, 0.2]
    bank = bank.astype(np.float32)
    within = np.zeros((6, 6))
    for answer in range(5):
        within += np.cov(bank[labels == answer].T, bias=True) * 40 / 200
    shrunk = (1 - EVEN) * within + EVEN * np.trace(within) / 6 * np.eye(6)
    metric = evened(bank, labels)
    assert metric is not None
    np.testing.assert_allclose(metric @ shrunk @ metric, np.eye(6), atol=1e-5)


def test_without_two_cases_of_an_answer_there_is_no_metric() -> None:
    assert evened(unit_vectors(30, width=8), np.arange(30)) is None


def test_cases_that_differ_in_what_does_not_matter_are_told_apart_after_learning() -> None:
    rng = np.random.default_rng(0)

    def drawn(count: int) -> tuple[np.ndarray, list[str]]:
        sides = rng.integers(2, size=count)
        vectors = rng.normal(size=(count, 24)) * ([6.0] * 3 + [0.3] * 21)
        vectors[:, 3:8] += np.where(sides == 1, 0.25, -0.25)[:, None]
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit.astype(np.float32), [("left", "right")[s] for s in sides]

    bank, (cases, answers), (test, wanted) = CaseBank(24), drawn(400), drawn(400)
    for i, (vector, answer) in enumerate(zip(cases, answers, strict=True)):
        bank.add(str(i), vector, answer)

    def right() -> int:
        return sum(s.answer == w for s, w in zip(bank.solve(test), wanted, strict=True))

    before = right()
    bank.learn()
    learnt = right()
    assert learnt > before + 20
    bank.forget(["0"])
    assert abs(right() - before) < 5  # the metric went with the case


def test_forgetting_a_case_takes_what_was_learnt_along() -> None:
    bank, centres = bank_with_liars()
    bank.learn()
    assert bank.forget(["case59", "unknown"]) == 1
    assert len(bank) == 59
    fresh, _ = bank_with_liars()
    fresh.forget(["case59"])
    assert [s.confidence for s in bank.solve(centres)] == [
        s.confidence for s in fresh.solve(centres)
    ]
    assert bank.forget(["unknown"]) == 0


def test_utilities_lower_the_loss_and_a_heavy_penalty_holds_them_at_zero() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 40)
    cosine = -np.sort(-rng.random((40, 10)), axis=1)
    near = np.stack([rng.permutation(40)[:10] for _ in range(40)])

    def loss(utility: np.ndarray, sharpness: float) -> float:
        shares = votes(near, cosine, labels, 3, utility, sharpness)
        told = (labels[near] == labels[:, None]).any(1)
        return float(-np.log(shares[np.arange(40), labels][told]).mean())

    light, sharpness = utilities(near, cosine, labels, labels, 1e-3)
    heavy, flat = utilities(near, cosine, labels, labels, 1e6)
    assert loss(light, sharpness) < loss(heavy, flat) < loss(np.zeros(40), 0.05)
    assert np.abs(heavy).max() < 1e-4 < np.abs(light).max()


def test_an_adapter_is_the_identity_and_a_matrix_of_rank_eight() -> None:
    rng = np.random.default_rng(3)
    labels = np.arange(80) % 4
    vectors = rng.normal(size=(80, 24)).astype(np.float32)  # noise, and a weak sign of the answer
    vectors[np.arange(80), labels] += 1.0
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    matrix = adapter(vectors, labels)
    values = np.linalg.svd(matrix - np.eye(24), compute_uv=False)
    assert values[7] > 1e-4
    np.testing.assert_allclose(values[8:], 0, atol=1e-5)

    def right(queries: np.ndarray) -> float:
        similar = queries @ vectors.T
        np.fill_diagonal(similar, -np.inf)
        return float((labels[similar.argmax(1)] == labels).mean())

    assert right(vectors @ matrix) > right(vectors) + 0.1


def test_what_cannot_be_a_case_is_refused() -> None:
    bank = CaseBank(4)
    with pytest.raises(InvalidRequest, match="no cases"):
        bank.solve(np.zeros((1, 4), dtype=np.float32))
    with pytest.raises(InvalidRequest, match=r"\[4\]"):
        bank.add("a", np.zeros(3, dtype=np.float32), "x")
    assert bank.learn() == 0.0


def test_the_readout_is_where_the_penalised_loss_is_flat() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, 5)).astype(np.float32)
    y = rng.integers(0, 3, 60)
    weights = Readout.fit(x, y, "abc", penalty=0.05).weights.astype(np.float64)
    logits = x @ weights[:-1] + weights[-1]
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    off = (share - np.eye(3)[y]) / len(x)
    slope = np.concatenate([x.T @ off, off.sum(0, keepdims=True)]) + 2 * 0.05 * weights
    assert np.abs(slope).max() < 1e-4


def test_an_answer_that_the_readout_never_saw_is_an_even_bet() -> None:
    x = np.eye(4, dtype=np.float32)
    told = Readout.fit(x, np.array([0, 0, 2, 2]), ["a", "b", "c"])(x, ["a", "b", "c", "d"])
    assert np.allclose(told[:, [1, 3]], np.log(0.5))
    assert np.allclose(np.exp(told[:, [0, 2]]).sum(1), 1.0)
