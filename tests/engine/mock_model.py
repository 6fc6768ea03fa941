"""A model small enough to be obviously right, whose answers depend on every KV slot it reads.

Its "key" of a token is the token itself; the logits at a position are a hash of all tokens it can
see *through its block table*. A wrong slot, table, copy or position therefore changes the text.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from tenfold.engine.batch import StepBatch

VOCAB, EOS = 48, 47


def mock_logits(tokens: np.ndarray) -> np.ndarray:
    """fp32 [VOCAB] from the whole context: what every path through the engine must reproduce."""
    state = 17
    for token in tokens.tolist():
        state = (state * 31 + token * 7 + 3) % 1_000_003
    logits = np.sin(np.arange(1, VOCAB + 1) * (state % 977 + 1)).astype(np.float32) * 3
    logits[EOS] -= 2.0
    return logits


class MockExecutor:
    """The executor contract on a NumPy array of tokens."""

    name, dtype, vocab_size = "mock", "float32", VOCAB

    def __init__(self, num_blocks: int = 64, block_size: int = 4) -> None:
        self.num_blocks, self.block_size = num_blocks, block_size
        self.memory = np.full((num_blocks, block_size), -1, np.int64)
        self.steps: list[StepBatch] = []
        self.fail_on: int | None = None  # a token id that breaks the step it is in
        self.seconds = 0.0  # each step takes

    def forward(self, batch: StepBatch) -> torch.Tensor:
        self.steps.append(batch)
        time.sleep(self.seconds)
        if self.fail_on is not None and self.fail_on in batch.token_ids:
            raise RuntimeError("the mock model was told to fail")
        for source, target in batch.copies:
            self.memory[target] = self.memory[source]
        self.memory.reshape(-1)[batch.slots] = batch.token_ids
        ends = np.cumsum(batch.query_lens)
        rows = []
        for row in batch.logits_rows:
            i = int(np.searchsorted(ends, row, side="right"))
            context = self.memory[batch.block_tables[i]].reshape(-1)[: batch.context_lens[i]]
            assert batch.positions[row] == batch.context_lens[i] - 1 - (ends[i] - 1 - row)
            rows.append(mock_logits(context))
        return torch.from_numpy(np.array(rows, np.float32).reshape(-1, VOCAB))


class LetterDetokenizer:
    """Token ids as letters."""

    def __init__(self, prefix: Sequence[int] = ()) -> None:
        self.prefix = prefix

    def push(self, token_id: int) -> str:
        return chr(ord("A") + token_id)

    def flush(self) -> str:
        return ""

    def copy(self) -> LetterDetokenizer:
        return LetterDetokenizer()
