"""Solved cases: what was asked, and the answer that turned out right, under a frozen embedder.

A new query is answered by the most similar cases. Each votes with its similarity and with a
utility of its own that experience taught: how much it helped, or misled, when it was similar to a
case whose answer is known (Memento's way: a frozen model, a learnt retrieval of cases). Similarity
is learnt too, in closed form: directions in which cases of one answer differ count less, and the
middle of each answer's cases draws a query that is near it. A linear readout fitted to the cases
has a say as well: its mistakes are others than the neighbours'. An adapter of the query, a matrix
of low rank, is a parametric way to the same end, and the two combine.

Everything learnt comes from the cases alone and is dropped when one of them is erased.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tenfold.errors import InvalidRequest
from tenfold.memory.store import Vectors

NEIGHBOURS = 50  # cases that vote
SHARPNESS = 0.05  # cosine that makes a vote e times as heavy, before it is learnt
SHRINK = (0.3, 1.0)  # penalties on utilities that are tried
# Found on rows of BANKING77's training file outside of the stream, of .2 to .9 and of 3 to 15.
EVEN = 0.4  # how much of the covariance is replaced by an even one
PULL = 10.0  # of the cosine with the middle of an answer's cases, beside its votes' logarithm
PENALTY = 1e-5  # on the squares of the readout's weights
STEPS = 60
RANK, RATE, ROUNDS, SAMPLED = 8, 0.003, 400, 256  # of the adapter
LEAST = 20  # cases before anything is learnt

Numbers = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Solution:
    """An answer, its share of all that spoke, and the cases that voted for it, best first."""

    answer: str
    confidence: float
    cases: tuple[str, ...]


class CaseBank:
    """Cases of one kind of task; grows by `add`, and by `learn` weighs what it has."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._ids: list[str] = []
        self._answers: list[str] = []
        self._rows: list[Vectors] = []
        self._utility: Numbers = np.zeros(0)
        self._sharpness = SHARPNESS
        self._metric: Vectors | None = None  # None compares vectors as they are
        self._readout: Readout | None = None  # None: neighbours alone

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, case: str, vector: Vectors, answer: str) -> None:
        """Keeps a solved case under its id; the vector has unit length [width]."""
        if vector.shape != (self._width,):
            raise InvalidRequest(f"a case's vector is [{self._width}]", param="vector")
        self._ids.append(case)
        self._rows.append(vector)
        self._answers.append(answer)

    def forget(self, cases: Iterable[str]) -> int:
        """Drops cases, and all that was learnt, since they had a part in it; returns how many."""
        gone = set(cases)
        keep = [i for i, case in enumerate(self._ids) if case not in gone]
        count = len(self._ids) - len(keep)
        if count:
            self._ids = [self._ids[i] for i in keep]
            self._answers = [self._answers[i] for i in keep]
            self._rows = [self._rows[i] for i in keep]
            self._utility, self._sharpness = np.zeros(0), SHARPNESS
            self._metric = self._readout = None
        return count

    def solve(self, vectors: Vectors) -> list[Solution]:
        """The answer to each query [queries, width]. Raises InvalidRequest for an empty bank."""
        if not self._ids:
            raise InvalidRequest("there are no cases yet", hint="add solved ones first")
        utility = np.zeros(len(self))
        utility[: len(self._utility)] = self._utility  # cases since the last `learn` have none
        bank, names, labels = self._arrays()
        asked, cases = _turned(vectors, self._metric), _turned(bank, self._metric)
        near, cosine = nearest(asked @ cases.T, NEIGHBOURS)
        scores = votes(near, cosine, labels, len(names), utility, self._sharpness)
        if self._metric is not None:
            scores = _drawn(scores, _middles(asked, cases, labels))
        if self._readout is not None:
            scores = _weighed(scores, self._readout(vectors, names))
        best = scores.argmax(axis=1)
        return [
            Solution(
                names[answer],
                float(row[answer]),
                tuple(self._ids[i] for i in places if labels[i] == answer),
            )
            for answer, row, places in zip(best, scores, near, strict=True)
        ]

    def learn(self, queries: Vectors | None = None) -> float:
        """Learns how cases compare and their utilities, each case in turn a query to the others.

        How much utilities are held back, and whether the metric and the readout help, is chosen on
        cases that none of them was learnt from. Returns the share of those that is answered right.
        `queries` are the cases' vectors as queries where those are adapted [cases, width].
        """
        if len(self) < LEAST:
            return 0.0
        bank, names, labels = self._arrays()
        asked = bank if queries is None else queries
        half = np.random.default_rng(0).random(len(self)) < 0.5
        said = Readout.fit(bank[half], labels[half], names)(asked[~half], names)
        tried: list[tuple[float, float, bool, bool]] = []
        for metric in (None, evened(bank[half], labels[half])):
            turned, cases = _turned(asked, metric), _turned(bank, metric)
            near, cosine = _others(turned, cases)
            middles = _middles(turned, cases, labels, themselves=True)
            for shrink in SHRINK:
                learnt = utilities(near[half], cosine[half], labels, labels[half], shrink)
                scores = votes(near[~half], cosine[~half], labels, len(names), *learnt)
                if metric is not None:
                    scores = _drawn(scores, middles[~half])
                for reads in (False, True):
                    best = (_weighed(scores, said) if reads else scores).argmax(axis=1)
                    right = float((best == labels[~half]).mean())
                    tried.append((right, shrink, metric is not None, reads))
        right, shrink, evens, reads = max(tried)
        self._metric = evened(bank, labels) if evens else None
        self._readout = Readout.fit(bank, labels, names) if reads else None
        near, cosine = _others(_turned(asked, self._metric), _turned(bank, self._metric))
        self._utility, self._sharpness = utilities(near, cosine, labels, labels, shrink)
        return right

    def _arrays(self) -> tuple[Vectors, list[str], Places]:
        names = sorted(set(self._answers))
        number = {name: i for i, name in enumerate(names)}
        labels = np.array([number[a] for a in self._answers], dtype=np.int64)
        return np.stack(self._rows), names, labels


@dataclass(frozen=True, slots=True)
class Readout:
    """Multinomial logistic regression from vectors to the answers that it was fitted on."""

    names: tuple[str, ...]
    weights: Vectors  # [width + 1, names]; the last row is added to every query

    @classmethod
    def fit(
        cls, vectors: Vectors, labels: Places, names: Sequence[str], penalty: float = PENALTY
    ) -> Readout:
        """Fitted by L-BFGS to `labels`, places among `names` [cases]; deterministic."""
        import torch
        from torch.nn.functional import cross_entropy

        seen, place = np.unique(labels, return_inverse=True)
        x, y = torch.from_numpy(vectors), torch.from_numpy(place)
        weights = torch.zeros(vectors.shape[1] + 1, len(seen), requires_grad=True)
        optimizer = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            value = cross_entropy(x @ weights[:-1] + weights[-1], y)
            value = value + penalty * (weights**2).sum()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        optimizer.step(loss)  # type: ignore[no-untyped-call]
        return cls(tuple(names[i] for i in seen), weights.detach().numpy())

    def __call__(self, queries: Vectors, names: Sequence[str]) -> Numbers:
        """Log-probabilities of `names` [queries, names]; an answer unknown to it is an even bet."""
        logits = (queries @ self.weights[:-1] + self.weights[-1]).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        told = np.full((len(queries), len(names)), -np.log(len(self.names)))
        place = {name: i for i, name in enumerate(names)}
        told[:, [place[name] for name in self.names]] = logits
        return told


def evened(bank: Vectors, labels: Places) -> Vectors | None:
    """A matrix [width, width] after which cases of one answer differ evenly in all directions.

    The inverse root of their pooled covariance, drawn towards an even one (Fisher's linear
    discriminant as a metric). None where no answer has two cases, so that nothing is known.
    """
    sums = np.zeros((int(labels.max()) + 1, bank.shape[1]))
    np.add.at(sums, labels, bank)
    apart = bank - (sums / np.maximum(np.bincount(labels), 1)[:, None])[labels]
    covariance = apart.T @ apart / len(bank)
    even = float(np.trace(covariance)) / len(covariance)
    if even < 1e-9:
        return None
    covariance = (1 - EVEN) * covariance + EVEN * even * np.eye(len(covariance))
    variance, directions = np.linalg.eigh(covariance)
    matrix: Vectors = ((directions / np.sqrt(variance)) @ directions.T).astype(np.float32)
    return matrix


def _turned(vectors: Vectors, metric: Vectors | None) -> Vectors:
    """The vectors after the metric, of unit length again."""
    if metric is None:
        return vectors
    turned = vectors @ metric
    unit: Vectors = turned / np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), 1e-9)
    return unit


def _others(asked: Vectors, cases: Vectors) -> tuple[Places, Numbers]:
    """The nearest cases of each, itself left out."""
    similar = asked @ cases.T
    np.fill_diagonal(similar, -np.inf)
    return nearest(similar, min(NEIGHBOURS, len(cases) - 1))


def _middles(
    asked: Vectors, cases: Vectors, labels: Places, *, themselves: bool = False
) -> Numbers:
    """Cosine of each query with the middle of each answer's cases [queries, answers].

    With `themselves` the queries are the cases, and each is left out of its own answer's middle.
    """
    sums = np.zeros((int(labels.max()) + 1, cases.shape[1]))
    np.add.at(sums, labels, cases)
    near: Numbers = asked @ (sums / np.maximum(np.linalg.norm(sums, axis=1), 1e-9)[:, None]).T
    if themselves:
        rest = sums[labels] - cases
        length = np.linalg.norm(rest, axis=1)
        own = np.where(length > 1e-6, (asked * rest).sum(axis=1) / np.maximum(length, 1e-6), 0.0)
        near[np.arange(len(labels)), labels] = own
    return near


def _drawn(shares: Numbers, middles: Numbers) -> Numbers:
    """Shares of the votes, with the pull of the answers' middles; they add up to 1 again."""
    return _weighed(shares, PULL * middles)


def _weighed(shares: Numbers, logarithms: Numbers) -> Numbers:
    """Shares times the exponentials of `logarithms`, adding up to 1 again."""
    weight = np.log(shares + 1e-6) + logarithms
    weight = np.exp(weight - weight.max(axis=1, keepdims=True))
    drawn: Numbers = weight / weight.sum(axis=1, keepdims=True)
    return drawn


def nearest(similar: Vectors, count: int) -> tuple[Places, Numbers]:
    """The most similar cases of each query, best first, and their cosines [queries, count]."""
    count = min(count, similar.shape[1])
    some = np.argpartition(-similar, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(similar, some, axis=1), axis=1, kind="stable")
    near = np.take_along_axis(some, order, axis=1).astype(np.int64)
    return near, np.take_along_axis(similar, near, axis=1).astype(np.float64)


def votes(
    near: Places, cosine: Numbers, labels: Places, answers: int, utility: Numbers, sharpness: float
) -> Numbers:
    """The share of the votes for each answer [queries, answers]."""
    weight = cosine / sharpness + utility[near]
    weight = np.exp(weight - weight.max(axis=1, keepdims=True))
    shares = _summed(labels[near], weight, answers)
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def plain_votes(near: Places, labels: Places, answers: int, k: int) -> Places:
    """The answer of plain k nearest neighbours: the most frequent, of equals the nearer one's."""
    said = labels[near[:, :k]]
    nearer = np.broadcast_to(1 - 1e-6 * np.arange(said.shape[1]), said.shape)
    best: Places = _summed(said, nearer, answers).argmax(axis=1)
    return best


def _summed(said: Places, weight: Numbers, answers: int) -> Numbers:
    """The weight of each answer [queries, answers] from who said what [queries, neighbours]."""
    place = said + answers * np.arange(len(said))[:, None]
    sums: Numbers = np.zeros(len(said) * answers)
    sums += np.bincount(place.ravel(), weight.ravel(), minlength=len(sums))
    return sums.reshape(len(said), answers)


def utilities(
    near: Places, cosine: Numbers, labels: Places, right: Places, shrink: float
) -> tuple[Numbers, float]:
    """A utility for each case and the sharpness of votes, from queries whose answer is known.

    Minimises the mean negative logarithm of the right answer's share of the votes, by L-BFGS from
    zero; `near` and `cosine` [queries, neighbours], `right` [queries]. Queries that have no
    neighbour with the right answer teach nothing.
    """
    import torch

    agree = labels[near] == right[:, None]
    kept = agree.any(axis=1)
    places, ok = torch.from_numpy(near[kept]), torch.from_numpy(agree[kept])
    similar = torch.from_numpy(cosine[kept])
    utility = torch.zeros(len(labels), dtype=torch.float64, requires_grad=True)
    sharpness = torch.tensor(np.log(SHARPNESS), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [utility, sharpness], max_iter=STEPS, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        weight = similar / sharpness.exp() + utility[places]
        found = torch.logsumexp(weight.masked_fill(~ok, -torch.inf), 1)
        value = (torch.logsumexp(weight, 1) - found).mean() + shrink * (utility**2).mean()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    if len(places):
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    return utility.detach().numpy(), float(sharpness.detach().exp())


def adapter(bank: Vectors, answers: Sequence[int] | Places, seed: int = 0) -> Vectors:
    """A matrix [width, width], the identity plus one of rank RANK, that queries are multiplied by.

    Learnt by InfoNCE: of all other cases, those with a query's answer should be nearer to it.
    """
    import torch
    from torch.nn.functional import normalize

    cases, labels = torch.from_numpy(bank), torch.as_tensor(np.asarray(answers))
    made = torch.Generator().manual_seed(seed)
    sides = [torch.randn(bank.shape[1], RANK, generator=made) * 0.05 for _ in range(2)]
    down, up = (side.requires_grad_() for side in sides)
    optimizer = torch.optim.Adam([down, up], lr=RATE)
    for step in range(ROUNDS):
        chosen = torch.randint(len(bank), (min(SAMPLED, len(bank)),), generator=made)
        query = cases[chosen]
        similar = normalize(query + (query @ down) @ up.T, dim=1) @ cases.T / SHARPNESS
        itself = torch.arange(len(bank)) == chosen[:, None]
        right = (labels == labels[chosen][:, None]) & ~itself
        taught = right.any(1)
        similar = similar.masked_fill(itself, -torch.inf)[taught]
        found = torch.logsumexp(similar.masked_fill(~right[taught], -torch.inf), 1)
        optimizer.zero_grad()
        (torch.logsumexp(similar, 1) - found).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - step / ROUNDS)
    matrix = torch.eye(bank.shape[1]) + down.detach() @ up.detach().T
    learnt: Vectors = matrix.numpy()
    return learnt
