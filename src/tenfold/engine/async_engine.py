"""The engine on a thread of its own, with the four verbs as coroutines.

Commands travel to the engine's thread through a queue and are carried out between two steps; what a
step gains travels back to each caller's event loop, one wake-up per loop and step.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from tenfold.engine.branch import Branch, Capabilities, Delta, Until
from tenfold.engine.constraint import ConstraintFactory, ConstraintState
from tenfold.engine.engine import Engine
from tenfold.engine.sequence import Output
from tenfold.engine.sequence import Sequence as EngineSequence
from tenfold.engine.settings import EngineSettings
from tenfold.engine.stats import EngineStats
from tenfold.errors import EngineError, InvalidRequest
from tenfold.types import Occupancy, SamplingParams

if TYPE_CHECKING:
    from tenfold.models.loading import LoadedModel

log = logging.getLogger(__name__)

T = TypeVar("T")


def in_passing_thread(work: Callable[[], T]) -> T:
    """Runs `work` in a thread that ends with it.

    A thread that computes with torch keeps a team of OpenMP workers for as long as it lives, and a
    second team on the same cores makes every parallel step of the engine's own a fifth slower. So
    models are loaded in a thread that goes away.
    """
    with ThreadPoolExecutor(1) as passing:
        return passing.submit(work).result()


class _Mailbox:
    """Where one `extend` call receives what its branches gain."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.inbox: asyncio.Queue[list[Output]] = asyncio.Queue()
        self.pending: deque[Output] = deque()  # received, not yet handed on


class AsyncEngine:
    """Runs an `Engine`; any number of tasks on any number of event loops may use it."""

    def __init__(self, engine: Engine, constraints: ConstraintFactory | None = None) -> None:
        self._engine = engine
        self._constraints = constraints
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._sequences: dict[int, EngineSequence] = {}  # by branch id
        self._mailboxes: dict[int, _Mailbox] = {}  # by sequence id, while it is being extended
        self._gate = threading.Lock()  # nothing is queued once nobody will read the queue
        self._end: EngineError | None = None  # why there is no more engine
        self._thread = threading.Thread(target=self._run, name="tenfold-engine", daemon=True)
        self._thread.start()

    @classmethod
    def for_model(cls, model: LoadedModel, settings: EngineSettings | None = None) -> AsyncEngine:
        """An engine for a loaded model with the executor the settings ask for."""
        from tenfold.engine.building import build_engine

        return build_engine(model, settings or EngineSettings())

    @property
    def capabilities(self) -> Capabilities:
        exact = self._engine.executor.dtype == "float32"
        return Capabilities(shared_prefix=True, pressure=True, seeded=exact, token_ids=True)

    @property
    def context_length(self) -> int:
        return self._engine.context_length

    async def start(self, prompt_ids: Sequence[int], params: SamplingParams) -> Branch:
        """A new branch with an empty answer. Raises PromptTooLong, InvalidRequest."""
        constraint = await self._compile(params)
        sequence = await self._do(
            lambda: self._engine.start(prompt_ids, params, constraint),
            undo=lambda s: self._engine.drop([s]),
        )
        branch = Branch(sequence.id, sequence.candidate, tuple(prompt_ids), params)
        self._sequences[branch.id] = sequence
        return branch

    async def fork(self, branch: Branch, n: int) -> list[Branch]:
        """`n` more branches from here; the prompt is computed once, before they part."""
        parent = self._sequence(branch)
        mailbox = _Mailbox()
        if await self._do(lambda: self._prefill(parent, mailbox)):
            async for _ in self._receive({parent.id: branch}, mailbox):
                pass
        children = await self._do(lambda: self._engine.fork(parent, n), undo=self._engine.drop)
        out = []
        for child in children:
            copy = Branch(
                child.id,
                child.candidate,
                branch.prompt_ids,
                branch.params,
                output_ids=list(branch.output_ids),
                logprobs=list(branch.logprobs),
                text=branch.text,
                cached_tokens=child.cached_tokens,
                inherited_tokens=len(branch.output_ids),
            )
            self._sequences[copy.id] = child
            out.append(copy)
        return out

    async def extend(self, branches: Sequence[Branch], until: Until) -> AsyncGenerator[Delta, None]:
        """Generates on all unfinished branches; leaving early pauses them."""
        waiting = {b.id: b for b in branches if not b.finished}
        if not waiting:
            return
        sequences = [self._sequence(b) for b in waiting.values()]
        mailbox = _Mailbox()

        def begin() -> None:
            self._mailboxes.update((s.id, mailbox) for s in sequences)
            self._engine.extend(sequences, until)
            for s in sequences:  # nothing to do for this one: say so instead of waiting for ever
                if s.goal is None:
                    self._deliver([Output(s, paused=True)])

        self._post(begin)
        try:
            async for delta in self._receive(waiting, mailbox):
                yield delta
        finally:
            if waiting:
                with suppress(EngineError):  # no engine: nothing runs on
                    await self._pause(sequences, waiting, mailbox)

    async def drop(self, branches: Sequence[Branch]) -> None:
        """Frees the branches' blocks. Dropping twice is harmless."""
        found = [self._sequences.pop(b.id, None) for b in branches]
        sequences = [s for s in found if s is not None]
        if sequences:
            # Not awaited: a request that is being cancelled must still free its memory.
            with suppress(EngineError):
                self._post(lambda: self._drop(sequences))

    def occupancy(self) -> Occupancy:
        """KV memory and sequences now."""
        return self._engine.occupancy()

    def stats(self) -> EngineStats:
        """Counters since start, and the present state."""
        return self._engine.stats()

    @property
    def alive(self) -> bool:
        """False once the engine was closed or has died."""
        return self._end is None

    async def settled(self) -> None:
        """Returns when every command given so far has been carried out."""
        await self._do(lambda: None)

    async def close(self) -> None:
        """Stops the thread; branches under way end with EngineError."""
        with suppress(EngineError):
            self._post(None)
        await asyncio.to_thread(self._thread.join)

    # On the caller's event loop

    async def _compile(self, params: SamplingParams) -> ConstraintState | None:
        if params.constraint is None:
            return None
        if self._constraints is None:
            raise InvalidRequest(
                "this model's tokenizer cannot constrain its output", param="response_format"
            )
        # A large schema takes a while to compile: not on the event loop, not on the engine thread.
        return await asyncio.to_thread(self._constraints.compile, params.constraint)

    def _sequence(self, branch: Branch) -> EngineSequence:
        try:
            return self._sequences[branch.id]
        except KeyError:
            raise InvalidRequest("this branch was dropped", param="branch") from None

    async def _receive(
        self, waiting: dict[int, Branch], mailbox: _Mailbox
    ) -> AsyncGenerator[Delta, None]:
        """Applies outputs to branches and yields them until none of `waiting` is left."""
        while waiting:
            if not mailbox.pending:
                mailbox.pending.extend(await mailbox.inbox.get())
            delta = _apply(mailbox.pending.popleft(), waiting)
            if delta is not None:
                yield delta

    async def _pause(
        self, sequences: list[EngineSequence], waiting: dict[int, Branch], mailbox: _Mailbox
    ) -> None:
        """Stops branches somebody lost interest in; what was on its way still reaches them."""
        await self._do(lambda: self._engine.pause(sequences))
        while not mailbox.inbox.empty():
            mailbox.pending.extend(mailbox.inbox.get_nowait())
        for output in mailbox.pending:
            if output.error is None:
                _apply(output, waiting)

    async def _do(self, work: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
        """Runs `work` on the engine's thread, between two steps.

        When the caller is cancelled meanwhile, nobody will own the result: `undo` takes it back.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        done: list[T] = []

        def command() -> None:
            try:
                done.append(work())
            except Exception as e:  # noqa: BLE001  # handed to the caller, who sees the traceback
                _call(loop, _settle, future, None, e)
            else:
                _call(loop, _settle, future, done[0], None)

        def take_back() -> None:
            if undo is not None and done:
                undo(done[0])

        self._post(command)
        try:
            return await future
        except asyncio.CancelledError:
            with suppress(EngineError):
                self._post(take_back)
            raise

    def _post(self, command: Callable[[], None] | None) -> None:
        """Queues a command (None: stop). Raises EngineError when there is no engine any more."""
        with self._gate:
            if self._end is not None:
                raise self._end
            self._commands.put(command)

    # On the engine's thread

    def _run(self) -> None:
        error = EngineError("the engine was closed", hint="the server is shutting down")
        try:
            while self._carry_out_commands(wait=not self._engine.has_work()):
                self._deliver(self._engine.step())
        except Exception as e:
            # A failing model is handled in `step`; this is a defect of the engine itself.
            log.exception("the engine has died")
            error = EngineError(f"the engine has died: {e}", hint="restart the server")
        with self._gate:
            self._end = error
        self._finish_what_is_queued()
        for s in list(self._sequences.values()):
            mailbox = self._mailboxes.get(s.id)
            if mailbox is not None:
                _call(mailbox.loop, mailbox.inbox.put_nowait, [Output(s, error=error)])

    def _finish_what_is_queued(self) -> None:
        """Late commands are carried out, so that nobody waits for them for ever."""
        while not self._commands.empty():
            command = self._commands.get()
            try:
                if command is not None:
                    command()
            except Exception:
                log.exception("a command to a dead engine failed")

    def _carry_out_commands(self, wait: bool) -> bool:
        """Runs what is in the queue (waiting for the first command if asked); False to stop."""
        while True:
            try:
                command = self._commands.get(block=wait)
            except queue.Empty:
                return True
            if command is None:
                return False
            command()
            wait = False

    def _prefill(self, sequence: EngineSequence, mailbox: _Mailbox) -> bool:
        if not self._engine.prefill(sequence):
            return False
        self._mailboxes[sequence.id] = mailbox
        return True

    def _drop(self, sequences: list[EngineSequence]) -> None:
        self._engine.drop(sequences)
        for s in sequences:
            self._mailboxes.pop(s.id, None)

    def _deliver(self, outputs: list[Output]) -> None:
        """Sends outputs home, grouped so that each waiting call wakes once."""
        by_mailbox: defaultdict[_Mailbox, list[Output]] = defaultdict(list)
        for output in outputs:
            mailbox = self._mailboxes.get(output.sequence.id)
            if mailbox is not None:
                by_mailbox[mailbox].append(output)
            if output.paused or output.finish_reason is not None:
                self._mailboxes.pop(output.sequence.id, None)
        for mailbox, batch in by_mailbox.items():
            _call(mailbox.loop, mailbox.inbox.put_nowait, batch)


def _apply(output: Output, waiting: dict[int, Branch]) -> Delta | None:
    """Adds an output to its branch; takes branches that came to rest out of `waiting`."""
    branch = waiting.get(output.sequence.id)
    if branch is None:
        return None
    if output.error is not None:
        raise output.error
    if output.paused or output.finish_reason is not None:
        del waiting[branch.id]
    if not output.token_ids:
        return None
    branch.output_ids += output.token_ids
    branch.logprobs += output.logprobs
    branch.text += output.text
    branch.cached_tokens = output.sequence.cached_tokens
    if output.finish_reason is not None:
        branch.finish_reason = output.finish_reason
        branch.stop_text = output.sequence.stop_text
    return Delta(branch, output.token_ids, output.text, output.logprobs, output.finish_reason)


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return  # cancelled meanwhile
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: object) -> None:
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:
        # The caller's loop is closed: nobody is left to tell.
        return
