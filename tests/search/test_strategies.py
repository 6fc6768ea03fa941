"""The strategies on the mock model: the contract, and what each promises on top."""

from __future__ import annotations

import time

import pytest

from tenfold.engine.async_engine import AsyncEngine
from tenfold.engine.engine import Engine
from tenfold.errors import InvalidRequest
from tenfold.rewards.base import FunctionReward
from tenfold.search.best_of_n import BestOfN
from tenfold.search.branches import Budget
from tenfold.search.events import TokensEvent
from tenfold.search.sample import Sample
from tenfold.search.strategy import Request
from tenfold.types import SamplingParams
from tests.conformance.strategy import check_strategy, result_of, run
from tests.engine.mock_model import EOS, LetterDetokenizer, MockExecutor


def make_engine(seconds: float = 0.0) -> AsyncEngine:
    executor = MockExecutor(64)
    executor.seconds = seconds
    return AsyncEngine(Engine(executor, LetterDetokenizer, eos_ids=[EOS], context_length=60))


# An exact, independent oracle of what should win: the letter sum of the text.
LETTERS = FunctionReward("letters", lambda _, a: sum(map(ord, a.text)) / 1000, partial_ok=True)
WHOLE_ONLY = FunctionReward("whole", lambda _, a: float(len(a.text)))
REQUEST = Request((1, 2, 3, 4, 5), SamplingParams(seed=9, max_tokens=12))


@pytest.mark.parametrize("n", [1, 3])
async def test_sample_keeps_the_contract(n: int) -> None:
    await check_strategy(make_engine, Sample(n=n))


@pytest.mark.parametrize("n", [1, 2, 7])
async def test_best_of_n_keeps_the_contract(n: int) -> None:
    await check_strategy(make_engine, BestOfN(n=n), LETTERS)


async def test_candidate_0_is_what_sample_gives() -> None:
    engine = make_engine()
    plain = result_of(await run(engine, Sample(), REQUEST)).completions[0]
    searched = result_of(await run(engine, BestOfN(n=5), REQUEST, LETTERS))
    first = searched.completions[searched.candidates.index(0)]
    assert (first.text, first.token_ids) == (plain.text, plain.token_ids)
    await engine.close()


async def test_the_winner_is_the_argmax_of_the_same_samples() -> None:
    engine = make_engine()
    samples = result_of(await run(engine, Sample(n=9), REQUEST)).completions
    best = result_of(await run(engine, BestOfN(n=9), REQUEST, LETTERS))
    assert best.completions[0].text == max(
        (s.text for s in samples), key=lambda t: sum(map(ord, t))
    )
    assert best.report.reward_calls == 1
    assert best.report.started == 9
    assert best.report.tokens_discarded == best.usage.generated - len(best.completions[0].token_ids)
    await engine.close()


async def test_a_reward_for_whole_answers_judges_what_the_deadline_left() -> None:
    engine = make_engine(seconds=0.01)
    endless = Request((1, 2, 3), SamplingParams(seed=2, ignore_eos=True))
    got = result_of(await run(engine, BestOfN(n=4), endless, WHOLE_ONLY, Budget(ms=120)))
    assert got.report.stopped_by == "deadline"
    assert 0 < got.usage.generated < 4 * 50
    assert got.completions[0].finish_reason == "deadline"
    assert sum(len(c.token_ids) for c in got.completions) == got.usage.generated
    await engine.close()


async def test_the_deadline_covers_the_prompt() -> None:
    engine = make_engine(seconds=0.2)
    began = time.monotonic()
    got = result_of(await run(engine, BestOfN(n=4), REQUEST, LETTERS, Budget(ms=50)))
    assert got.report.stopped_by == "deadline"
    assert (got.report.started, got.usage.generated) == (1, 0)
    assert time.monotonic() - began < 1.0
    await engine.close()


async def test_an_answer_that_never_began_does_not_win() -> None:
    # Scores that prefer the empty text: only the order of the candidates can save the answer.
    shy = FunctionReward("shy", lambda _, a: -float(len(a.text)), partial_ok=True)
    engine = make_engine()
    got = result_of(await run(engine, BestOfN(n=5), REQUEST, shy, Budget(tokens=3)))
    assert [len(c.token_ids) for c in got.completions] == [1, 1, 1, 0, 0]
    assert got.report.stopped_by == "budget"
    await engine.close()


async def test_selecting_without_a_reward_is_refused() -> None:
    engine = make_engine()
    with pytest.raises(InvalidRequest, match="needs a reward") as e:
        await run(engine, BestOfN(n=2), REQUEST)
    assert e.value.param == "decode.reward"
    await engine.close()


async def test_equal_candidates_are_refused() -> None:
    engine = make_engine()
    greedy = Request((1, 2), SamplingParams(temperature=0, max_tokens=3))
    with pytest.raises(InvalidRequest, match="all the same") as e:
        await run(engine, BestOfN(n=2), greedy, LETTERS)
    assert e.value.param == "temperature"
    assert result_of(await run(engine, BestOfN(n=1), greedy, LETTERS)).completions
    await engine.close()


async def test_all_n_samples_share_the_prompts_computation() -> None:
    engine = make_engine()
    executor = engine._engine.executor
    assert isinstance(executor, MockExecutor)
    long = Request(tuple(range(21)), SamplingParams(seed=1, max_tokens=2, ignore_eos=True))
    events = await run(engine, Sample(n=6), long)
    assert len({e.candidate for e in events if isinstance(e, TokensEvent)}) == 6
    computed = sum(len(b.token_ids) for b in executor.steps)
    assert computed == 20 + 6 * 2, "the prompt once, its last token and one more for each"
    await engine.close()
