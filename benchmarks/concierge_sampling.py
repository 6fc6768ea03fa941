"""Slot errors of the embedded concierge by temperature and by search, on held-out look-ups.

TENFOLD_DATA=... python -m recipes.concierge.data --out build/concierge
python -m benchmarks.concierge_sampling --work build/concierge --questions 150
"""

from __future__ import annotations

import argparse
import asyncio
import random
from pathlib import Path

from rich.console import Console
from rich.table import Table

from recipes.concierge.data import held_out_episodes, load_corpus
from recipes.concierge.evaluate import Asked, questions, slot_errors
from tenfold import BestOfN, SamplingParams
from tenfold.search.llm import AsyncLLM
from tenfold.search.options import DecodeOptions
from tenfold.search.sample import Sample
from tenfold.search.strategy import Strategy


async def slot_error_rate(
    llm: AsyncLLM, asked: list[Asked], temperature: float, how: Strategy
) -> float:
    """(Missing + invented) over required values; all questions are decoded together."""
    options = DecodeOptions(how, "logprob" if "reward" in how.needs else None)
    requests = [
        llm.chat_request(a.chat, SamplingParams(temperature=temperature, max_tokens=120, seed=i))
        for i, a in enumerate(asked)
    ]
    results = await asyncio.gather(*(llm.generate(r, options) for r in requests))
    errors = [slot_errors(a, r.completions[0].text) for a, r in zip(asked, results, strict=True)]
    return sum(m + i for m, i in errors) / sum(len(a.required) for a in asked)


async def measure(work: Path, count: int) -> Table:
    """One row per set, temperature and strategy."""
    corpus = load_corpus(work / "corpus.json.gz")
    table = Table("held-out set", "temperature", "strategy", "slot error rate")
    llm = AsyncLLM.load("concierge")
    for family in ("lookup", "seen"):
        asked = questions(held_out_episodes(corpus, family, 120, seed=3))
        random.Random(0).shuffle(asked)
        for temperature, how in (
            *((t, Sample()) for t in (0.0, 0.3, 0.5, 0.7, 1.0)),
            *((t, BestOfN(n=8)) for t in (0.3, 0.5, 0.7, 1.0)),
        ):
            rate = await slot_error_rate(llm, asked[:count], temperature, how)
            table.add_row(family, f"{temperature}", f"{how.name} {how.n}", f"{rate:.3f}")
    await llm.close()
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=150)
    arguments = parser.parse_args()
    Console().print(asyncio.run(measure(arguments.work, arguments.questions)))


if __name__ == "__main__":
    main()
