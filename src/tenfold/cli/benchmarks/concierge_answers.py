"""Answers to held-out questions, made by the engine as a server's are, many at a time."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tenfold.cli.benchmarks import Report
from tenfold.cli.held_out import HeldOut, HeldOutFile
from tenfold.rewards.verifier import FactsVerifier, Verdict
from tenfold.search.llm import AsyncLLM
from tenfold.search.options import DecodeOptions
from tenfold.search.sample import Sample
from tenfold.types import Completion, SamplingParams

TEMPERATURE = 0.7  # of the samples
ANSWER_TOKENS = 320  # a longer answer is cut, and counted as truncated
SHARES = (0.25, 0.5)  # where partial answers are judged, of the prompt's median length
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answered:
    """A greedy answer, judged."""

    question: HeldOut
    prompt_ids: tuple[int, ...]
    completion: Completion
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Sampled:
    """Many samples of one prompt: a number per sample in each list."""

    question: HeldOut
    completions: tuple[Completion, ...]
    final: list[float]  # the verifier's score, required values known
    partial: dict[float, list[float]]  # the same at equal token counts, by share
    slot_errors: list[int]
    verified: list[float]  # the reward `facts`: the verifier that reads the request alone
    logprob: list[float]  # the mean log-probability of the tokens

    @property
    def tokens(self) -> list[int]:
        return [len(c.token_ids) for c in self.completions]


async def answer_greedily(
    llm: AsyncLLM, asked: HeldOutFile, questions: Sequence[HeldOut], report: Report
) -> list[Answered]:
    """One greedy answer each."""
    params = SamplingParams(temperature=0.0, max_tokens=ANSWER_TOKENS)

    async def one(question: HeldOut) -> Answered:
        request = llm.chat_request(question.messages, params)
        result = await llm.generate(request, DecodeOptions(Sample()))
        completion = result.completions[0]
        verdict = asked.verifier(question).check(completion.text)
        return Answered(question, request.prompt_ids, completion, verdict)

    return await _all(one, questions, 64, "greedy answers", report)


async def draw_samples(
    llm: AsyncLLM, asked: HeldOutFile, questions: Sequence[HeldOut], n: int, report: Report
) -> list[Sampled]:
    """`n` samples of each prompt, which is computed once; the seeds are fixed."""
    seeds = {q.id: seed for seed, q in enumerate(questions)}

    async def one(question: HeldOut) -> Sampled:
        params = SamplingParams(
            temperature=TEMPERATURE, max_tokens=ANSWER_TOKENS, seed=seeds[question.id]
        )
        request = llm.chat_request(question.messages, params)
        result = await llm.generate(request, DecodeOptions(Sample(n)))
        return judge(llm, asked, question, result.completions)

    at_once = max(1, 256 // n)
    return await _all(one, questions, at_once, f"{n} samples a prompt", report)


def judge(
    llm: AsyncLLM, asked: HeldOutFile, question: HeldOut, completions: tuple[Completion, ...]
) -> Sampled:
    """The samples with all their scores."""
    knows = asked.verifier(question)
    reads = FactsVerifier(question.messages)
    verdicts = [knows.check(c.text) for c in completions]
    middle = statistics.median(len(c.token_ids) for c in completions)
    return Sampled(
        question,
        completions,
        final=[v.score for v in verdicts],
        partial={
            share: [_partial(llm, knows, c, round(middle * share)) for c in completions]
            for share in SHARES
        },
        slot_errors=[v.slot_errors for v in verdicts],
        verified=[reads.check(c.text).score for c in completions],
        logprob=[
            statistics.fmean(p.logprob for p in c.logprobs) if c.logprobs else float("-inf")
            for c in completions
        ],
    )


def _partial(llm: AsyncLLM, verifier: FactsVerifier, sample: Completion, tokens: int) -> float:
    """The score of a sample's first tokens; one that has ended by then is judged as it is."""
    if len(sample.token_ids) <= tokens:
        return verifier.check(sample.text).score
    text = llm.model.tokenizer.decode(sample.token_ids[:tokens]).rstrip("\ufffd")
    return verifier.check(text, finished=False).score


async def _all(
    one: Callable[[HeldOut], Awaitable[T]],
    questions: Sequence[HeldOut],
    at_once: int,
    stage: str,
    report: Report,
) -> list[T]:
    gate = asyncio.Semaphore(at_once)
    done = 0

    async def gated(question: HeldOut) -> T:
        nonlocal done
        async with gate:
            found = await one(question)
        done += 1
        report(stage, done / len(questions))
        return found

    report(stage, 0.0)
    return await asyncio.gather(*map(gated, questions))
