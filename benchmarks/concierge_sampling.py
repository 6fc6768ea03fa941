"""Slot errors of the embedded concierge by temperature and by search, on its held-out questions.

python -m benchmarks.concierge_sampling --questions 150
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tenfold import BestOfN, SamplingParams
from tenfold.cli.benchmarks.concierge_answers import ANSWER_TOKENS
from tenfold.cli.held_out import HeldOut, HeldOutFile, read_held_out, shipped
from tenfold.search.llm import AsyncLLM
from tenfold.search.options import DecodeOptions
from tenfold.search.sample import Sample
from tenfold.search.strategy import Strategy

SETS = ("lookup_3x4", "short_seen", "long_seen")
TEMPERATURES = (0.3, 0.5, 0.7, 1.0)


async def slot_error_rate(
    llm: AsyncLLM, asked: HeldOutFile, some: Sequence[HeldOut], temperature: float, how: Strategy
) -> float:
    """(Missing + wrong + invented) over required values; all questions are decoded together."""
    options = DecodeOptions(how, "logprob" if "reward" in how.needs else None)
    requests = [
        llm.chat_request(
            question.messages,
            SamplingParams(temperature=temperature, max_tokens=ANSWER_TOKENS, seed=seed),
        )
        for seed, question in enumerate(some)
    ]
    results = await asyncio.gather(*(llm.generate(r, options) for r in requests))
    verdicts = [
        asked.verifier(question).check(result.completions[0].text)
        for question, result in zip(some, results, strict=True)
    ]
    return sum(v.slot_errors for v in verdicts) / sum(v.required for v in verdicts)


async def measure(model: str, count: int) -> Table:
    """One row per set, temperature and strategy."""
    asked = read_held_out(shipped(model))
    table = Table("held-out set", "temperature", "strategy", "slot error rate")
    llm = AsyncLLM.load(model)
    try:
        for name in SETS:
            some = asked.of(name, count)
            for temperature, how in (
                *((t, Sample()) for t in (0.0, *TEMPERATURES)),
                *((t, BestOfN(n=8)) for t in TEMPERATURES),
            ):
                rate = await slot_error_rate(llm, asked, some, temperature, how)
                table.add_row(name, f"{temperature}", f"{how.name} {how.n}", f"{rate:.3f}")
    finally:
        await llm.close()
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="concierge")
    parser.add_argument("--questions", type=int, default=150, help="of each set")
    arguments = parser.parse_args()
    Console().print(asyncio.run(measure(arguments.model, arguments.questions)))


if __name__ == "__main__":
    main()
