"""`sample`: one answer, or n independent ones that share the prompt's KV blocks."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import ClassVar

from tenfold.search.branches import END, Branches
from tenfold.search.events import Event
from tenfold.search.params import param
from tenfold.search.strategy import Request, result


@dataclass(frozen=True)
class Sample:
    """Ordinary sampling; `n` is OpenAI's n."""

    name: ClassVar[str] = "sample"
    summary: ClassVar[str] = "ordinary sampling, n independent answers"
    cost: ClassVar[str] = "n answers"
    needs: ClassVar[tuple[str, ...]] = ()
    selects: ClassVar[bool] = False

    n: int = param(1, "answers to return", minimum=1, maximum=128)

    @property
    def candidates(self) -> int:
        return self.n

    async def run(self, branches: Branches, request: Request) -> AsyncGenerator[Event, None]:
        """Yields each answer's tokens as they come."""
        root = await branches.start(request.params)
        alive = [root, *(await branches.fork(root, self.n - 1))] if self.n > 1 else [root]
        async for event in branches.extend(alive, END):
            yield event
        yield result(self, branches, alive, {})
