"""How many requests are worked on and how many may wait; the rest is told to come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tenfold.errors import DeadlineExceeded, Overloaded


class Admission:
    """A counting lock with a bounded queue, first come first served."""

    def __init__(self, max_running: int, max_waiting: int) -> None:
        self._places = asyncio.Semaphore(max_running)
        self._max_waiting = max_waiting
        self.waiting = 0
        self.running = 0

    def check(self) -> None:
        """Raises Overloaded when a request could not even wait."""
        if self._places.locked() and self.waiting >= self._max_waiting:
            raise Overloaded(
                f"{self.running} requests are running and {self.waiting} are waiting",
                hint="try again in a moment",
            )

    @asynccontextmanager
    async def place(self, seconds: float) -> AsyncIterator[None]:
        """A place among the running. Raises Overloaded at once when the queue is full, and
        DeadlineExceeded when no place is free within `seconds`."""
        self.check()
        self.waiting += 1
        try:
            async with asyncio.timeout(seconds):
                await self._places.acquire()
        except TimeoutError:
            raise DeadlineExceeded(
                "the request's time was over while it waited for a place",
                hint="try again, or allow it more time",
            ) from None
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._places.release()
