"""The memories that a server works on, and whose a request may use.

The API key decides tenant and member; a header names the member only where the operator trusts
whoever sends it. All work is done by one thread of its own: deriving is not for two at once, and
the event loop and the engine go on meanwhile. What only reads, and for long, has a second thread
and the store's other connections: searches and additions go on beside it, and it ends when the
server stops.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from urllib.parse import unquote

from starlette.datastructures import Headers

from tenfold.errors import InvalidRequest, TenfoldError
from tenfold.memory.events import Kind, clean_name
from tenfold.memory.memory import CATCH_UP, Memory, named_embedder
from tenfold.memory.store import Selection, StoreError
from tenfold.server.admission import Admission
from tenfold.server.auth import bearer
from tenfold.server.errors import Refusal
from tenfold.server.settings import MemorySettings, Owner

log = logging.getLogger("tenfold.server")
MEMBER = "X-Tenfold-Member"
SOON = 60.0  # seconds after the start when upkeep is done first
T = TypeVar("T")


class Memories:
    """The tenants' memories of one server, and the threads that work on them.

    Raises InvalidRequest for an unknown embedder, MissingExtra for one that is not installed,
    StoreError for a folder that cannot be used: at the start, not at the first request.
    """

    def __init__(self, settings: MemorySettings, max_waiting: int) -> None:
        self._folder = settings.folder
        self._embedder = named_embedder(settings.embedder)
        self._open: dict[str, Memory] = {}
        self._admission, self._looking = Admission(1, max_waiting), Admission(1, max_waiting)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tenfold-memory")
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="tenfold-memory-reading")
        self._stopping = threading.Event()
        self._every = settings.upkeep_s
        self._seen: set[Owner] = set()  # whose feedback is learnt from
        # Up to which feedback that was tried, and at which epoch: an erasure, whoever's it is, may
        # have taken weights along, which are learnt anew from what is left.
        self._learnt: dict[Owner, tuple[str, int]] = {}
        self._deriving: set[str] = set()  # tenants with a slice of work in the queue
        self._of(settings.owner)
        threading.Thread(target=self._tend, name="tenfold-memory-upkeep", daemon=True).start()

    def _of(self, owner: Owner) -> Memory:
        if owner.tenant not in self._open:
            memory = Memory.open(
                self._folder, tenant=owner.tenant, member=owner.member, embedder=self._embedder
            )
            memory.pause = self._go_on
            self._open[owner.tenant] = memory
        self._seen.add(owner)
        return self._open[owner.tenant].of(owner.member)

    def _go_on(self) -> None:
        """Ends long work when the server stops."""
        if self._stopping.is_set():
            raise StoreError("the server is stopping", hint="ask again when it is back")

    async def run(self, owner: Owner, work: Callable[[Memory], T], seconds: float) -> T:
        """The result of work on an owner's memory. Raises Overloaded, DeadlineExceeded."""
        async with self._admission.place(seconds):
            loop = asyncio.get_running_loop()
            result = await loop.run_in_executor(self._thread, lambda: work(self._of(owner)))
        self._derive_later(owner)
        return result

    async def look(self, owner: Owner, work: Callable[[Memory], T], seconds: float) -> T:
        """The result of work that may read for long, after all that waits is derived.

        Raises Overloaded, DeadlineExceeded; StoreError where the server stops meanwhile.
        """
        async with self._looking.place(seconds):
            loop = asyncio.get_running_loop()
            more = True
            while more:  # by slices, so that others get in between
                memory, more = await loop.run_in_executor(self._thread, self._slice, owner)
            return await loop.run_in_executor(self._reading, work, memory)

    def _slice(self, owner: Owner) -> tuple[Memory, bool]:
        self._go_on()
        memory = self._of(owner)
        return memory, memory.derive(CATCH_UP) == CATCH_UP

    def _tend(self) -> None:
        wait = min(self._every, SOON)
        while not self._stopping.wait(wait):
            wait = self._every
            try:
                self._reading.submit(self.tend)
            except RuntimeError:  # the server is stopping
                return

    def tend(self) -> None:
        """Applies the tenants' retention policies, and learns from new feedback."""
        for tenant, memory in list(self._open.items()):
            try:
                if memory.retention() and memory.retain(dry_run=True).events:
                    done = self._thread.submit(memory.retain).result()
                    log.info("%d events of tenant %r were kept long enough", done.events, tenant)
                for owner in [one for one in self._seen.copy() if one.tenant == tenant]:
                    self._learn(owner, memory.of(owner.member))
            except (TenfoldError, OSError, RuntimeError) as error:
                if not self._stopping.is_set():
                    log.warning("upkeep of the memories of tenant %r: %s", tenant, error)

    def _learn(self, owner: Owner, memory: Memory) -> None:
        given = Selection(author=owner.member, kinds=(Kind.FEEDBACK,))
        epoch = memory.tenant.epoch()
        newest = next(memory.history(given, 1), None)
        if newest is not None and self._learnt.get(owner) != (newest.id, epoch):
            self._learnt[owner] = newest.id, epoch
            if (learnt := memory.learn()).promoted:
                log.info("tenant %r: a member's ranking is %s", owner.tenant, learnt.why)

    def _derive_later(self, owner: Owner) -> None:
        """Derives what waits, a slice at a time: requests that come meanwhile go in between."""
        if owner.tenant not in self._deriving:
            self._deriving.add(owner.tenant)
            try:
                self._thread.submit(self._derive, owner)
            except RuntimeError:  # the server is stopping; what waits is derived next time
                self._deriving.discard(owner.tenant)

    def _derive(self, owner: Owner) -> None:
        more = False
        try:
            more = self._of(owner).derive(CATCH_UP) == CATCH_UP
        except (TenfoldError, OSError) as error:  # who needs it meets the same error and is told
            log.warning("memories of tenant %r are not derived: %s", owner.tenant, error)
        finally:
            self._deriving.discard(owner.tenant)
        if more:
            self._derive_later(owner)

    def close(self) -> None:
        """Waits for what is being done and closes the files; harmless when called twice.

        Long reading does not go on to its end.
        """
        self._stopping.set()
        self._reading.shutdown(cancel_futures=True)
        self._thread.shutdown(cancel_futures=True)
        for memory in self._open.values():
            memory.close()


def owner_of(memory: MemorySettings, headers: Headers) -> Owner:
    """Whose memory a request is about. Raises Refusal where that is not beyond doubt.

    The holder of a named key is who the key says; the header is heard from others, if at all.
    """
    given = bearer(headers)
    owner, named = memory.owner, False
    for key, holder in memory.holders.items():
        if hmac.compare_digest(given.encode(), key.encode()):
            owner, named = holder, True
    given_names = headers.getlist(MEMBER)
    if len(given_names) > 1:
        raise Refusal(
            400,
            f"{MEMBER} is there twice (whoever sends it sets it once)",
            param=MEMBER,
            code="member_twice",
        )
    said = given_names[0] if given_names else None
    if said is not None and (named or not memory.trust_member_header):
        raise Refusal(
            403,
            f"{MEMBER} is not trusted here (leave it out: the API key says who you are)",
            param=MEMBER,
            code="member_not_trusted",
        )
    if named or not memory.trust_member_header:
        return owner
    if not said:
        raise Refusal(
            400, f"{MEMBER} is missing (name the member there)", param=MEMBER, code="member_missing"
        )
    try:
        return Owner(owner.tenant, clean_name(unquote(said, errors="strict"), MEMBER))
    except UnicodeDecodeError:
        raise InvalidRequest(f"{MEMBER} is not UTF-8, percent-encoded", param=MEMBER) from None
