"""The engine: schedule, run, sample, hand out. One `step()` is one forward pass for everyone.

Synchronous and single-threaded; `AsyncEngine` runs it on a thread of its own. The four verbs are
`start`, `fork`, `extend`, `drop`; `step` returns what every sequence gained.
"""

from __future__ import annotations

import itertools
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Seq

from torch import Tensor

from tenfold.engine.batch import Executor, build_batch
from tenfold.engine.blocks import BlockPool
from tenfold.engine.branch import EndOfText, Pressure, Tokens, Until
from tenfold.engine.constraint import ConstraintState
from tenfold.engine.sampler import Sampled, SampleRow, SamplingFailed, penalised, sample
from tenfold.engine.scheduler import Plan, Scheduler, at_goal
from tenfold.engine.sequence import PREFILL, Detokenizer, Family, Output, Sequence
from tenfold.engine.settings import EngineSettings
from tenfold.engine.stats import EngineStats
from tenfold.engine.stopping import StopStrings
from tenfold.errors import EngineError, InvalidRequest, PromptTooLong
from tenfold.types import Occupancy, SamplingParams, TokenLogprob

log = logging.getLogger(__name__)

NOTHING: frozenset[int] = frozenset()
NO_TOKENS: tuple[int, ...] = ()


class Engine:
    """Sequences, their KV blocks, and the step that advances them.

    `detokenizer` makes one for a sequence from the last few prompt ids: a word or a character may
    begin in the prompt and end in the answer.
    """

    def __init__(
        self,
        executor: Executor,
        detokenizer: Callable[[Seq[int]], Detokenizer],
        *,
        eos_ids: Iterable[int] = (),
        context_length: int,
        settings: EngineSettings | None = None,
    ) -> None:
        self.settings = settings or EngineSettings()
        self.executor = executor
        room = executor.num_blocks * executor.block_size
        # One block more than a full context: a copy-on-write needs source and copy at once.
        self.context_length = min(context_length, max(1, room - executor.block_size))
        self._detokenizer = detokenizer
        self._eos = frozenset(eos_ids)
        self._pool = BlockPool(
            executor.num_blocks, executor.block_size, prefix_cache=self.settings.prefix_cache
        )
        self._scheduler = Scheduler(self._pool, self.settings)
        self._live: dict[int, Sequence] = {}
        self._ids = itertools.count(1)
        self._families = itertools.count(1)
        self._began = time.monotonic()
        self._recent: deque[tuple[float, int]] = deque(maxlen=1024)  # (when, generated so far)
        self._prompt_tokens = self._cached_tokens = self._generated = self._dropped = 0
        self._steps = 0

    # The verbs

    def start(
        self,
        prompt_ids: Seq[int],
        params: SamplingParams,
        constraint: ConstraintState | None = None,
    ) -> Sequence:
        """A paused sequence with an empty answer. Raises PromptTooLong, InvalidRequest."""
        if not prompt_ids:
            raise InvalidRequest("the prompt is empty", param="prompt")
        if len(prompt_ids) >= self.context_length:
            raise PromptTooLong(
                f"the prompt has {len(prompt_ids)} tokens; the context holds "
                f"{self.context_length} including the answer",
                param="prompt",
                hint="shorten the prompt, or serve with more KV memory or a longer --max-context",
            )
        seed = secrets.randbits(63) if params.seed is None else params.seed % 2**64
        family = Family(next(self._families), seed)
        sequence = Sequence(
            id=next(self._ids),
            family=family,
            candidate=family.next_candidate(),
            prompt_len=len(prompt_ids),
            tokens=list(prompt_ids),
            params=params,
            detokenizer=self._detokenizer(prompt_ids[-8:]),
            stops=StopStrings(params.stop),
            constraint=constraint,
        )
        self._live[sequence.id] = sequence
        return sequence

    def prefill(self, sequence: Sequence) -> bool:
        """Asks for everything but the last token to be computed; False when it already is."""
        if sequence.finish_reason is not None or sequence.computed >= len(sequence.tokens) - 1:
            return False
        sequence.goal = PREFILL
        return True

    def fork(self, parent: Sequence, n: int) -> list[Sequence]:
        """`n` paused copies that share the parent's blocks. Raises InvalidRequest when finished."""
        if parent.finish_reason is not None or parent.dropped:
            raise InvalidRequest("a finished or dropped branch cannot be forked", param="branch")
        children = []
        for _ in range(n):
            child = Sequence(
                id=next(self._ids),
                family=parent.family,
                candidate=parent.family.next_candidate(),
                prompt_len=parent.prompt_len,
                tokens=list(parent.tokens),
                params=parent.params,
                detokenizer=parent.detokenizer.copy(),
                stops=parent.stops.copy(),
                constraint=parent.constraint.copy() if parent.constraint else None,
                cached_tokens=parent.cached_tokens,
                inherited=parent.output_len,
            )
            self._scheduler.fork(parent, child)
            self._live[child.id] = child
            children.append(child)
        return children

    def extend(self, sequences: Iterable[Sequence], until: Until) -> None:
        """Lets sequences run; `step` pauses each when `until` is reached."""
        for sequence in sequences:
            if sequence.finish_reason is not None or sequence.dropped:
                continue
            limit = self._output_limit(sequence)
            match until:
                case Tokens(count):
                    sequence.goal = min(limit, sequence.output_len + count)
                case EndOfText():
                    sequence.goal = limit
                case Pressure(free_fraction):
                    sequence.goal = limit
                    sequence.pressure = free_fraction

    def pause(self, sequences: Iterable[Sequence]) -> None:
        """Stops sequences where they are; they keep their blocks."""
        for sequence in sequences:
            sequence.goal = sequence.pressure = None

    def drop(self, sequences: Iterable[Sequence]) -> None:
        """Forgets sequences; their blocks are free at once. Dropping twice is harmless."""
        for sequence in sequences:
            if sequence.dropped:
                continue
            sequence.dropped = True
            if sequence.finish_reason is None:
                self._dropped += sequence.output_len
            sequence.goal = None
            self._scheduler.free(sequence)
            self._live.pop(sequence.id, None)

    def occupancy(self) -> Occupancy:
        """KV memory and sequences now."""
        states = [0, 0, 0]
        for s in list(self._live.values()):
            if s.finish_reason is None:
                states[2 if s.goal is None else 0 if s.block_table else 1] += 1
        return Occupancy(
            blocks_total=self._pool.num_blocks,
            blocks_used=self._pool.used,
            blocks_cached=self._pool.cached,
            block_size=self._pool.block_size,
            running=states[0],
            waiting=states[1],
            paused=states[2],
        )

    # The step

    def has_work(self) -> bool:
        """True when a step would do something."""
        return any(s.goal is not None for s in self._live.values())

    def step(self) -> list[Output]:
        """Advances every runnable sequence; returns what each gained and which came to rest."""
        outputs = self._pause_under_pressure()
        plan = self._scheduler.schedule(self._live.values())
        if plan.chunks:
            outputs += self._run(plan)
        for sequence in list(self._live.values()):
            if sequence.goal is not None and at_goal(sequence):
                self.pause([sequence])
                outputs.append(Output(sequence, paused=True))
        return outputs

    def _run(self, plan: Plan) -> list[Output]:
        batch, wanting = build_batch(plan.chunks, plan.copies, self._pool.block_size)
        try:
            logits = self.executor.forward(batch)
        except Exception as e:
            log.exception("a step of %d sequences failed", len(plan.chunks))
            error = EngineError(f"the model failed on this request: {e}")
            return [self._fail(s, error) for s, _ in plan.chunks]
        self._steps += 1
        for sequence, count in plan.chunks:
            self._count_prompt(sequence)
            self._scheduler.computed(sequence, count)
        outputs = self._sample(logits, wanting)
        self._recent.append((time.monotonic(), self._generated))
        return outputs

    def _sample(self, logits: Tensor, sequences: list[Sequence]) -> list[Output]:
        if not sequences:
            return []
        rows = {s.id: self._sample_row(s) for s in sequences}
        outputs: list[Output] = []
        left = sequences
        while left:
            try:
                drawn = sample(logits, [rows[s.id] for s in left])
            except SamplingFailed as e:
                # Rows do not influence one another: the others get the same tokens without these.
                outputs += [self._fail(left[i], EngineError(why)) for i, why in e.rows.items()]
                kept = [i for i in range(len(left)) if i not in e.rows]
                left, logits = [left[i] for i in kept], logits[kept]
                continue
            outputs += [self._advance_safely(s, d) for s, d in zip(left, drawn, strict=True)]
            break
        return outputs

    def _sample_row(self, s: Sequence) -> SampleRow:
        forbid = NOTHING
        if s.output_len < s.params.min_tokens:
            forbid = self._eos | frozenset(s.params.stop_token_ids)
        return SampleRow(
            params=s.params,
            seed=s.family.seed,
            candidate=s.candidate,
            position=s.output_len,
            prompt_ids=s.tokens[: s.prompt_len] if penalised(s.params) else NO_TOKENS,
            output_ids=s.tokens[s.prompt_len :] if penalised(s.params) else NO_TOKENS,
            forbid=forbid,
            constraint=s.constraint,
        )

    def _advance_safely(self, s: Sequence, drawn: Sampled) -> Output:
        try:
            return self._advance(s, drawn)
        except Exception as e:
            # A token that cannot be shown or parsed ends its own request and no other.
            log.exception("sequence %d failed on token %d", s.id, drawn.token_id)
            return self._fail(s, EngineError(f"the answer could not be continued: {e}"))

    def _advance(self, s: Sequence, drawn: Sampled) -> Output:
        """Appends a sampled token, its text, and the reason to stop, if any."""
        token = drawn.token_id
        s.tokens.append(token)
        self._generated += 1
        ended = token in s.params.stop_token_ids or (token in self._eos and not s.params.ignore_eos)
        text, matched = s.stops.push(s.detokenizer.push(token)) if not ended else ("", None)
        if s.constraint is not None and not ended:
            s.constraint.advance(token)
        if ended or matched is not None:
            s.finish_reason = "stop"
            s.stop_text = matched
        elif s.constraint is not None and s.constraint.must_end:
            s.finish_reason = "stop"
        elif s.output_len >= self._output_limit(s):
            s.finish_reason = "length"
        if s.finish_reason is not None:
            if matched is None:
                tail, matched = s.stops.push(s.detokenizer.flush())
                text += tail + (s.stops.flush() if matched is None else "")
            self._rest(s)
        logprob = TokenLogprob(token, drawn.logprob, drawn.top)
        return Output(s, (token,), text, (logprob,), s.finish_reason)

    def _fail(self, s: Sequence, error: Exception) -> Output:
        s.finish_reason = "cancelled"
        self._rest(s)
        return Output(s, finish_reason=s.finish_reason, error=error)

    def _rest(self, s: Sequence) -> None:
        """A finished sequence keeps its tokens but needs no memory."""
        s.goal = s.pressure = None
        self._scheduler.free(s)

    def _pause_under_pressure(self) -> list[Output]:
        free = self._pool.free / self._pool.num_blocks
        outputs = []
        for s in self._live.values():
            if s.goal is not None and s.pressure is not None and free < s.pressure:
                outputs.append(Output(s, paused=True))
        self.pause(o.sequence for o in outputs)
        return outputs

    def _output_limit(self, s: Sequence) -> int:
        room = self.context_length - s.prompt_len
        return room if s.params.max_tokens is None else min(room, s.params.max_tokens)

    def _count_prompt(self, s: Sequence) -> None:
        # Once per family: forks and sequences that start again bring no new prompt.
        if not s.family.counted:
            s.family.counted = True
            self._cached_tokens += s.cached_tokens
            self._prompt_tokens += s.prompt_len

    # What the engine says of itself

    def stats(self) -> EngineStats:
        """Counters since start, and the present state."""
        now = time.monotonic()
        return EngineStats(
            executor=self.executor.name,
            dtype=self.executor.dtype,
            occupancy=self.occupancy(),
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            generated_tokens=self._generated,
            dropped_tokens=self._dropped,
            steps=self._steps,
            preemptions=self._scheduler.preemptions,
            tokens_per_second=self._rate(now),
            uptime_s=now - self._began,
        )

    def _rate(self, now: float, window: float = 3.0) -> float:
        recent = [(t, n) for t, n in list(self._recent) if t > now - window]
        return (recent[-1][1] - recent[0][1]) / (now - recent[0][0]) if recent else 0.0

    def check_integrity(self) -> None:
        """Raises AssertionError unless every invariant of blocks and sequences holds."""
        live = list(self._live.values())
        self._pool.check_integrity([s.block_table for s in live])
        size = self._pool.block_size
        for s in live:
            assert len(s.block_table) == -(-s.computed // size), "blocks without computed tokens"
            assert len(s.key_ids) <= s.computed // size, "a partial block is published"
            assert not s.dropped, "a dropped sequence is live"
            if s.finish_reason is not None:
                assert not s.block_table, "a finished sequence holds blocks"
                assert s.goal is None, "a finished sequence runs"
