"""`tenfold bench engine`: speed beside transformers, and the figures that should be nought."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from tenfold.cli.benchmarks import Figures, Report
from tenfold.cli.benchmarks.engine_soundness import (
    blocks_leaked,
    help_seconds_over_python_startup,
    seed_mismatches,
)
from tenfold.cli.benchmarks.engine_speed import speed_figures
from tenfold.search.llm import AsyncLLM
from tenfold.server.run import build_server

BOUNDS = {
    "x_transformers_decode_b1": ">= 1.3",
    "x_transformers_decode_b32_shared_prompt": ">= 2.0",
    "x_transformers_prefill_512": ">= 0.95",
    "prefix_cache_ttft_ratio": ">= 3",
    "blocks_leaked": "<= 0",
    "seed_mismatches": "<= 0",
    "cli_help_seconds_over_python_startup": "<= 12",
}


def run(quick: bool, report: Report) -> Figures:
    """All figures; about four minutes, with `quick` under one."""
    requests, prompts, helps = (100, 32, 3) if quick else (2000, 200, 9)
    report("speed", 0.0)
    figures, settings = speed_figures(quick)
    settings |= {"requests": requests, "seeded_prompts": prompts}
    report("soundness", 0.8)
    figures["blocks_leaked"] = asyncio.run(_leaked_by_a_server(requests))
    figures["seed_mismatches"] = asyncio.run(seed_mismatches(prompts))
    figures["cli_help_seconds_over_python_startup"] = help_seconds_over_python_startup(helps)
    return Figures(figures, settings, BOUNDS)


async def _leaked_by_a_server(requests: int) -> int:
    """`blocks_leaked` on a real server with a socket of its own."""
    llm = AsyncLLM.load("concierge")
    server = build_server(llm, port=0)
    thread = threading.Thread(target=lambda: asyncio.run(_serve(server)), daemon=True)
    thread.start()
    try:
        return await blocks_leaked(server.address, requests)
    finally:
        server.should_exit = True
        await asyncio.to_thread(thread.join)
        await llm.close()


async def _serve(server: Any) -> None:
    await server.run_here()
