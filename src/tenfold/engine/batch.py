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
