"""Figures that should be nought: blocks leaked by clients that leave, seeds that depend on company.

The requests go over HTTP to a real server on this machine, as users' requests do.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import subprocess
import sys
import time
from typing import Any

import httpx

from tenfold.search.llm import AsyncLLM
from tenfold.search.options import DecodeOptions
from tenfold.search.sample import Sample
from tenfold.types import SamplingParams


async def blocks_leaked(address: str, requests: int, seed: int = 0) -> int:
    """KV blocks in use after `requests` streamed chats of which two thirds are broken off."""
    rng = random.Random(seed)
    gate = asyncio.Semaphore(16)
    async with httpx.AsyncClient(base_url=address, timeout=120) as client:

        async def one(i: int) -> None:
            body: dict[str, Any] = {
                "model": "concierge",
                "messages": [{"role": "user", "content": f"{rng.random()} tell me more " * 4}],
                "max_tokens": 12,
                "stream": True,
            }
            if i % 4 == 0:
                body["decode"] = {"strategy": "best_of_n", "n": 4}
            leave_after = rng.choice([0, 1, 2, 4, 8, None, None])
            async with gate, client.stream("POST", "/v1/chat/completions", json=body) as response:
                response.raise_for_status()
                lines = 0
                async for line in response.aiter_lines():
                    lines += bool(line)
                    if leave_after is not None and lines >= leave_after:
                        return

        await asyncio.gather(*(one(i) for i in range(requests)))
        for _ in range(100):
            kv = (await client.get("/v1/stats")).json()["kv"]
            if kv["blocks_used"] == 0:
                break
            await asyncio.sleep(0.05)  # the last disconnects are still being noticed
        return int(kv["blocks_used"])


async def seed_mismatches(prompts: int, tokens: int = 48) -> int:
    """Prompts whose seeded answer differs between alone and in a batch of 32 (fp32)."""
    llm = AsyncLLM.load("concierge", dtype="float32")
    rng = random.Random(1)
    vocabulary = llm.model.spec.vocab_size
    options = DecodeOptions(Sample())
    requests = [
        llm.text_request(
            [rng.randrange(8, vocabulary) for _ in range(rng.randint(4, 60))],
            SamplingParams(seed=i, max_tokens=tokens, ignore_eos=True),
        )
        for i in range(prompts)
    ]
    alone = [(await llm.generate(r, options)).completions[0].token_ids for r in requests]
    together: list[tuple[int, ...]] = []
    for begin in range(0, prompts, 32):
        batch = (llm.generate(r, options) for r in requests[begin : begin + 32])
        together += [r.completions[0].token_ids for r in await asyncio.gather(*batch)]
    await llm.close()
    return sum(a != b for a, b in zip(alone, together, strict=True))


def help_seconds_over_python_startup(runs: int) -> float:
    """`tenfold --help` over starting Python, medians of interleaved runs."""

    def seconds(*arguments: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        return time.perf_counter() - began

    pairs = [(seconds("-m", "tenfold", "--help"), seconds("-c", "pass")) for _ in range(runs + 1)][
        1:
    ]
    return statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)
