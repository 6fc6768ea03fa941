"""`tenfold generate`."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenfold.cli import arguments as a
from tenfold.cli.output import write_line
from tenfold.errors import InvalidRequest

if TYPE_CHECKING:
    from tenfold.search.events import ResultEvent
    from tenfold.search.llm import AsyncLLM
    from tenfold.search.strategy import Request
    from tenfold.types import SamplingParams


def command(
    prompt: Annotated[str | None, typer.Argument(help="the prompt; none: standard input")] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", help='JSONL: {"prompt": ...} or {"messages": [...]} a line'),
    ] = None,
    system: Annotated[
        str | None, typer.Option("--system", help="the system message (facts, for the concierge)")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="continue the text, no chat template")] = False,
    model: a.Model = "concierge",
    strategy: a.StrategyName = None,
    n: a.Candidates = None,
    reward: a.RewardName = None,
    decode: a.DecodePairs = None,
    decode_json: a.DecodeJson = None,
    temperature: a.Temperature = None,
    top_p: a.TopP = None,
    max_tokens: a.MaxTokens = None,
    seed: a.Seed = None,
    dtype: a.Dtype = "auto",
    adapter: a.Adapters = None,
    executor: a.Executor = "auto",
    kv_memory_mb: a.KvMemory = 1024,
    as_json: a.AsJson = False,
) -> None:
    """Generate text from prompts."""
    chosen = a.decode_object(strategy, n, reward, decode, decode_json)
    items = list(_items(prompt, file))
    llm = a.Load(model, dtype, tuple(adapter or ()), executor, kv_memory_mb).llm()
    params = a.sampling(
        llm.model.default_params(),
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        seed=seed,
    )

    async def everything() -> None:
        try:
            a.add_reward(llm.rewards, reward)
            options = a.options(llm, chosen)
            requests = []
            for number, item in enumerate(items, 1):
                try:
                    requests.append(request_of(llm, item, params, raw=raw, system=system))
                except InvalidRequest as e:
                    where = "" if file is None else f"{file}, object {number}: "
                    raise InvalidRequest(where + e.message, param=e.param, hint=e.hint) from None
            pending = [asyncio.ensure_future(llm.generate(r, options)) for r in requests]
            for item, future in zip(items, pending, strict=True):  # in order, as they are ready
                result = await future
                if as_json or file is not None:
                    write_line({**item, **result_json(result)})
                else:
                    # A selecting strategy has one answer; sampling n of them gives n.
                    shown = 1 if options.strategy.selects else len(result.completions)
                    for completion in result.completions[:shown]:
                        sys.stdout.write(completion.text + "\n")
        finally:
            await llm.close()

    asyncio.run(everything())


def _items(prompt: str | None, file: Path | None) -> Iterator[dict[str, Any]]:
    if file is None:
        text = prompt if prompt is not None else sys.stdin.read()
        if not text.strip():
            raise InvalidRequest("there is no prompt", hint="give it as an argument or by a pipe")
        yield {"prompt": text}
        return
    if prompt is not None:
        raise InvalidRequest("give a prompt or --file, not both", param="prompt")
    yield from read_jsonl(file)


def read_jsonl(file: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file, which may be gzipped; raises InvalidRequest with the line's
    number."""
    try:
        data = file.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        text = data.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as e:
        raise InvalidRequest(f"{file} cannot be read: {e}") from None
    # Not splitlines: JSON may hold U+2028 and its like unescaped.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise InvalidRequest(f"{file}, line {number}: {e}") from None
        if not isinstance(value, dict):
            raise InvalidRequest(f"{file}, line {number} is not an object")
        yield value


def request_of(
    llm: AsyncLLM,
    item: dict[str, Any],
    params: SamplingParams,
    *,
    raw: bool = False,
    system: str | None = None,
) -> Request:
    """A request from `{"prompt": ...}` or `{"messages": [...]}`; `system` goes before a prompt."""
    if isinstance(item.get("messages"), list):
        return llm.chat_request(item["messages"], params)
    prompt = item.get("prompt")
    if not isinstance(prompt, str):
        raise InvalidRequest("each line needs a prompt or messages", param="prompt")
    if raw or llm.model.chat_template is None:
        return llm.text_request(prompt, params)
    chat = [{"role": "system", "content": system}] if system else []
    return llm.chat_request([*chat, {"role": "user", "content": prompt}], params)


def result_json(result: ResultEvent) -> dict[str, Any]:
    """A result for programs: the answer, all candidates, what it cost."""
    report = result.report
    return {
        "text": result.completions[0].text,
        "finish_reason": result.completions[0].finish_reason,
        "candidates": [
            {"candidate": i, "text": c.text, "score": c.score, "finish_reason": c.finish_reason}
            for i, c in zip(result.candidates, result.completions, strict=True)
        ],
        "strategy": report.strategy,
        "tokens_generated": report.tokens_generated,
        "ms": round(report.ms, 1),
    }
