"""The memory of one member for programs that await: the verbs of `Memory`, on a thread of its own.

All calls of an `AsyncMemory` (and of those made by its `of`) run one after another on one thread,
in the order in which they were made, so the event loop never waits for a disk or an embedder.
A call that is cancelled before its turn never happens; one that has begun is carried through, so
that what was acknowledged stays and what was not is there whole or not at all.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from tenfold.memory.decay import HalfLives
from tenfold.memory.embedding import Embedder
from tenfold.memory.memory import Memory
from tenfold.memory.reranking import Reranker
from tenfold.memory.store import StoreError, Tenant

PAGE = 100  # events that cross from the thread to the loop at a time

P = ParamSpec("P")
R = TypeVar("R")


def _awaited(
    method: Callable[Concatenate[Memory, P], R],
) -> Callable[Concatenate[AsyncMemory, P], Awaitable[R]]:
    """The same verb with the same parameters, to be awaited."""

    @functools.wraps(method)
    async def verb(self: AsyncMemory, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._thread.run(lambda: method(self.memory, *args, **kwargs))

    return cast("Callable[Concatenate[AsyncMemory, P], Awaitable[R]]", verb)


def _iterated(
    method: Callable[Concatenate[Memory, P], Iterator[R]],
) -> Callable[Concatenate[AsyncMemory, P], AsyncIterator[R]]:
    """The same verb with the same parameters, for `async for`; reads PAGE items at a time."""

    @functools.wraps(method)
    async def verb(self: AsyncMemory, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[R]:
        items = await self._thread.run(lambda: iter(method(self.memory, *args, **kwargs)))
        while page := await self._thread.run(lambda: list(islice(items, PAGE))):
            for item in page:
                yield item

    return cast("Callable[Concatenate[AsyncMemory, P], AsyncIterator[R]]", verb)


class OneThread:
    """Runs what it is given one after another on a thread of its own, for who awaits it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="tenfold-memory")

    async def run(self, work: Callable[[], R]) -> R:
        """What `work` returns or raises. Raises StoreError after `close`."""
        loop = asyncio.get_running_loop()
        try:
            future = loop.run_in_executor(self._pool, work)
        except RuntimeError as error:  # the executor has shut down
            raise StoreError("the memory was closed", hint="open it again") from error
        return await future

    def close(self) -> None:
        """Waits for all that was asked for before; nothing is taken after it."""
        self._pool.shutdown(wait=True)


class AsyncMemory:
    """What `Memory` does, awaited: `async with AsyncMemory.open(folder) as memory`.

    The verbs take what those of `Memory` take and raise what they raise. Callables that are handed
    in (`count` of `recall`, `rerank`) run on the memory's thread.
    """

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self._thread = OneThread()

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        tenant: str = "default",
        member: str = "me",
        embedder: str | Embedder | None = "minilm",
        half_lives: HalfLives | None = None,
        rerank: Reranker | None = None,
        create: bool = True,
    ) -> Opening:
        """See `Memory.open`; to be awaited, or entered by `async with`, which closes it."""
        return Opening(
            functools.partial(
                Memory.open,
                folder,
                tenant=tenant,
                member=member,
                embedder=embedder,
                half_lives=half_lives,
                rerank=rerank,
                create=create,
            )
        )

    def of(self, member: str) -> AsyncMemory:
        """The memory of another member of the tenant, on the same thread."""
        other = object.__new__(AsyncMemory)
        other.memory, other._thread = self.memory.of(member), self._thread
        return other

    @property
    def member(self) -> str:
        """Whose memory this is."""
        return self.memory.member

    @property
    def embedder(self) -> Embedder | None:
        """What makes its vectors."""
        return self.memory.embedder

    @property
    def tenant(self) -> Tenant:
        """The tenant; its own verbs are not awaited and may wait for a disk."""
        return self.memory.tenant

    add = _awaited(Memory.add)  # type: ignore[arg-type]  # no field of an event is named self
    add_all = _awaited(Memory.add_all)
    add_messages = _awaited(Memory.add_messages)  # type: ignore[arg-type]
    derive = _awaited(Memory.derive)
    search = _awaited(Memory.search)
    recall = _awaited(Memory.recall)
    consolidate = _awaited(Memory.consolidate)
    feedback = _awaited(Memory.feedback)
    learn = _awaited(Memory.learn)
    unlearn = _awaited(Memory.unlearn)
    ranks = _awaited(Memory.ranks)
    facts = _awaited(Memory.facts)
    get = _awaited(Memory.get)
    history = _iterated(Memory.history)
    erase = _awaited(Memory.erase)
    retain = _awaited(Memory.retain)
    retention = _awaited(Memory.retention)
    audit = _awaited(Memory.audit)
    status = _awaited(Memory.status)
    rebuild = _awaited(Memory.rebuild)
    export = _awaited(Memory.export)
    load = _awaited(Memory.load)

    async def close(self) -> None:
        """Ends it after what was begun; harmless when called twice. Cancelling does not stop it."""
        await asyncio.shield(asyncio.to_thread(self._close))

    async def __aenter__(self) -> AsyncMemory:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def _close(self) -> None:
        self._thread.close()
        self.memory.close()


class Opening:
    """A memory that is about to be opened; its file and its weights are read on another thread."""

    def __init__(self, open_memory: Callable[[], Memory]) -> None:
        self._open = open_memory
        self._memory: AsyncMemory | None = None

    def __await__(self) -> Generator[Any, None, AsyncMemory]:
        return self._opened().__await__()

    async def __aenter__(self) -> AsyncMemory:
        self._memory = await self._opened()
        return self._memory

    async def __aexit__(self, *error: object) -> None:
        if self._memory is not None:
            await self._memory.close()

    async def _opened(self) -> AsyncMemory:
        return AsyncMemory(await asyncio.to_thread(self._open))
