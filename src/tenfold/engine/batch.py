"""One engine step as the executor sees it, and the contract of an executor.

Rows of several sequences lie behind one another in one flat token dimension. Sequences that decode
(one token each) come first, ordered so that those sharing leading KV blocks are neighbours; chunks
of prompts follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tenfold.engine.sequence import PREFILL
from tenfold.engine.sequence import Sequence as EngineSequence

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Group:
    """Decode rows `begin..end` whose first `shared_blocks` blocks are the same memory."""

    begin: int
    end: int
    shared_blocks: int


@dataclass(frozen=True, slots=True)
class StepBatch:
    """Everything an executor needs for one step.

    tokens = sum of query_lens; position p of a sequence lives in slot
    block_table[p // block_size] * block_size + p % block_size.
    """

    token_ids: IntArray  # [tokens]
    positions: IntArray  # [tokens]
    slots: IntArray  # [tokens] where each token's key and value go
    query_lens: IntArray  # [sequences]
    context_lens: IntArray  # [sequences] positions to attend to, this step's included
    block_tables: npt.NDArray[np.int32]  # [sequences, longest table], padded with 0
    decodes: int  # the first so many sequences have one token each
    groups: tuple[Group, ...]  # cover the decodes
    logits_rows: IntArray  # [rows] tokens whose logits are wanted
    copies: tuple[tuple[int, int], ...]  # (from block, to block), before anything is written


class Executor(Protocol):
    """Runs the model on step batches and owns the KV memory."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def num_blocks(self) -> int: ...
    @property
    def block_size(self) -> int: ...

    def forward(self, batch: StepBatch) -> Tensor:
        """Copies blocks, writes this step's keys and values, returns fp32 logits [rows, vocab]."""
        ...


def shared_groups(tables: Sequence[Sequence[int]]) -> list[Group]:
    """Groups neighbouring rows that begin with the same block.

    A block that a row writes to is never shared, so shared blocks are full and lie in the past.
    """
    groups: list[Group] = []
    begin = 0
    while begin < len(tables):
        first = tables[begin]
        end, shared = begin + 1, len(first)
        while end < len(tables) and tables[end][0] == first[0]:
            # Forks differ near their ends, so comparing slices backwards from the bound is quick.
            shared = min(shared, len(tables[end]))
            if tables[end][:shared] != first[:shared]:
                shared = next(
                    i for i, (a, b) in enumerate(zip(tables[end], first, strict=False)) if a != b
                )
            end += 1
        groups.append(Group(begin, end, shared if end - begin > 1 else 0))
        begin = end
    return groups


def build_batch(
    chunks: Sequence[tuple[EngineSequence, int]],
    copies: Sequence[tuple[int, int]],
    block_size: int,
) -> tuple[StepBatch, list[EngineSequence]]:
    """The batch that computes `count` more tokens of each sequence in `chunks`.

    Also returns the sequences whose next token is to be sampled, in the order of the logits' rows:
    those that will have all their tokens computed and were not only asked to prefill.
    """
    decodes = [c for c in chunks if c[1] == 1]
    decodes.sort(key=lambda c: (c[0].block_table[0], c[0].order))
    ordered = decodes + [c for c in chunks if c[1] > 1]
    tables = np.zeros((len(ordered), max(len(s.block_table) for s, _ in ordered)), np.int32)
    tokens: list[int] = []
    positions, slots = [], []
    rows, wanting = [], []
    for i, (s, count) in enumerate(ordered):
        tables[i, : len(s.block_table)] = s.block_table
        span = np.arange(s.computed, s.computed + count)
        positions.append(span)
        blocks = tables[i, span // block_size].astype(np.int64)
        slots.append(blocks * block_size + span % block_size)
        tokens += s.tokens[s.computed : s.computed + count]
        if s.computed + count == len(s.tokens) and s.goal != PREFILL:
            rows.append(len(tokens) - 1)
            wanting.append(s)
    batch = StepBatch(
        token_ids=np.array(tokens, np.int64),
        positions=np.concatenate(positions).astype(np.int64),
        slots=np.concatenate(slots),
        query_lens=np.array([n for _, n in ordered], np.int64),
        context_lens=np.array([s.computed + n for s, n in ordered], np.int64),
        block_tables=tables,
        decodes=len(decodes),
        groups=tuple(shared_groups([s.block_table for s, _ in decodes])),
        logits_rows=np.array(rows, np.int64),
        copies=tuple(copies),
    )
    return batch, wanting
