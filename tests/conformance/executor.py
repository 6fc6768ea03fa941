"""What every executor must do: the reference's logits, for any mix of chunks, decodes and forks.

`Tape` builds step batches by hand from plain lists of tokens, independently of the scheduler.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from tenfold.engine.batch import Executor, Group, StepBatch
from tenfold.models.decoder import Decoder
from tenfold.models.loading import random_model
from tenfold.models.reference import reference_logits
from tenfold.models.spec import DecoderSpec

BLOCK = 4
BASE = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 50,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}
FAMILIES = {
    "llama": {},
    "multi_head_tied": {"num_key_value_heads": 4, "tie_word_embeddings": True},
    "window": {
        "model_type": "mistral",
        "architectures": ["MistralForCausalLM"],
        "sliding_window": 7,
    },
    "qwen3": {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "head_dim": 32},
    "granite": {
        "model_type": "granite",
        "architectures": ["GraniteForCausalLM"],
        "attention_multiplier": 0.05,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.5,
        "logits_scaling": 2.0,
    },
}


def decoder_of(family: str, dtype: torch.dtype = torch.float32) -> Decoder:
    return random_model(DecoderSpec.from_hf({**BASE, **FAMILIES[family]}), 3, dtype)


@dataclass
class Row:
    """A sequence: all its tokens, how many are computed, its blocks."""

    tokens: list[int]
    computed: int = 0
    table: list[int] = field(default_factory=list)


class Tape:
    """Runs steps on an executor and holds each row's logits against the reference."""

    def __init__(self, decoder: Decoder, executor: Executor, tolerance: float = 1e-4) -> None:
        self.decoder, self.executor, self.tolerance = decoder, executor, tolerance
        self.free = list(range(executor.num_blocks))
        random.Random(0).shuffle(self.free)  # memory order must not matter
        self.copies: list[tuple[int, int]] = []

    def fork(self, row: Row) -> Row:
        """A copy that shares full blocks and has its own copy of a partial last one."""
        child = Row(list(row.tokens), row.computed, list(row.table))
        if row.computed % BLOCK:
            child.table[-1] = self.free.pop()
            self.copies.append((row.table[-1], child.table[-1]))
        return child

    def step(
        self, decodes: list[Row], chunks: list[tuple[Row, int]], groups: list[Group] | None = None
    ) -> torch.Tensor:
        """One step; every row's last computed position is compared. Returns the logits."""
        work = [(r, 1) for r in decodes] + chunks
        tokens, positions, slots, ends = [], [], [], []
        for row, count in work:
            while len(row.table) * BLOCK < row.computed + count:
                row.table.append(self.free.pop())
            for p in range(row.computed, row.computed + count):
                tokens.append(row.tokens[p])
                positions.append(p)
                slots.append(row.table[p // BLOCK] * BLOCK + p % BLOCK)
            row.computed += count
            ends.append(len(tokens) - 1)
        tables = np.zeros((len(work), max(len(r.table) for r, _ in work)), np.int32)
        for i, (row, _) in enumerate(work):
            tables[i, : len(row.table)] = row.table
        batch = StepBatch(
            token_ids=np.array(tokens),
            positions=np.array(positions),
            slots=np.array(slots),
            query_lens=np.array([n for _, n in work]),
            context_lens=np.array([r.computed for r, _ in work]),
            block_tables=tables,
            decodes=len(decodes),
            groups=tuple(groups or [Group(i, i + 1, 0) for i in range(len(decodes))]),
            logits_rows=np.array(ends),
            copies=tuple(self.copies),
        )
        self.copies = []
        logits = self.executor.forward(batch)
        assert logits.dtype == torch.float32
        for (row, _), got in zip(work, logits, strict=True):
            want = reference_logits(self.decoder, torch.tensor(row.tokens[: row.computed]))[-1]
            torch.testing.assert_close(got, want, atol=self.tolerance, rtol=self.tolerance)
        return logits


class ExecutorConformance:
    """Mix into a class that sets `make`."""

    make: Callable[..., Executor]
    tolerance = 1e-4

    @pytest.fixture(params=list(FAMILIES))
    def tape(self, request: pytest.FixtureRequest) -> Tape:
        decoder = decoder_of(request.param)
        executor = type(self).make(decoder, num_blocks=64, block_size=BLOCK)
        return Tape(decoder, executor, self.tolerance)

    def row(self, length: int, seed: int = 0) -> Row:
        rng = random.Random(seed)
        return Row([rng.randrange(50) for _ in range(length)])

    def test_a_whole_prompt_at_once(self, tape: Tape) -> None:
        tape.step([], [(self.row(19), 19)])

    def test_chunks_of_any_size(self, tape: Tape) -> None:
        row = self.row(30)
        for count in (5, 3, 9, 2, 11):
            tape.step([], [(row, count)])

    def test_token_by_token(self, tape: Tape) -> None:
        row = self.row(21)
        for _ in range(21):
            tape.step([row], [])

    def test_decodes_and_prompts_together(self, tape: Tape) -> None:
        old = [self.row(20, i) for i in range(3)]
        tape.step([], [(r, 8 + i) for i, r in enumerate(old)])
        new = [self.row(25, 10 + i) for i in range(2)]
        for _ in range(4):
            tape.step(old, [(new[0], 3), (new[1], 6)])

    def test_forks_share_and_part(self, tape: Tape) -> None:
        root = self.row(14)
        tape.step([], [(root, 14)])
        forks = [tape.fork(root) for _ in range(4)]
        for i, f in enumerate(forks):
            f.tokens += [(7 * i + j) % 50 for j in range(12)]
        shared = len(root.table) - 1
        for _ in range(11):
            tape.step(forks, [], [Group(0, 4, shared)])

    def test_two_groups_and_a_single(self, tape: Tape) -> None:
        roots = [self.row(9, 1), self.row(12, 2)]
        tape.step([], [(r, len(r.tokens)) for r in roots])
        first = [tape.fork(roots[0]) for _ in range(2)]
        second = [tape.fork(roots[1]) for _ in range(3)]
        single = self.row(6, 3)
        for i, r in enumerate((*first, *second)):
            r.tokens += [i, i + 1, i + 2]
        for _ in range(3):
            rows = [*first, *second, single]
            groups = [Group(0, 2, 2), Group(2, 5, 3), Group(5, 6, 0)]
            tape.step(rows, [], groups)

    def test_a_rows_logits_hardly_depend_on_company(self, tape: Tape) -> None:
        rows = [self.row(12, i) for i in range(8)]
        tape.step([], [(r, 11) for r in rows])
        alone = Row(rows[3].tokens, 11, list(rows[3].table))
        together = tape.step(rows, [])[3]
        assert torch.allclose(tape.step([alone], [])[0], together, atol=1e-5)

    def test_copies_run_in_order(self, tape: Tape) -> None:
        a, b = self.row(3, 1), self.row(3, 2)
        tape.step([], [(a, 2), (b, 2)])
        # a's block goes to x, b's block into a's old place: neither may see the other.
        x = tape.free.pop()
        tape.copies = [(a.table[0], x), (b.table[0], a.table[0])]
        a.table, b.table = [x], [a.table[0]]
        tape.step([a, b], [])
