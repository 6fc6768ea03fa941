from __future__ import annotations

import asyncio
import math
import threading
from typing import Any

import pytest
import torch

from tenfold.models import reference
from tenfold.models.decoder import Decoder
from tenfold.models.loading import random_model
from tenfold.models.reference import embed, reference_hidden, reference_logits
from tenfold.models.spec import DecoderSpec
from tenfold.models.stepwise import at_once
from tenfold.rewards.base import Answer, RewardPrompt
from tenfold.rewards.logprob import LogprobReward

PROMPT = tuple(range(3, 40))
ANSWERS = [(1, 2, 3), (50,), tuple(range(60, 85))]


class Counting:
    """A decoder that says how much it was asked to do."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.spec = decoder.spec
        self.device = decoder.device
        self.read = self.rows = self.most = 0
        self.began = threading.Event()

    def forward(self, ids: torch.Tensor, *more: Any) -> torch.Tensor:
        self.read += len(ids)
        self.began.set()
        self.most = max(self.most, len(ids))
        return self.decoder.forward(ids, *more)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        self.rows += len(hidden)
        return self.decoder.logits(hidden)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "PIECE", 8)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    """Two layers that see all, or with a window the last 6 tokens."""
    return random_model(
        DecoderSpec.from_hf(
            {
                "architectures": ["MistralForCausalLM"],
                "model_type": "mistral",
                "vocab_size": 97,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "max_position_embeddings": 128,
                "rms_norm_eps": 1e-5,
                "sliding_window": 20,
            }
        )
    )


def mean(decoder: Decoder, answer: tuple[int, ...]) -> float:
    ids = torch.tensor([*PROMPT, *answer])
    logprobs = reference_logits(decoder, ids[:-1]).log_softmax(-1)[len(PROMPT) - 1 :]
    return float(logprobs.gather(1, ids[len(PROMPT) :, None]).mean())


async def test_the_prompt_is_read_once_and_only_answers_have_logits(decoder: Decoder) -> None:
    counting: Any = Counting(decoder)
    session = LogprobReward(counting).open(RewardPrompt(PROMPT))
    scores = await session.score([Answer("", ids) for ids in ANSWERS])
    assert scores == pytest.approx([mean(decoder, ids) for ids in ANSWERS], abs=1e-5)
    answered = sum(map(len, ANSWERS))
    assert counting.read == len(PROMPT) - 1 + answered
    assert counting.rows == answered
    assert counting.most == 8
    assert session.tokens == len(PROMPT) + answered
    again = await session.score([Answer("", ANSWERS[0])])
    assert again == [scores[0]]
    assert counting.read == len(PROMPT) - 1 + answered + len(ANSWERS[0])
    await session.close()


async def test_a_prompt_of_one_token(decoder: Decoder) -> None:
    session = LogprobReward(decoder).open(RewardPrompt((5,)))
    [score] = await session.score([Answer("", (7,))])
    want = reference_logits(decoder, torch.tensor([5])).log_softmax(-1)[0, 7]
    assert score == pytest.approx(float(want), abs=1e-5)


async def test_an_empty_answer_is_the_worst(decoder: Decoder) -> None:
    session = LogprobReward(decoder).open(RewardPrompt(PROMPT))
    given, sampled = await session.score([Answer("", ()), Answer("", (), logprobs=())])
    assert given == sampled == -math.inf
    assert session.tokens == 0


async def test_who_leaves_is_no_longer_worked_for(decoder: Decoder) -> None:
    counting: Any = Counting(decoder)
    reward = LogprobReward(counting)
    many = [Answer("", ANSWERS[2])] * 10_000
    leavers = [
        asyncio.create_task(reward.open(RewardPrompt(PROMPT)).score(many)) for _ in range(50)
    ]
    assert await asyncio.to_thread(counting.began.wait, 10)
    for task in leavers:
        task.cancel()
    await asyncio.gather(*leavers, return_exceptions=True)
    async with asyncio.timeout(10):
        await reward.open(RewardPrompt(PROMPT)).score([Answer("", ANSWERS[1])])
    read = counting.read
    await asyncio.sleep(0.05)
    assert counting.read == read


def test_a_text_is_embedded_in_pieces(decoder: Decoder) -> None:
    counting: Any = Counting(decoder)
    vector = at_once(embed(counting, PROMPT))
    whole = reference_hidden(decoder, torch.tensor(PROMPT)).mean(0)
    assert vector == pytest.approx(torch.nn.functional.normalize(whole, dim=0).tolist(), abs=1e-5)
    assert counting.most == 8
