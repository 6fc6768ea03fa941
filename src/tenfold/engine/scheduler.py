"""Which sequences advance in the next step, by how many tokens, and where these go.

The scheduler knows budgets, sequences and blocks, nothing else. Rules:

- Older families first. A sequence that decodes needs one token; one with more to compute (a prompt,
  or everything again after a preemption) gets what is left of the step's token budget, in chunks.
- A sequence that finds no free block takes those of the youngest one, which starts again later
  (preemption by recomputation); when nothing else runs, also those of an older, paused one. The
  oldest runnable sequence can therefore always advance.
- A prompt whose next block is being computed by another sequence in this very step waits for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tenfold.engine.blocks import BlockPool
from tenfold.engine.sequence import PREFILL, Sequence
from tenfold.engine.settings import EngineSettings


@dataclass(slots=True)
class Plan:
    """One step: sequences with the number of tokens to compute, and the block copies before it."""

    chunks: list[tuple[Sequence, int]] = field(default_factory=list)
    copies: list[tuple[int, int]] = field(default_factory=list)


class Scheduler:
    """Owns block tables: allocation, sharing, copy-on-write and preemption."""

    def __init__(self, pool: BlockPool, settings: EngineSettings) -> None:
        self.pool = pool
        self.preemptions = 0
        self._max_tokens = settings.max_batch_tokens
        self._max_sequences = settings.max_sequences

    def schedule(self, sequences: Iterable[Sequence]) -> Plan:
        """Plans a step over all live sequences; block tables are ready for it afterwards."""
        plan = Plan()
        live = sorted(sequences, key=lambda s: s.order)
        # Decodes before prompts: nobody's next token waits for someone else's long prompt.
        runnable = [s for s in live if s.wanted > 0]
        runnable.sort(key=lambda s: s.wanted > 1 or not s.block_table)
        left = self._max_tokens
        being_computed: set[tuple[int, tuple[int, ...]]] = set()
        planned: set[int] = set()
        for sequence in runnable:
            if left == 0 or len(plan.chunks) == self._max_sequences:
                break
            waiting = not sequence.block_table
            if not self._admit(sequence, being_computed):
                continue
            count = min(sequence.wanted, left)
            if not self._reserve(sequence, count, plan, live, planned):
                if waiting:  # it goes on waiting, and holds no memory while it does
                    self.free(sequence)
                continue
            plan.chunks.append((sequence, count))
            planned.add(sequence.id)
            left -= count
        return plan

    def fork(self, parent: Sequence, child: Sequence) -> None:
        """The child shares all of the parent's blocks."""
        self.pool.retain(parent.block_table)
        child.block_table = list(parent.block_table)
        child.key_ids = list(parent.key_ids)
        child.computed = parent.computed

    def free(self, sequence: Sequence) -> None:
        """Gives the sequence's blocks back at once."""
        self.pool.release(sequence.block_table)
        sequence.block_table = []
        sequence.key_ids = []
        sequence.computed = 0

    def computed(self, sequence: Sequence, count: int) -> None:
        """Records that `count` more tokens have their keys and values; publishes full blocks."""
        sequence.computed += count
        if not self.pool.prefix_cache:
            return
        size = self.pool.block_size
        while (len(sequence.key_ids) + 1) * size <= sequence.computed:
            i = len(sequence.key_ids)
            content = tuple(sequence.tokens[i * size : (i + 1) * size])
            key = self.pool.publish(sequence.block_table[i], sequence.parent_key, content)
            sequence.key_ids.append(key)

    def _admit(self, sequence: Sequence, being_computed: set[tuple[int, tuple[int, ...]]]) -> bool:
        """Gives a sequence without blocks its cached prefix; False when it had better wait."""
        size = self.pool.block_size
        if not sequence.block_table:
            # The last token is computed even when cached: its logits are needed.
            blocks, key_ids = self.pool.match(sequence.tokens[:-1])
            upcoming = sequence.tokens[len(blocks) * size : (len(blocks) + 1) * size]
            key = (key_ids[-1] if key_ids else 0, tuple(upcoming))
            if key in being_computed:
                return False
            self.pool.retain(blocks)
            sequence.block_table, sequence.key_ids = blocks, key_ids
            sequence.computed = len(blocks) * size
            if sequence.output_len == 0:
                sequence.cached_tokens = sequence.computed
        if self.pool.prefix_cache and sequence.wanted >= size and sequence.computed % size == 0:
            upcoming = sequence.tokens[sequence.computed : sequence.computed + size]
            being_computed.add((sequence.parent_key, tuple(upcoming)))
        return sequence.wanted > 0

    def _reserve(
        self,
        sequence: Sequence,
        count: int,
        plan: Plan,
        live: list[Sequence],
        planned: set[int],
    ) -> bool:
        """Blocks for `count` more tokens, the first of them owned by the sequence alone.

        All or nothing: on failure neither the table nor the plan has changed.
        """
        size = self.pool.block_size
        table = sequence.block_table
        needed = -(-(sequence.computed + count) // size) - len(table)
        partial = sequence.computed % size > 0
        fresh: list[int] = []
        # Sharing is asked anew each time: taking a block may have freed whoever shared with us.
        while len(fresh) < needed + (partial and self.pool.shared(table[-1])):
            block = self._allocate(sequence, live, planned)
            if block is None:
                self.pool.release(fresh)
                return False
            fresh.append(block)
        if partial and self.pool.shared(table[-1]):
            copy = fresh.pop()
            plan.copies.append((table[-1], copy))
            self.pool.release(table[-1:])
            table[-1] = copy
        table += fresh[:needed]
        self.pool.release(fresh[needed:])
        return True

    def _allocate(self, sequence: Sequence, live: list[Sequence], planned: set[int]) -> int | None:
        while (block := self.pool.allocate()) is None:
            holders = [
                s
                for s in reversed(live)
                if s.block_table and s.id not in planned and s is not sequence
            ]
            victim = next((s for s in holders if s.order > sequence.order), None)
            if victim is None and not planned:
                # Only older ones hold memory and none of them runs: somebody has to go on.
                victim = next((s for s in holders if s.goal is None), None)
            if victim is None:
                return None
            self.free(victim)
            self.preemptions += 1
        return block


def at_goal(sequence: Sequence) -> bool:
    """True when a sequence has done what it was asked to for now."""
    if sequence.goal is None:
        return True
    if sequence.goal == PREFILL:
        return sequence.wanted <= 0
    return sequence.output_len >= sequence.goal
