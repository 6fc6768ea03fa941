"""Several prompts of one request at once: all results, or all events as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from tenfold.search.events import Event
from tenfold.server.lifetime import end

T = TypeVar("T")


async def together(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results; when one fails or the caller is cancelled, the others are ended first."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await end(*tasks)


async def merged(
    runs: Sequence[AsyncGenerator[Event, None]],
) -> AsyncGenerator[tuple[int, Event], None]:
    """Events of several runs as they come; closing it closes all of them."""
    queue: asyncio.Queue[tuple[int, Event] | Exception | None] = asyncio.Queue(1)

    async def pump(number: int, run: AsyncGenerator[Event, None]) -> None:
        try:
            async with aclosing(run) as events:
                async for event in events:
                    await queue.put((number, event))
        except Exception as e:  # noqa: BLE001 - handed on to the reader, which raises it
            await queue.put(e)
        else:
            await queue.put(None)

    tasks = [asyncio.create_task(pump(i, run)) for i, run in enumerate(runs)]
    try:
        left = len(tasks)
        while left:
            item = await queue.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                left -= 1
            else:
                yield item
    finally:
        await end(*tasks)
