"""The five verbs a strategy is written against: the engine's four plus `score` through a reward.

The facade also keeps the request honest: it counts every token, watches the budget and the
deadline, and drops whatever is still alive when the request ends, however it ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal

from tenfold.engine.branch import Branch, BranchEngine, EndOfText, Tokens, Until
from tenfold.errors import InvalidRequest
from tenfold.rewards.base import Answer, Reward, RewardPrompt, RewardSession
from tenfold.search.events import TokensEvent
from tenfold.types import Occupancy, SamplingParams, TokenLogprob

StoppedBy = Literal["complete", "deadline", "budget"]


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits on one request; None = none. When one is reached, the best so far is the answer."""

    tokens: int | None = None  # generated, over all candidates
    ms: float | None = None  # from the request's arrival


class Branches:
    """The verbs for one request. Use as an async context manager: leaving it drops everything."""

    def __init__(
        self,
        engine: BranchEngine,
        prompt: RewardPrompt,
        *,
        reward: Reward | None = None,
        budget: Budget | None = None,
    ) -> None:
        self._engine = engine
        self._prompt = prompt
        self._reward = reward
        self._session: RewardSession | None = None
        self._budget = budget or Budget()
        self._began = time.monotonic()
        self._live: dict[int, Branch] = {}
        self.started = 0
        self.generated = 0
        self.discarded = 0
        self.dropped = 0
        self.reward_calls = 0
        self.stopped_by: StoppedBy = "complete"

    async def __aenter__(self) -> Branches:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._engine.drop(list(self._live.values()))
        self._live.clear()
        if self._session is not None:
            await self._session.close()

    async def start(self, params: SamplingParams) -> Branch:
        """A branch with an empty answer to the request's prompt. Raises InvalidRequest for a prompt
        that the reward cannot judge, before anything is generated."""
        self._open_session()
        branch = await self._engine.start(self._prompt.prompt_ids, params)
        self._live[branch.id] = branch
        self.started += 1
        return branch

    async def fork(self, branch: Branch, n: int) -> list[Branch]:
        """`n` copies that share all KV blocks and go their own way from here.

        An empty list when time runs out before the prompt is computed; `stopped_by` says so then.
        """
        try:
            async with asyncio.timeout_at(self._deadline()):
                children = await self._engine.fork(branch, n)
        except TimeoutError:
            self.stopped_by = "deadline"
            return []
        self._live.update((c.id, c) for c in children)
        self.started += n
        return children

    async def extend(
        self, branches: Sequence[Branch], until: Until
    ) -> AsyncGenerator[TokensEvent, None]:
        """Grows the unfinished ones of `branches`; ends early when the budget or time is over."""
        left = until
        while (live := [b for b in branches if not b.finished]) and self.stopped_by == "complete":
            live, share = self._affordable(live)
            if not live:
                self.stopped_by = "budget"
                return
            # An equal share of the remaining tokens for everyone keeps a seed's result the same
            # whatever the speed of the candidates.
            capped = share is not None and (not isinstance(left, Tokens) or share < left.count)
            now: Until = Tokens(share) if capped and share is not None else left
            async for event in self._extend_until_deadline(live, now):
                yield event
            if not capped or self.stopped_by != "complete":
                return
            if isinstance(left, Tokens) and isinstance(now, Tokens):
                left = Tokens(left.count - now.count)

    async def score(self, branches: Sequence[Branch]) -> dict[int, float]:
        """Scores by candidate number. Raises InvalidRequest when the request has no reward, or
        when it is asked for partial answers and scores only whole ones."""
        if self._reward is None:
            raise InvalidRequest(
                "this strategy needs a reward",
                param="decode.reward",
                hint='name one, for example "reward": "logprob"',
            )
        if (
            not self._reward.partial_ok
            and any(b.finish_reason is None for b in branches)
            and (self.stopped_by == "complete")
        ):
            raise InvalidRequest(
                f"reward {self._reward.name!r} scores whole answers only",
                param="decode.reward",
                hint="choose a reward with partial_ok in GET /v1/strategies",
            )
        session = self._open_session()
        assert session is not None
        answers = [
            Answer(b.text, tuple(b.output_ids), tuple(p.logprob for p in b.logprobs), b.finished)
            for b in branches
        ]
        self.reward_calls += 1
        scores = await session.score(answers)
        return {b.candidate: s for b, s in zip(branches, scores, strict=True)}

    def _open_session(self) -> RewardSession | None:
        if self._session is None and self._reward is not None:
            self._session = self._reward.open(self._prompt)
        return self._session

    async def drop(self, branches: Sequence[Branch]) -> None:
        """Cuts branches: their blocks are free at once, their tokens count as discarded."""
        gone = [b for b in branches if self._live.pop(b.id, None) is not None]
        self.dropped += len(gone)
        self.discarded += sum(len(b.output_ids) - b.inherited_tokens for b in gone)
        await self._engine.drop(gone)

    def occupancy(self) -> Occupancy:
        """What KV memory is left."""
        return self._engine.occupancy()

    @property
    def reward_name(self) -> str | None:
        return self._reward.name if self._reward else None

    @property
    def reward_tokens(self) -> int:
        return self._session.tokens if self._session else 0

    @property
    def elapsed_ms(self) -> float:
        return (time.monotonic() - self._began) * 1000.0

    def _affordable(self, live: list[Branch]) -> tuple[list[Branch], int | None]:
        """Who may grow on what is left of the token budget, and by how much (None: no limit)."""
        if self._budget.tokens is None:
            return live, None
        left = max(0, self._budget.tokens - self.generated)
        # Fewer tokens than candidates: one each for the first, rather than none for anybody.
        return live[:left], left // len(live) or 1

    def _deadline(self) -> float | None:
        """When the time is over, on the event loop's clock."""
        if self._budget.ms is None:
            return None
        left_ms = self._budget.ms - self.elapsed_ms
        return asyncio.get_running_loop().time() + left_ms / 1000

    async def _extend_until_deadline(
        self, branches: Sequence[Branch], until: Until
    ) -> AsyncGenerator[TokensEvent, None]:
        deltas = self._engine.extend(branches, until)
        deadline = self._deadline()
        seen = {b.id: (len(b.output_ids), len(b.text)) for b in branches}
        try:
            while True:
                async with asyncio.timeout_at(deadline):
                    delta = await anext(deltas)
                tokens, text = seen[delta.branch.id]
                seen[delta.branch.id] = (tokens + len(delta.token_ids), text + len(delta.text))
                yield self._event(delta.branch, delta.token_ids, delta.text, delta.logprobs)
        except StopAsyncIteration:
            return
        except TimeoutError:
            self.stopped_by = "deadline"
        finally:
            await deltas.aclose()
        # What was on its way when the time was over belongs to the answers.
        for b in branches:
            tokens, text = seen[b.id]
            if len(b.output_ids) > tokens:
                late = tuple(b.output_ids[tokens:])
                yield self._event(b, late, b.text[text:], tuple(b.logprobs[tokens:]))

    def _event(
        self,
        branch: Branch,
        token_ids: tuple[int, ...],
        text: str,
        logprobs: tuple[TokenLogprob, ...],
    ) -> TokensEvent:
        self.generated += len(token_ids)
        return TokensEvent(branch.candidate, text, token_ids, logprobs, branch.finish_reason)


END = EndOfText()
