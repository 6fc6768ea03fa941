"""Token masks: which tokens of an answer count in its log-prob (2410.13828, section 5).

Tokens that both answers of a pair share carry nearly the same gradient on both sides and nothing
that tells the answers apart. `distinct` leaves them out, without a parameter; `LearntMask` learns
what to leave out, as sparse preference optimisation does.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from tenfold.align.overlap import common_rows, ends
from tenfold.errors import InvalidRequest, TenfoldError, UnknownName

KINDS = ("subsequence", "ends", "prefix", "suffix")


def distinct(ids: Tensor, answer: Tensor, kind: str = "subsequence") -> Tensor:
    """The answers' tokens that the other answer of the pair does not share, as bool.

    `ids`, `answer` [2 * pairs, tokens]: the chosen answers' rows, then the rejected ones'. Shared
    are the tokens of the longest common subsequence, or of the common `prefix`, the common
    `suffix` after it, or both `ends`. Where the two part, the next token of either always counts:
    "yes" against "yes, always" differ there in the end of text. Take the result for `answer` of
    policy and reference alike; an answer's number of tokens is then that of those that count.
    Raises UnknownName, and InvalidRequest for answers that are the same.
    """
    if kind not in KINDS:
        raise UnknownName("mask", kind, KINDS, param="fix.shared_mask.kind")
    pairs = len(ids) // 2
    counted = torch.zeros_like(answer)
    for row in range(pairs):
        places = [answer[r].nonzero().squeeze(1).tolist() for r in (row, row + pairs)]
        tokens = [ids[r, at].tolist() for r, at in zip((row, row + pairs), places, strict=True)]
        if tokens[0] == tokens[1]:
            raise InvalidRequest(f"row {row}: both answers are the same tokens", param="rejected")
        own = own_tokens(tokens[0], tokens[1], kind)
        for r, at, kept in zip((row, row + pairs), places, own, strict=True):
            counted[r, [at[i] for i in kept]] = True
    return counted


def own_tokens(
    chosen: Sequence[Hashable], rejected: Sequence[Hashable], kind: str = "subsequence"
) -> tuple[list[int], list[int]]:
    """Places of the tokens that an answer has for itself, in each of two that differ."""
    start, end = ends(chosen, rejected)
    first = start if kind != "suffix" else 0
    last = end if kind != "prefix" else 0
    shared: tuple[set[int], set[int]] = (set(), set())
    if kind == "subsequence":
        middle = [side[start : len(side) - end] for side in (chosen, rejected)]
        for i, j in _common(*middle):
            shared[0].add(start + i)
            shared[1].add(start + j)
    found = []
    for side, alike in zip((chosen, rejected), shared, strict=True):
        kept = {i for i in range(first, len(side) - last) if i not in alike}
        kept.add(min(start, len(side) - 1))  # where the answers part
        found.append(sorted(kept))
    return found[0], found[1]


def _common(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Places of a longest common subsequence, from the end."""
    rows = list(common_rows(a, b))
    found, i, j = [], len(a), len(b)
    while i and j:
        if rows[j] >> (i - 1) & 1:
            i -= 1
        elif _grown(rows[j - 1], i) == _grown(rows[j], i):
            j -= 1
        else:
            i, j = i - 1, j - 1
            found.append((i, j))
    return found


def _grown(row: int, i: int) -> int:
    return i - (row & ((1 << i) - 1)).bit_count()


class LearntMask(nn.Module):
    """A weight mu between 0 and 1 for each token of an answer, learnt beside the model.

    mu = sigmoid(a linear head on the hidden state at the token that the readout is given), the
    log-prob of an answer is sum_t mu_t log p_t, of the policy and of the reference, and `penalty`
    (`l1` times the sum of mu, a mean over rows) makes it sparse. The hidden state is detached: the
    model learns through the log-probs alone. Begins with all mu at sigmoid(`start`). Optimise its
    parameters beside the model's (`rate` is a learning rate for them), and leave it out of what is
    saved as the model.

    An answer's number of tokens stays that of its text: with a mean over mu the penalty would cost
    nothing, since halving every mu would halve the number too.
    """

    def __init__(
        self, features: int, *, l1: float = 1e-3, start: float = 2.0, rate: float = 1e-2
    ) -> None:
        super().__init__()
        for name, value in (("l1", l1), ("rate", rate)):
            if not value >= 0:
                param = f"fix.learned_mask.{name}"
                raise InvalidRequest(f"{name} is {value}", param=param, hint="0 or more")
        self.l1, self.rate = l1, rate
        self.head = nn.Linear(features, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.constant_(self.head.bias, start)
        self._hidden: Tensor | None = None
        self._mu: Tensor | None = None

    @classmethod
    def of(cls, model: nn.Module, **options: Any) -> LearntMask:
        """One for a model in the shape of transformers'. Raises InvalidRequest for another."""
        readout = _readout(model)
        weight = cast(Tensor, readout.weight)
        return cls(weight.shape[1], **options).to(weight.device)

    @contextmanager
    def watch(self, model: nn.Module) -> Iterator[LearntMask]:
        """Sees the hidden states of the forward pass inside."""

        def seen(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            self._hidden = args[0].detach()

        handle = _readout(model).register_forward_pre_hook(seen)
        try:
            yield self
        finally:
            handle.remove()
            self._hidden = self._mu = None

    def forward(self, answer: Tensor) -> Tensor:
        """mu of each answer's tokens, 0 elsewhere: [rows, tokens - 1], as `token_logps` has them.

        `answer` [rows, tokens]; after the model's forward pass inside `watch`.
        """
        if self._hidden is None:
            raise TenfoldError("the mask has seen no hidden state: call the model inside `watch`")
        weight = self.head.weight
        mu = torch.sigmoid(self.head(self._hidden[:, 1:].to(weight)).squeeze(-1))
        self._mu = mu * answer[:, 1:]
        return self._mu

    def penalty(self) -> Tensor:
        """To be added to the mean loss; after `forward`."""
        if self._mu is None:
            raise TenfoldError("the mask was not asked for yet")
        return self.l1 * self._mu.sum(1).mean()


def _readout(model: nn.Module) -> nn.Module:
    find = getattr(model, "get_output_embeddings", None)
    readout = find() if callable(find) else None
    if not isinstance(readout, nn.Module):
        raise InvalidRequest(
            f"{type(model).__name__} does not name its readout",
            param="fix",
            hint="the learnt mask needs get_output_embeddings(); the shared mask works without",
        )
    return readout
