"""What every `BranchEngine` must do. A subclass gives `make_engine`; pytest collects its tests.

Whatever an implementation declares in `capabilities` is held against it.
"""

from __future__ import annotations

import asyncio

import pytest

from tenfold.engine.branch import Branch, BranchEngine, EndOfText, Pressure, Tokens
from tenfold.errors import InvalidRequest, PromptTooLong
from tenfold.types import SamplingParams

PROMPT = (1, 2, 3, 4, 5, 6)


async def grow(engine: BranchEngine, branches: list[Branch], count: int) -> None:
    async for _ in engine.extend(branches, Tokens(count)):
        pass


class BranchEngineConformance:
    """Mix into a class whose `engine` fixture yields the engine under test."""

    params = SamplingParams(seed=7, ignore_eos=True)

    async def test_a_started_branch_is_empty(self, engine: BranchEngine) -> None:
        branch = await engine.start(PROMPT, self.params)
        assert (branch.candidate, branch.output_ids, branch.text) == (0, [], "")
        assert not branch.finished

    async def test_extend_stops_at_the_count(self, engine: BranchEngine) -> None:
        branch = await engine.start(PROMPT, self.params)
        await grow(engine, [branch], 3)
        assert len(branch.output_ids) == 3
        await grow(engine, [branch], 2)
        assert len(branch.output_ids) == 5

    async def test_pieces_give_the_same_text_as_one_piece(self, engine: BranchEngine) -> None:
        a, b = [await engine.start(PROMPT, self.params) for _ in range(2)]
        await grow(engine, [a], 9)
        for n in (1, 4, 4):
            await grow(engine, [b], n)
        assert a.output_ids == b.output_ids
        assert a.text == b.text

    async def test_deltas_add_up_to_the_branch(self, engine: BranchEngine) -> None:
        branch = await engine.start(PROMPT, self.params)
        ids: list[int] = []
        text = ""
        async for delta in engine.extend([branch], Tokens(6)):
            assert delta.branch is branch
            ids += delta.token_ids
            text += delta.text
        assert (ids, text) == (branch.output_ids, branch.text)
        assert [p.token_id for p in branch.logprobs] == ids
        assert all(p.logprob <= 0 for p in branch.logprobs)

    async def test_forks_begin_where_the_parent_is_and_part(self, engine: BranchEngine) -> None:
        root = await engine.start(PROMPT, self.params)
        await grow(engine, [root], 2)
        children = await engine.fork(root, 3)
        assert [c.candidate for c in children] == [1, 2, 3]
        assert all(c.output_ids == root.output_ids and c.text == root.text for c in children)
        assert all(c.inherited_tokens == 2 for c in children)
        await grow(engine, [root, *children], 12)
        texts = {tuple(b.output_ids) for b in (root, *children)}
        assert len(texts) == 4, "sampled branches of one root part"
        assert len({t[:2] for t in texts}) == 1, "and share what came before"

    async def test_forking_an_unstarted_prompt_shares_its_memory(
        self, engine: BranchEngine
    ) -> None:
        root = await engine.start(PROMPT * 3, self.params)
        children = await engine.fork(root, 8)
        if engine.capabilities.shared_prefix:
            once = engine.occupancy()
            assert once.blocks_used <= -(-len(PROMPT * 3) // once.block_size)
        await grow(engine, children, 1)
        await engine.drop([root, *children])

    async def test_a_parent_lives_on_without_its_children(self, engine: BranchEngine) -> None:
        plain = await engine.start(PROMPT, self.params)
        await grow(engine, [plain], 8)
        root = await engine.start(PROMPT, self.params)
        children = await engine.fork(root, 2)
        await grow(engine, children, 3)
        await engine.drop(children)
        await grow(engine, [root], 8)
        assert root.output_ids == plain.output_ids

    async def test_drop_frees_everything_and_may_be_repeated(self, engine: BranchEngine) -> None:
        before = engine.occupancy().blocks_used
        root = await engine.start(PROMPT, self.params)
        branches = [root, *(await engine.fork(root, 3))]
        await grow(engine, branches, 4)
        await engine.drop(branches)
        await engine.drop(branches)
        await self.settle(engine)
        assert engine.occupancy().blocks_used == before

    async def test_leaving_extend_early_pauses(self, engine: BranchEngine) -> None:
        branch = await engine.start(PROMPT, self.params)
        deltas = engine.extend([branch], EndOfText())
        async for _ in deltas:
            if len(branch.output_ids) >= 2:
                break
        await deltas.aclose()
        await self.settle(engine)
        assert engine.occupancy().running == 0

    async def test_nothing_is_lost_when_extend_is_left_and_taken_up_again(
        self, engine: BranchEngine
    ) -> None:
        whole = await engine.start(PROMPT, self.params)
        await grow(engine, [whole], 24)
        root = await engine.start(PROMPT, self.params)
        others = await engine.fork(root, 3)
        while len(root.output_ids) < 24:
            deltas = engine.extend([root, *others], Tokens(24 - len(root.output_ids)))
            await anext(deltas)
            await asyncio.sleep(0.002)  # let the engine run ahead
            await deltas.aclose()
        assert root.output_ids[:24] == whole.output_ids
        assert root.text[:24] == whole.text[:24]
        assert len(root.logprobs) == len(root.output_ids)
        await engine.drop([whole, root, *others])

    async def test_max_tokens_finishes_a_branch(self, engine: BranchEngine) -> None:
        short = await engine.start(PROMPT, SamplingParams(seed=1, max_tokens=3, ignore_eos=True))
        async for delta in engine.extend([short], EndOfText()):
            last = delta
        assert (short.finish_reason, len(short.output_ids)) == ("length", 3)
        assert last.finish_reason == "length"
        async for _ in engine.extend([short], EndOfText()):
            raise AssertionError("a finished branch does not grow")

    async def test_many_tasks_at_once(self, engine: BranchEngine) -> None:
        async def one(seed: int) -> list[int]:
            branch = await engine.start(PROMPT, SamplingParams(seed=seed, max_tokens=10))
            async for _ in engine.extend([branch], EndOfText()):
                pass
            await engine.drop([branch])
            return branch.output_ids

        alone = [await one(s) for s in range(6)]
        together = await asyncio.gather(*(one(s) for s in range(6)))
        if engine.capabilities.seeded:
            assert together == alone

    async def test_pressure_returns_before_memory_is_full(self, engine: BranchEngine) -> None:
        if not engine.capabilities.pressure:
            pytest.skip("the engine declares that it cannot feel KV pressure")
        root = await engine.start(PROMPT, self.params)
        branches = [root, *(await engine.fork(root, 5))]
        async for _ in engine.extend(branches, Pressure(0.25)):
            pass
        left = engine.occupancy()
        assert all(b.finished for b in branches) or left.blocks_free < 0.3 * left.blocks_total
        await engine.drop(branches)

    async def test_bad_requests_are_named(self, engine: BranchEngine) -> None:
        with pytest.raises(InvalidRequest):
            await engine.start((), self.params)
        with pytest.raises(PromptTooLong):
            await engine.start((1,) * 100_000, self.params)
        branch = await engine.start(PROMPT, self.params)
        await engine.drop([branch])
        with pytest.raises(InvalidRequest, match="dropped"):
            await engine.fork(branch, 1)

    async def settle(self, engine: BranchEngine) -> None:
        """Waits until commands given so far are carried out."""
        settled = getattr(engine, "settled", None)
        if settled is not None:
            await settled()
