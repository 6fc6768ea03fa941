"""The reference's log-probs of the answers' tokens, computed once for a whole training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from tenfold.align.encoding import EncodedPair


class ReferenceLogps:
    """One number a token of every answer, end to end: a pair's chosen answer, then its rejected.

    `tokens` are those of another one, of the same pairs.
    """

    def __init__(self, pairs: Sequence[EncodedPair], tokens: Tensor | None = None) -> None:
        lengths = [len(answer) for pair in pairs for answer in (pair.chosen, pair.rejected)]
        self._starts = [0, *accumulate(lengths)]
        self.tokens = torch.zeros(self._starts[-1]) if tokens is None else tokens

    def put(self, places: Sequence[int], logps: Tensor, answer: Tensor) -> None:
        """Takes in a batch: log-probs [2 * pairs, tokens - 1], where `answer` [2 * pairs, tokens]
        is true."""
        self.tokens[self._indices(places)] = logps[answer[:, 1:]].float().cpu()

    def of(self, places: Sequence[int], answer: Tensor) -> Tensor:
        """The same for a batch, 0 elsewhere: [2 * pairs, tokens - 1]."""
        found = torch.zeros(answer[:, 1:].shape, device=answer.device)
        found[answer[:, 1:]] = self.tokens[self._indices(places)].to(answer.device)
        return found

    def _indices(self, places: Sequence[int]) -> Tensor:
        """In the order of a batch's rows."""
        rows = [2 * place + side for side in (0, 1) for place in places]
        return torch.cat([torch.arange(self._starts[r], self._starts[r + 1]) for r in rows])
