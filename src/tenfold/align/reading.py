"""Log-probs of pairs' tokens by a model: one batch, or a whole data set in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tenfold.align.encoding import EncodedPair, PairBatch, collate
from tenfold.align.logps import token_logps
from tenfold.align.policy import keeps_logits


@dataclass(frozen=True, slots=True)
class Reader:
    """How a training reads: where, in which precision, how many pairs at once."""

    device: torch.device
    pad: int
    size: int
    autocast: bool = False  # forward passes in bfloat16

    def batch(self, pairs: Sequence[EncodedPair], places: Sequence[int]) -> PairBatch:
        """The pairs in some places."""
        return collate([pairs[i] for i in places], self.pad).to(self.device)

    def tokens(self, model: nn.Module, batch: PairBatch) -> tuple[Tensor, PairBatch]:
        """Log-probs of tokens [rows, tokens - 1], and the part of the batch that they are of."""
        # Logits are needed from the last token before the first answer on, not of the prompts.
        start = max(int(batch.answer.any(0).nonzero()[0]) - 1, 0)
        keep = {"logits_to_keep": batch.ids.shape[1] - start} if keeps_logits(model) else {}
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            # No mask: padding is on the right, where a causal model's answers cannot see it, and
            # attention without one takes the fast path.
            out = model(input_ids=batch.ids, use_cache=False, **keep)
        batch = batch.since(start) if keep else batch
        return token_logps(out.logits, batch.ids), batch

    def split(self, pairs: Sequence[EncodedPair]) -> list[list[int]]:
        """Places of all pairs in batches, like with like in length."""
        order = sorted(range(len(pairs)), key=lambda i: pairs[i].tokens)
        return [order[i : i + self.size] for i in range(0, len(order), self.size)]

    @torch.no_grad()
    def over(
        self,
        model: nn.Module,
        pairs: Sequence[EncodedPair],
        progress: Callable[[int], None] = lambda _: None,
    ) -> Iterator[tuple[list[int], Tensor, PairBatch]]:
        """All pairs by `split`: (places, tokens' log-probs, batch); no graphs.

        `progress` is told how many pairs are done.
        """
        done = 0
        for places in self.split(pairs):
            tokens, batch = self.tokens(model, self.batch(pairs, places))
            yield places, tokens, batch
            done += len(places)
            progress(done)
