"""Sample answers of the concierge to prompts of a part and grade them, whole and partial.

``python -m recipes.preference.samples --work build/concierge --part guide --count 2000 --out DIR``
writes ``DIR/guide.jsonl``; started again, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from recipes.concierge.checkpoint import load_tokenizer
from recipes.concierge.datafiles import DataError
from tenfold.rewards.facts import Requirement
from tenfold.rewards.verifier import FactsVerifier, Verdict
from tenfold.search.llm import AsyncLLM
from tenfold.search.options import DecodeOptions
from tenfold.search.sample import Sample
from tenfold.types import Completion, SamplingParams, as_messages

from .prompts import (
    PARTS,
    Prompt,
    as_json,
    corpus_of,
    held_out_questions,
    held_prompts,
    training_prompts,
)

log = logging.getLogger(__name__)
TEMPERATURES = {
    "guide": (0.7, 1.0),
    "judge": (0.7, 1.0),
    "held": (0.7, 0.7),
}  # half the samples each
SAMPLES = 8
ANSWER_TOKENS = 320
SHARES = (0.1, 0.25, 0.5, 0.75)  # of an answer's own tokens
AT_ONCE = 24  # prompts whose samples are one batch


def verifier_of(prompt: Prompt, lexicon: frozenset[str]) -> FactsVerifier:
    """What knows what must be stated, and doubts words that nobody says."""
    required = [Requirement(*r) for r in prompt.required]
    return FactsVerifier(as_messages(prompt.messages), required, lexicon)


def counts(verdict: Verdict) -> dict[str, Any]:
    """A verdict as numbers."""
    return {
        "required": verdict.required,
        "right": verdict.right,
        "missing": len(verdict.missing),
        "wrong": len(verdict.wrong),
        "invented": len(verdict.invented),
        "score": round(verdict.score, 4),
    }


def graded(
    llm: AsyncLLM, verifier: FactsVerifier, sample: Completion, temperature: float
) -> dict[str, Any]:
    """A sample with its verdict, and those of its beginnings."""
    ids = list(sample.token_ids)
    decode = llm.model.tokenizer.decode
    partial = {}
    for share in SHARES:
        text = decode(ids[: round(share * len(ids))]).rstrip("\ufffd")
        partial[str(share)] = counts(verifier.check(text, finished=False))
    finished = sample.finish_reason == "stop"
    return {
        "text": sample.text,
        "ids": ids,
        "temperature": temperature,
        "finished": finished,
        "logprob": round(sum(p.logprob for p in sample.logprobs or ()) / max(1, len(ids)), 4),
        **counts(verifier.check(sample.text)),
        "partial": partial,
    }


async def sample_all(
    prompts: Sequence[Prompt], temperatures: Sequence[float], llm: AsyncLLM, lexicon: frozenset[str]
) -> list[dict[str, Any]]:
    """The prompts with their graded samples."""

    async def one(prompt: Prompt) -> dict[str, Any]:
        verifier = verifier_of(prompt, lexicon)
        samples = []
        for number, temperature in enumerate(temperatures):
            params = SamplingParams(
                temperature=temperature, max_tokens=ANSWER_TOKENS, seed=1000 * number + 7
            )
            request = llm.chat_request(as_messages(prompt.messages), params)
            n = SAMPLES // len(temperatures)
            result = await llm.generate(request, DecodeOptions(Sample(n)))
            samples += [graded(llm, verifier, c, temperature) for c in result.completions]
        return {**as_json(prompt), "prompt_ids": list(request.prompt_ids), "samples": samples}

    return await asyncio.gather(*map(one, prompts))


def done_before(path: Path) -> int:
    """How many prompts a file holds; a line that a kill cut off is taken away."""
    if not path.is_file():
        return 0
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    if len(whole) < len(lines):
        path.write_text("".join(whole), encoding="utf-8")
    return len(whole)


def prompts_of(work: Path, part: str) -> Iterator[Prompt]:
    """All prompts of a part."""
    if part == "held":
        return held_prompts()
    tokenizer = load_tokenizer(work / "tokenizer")
    return training_prompts(corpus_of(work, part), part, tokenizer)


async def write_samples(work: Path, part: str, count: int, out: Path, model: str) -> None:
    """Append prompts with graded samples to ``out`` until there are ``count``."""
    done = done_before(out)
    found = prompts_of(work, part)
    for _ in range(done):
        next(found, None)
    lexicon = held_out_questions().lexicon
    llm = AsyncLLM.load(model)
    begun, tokens = time.monotonic(), 0
    while done < count:
        some = [p for p, _ in zip(found, range(min(AT_ONCE, count - done)), strict=False)]
        if not some:
            break
        rows = await sample_all(some, TEMPERATURES[part], llm, lexicon)
        with out.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        done += len(rows)
        tokens += sum(len(s["ids"]) for row in rows for s in row["samples"])
        log.info("%s: %d prompts, %.0f tokens/s", part, done, tokens / (time.monotonic() - begun))
    await llm.close()


def main() -> int:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="the concierge recipe's folder")
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--count", type=int, default=2000, help="prompts")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="concierge", help="whose answers")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / f"{options.part}.jsonl"
    try:
        asyncio.run(write_samples(options.work, options.part, options.count, file, options.model))
    except DataError as error:
        log.error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
