"""A request's work ends with its client: whoever leaves frees the engine at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from tenfold.errors import DeadlineExceeded
from tenfold.server.errors import CLIENT_LEFT, Refusal

T = TypeVar("T")


async def until_gone(receive: Receive) -> None:
    """Returns when the client closes the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancels tasks and waits until their clean-up has run."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T], seconds: float) -> T:
    """The result of `work`, which is cancelled when the client leaves or `seconds` are over.

    Cancelled natively rather than through an anyio scope: a scope would cancel the clean-up's own
    awaits too, and the clean-up is what gives the KV blocks back.
    """
    task = asyncio.create_task(work)
    watcher = asyncio.create_task(until_gone(receive))
    try:
        await asyncio.wait({task, watcher}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if watcher.done():
            raise Refusal(CLIENT_LEFT, "the client left", code="client_left")
        raise DeadlineExceeded("the request's time is over", hint="allow it more time")
    finally:
        await end(task, watcher)
