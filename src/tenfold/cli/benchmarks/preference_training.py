"""Preference training of the concierge in a plain loop: what becomes of both answers' log-probs."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tenfold.align.encoding import EncodedPair, plan
from tenfold.align.entanglement import PairStats
from tenfold.align.fixes import Fixes
from tenfold.align.ghost import GhostProducts
from tenfold.align.losses import Loss, PairLogps, make_loss
from tenfold.align.policy import load_policy
from tenfold.align.reading import Reader
from tenfold.align.reference import ReferenceLogps

BATCH = 4  # pairs
READER = Reader(torch.device("cpu"), pad=0, size=BATCH)


@dataclass(frozen=True, slots=True)
class Course:
    """What a training did: mean changes of log-probs in nats, and shares of pairs."""

    chosen: float  # of the pairs trained on
    rejected: float
    held_chosen: float  # of pairs that training has not seen
    held_rejected: float
    accuracy: float  # the chosen answer is the likelier one; pairs trained on
    held_accuracy: float
    curve: tuple[tuple[int, float, float], ...]  # step, chosen, rejected; pairs trained on

    def row(self) -> list[float]:
        values = (self.chosen, self.rejected, self.held_chosen, self.held_rejected,
                  self.accuracy, self.held_accuracy)  # fmt: skip
        return [round(v, 3) for v in values]


ROW = "chosen, rejected (nats, trained on), the same held out, accuracy trained on, held out"


class Ground:
    """A model, pairs to train on and pairs held out; every training begins from the same model."""

    def __init__(self, train: Sequence[EncodedPair], held: Sequence[EncodedPair]) -> None:
        self.train, self.held = list(train), list(held)
        self._start = load()
        self.tokens = ReferenceLogps(self.train)
        for places, tokens, batch in READER.over(self._start, self.train):
            self.tokens.put(places, tokens, batch.answer)
        self.before = summed(self._start, self.train)
        self.held_before = summed(self._start, self.held)

    def course(
        self,
        loss: str | Loss,
        fix: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        rate: float,
        epochs: int,
    ) -> Course:
        """Trains all weights with AdamW, a constant rate and a gradient of at most norm 1."""
        made = make_loss(loss) if isinstance(loss, str) else loss
        model = copy.deepcopy(self._start)
        fixes = Fixes(model, fix or {})
        groups: list[dict[str, Any]] = [{"params": list(model.parameters())}]
        if fixes.mask is not None:
            groups.append({"params": fixes.parameters(), "lr": fixes.mask.rate})
        optimizer = torch.optim.AdamW(groups, lr=rate, weight_decay=0.0)
        curve, steps = [(0, 0.0, 0.0)], 0
        for epoch in range(epochs):
            for places in plan([e.tokens for e in self.train], BATCH, epoch):
                optimizer.zero_grad()
                self._learn(model, made, fixes, places)
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                fixes.stepped()
                steps += 1
            chosen, rejected = _means(summed(model, self.train) - self.before)
            curve.append((steps, chosen, rejected))
        after, held = summed(model, self.train), summed(model, self.held)
        return Course(
            *_means(after - self.before),
            *_means(held - self.held_before),
            _accuracy(after),
            _accuracy(held),
            tuple(curve),
        )

    def _learn(self, model: nn.Module, loss: Loss, fixes: Fixes, places: Sequence[int]) -> None:
        with fixes.watch(len(places)) as fix:
            tokens, batch = READER.tokens(model, READER.batch(self.train, places))
            counted = fixes.counted(batch.ids, batch.answer)
            logps = fix.logps(tokens, counted)
            ref: tuple[Tensor, ...] = ()
            if loss.referenced:
                ref = fix.logps(self.tokens.of(places, batch.answer), counted).chunk(2)
            counts = counted[:, 1:].sum(1).to(logps).chunk(2)
            pairs = PairLogps(*logps.chunk(2), *counts, *ref)
            value = fix.loss(loss, pairs)(pairs).mean() + fix.penalty()
            value.backward()  # type: ignore[no-untyped-call]

    @property
    def start(self) -> list[float]:
        """Mean log-probs and accuracy before training: chosen, rejected, accuracy, held out too."""
        sides = ((self.before, self.train), (self.held_before, self.held))
        return [round(v, 3) for x, _ in sides for v in (*_means(x), _accuracy(x))]


def load() -> nn.Module:
    """The concierge, in float32."""
    return load_policy("concierge", torch.float32, torch.device("cpu"))


def products(model: nn.Module, pairs: Sequence[EncodedPair]) -> PairStats:
    """Products of each pair's gradients, [pairs], with weights of 1."""
    found = []
    for places in READER.split(pairs):
        with GhostProducts(model, len(places)) as ghost:
            logps = _summed(model, [pairs[i] for i in places])[0]
            found.append((places, ghost.ahead(*logps.chunk(2))))
    order = torch.tensor([p for places, _ in found for p in places]).argsort()
    names = ("inner", "chosen_sq", "rejected_sq", "d_w", "d_l")
    return PairStats(*(torch.cat([getattr(s, n) for _, s in found])[order] for n in names))


def signs(pairs: Sequence[EncodedPair], loss: str, change: float = 0.02) -> tuple[int, int]:
    """(as predicted, all) signs of log-probs' changes, by a step of SGD on each pair alone.

    The step is such that the larger predicted change is `change` nats. The reference has the chosen
    answer 10 times as far above the policy: what may not fall below it (DPOP) has already.
    """
    model, made = load(), make_loss(loss)
    right = 0
    for pair in pairs:
        with GhostProducts(model, 1) as ghost:
            before, counts = _summed(model, [pair])
            stats = ghost.ahead(*before.chunk(2))
            chosen, rejected = before.chunk(2)
            fallen = 10 * change
            at = (chosen.detach() + fallen, rejected.detach()) if made.referenced else ()
            logps = PairLogps(chosen, rejected, *counts.chunk(2), *at)
            model.zero_grad()
            made(logps).sum().backward()  # type: ignore[no-untyped-call]
        d_w, d_l = (d.detach().double() for d in made.weights(logps))
        stats = PairStats(stats.inner, stats.chosen_sq, stats.rejected_sq, d_w, d_l)
        expected = torch.cat([stats.chosen_change, stats.rejected_change])
        rate = change / float(expected.abs().max())
        with torch.no_grad():
            kept = [p.clone() for p in model.parameters()]
            for p in model.parameters():
                p.sub_(rate * p.grad)  # type: ignore[operator]
            after = _summed(model, [pair])[0]
            for p, was in zip(model.parameters(), kept, strict=True):
                p.copy_(was)
        right += int(((after - before).sign() == expected.sign()).sum())
    return right, 2 * len(pairs)


def summed(model: nn.Module, pairs: Sequence[EncodedPair]) -> Tensor:
    """Log-probs of whole answers, [pairs, 2]."""
    found = torch.zeros(len(pairs), 2)
    for places, tokens, batch in READER.over(model, pairs):
        logps = (tokens * batch.answer[:, 1:]).sum(1)
        found[places] = torch.stack(logps.chunk(2), 1)
    return found


def _summed(model: nn.Module, pairs: Sequence[EncodedPair]) -> tuple[Tensor, Tensor]:
    """Log-probs and lengths of the answers, [2 * pairs] each, with the graph."""
    tokens, batch = READER.tokens(model, READER.batch(pairs, range(len(pairs))))
    answer = batch.answer[:, 1:].to(tokens)
    return (tokens * answer).sum(1), answer.sum(1)


def _means(logps: Tensor) -> tuple[float, float]:
    return float(logps[:, 0].mean()), float(logps[:, 1].mean())


def _accuracy(logps: Tensor) -> float:
    return float((logps[:, 0] > logps[:, 1]).double().mean())
