"""Long work for the event loop: a thread does it a step at a time.

Off the main path: embeddings and the scores of given texts. Between two steps others get the
thread, and work whose client has left goes no further.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")
Steps = Generator[None, None, T]  # yields where it may be left, returns its result


def at_once(steps: Steps[T]) -> T:
    """The result of all steps, here and now."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


async def stepwise(executor: Executor, steps: Steps[T]) -> T:
    """The result of all steps, each run in `executor`. When cancelled, no further step begins."""
    loop = asyncio.get_running_loop()
    while True:
        ended = await loop.run_in_executor(executor, _step, steps)
        if ended is not None:
            return ended[0]


def _step(steps: Steps[T]) -> tuple[T] | None:
    """One step; the result in a tuple when it was the last."""
    try:
        next(steps)
    except StopIteration as end:  # which a future cannot carry
        return (end.value,)
    return None
