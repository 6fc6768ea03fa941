"""`tenfold score`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from tenfold.cli import arguments as a
from tenfold.cli.generate import read_jsonl
from tenfold.cli.output import console, write_line
from tenfold.errors import InvalidRequest


def command(
    answers: Annotated[list[str] | None, typer.Argument(help="answers to score")] = None,
    prompt: Annotated[str | None, typer.Option(help="what was asked")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help='JSONL: {"prompt": ..., "candidates": [...]}')
    ] = None,
    model: a.Model = "concierge",
    reward: a.RewardName = "logprob",
    dtype: a.Dtype = "auto",
    adapter: a.Adapters = None,
    as_json: a.AsJson = False,
) -> None:
    """Score given answers with a reward."""
    if file is not None:
        items = list(read_jsonl(file))
    elif prompt is not None and answers:
        items = [{"prompt": prompt, "candidates": answers}]
    else:
        raise InvalidRequest("nothing to score", hint="give --prompt and answers, or --file")
    for item in items:
        texts = item.get("candidates")
        if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
            raise InvalidRequest("each line needs candidates: a list of strings")
    name = (reward or "logprob").partition("=")[0]
    llm = a.Load(model, dtype, tuple(adapter or ())).llm()

    async def everything() -> None:
        from tenfold.cli.generate import request_of

        try:
            a.add_reward(llm.rewards, reward)
            for item in items:
                request = request_of(llm, item, llm.model.default_params())
                scores = await llm.score(request, item["candidates"], name)
                if as_json or file is not None:
                    write_line({**item, "reward": name, "scores": list(scores.values)})
                    continue
                out = console()
                pairs = zip(scores.values, item["candidates"], strict=True)
                for value, text in sorted(pairs, key=lambda p: -p[0]):
                    out.print(f"{value:9.4f}  {text}", markup=False)
        finally:
            await llm.close()

    asyncio.run(everything())
