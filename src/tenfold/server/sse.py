"""Server-sent events that are always valid, whatever happens behind them.

A task of its own runs the work and fills a small queue; the response drains it. So comments can be
sent while the work is silent, a slow reader slows the work down, and a reader who leaves ends it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tenfold.errors import DeadlineExceeded
from tenfold.server.errors import failure_of
from tenfold.server.lifetime import end, until_gone

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"
_QUEUE = 16  # chunks between the engine and the socket


def event(data: dict[str, Any]) -> bytes:
    """One event. JSON escapes newlines, so one `data:` line always suffices."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return b"data: " + text.encode("utf-8") + b"\n\n"


class EventStream(Response):
    """A response that streams `chunks` and closes them however it ends.

    An error before the first chunk becomes an ordinary error response; a later one (or one after
    `headers_after_s`, when the headers are sent to a client that has waited long enough) an error
    event. `[DONE]` always ends the stream.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        chunks: AsyncGenerator[dict[str, Any], None],
        *,
        keep_alive_s: float,
        limit_s: float,
        headers_after_s: float = 1.0,
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self.chunks = chunks
        self.keep_alive_s = keep_alive_s
        self.limit_s = limit_s
        self.headers_after_s = min(headers_after_s, keep_alive_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(_QUEUE)
        pump = asyncio.create_task(self._pump(queue))
        drain = asyncio.create_task(self._drain(queue, scope, receive, send))
        gone = asyncio.create_task(until_gone(receive))
        try:
            # The work has ended by `limit_s`; a reader gets as long again to take what is left.
            await asyncio.wait(
                {drain, gone}, timeout=2 * self.limit_s, return_when=asyncio.FIRST_COMPLETED
            )
            if drain.done():
                drain.result()
        finally:
            await end(pump, drain, gone)

    async def _pump(self, queue: asyncio.Queue[bytes | Exception | None]) -> None:
        """Runs the work. It is closed before its last word is queued: blocks do not wait for
        readers."""
        last: Exception | None = None
        try:
            async with asyncio.timeout(self.limit_s), aclosing(self.chunks) as chunks:
                async for chunk in chunks:
                    await queue.put(event(chunk))
        except TimeoutError:
            last = DeadlineExceeded("the request's time is over", hint="allow it more time")
        except Exception as e:  # noqa: BLE001 - the edge: every failure becomes an error event
            last = e
        await queue.put(last)

    async def _drain(
        self,
        queue: asyncio.Queue[bytes | Exception | None],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        first = await _next(queue, self.headers_after_s)
        if isinstance(first, Exception):
            await failure_of(first).response()(scope, receive, send)
            return
        await send(
            {"type": "http.response.start", "status": 200, "headers": self.raw_headers},
        )
        item: bytes | Exception | None = first
        while isinstance(item, bytes):
            await send({"type": "http.response.body", "body": item, "more_body": True})
            item = await _next(queue, self.keep_alive_s)
        tail = DONE if item is None else event(failure_of(item).body()) + DONE
        await send({"type": "http.response.body", "body": tail, "more_body": False})


async def _next(
    queue: asyncio.Queue[bytes | Exception | None], patience_s: float
) -> bytes | Exception | None:
    """What comes next, or a comment when nothing came in time."""
    try:
        async with asyncio.timeout(patience_s):
            return await queue.get()
    except TimeoutError:
        return KEEP_ALIVE
