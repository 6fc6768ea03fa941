"""`best_of_n`: n whole answers, the one with the highest reward wins.

The baseline every search method is measured against (Stiennon et al. 2009.01325, §3.4). Candidate 0
is exactly what `sample` gives with the same seed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import ClassVar

from tenfold.errors import InvalidRequest
from tenfold.search.branches import END, Branches
from tenfold.search.events import CheckpointEvent, Event
from tenfold.search.params import param
from tenfold.search.strategy import Request, result


@dataclass(frozen=True)
class BestOfN:
    """Generates `n` answers to their ends and returns the best."""

    name: ClassVar[str] = "best_of_n"
    summary: ClassVar[str] = "n whole answers, the highest reward wins"
    cost: ClassVar[str] = "n answers and n reward scores"
    needs: ClassVar[tuple[str, ...]] = ("reward",)
    selects: ClassVar[bool] = True

    n: int = param(8, "candidates", minimum=1, maximum=1024)

    @property
    def candidates(self) -> int:
        return self.n

    async def run(self, branches: Branches, request: Request) -> AsyncGenerator[Event, None]:
        """Yields all candidates' tokens, one checkpoint with the final scores, the result."""
        if self.n > 1 and request.params.temperature == 0:
            raise InvalidRequest(
                f"{self.n} candidates at temperature 0 are all the same",
                param="temperature",
                hint="0.5 to 1 gives the reward something to choose from",
            )
        root = await branches.start(request.params)
        alive = [root, *(await branches.fork(root, self.n - 1))] if self.n > 1 else [root]
        async for event in branches.extend(alive, END):
            yield event
        scores = await branches.score(alive)
        # Whole answers beat those that time or budget cut short, these beat answers that never
        # began; ties go to the first candidate.
        ranked = sorted(
            alive,
            key=lambda b: (
                not b.finished,
                not b.output_ids,
                -scores[b.candidate],
                b.candidate,
            ),
        )
        checkpoint = CheckpointEvent(
            tokens=max(len(b.output_ids) for b in alive),
            alive=(ranked[0].candidate,),
            cut=tuple(b.candidate for b in ranked[1:]),
            scores=scores,
        )
        yield checkpoint
        yield result(self, branches, ranked, scores, [checkpoint])
