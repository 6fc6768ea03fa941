"""The reference executor: the shared decoder forward in torch over paged KV memory.

Always correct, on any device. Decodes go through the `paged_attention` kernel, which reads the
blocks that a group of branches shares once for all of them; chunks of prompts attend through
torch's own scaled-dot-product attention.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tenfold.engine.batch import StepBatch
from tenfold.engine.chunk_attention import chunk_attention
from tenfold.kernels import AttentionStep, PagedAttention, kv_write, plan_attention
from tenfold.models.decoder import Decoder


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A part of a prompt: tokens `begin..end` of the step, after `past` earlier ones."""

    begin: int
    end: int
    past: int
    slots: Tensor | None  # of the whole context, when there is a past to read


class TorchExecutor:
    """Runs a `Decoder`; keys and values are [layers, slots, kv_heads, head_dim] in its dtype."""

    name = "torch"

    def __init__(
        self,
        decoder: Decoder,
        *,
        num_blocks: int,
        block_size: int,
        attention: str | None = None,
    ) -> None:
        spec = decoder.spec
        self.num_blocks, self.block_size = num_blocks, block_size
        self.vocab_size = spec.vocab_size
        self._decoder = decoder
        self._attention = attention
        shape = (spec.layers, num_blocks * block_size, spec.kv_heads, spec.head_dim)
        # Only written slots are ever read, so the memory need not be cleared (nor touched) now.
        self._keys = torch.empty(shape, dtype=decoder.dtype, device=decoder.device)
        self._values = torch.empty_like(self._keys)

    @property
    def dtype(self) -> str:
        return str(self._decoder.dtype).removeprefix("torch.")

    @torch.inference_mode()
    def forward(self, batch: StepBatch) -> Tensor:
        """See `batch.Executor`."""
        decoder, device = self._decoder, self._decoder.device
        self._copy_blocks(batch.copies)
        slots = torch.from_numpy(batch.slots).to(device)
        plans = self._plan_decodes(batch)
        chunks = self._chunks(batch)
        decodes = batch.decodes
        spec = decoder.spec

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = self._keys[layer], self._values[layer]
            kv_write(k, v, keys, values, slots)
            window = spec.window(layer)
            out = q.new_empty(q.shape)
            if decodes:
                plans(window)(q[:decodes], keys, values, out[:decodes])
            for c in chunks:
                part = slice(c.begin, c.end)
                own_k, own_v = (
                    (k[part], v[part]) if c.slots is None else (keys[c.slots], values[c.slots])
                )
                out[part] = chunk_attention(
                    q[part], own_k, own_v, c.past, spec.attention_scale, window
                )
            return out

        hidden = decoder.forward(
            torch.from_numpy(batch.token_ids).to(device),
            torch.from_numpy(batch.positions).to(device),
            attend,
        )
        return decoder.logits(hidden[torch.from_numpy(batch.logits_rows).to(device)])

    def _copy_blocks(self, copies: tuple[tuple[int, int], ...]) -> None:
        # In order: a block may be a target here and a source or a target again later.
        size = self.block_size
        for source, target in copies:
            for pool in (self._keys, self._values):
                begin, end = source * size, target * size
                pool[:, end : end + size] = pool[:, begin : begin + size]

    def _plan_decodes(self, batch: StepBatch) -> Callable[[int | None], PagedAttention]:
        """Prepared attention for each distinct window; most models have one."""
        made: dict[int | None, PagedAttention] = {}
        spec, device, n = self._decoder.spec, self._decoder.device, batch.decodes
        tables = torch.from_numpy(batch.block_tables[:n]).to(device)
        lengths = torch.from_numpy(batch.context_lens[:n]).to(device, torch.int32)

        def plan(window: int | None) -> PagedAttention:
            if window not in made:
                starts = torch.zeros_like(lengths)
                if window is not None:
                    starts = (lengths - window).clamp_(min=0)
                step = AttentionStep(
                    block_tables=tables,
                    context_lens=lengths,
                    starts=starts,
                    heads=spec.heads,
                    kv_heads=spec.kv_heads,
                    head_dim=spec.head_dim,
                    block_size=self.block_size,
                    slots=self._keys.shape[1],
                    scale=spec.attention_scale,
                    dtype=self._decoder.dtype,
                    groups=tuple(
                        (g.begin, g.end, g.shared_blocks) for g in batch.groups if g.shared_blocks
                    ),
                )
                made[window] = plan_attention(step, backend=self._attention)
            return made[window]

        return plan

    def _chunks(self, batch: StepBatch) -> list[_Chunk]:
        ends = list(itertools.accumulate(batch.query_lens.tolist()))
        size, device = self.block_size, self._decoder.device
        chunks = []
        for i in range(batch.decodes, len(ends)):
            length, context = int(batch.query_lens[i]), int(batch.context_lens[i])
            slots = None
            if context > length:
                table = torch.from_numpy(batch.block_tables[i]).to(device, torch.int64)
                at = torch.arange(context, device=device)
                slots = table[at // size] * size + at % size
            chunks.append(_Chunk(ends[i] - length, ends[i], context - length, slots))
        return chunks
