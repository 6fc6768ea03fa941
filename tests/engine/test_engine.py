"""The engine against a naive model of the same verbs, on the mock model."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tenfold.engine.branch import EndOfText, Pressure, Tokens
from tenfold.engine.engine import Engine
from tenfold.engine.sequence import Sequence
from tenfold.engine.settings import EngineSettings
from tenfold.errors import InvalidRequest, PromptTooLong
from tenfold.types import SamplingParams
from tests.engine.mock_model import EOS, VOCAB, LetterDetokenizer, MockExecutor
from tests.engine.naive import naive_extend


def make_engine(
    num_blocks: int = 64, block_size: int = 4, context: int = 64, **options: object
) -> Engine:
    tight = EngineSettings(max_batch_tokens=16, max_sequences=8, **options)  # type: ignore[arg-type]
    return Engine(
        MockExecutor(num_blocks, block_size),
        LetterDetokenizer,
        eos_ids=[EOS],
        context_length=context,
        settings=tight,
    )


def run(engine: Engine) -> dict[int, list[int]]:
    got: dict[int, list[int]] = {}
    for _ in range(3000):
        if not engine.has_work():
            return got
        for output in engine.step():
            got.setdefault(output.sequence.id, []).extend(output.token_ids)
        engine.check_integrity()
    raise AssertionError("the engine makes no progress")


def output(s: Sequence) -> list[int]:
    return s.tokens[s.prompt_len :]


class Verbs(RuleBasedStateMachine):
    """Random verbs and steps, in tight memory, against the naive model."""

    @initialize(blocks=st.integers(6, 24), size=st.sampled_from([2, 4, 8]), cache=st.booleans())
    def setup(self, blocks: int, size: int, cache: bool) -> None:
        self.engine = make_engine(blocks, size, context=40, prefix_cache=cache)
        self.live: list[Sequence] = []
        self.asked: dict[int, int] = {}

    @rule(
        shared=st.integers(0, 12),
        own=st.lists(st.integers(0, 9), min_size=1, max_size=6),
        seed=st.integers(0, 3),
        greedy=st.booleans(),
    )
    def start(self, shared: int, own: list[int], seed: int, greedy: bool) -> None:
        prompt = (list(range(shared)) + own)[: self.engine.context_length - 1]
        params = SamplingParams(seed=seed, temperature=0.0 if greedy else 1.0)
        s = self.engine.start(prompt, params)
        self.asked[s.id] = 0
        self.live.append(s)

    @precondition(lambda self: any(s.finish_reason is None for s in self.live))
    @rule(data=st.data(), n=st.integers(1, 4))
    def fork(self, data: st.DataObject, n: int) -> None:
        candidates = [s for s in self.live if s.finish_reason is None]
        parent = data.draw(st.sampled_from(candidates))
        for child in self.engine.fork(parent, n):
            self.asked[child.id] = child.output_len
            self.live.append(child)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), count=st.integers(1, 9))
    def extend(self, data: st.DataObject, count: int) -> None:
        chosen = data.draw(st.lists(st.sampled_from(self.live), min_size=1, unique=True))
        self.engine.extend(chosen, Tokens(count))
        for s in chosen:
            self.asked[s.id] = s.output_len + count

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def prefill(self, data: st.DataObject) -> None:
        s = data.draw(st.sampled_from(self.live))
        if s.goal is None:
            self.engine.prefill(s)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        s = data.draw(st.sampled_from(self.live))
        self.engine.drop([s])
        self.engine.drop([s])
        self.live.remove(s)

    @rule(steps=st.integers(1, 5))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            if self.engine.has_work():
                self.engine.step()

    @rule()
    def settle(self) -> None:
        run(self.engine)
        for s in self.live:
            if s.finish_reason is None:
                assert s.output_len >= min(
                    self.asked[s.id], self.engine.context_length - s.prompt_len
                )

    @invariant()
    def texts_are_what_the_naive_model_says(self) -> None:
        if not hasattr(self, "engine"):
            return
        self.engine.check_integrity()
        for s in self.live:
            prompt = s.tokens[: s.prompt_len]
            assert output(s) == replay(prompt, output(s), s)

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.drop(self.live)
            self.engine.check_integrity()
            assert self.engine.occupancy().blocks_used == 0


def replay(prompt: list[int], got: list[int], s: Sequence) -> list[int]:
    """What the naive model gives after the part inherited from forks, whose candidates differ."""
    begin = s.inherited
    return (
        got[:begin]
        + naive_extend(prompt, got[:begin], s.params, s.candidate, len(got) - begin)[begin:]
    )


Verbs.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestVerbs = Verbs.TestCase


@given(
    prompts=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=20), min_size=1, max_size=12),
    blocks=st.integers(12, 40),
)
@settings(max_examples=40, deadline=None)
def test_a_seed_fixes_the_text_whatever_else_runs(prompts: list[list[int]], blocks: int) -> None:
    params = SamplingParams(seed=5, max_tokens=12)
    together = make_engine(blocks, context=40)
    many = [together.start(p, params) for p in prompts]
    together.extend(many, EndOfText())
    run(together)
    for p, s in zip(prompts, many, strict=True):
        alone = make_engine(context=40)
        one = alone.start(p, params)
        alone.extend([one], EndOfText())
        run(alone)
        assert output(one) == output(s)


def test_forks_share_memory_and_copy_only_what_they_write() -> None:
    engine = make_engine()
    root = engine.start(list(range(10)), SamplingParams(seed=1))
    engine.prefill(root)
    run(engine)
    assert engine.occupancy().blocks_used == 3
    engine.fork(root, 7)
    assert engine.occupancy().blocks_used == 3
    engine.extend(engine._live.values(), Tokens(1))
    run(engine)
    # Two full blocks shared by eight, and one partial block for each.
    assert engine.occupancy().blocks_used == 2 + 8


def test_a_second_request_computes_only_what_is_not_cached() -> None:
    engine = make_engine()
    executor = engine.executor
    assert isinstance(executor, MockExecutor)
    prompt = [i % 9 for i in range(15)]
    for expected_tokens, cached in ((15, 0), (3, 12)):
        s = engine.start(prompt, SamplingParams(max_tokens=1))
        engine.extend([s], EndOfText())
        executor.steps.clear()
        run(engine)
        assert sum(len(b.token_ids) for b in executor.steps) == expected_tokens
        assert s.cached_tokens == cached
        engine.drop([s])
    assert engine.stats().cached_tokens == 12


def test_equal_prompts_arriving_together_are_computed_once() -> None:
    engine = make_engine()
    executor = engine.executor
    assert isinstance(executor, MockExecutor)
    many = [
        engine.start([i % 9 for i in range(17)], SamplingParams(max_tokens=1)) for _ in range(5)
    ]
    engine.extend(many, EndOfText())
    run(engine)
    assert sum(len(b.token_ids) for b in executor.steps) == 17 + 4 * 1


def test_long_prompts_do_not_hold_up_decoding() -> None:
    engine = make_engine(context=64)
    a = engine.start([1, 2, 3], SamplingParams(max_tokens=30, ignore_eos=True))
    engine.extend([a], EndOfText())
    engine.step()
    b = engine.start(list(range(40)), SamplingParams(max_tokens=2, ignore_eos=True))
    engine.extend([b], EndOfText())
    before = a.output_len
    for _ in range(3):
        engine.step()
    assert a.output_len == before + 3, "the decode advances in each step"
    assert b.output_len == 1, "40 prompt tokens fit in three steps of 16 tokens beside the decode"


def test_preemption_recomputes_and_changes_nothing() -> None:
    roomy, tight = make_engine(64, context=40), make_engine(11, context=40)
    texts = []
    for engine in (roomy, tight):
        many = [
            engine.start([i, 1, 2, 3, 4], SamplingParams(seed=i, max_tokens=20, ignore_eos=True))
            for i in range(6)
        ]
        engine.extend(many, EndOfText())
        run(engine)
        texts.append([output(s) for s in many])
    assert tight.stats().preemptions > 0 == roomy.stats().preemptions
    assert texts[0] == texts[1]


def test_pressure_pauses_before_anyone_is_preempted() -> None:
    engine = make_engine(20, context=60)
    root = engine.start([1, 2, 3, 4], SamplingParams(seed=3, ignore_eos=True))
    engine.prefill(root)
    run(engine)
    many = [root, *engine.fork(root, 3)]
    engine.extend(many, Pressure(0.3))
    run(engine)
    assert engine.stats().preemptions == 0
    assert engine.occupancy().blocks_free < 0.3 * 20
    assert all(s.finish_reason is None and s.output_len > 5 for s in many)
    engine.drop(many[1:])
    engine.extend([root], EndOfText())
    run(engine)
    assert root.finish_reason == "length"


def test_finish_reasons() -> None:
    engine = make_engine()
    alone = SamplingParams(seed=2, ignore_eos=True, max_tokens=12)
    s = engine.start([5, 6], alone)
    engine.extend([s], EndOfText())
    run(engine)
    text = "".join(chr(ord("A") + t) for t in output(s))
    assert (s.finish_reason, len(text)) == ("length", 12)
    stopped = engine.start([5, 6], SamplingParams(seed=2, ignore_eos=True, stop=(text[4:6],)))
    engine.extend([stopped], EndOfText())
    shown = ""
    while engine.has_work():
        shown += "".join(o.text for o in engine.step())
    assert shown == text[: text.index(text[4:6])]
    assert (stopped.finish_reason, stopped.stop_text) == ("stop", text[4:6])
    by_id = engine.start([5, 6], SamplingParams(seed=2, stop_token_ids=(output(s)[3],)))
    engine.extend([by_id], EndOfText())
    run(engine)
    assert output(by_id) == output(s)[: output(s).index(output(s)[3]) + 1]


def test_a_failing_step_ends_its_sequences_and_nothing_else() -> None:
    engine = make_engine()
    assert isinstance(engine.executor, MockExecutor)
    bad = engine.start([1, 40], SamplingParams())
    engine.executor.fail_on = 40
    engine.extend([bad], EndOfText())
    errors = [o.error for o in engine.step() if o.error]
    assert len(errors) == 1
    assert "told to fail" in str(errors[0])
    engine.executor.fail_on = None
    good = engine.start([1, 2], SamplingParams(max_tokens=3))
    engine.extend([good], EndOfText())
    run(engine)
    assert good.finish_reason == "length"


def test_rows_that_fail_for_different_reasons_fail_alone() -> None:
    engine = make_engine()
    nowhere = SamplingParams(min_tokens=2, max_tokens=9, stop_token_ids=(10**6,))
    nothing = SamplingParams(min_tokens=2, max_tokens=9, stop_token_ids=tuple(range(VOCAB)))
    fine = SamplingParams(seed=1, max_tokens=4, ignore_eos=True)
    many = [engine.start([1, 2, i], p) for i, p in enumerate((nowhere, fine, nothing, fine))]
    engine.extend(many, EndOfText())
    errors: dict[int, str] = {}
    while engine.has_work():
        errors |= {o.sequence.id: str(o.error) for o in engine.step() if o.error}
    assert list(errors) == [many[0].id, many[2].id]
    assert "the vocabulary has" in errors[many[0].id]
    assert "leave no token" in errors[many[2].id]
    assert [s.output_len for s in many] == [0, 4, 0, 4]


def test_a_detokenizer_that_breaks_ends_its_own_request() -> None:
    class Fragile(LetterDetokenizer):
        def push(self, token_id: int) -> str:
            if 30 in self.prefix:
                raise ValueError("cannot spell this")
            return super().push(token_id)

    engine = make_engine()
    engine._detokenizer = Fragile
    params = SamplingParams(seed=1, max_tokens=3, ignore_eos=True)
    bad, good = engine.start([30], params), engine.start([1], params)
    engine.extend([bad, good], EndOfText())
    failed = []
    while engine.has_work():
        failed += [o.sequence for o in engine.step() if o.error]
    assert failed == [bad]
    assert good.output_len == 3
    engine.check_integrity()


def test_waiting_holds_no_memory_and_is_no_preemption() -> None:
    engine = make_engine(11, context=40)
    params = SamplingParams(seed=1, max_tokens=20, ignore_eos=True)
    first = engine.start(list(range(20)), params)
    engine.extend([first], EndOfText())
    while first.output_len < 15:
        engine.step()
    second = engine.start([*range(20), 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8], params)
    engine.extend([second], EndOfText())
    while first.finish_reason is None:
        engine.step()
        engine.check_integrity()
        assert not (first.finish_reason is None and second.block_table and second.output_len == 0)
    run(engine)
    assert engine.stats().preemptions == 0


def test_bad_prompts() -> None:
    engine = make_engine(context=8)
    with pytest.raises(InvalidRequest, match="empty"):
        engine.start([], SamplingParams())
    with pytest.raises(PromptTooLong, match="8 tokens; the context holds 8"):
        engine.start([1] * 8, SamplingParams())
    done = engine.start([1], SamplingParams(max_tokens=1))
    engine.extend([done], EndOfText())
    run(engine)
    with pytest.raises(InvalidRequest, match="cannot be forked"):
        engine.fork(done, 1)
