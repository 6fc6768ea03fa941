"""KV blocks: reference counts, sharing, and the prefix cache.

A block holds the keys and values of `block_size` consecutive tokens. Sequences refer to blocks
through block tables; a block with several references is shared and must be copied before it is
written (the scheduler does that). A full block that nobody refers to any more stays as cache until
its memory is needed, oldest first.

Cached prefixes are found by exact content, not by hash: a block's key is (key id of its parent, its
tokens), and every key id is given out once, so no collision can hand out another prompt's memory.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence

ROOT = 0  # the key id before the first block

Key = tuple[int, tuple[int, ...]]


class BlockPool:
    """Block ids 0..num_blocks-1 with their reference counts and cached contents."""

    def __init__(self, num_blocks: int, block_size: int, *, prefix_cache: bool = True) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.prefix_cache = prefix_cache
        self._refs = [0] * num_blocks
        self._empty: deque[int] = deque(range(num_blocks))
        self._idle: OrderedDict[int, None] = OrderedDict()  # cached, unreferenced, oldest first
        self._by_key: dict[Key, tuple[int, int]] = {}  # key -> (block, key id)
        self._key_of: dict[int, Key] = {}
        self._next_key_id = ROOT + 1

    @property
    def free(self) -> int:
        """Blocks that can be allocated now, cached ones included."""
        return len(self._empty) + len(self._idle)

    @property
    def used(self) -> int:
        return self.num_blocks - self.free

    @property
    def cached(self) -> int:
        """Unreferenced blocks that still hold a reusable prefix."""
        return len(self._idle)

    def allocate(self) -> int | None:
        """A block with one reference, or None when all are in use; may evict the oldest prefix."""
        if self._empty:
            block = self._empty.popleft()
        elif self._idle:
            block, _ = self._idle.popitem(last=False)
            del self._by_key[self._key_of.pop(block)]
        else:
            return None
        self._refs[block] = 1
        return block

    def retain(self, blocks: Sequence[int]) -> None:
        """One more reference to each block."""
        for block in blocks:
            if self._refs[block] == 0:
                del self._idle[block]
            self._refs[block] += 1

    def release(self, blocks: Sequence[int]) -> None:
        """One reference less to each; the tail goes first, so that a prefix outlives its tails."""
        for block in reversed(blocks):
            self._refs[block] -= 1
            assert self._refs[block] >= 0, f"block {block} released too often"
            if self._refs[block] == 0:
                if block in self._key_of:
                    self._idle[block] = None
                else:
                    self._empty.append(block)

    def shared(self, block: int) -> bool:
        """True when more than one sequence refers to the block."""
        return self._refs[block] > 1

    def publish(self, block: int, parent: int, tokens: tuple[int, ...]) -> int:
        """Makes a full, computed block findable; returns its key id for the next block.

        When the same content is already cached in another block, that one stays the cached one.
        """
        assert len(tokens) == self.block_size, "only full blocks are published"
        if not self.prefix_cache:
            return ROOT
        key = (parent, tokens)
        known = self._by_key.get(key)
        if known is not None:
            return known[1]
        key_id = self._next_key_id
        self._next_key_id += 1
        self._by_key[key] = (block, key_id)
        self._key_of[block] = key
        return key_id

    def match(self, tokens: Sequence[int]) -> tuple[list[int], list[int]]:
        """The cached blocks that hold the longest prefix of `tokens` in full blocks.

        Returns (blocks, their key ids); the caller retains the blocks it uses.
        """
        blocks: list[int] = []
        key_ids: list[int] = []
        if not self.prefix_cache:
            return blocks, key_ids
        parent, size = ROOT, self.block_size
        for begin in range(0, len(tokens) - size + 1, size):
            found = self._by_key.get((parent, tuple(tokens[begin : begin + size])))
            if found is None:
                break
            blocks.append(found[0])
            key_ids.append(found[1])
            parent = found[1]
        return blocks, key_ids

    def check_integrity(self, tables: Sequence[Sequence[int]]) -> None:
        """Raises AssertionError unless counts, free lists and cache agree with the block tables."""
        counted = [0] * self.num_blocks
        for table in tables:
            assert len(set(table)) == len(table), "a sequence holds a block twice"
            for block in table:
                counted[block] += 1
        assert counted == self._refs, "reference counts differ from the block tables"
        unreferenced = {b for b, n in enumerate(self._refs) if n == 0}
        assert unreferenced == set(self._empty) | set(self._idle), "a block is lost"
        assert not set(self._empty) & set(self._idle), "a block is free twice"
        assert len(set(self._empty)) == len(self._empty), "a block is free twice"
        assert all(b in self._key_of for b in self._idle), "an idle block has no key"
        assert {b: k for k, (b, _) in self._by_key.items()} == self._key_of, "cache maps differ"
