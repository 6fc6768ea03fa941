"""`logprob`: the mean log-probability of an answer's tokens under the model itself.

Minus this is the log of the answer's perplexity, the self-reward of Speculative Rejection
(2410.20290, §5.3). Length-normalised, so that short answers have no advantage by being short.
A known weakness: a loop is likely, so an answer that repeats itself can score well.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import torch

from tenfold.models.decoder import Decoder
from tenfold.models.reference import DenseCache, read
from tenfold.models.stepwise import Steps, at_once, stepwise
from tenfold.rewards.base import Answer, RewardPrompt, RewardSession


class LogprobReward:
    """Uses the log-probs the engine kept while sampling; computes them for given texts."""

    name = "logprob"
    summary = "mean log-probability of the answer's tokens under the model itself"
    partial_ok = True

    def __init__(self, decoder: Decoder, executor: Executor | None = None) -> None:
        self._decoder = decoder
        self._executor = executor or ThreadPoolExecutor(1, thread_name_prefix="tenfold-logprob")

    def open(self, prompt: RewardPrompt) -> RewardSession:
        """A session for one prompt."""
        return _LogprobSession(self._decoder, self._executor, prompt)


class _LogprobSession:
    def __init__(self, decoder: Decoder, executor: Executor, prompt: RewardPrompt) -> None:
        self._decoder = decoder
        self._executor = executor
        self._prompt_ids = prompt.prompt_ids
        self._past: DenseCache | None = None  # of the prompt: read once, for all answers
        self.tokens = 0

    async def score(self, answers: Sequence[Answer]) -> list[float]:
        return [await self._score(answer) for answer in answers]

    async def _score(self, answer: Answer) -> float:
        logprobs: Sequence[float] | None = answer.logprobs
        if logprobs is None:
            logprobs = await stepwise(self._executor, self._logprobs(answer.token_ids))
        # Nothing said is worse than anything said: logs of probabilities are never above 0, so an
        # empty answer's mean must not be 0.
        return sum(logprobs) / len(logprobs) if logprobs else -float("inf")

    def _logprobs(self, answer_ids: Sequence[int]) -> Steps[list[float]]:
        if not answer_ids:
            return []
        if self._past is None:
            past = DenseCache(self._decoder.spec)
            yield from read_prompt(self._decoder, self._prompt_ids, past)
            self._past = past
            self.tokens += len(self._prompt_ids)
        self.tokens += len(answer_ids)
        last = self._prompt_ids[-1]
        return (yield from answer_logprobs(self._decoder, last, answer_ids, self._past.copy()))

    async def close(self) -> None:
        self._past = None


def read_prompt(decoder: Decoder, prompt_ids: Sequence[int], past: DenseCache) -> Steps[None]:
    """Fills `past` with all but the prompt's last token, which is what answers begin from."""
    for _ in read(decoder, prompt_ids[:-1], past):
        yield


def answer_logprobs(
    decoder: Decoder, last: int, answer_ids: Sequence[int], past: DenseCache
) -> Steps[list[float]]:
    """Log-probability of each answer token after `past`, the token `last` and those before it.

    Logits, a whole vocabulary each, exist for one piece of the answer at a time.
    """
    found: list[float] = []
    for hidden in read(decoder, [last, *answer_ids[:-1]], past):
        wanted = answer_ids[len(found) : len(found) + len(hidden)]
        ids = torch.tensor(wanted, device=decoder.device)
        logprobs = decoder.logits(hidden).log_softmax(-1)
        found += logprobs.gather(1, ids[:, None])[:, 0].tolist()
        yield
    return found


def token_logprobs(
    decoder: Decoder, prompt_ids: Sequence[int], answer_ids: Sequence[int]
) -> tuple[float, ...]:
    """Log-probability of each answer token after the prompt and the answer tokens before it."""
    if not answer_ids:
        return ()
    past = DenseCache(decoder.spec)
    at_once(read_prompt(decoder, prompt_ids, past))
    return tuple(at_once(answer_logprobs(decoder, prompt_ids[-1], answer_ids, past)))
