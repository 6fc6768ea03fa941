"""`logprob`: the mean log-probability of an answer's tokens under the model itself.

Minus this is the log of the answer's perplexity, the self-reward of Speculative Rejection
(2410.20290, §5.3). Length-normalised, so that short answers have no advantage by being short.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import torch

from tenfold.models.decoder import Decoder
from tenfold.models.reference import reference_logits
from tenfold.rewards.base import Answer, RewardPrompt, RewardSession


class LogprobReward:
    """Uses the log-probs the engine kept while sampling; computes them for given texts."""

    name = "logprob"
    summary = "mean log-probability of the answer's tokens under the model itself"
    partial_ok = True

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def open(self, prompt: RewardPrompt) -> RewardSession:
        """A session for one prompt."""
        return _LogprobSession(self._decoder, prompt)


class _LogprobSession:
    def __init__(self, decoder: Decoder, prompt: RewardPrompt) -> None:
        self._decoder = decoder
        self._prompt = prompt
        self.tokens = 0

    async def score(self, answers: Sequence[Answer]) -> list[float]:
        scores = []
        for answer in answers:
            logprobs = answer.logprobs
            if logprobs is None:
                self.tokens += len(self._prompt.prompt_ids) + len(answer.token_ids)
                logprobs = await asyncio.to_thread(
                    token_logprobs, self._decoder, self._prompt.prompt_ids, answer.token_ids
                )
            # An empty answer says nothing for or against itself.
            scores.append(sum(logprobs) / len(logprobs) if logprobs else 0.0)
        return scores

    async def close(self) -> None:
        return None


def token_logprobs(
    decoder: Decoder, prompt_ids: Sequence[int], answer_ids: Sequence[int]
) -> tuple[float, ...]:
    """Log-probability of each answer token after the prompt and the answer tokens before it."""
    if not answer_ids:
        return ()
    ids = torch.tensor([*prompt_ids, *answer_ids], device=decoder.device)
    logits = reference_logits(decoder, ids[:-1])[len(prompt_ids) - 1 :]
    chosen = logits.log_softmax(-1).gather(1, ids[len(prompt_ids) :, None])[:, 0]
    return tuple(chosen.tolist())
