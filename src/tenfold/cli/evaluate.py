"""`tenfold eval`: a file of prompts, any strategy, one result line at a time.

Each result is appended and flushed as soon as it is there, so that a run that was killed goes on
where it stopped: the same command again answers only what is missing. A question that cannot be
asked (too long, say) gets its error for a result, and counts as wrong.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenfold.cli import arguments as a
from tenfold.cli.evaluation import Question, ResultFile, fingerprint, questions, summary
from tenfold.cli.judges import NumberJudge
from tenfold.cli.output import console, notes, write_json
from tenfold.cli.rewards import gsm8k_oracle
from tenfold.errors import InvalidRequest, PromptTooLong, TemplateError, TenfoldError

if TYPE_CHECKING:
    from rich.progress import Progress

    from tenfold.search.llm import AsyncLLM
    from tenfold.search.options import DecodeOptions
    from tenfold.types import SamplingParams

ORACLE = "gsm8k"


def command(
    file: Annotated[
        Path,
        typer.Argument(
            help='JSONL: {"question", "answer"} as GSM8K, or {"prompt" or "messages"}; or the name '
            "of an embedded model, for the held-out questions it ships with"
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="results; default FILE.results.jsonl")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="only so many: the first, or spread over the sets")
    ] = None,
    only: Annotated[str | None, typer.Option("--set", help="one set of held-out questions")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="prompts in flight")] = 8,
    restart: Annotated[bool, typer.Option("--restart", help="forget earlier results")] = False,
    model: a.Model = "concierge",
    strategy: a.StrategyName = None,
    n: a.Candidates = None,
    reward: a.RewardName = None,
    decode: a.DecodePairs = None,
    decode_json: a.DecodeJson = None,
    temperature: a.Temperature = None,
    top_p: a.TopP = None,
    max_tokens: a.MaxTokens = None,
    seed: a.Seed = 0,
    dtype: a.Dtype = "auto",
    adapter: a.Adapters = None,
    executor: a.Executor = "auto",
    kv_memory_mb: a.KvMemory = 1024,
    as_json: a.AsJson = False,
) -> None:
    """Answer a file of prompts and measure how many are right.

    Questions in GSM8K's format are judged by exact match of the final number. The reward `gsm8k`
    reads the answer key: it measures what perfect selection would give (an oracle), nothing else.
    Held-out questions (`tenfold eval concierge`) are judged by the verifier, value by value.
    """
    chosen = a.decode_object(strategy, n, reward, decode, decode_json)
    asked = questions(_source(file), limit, only)
    sampled = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens, "seed": seed}
    settings = {
        "model": _identity(model),
        "adapters": [_identity(name) for name in adapter or ()],
        "dtype": dtype,
        "decode": chosen,
        "reward": reward,
        "sampling": sampled,
    }
    target = out or file.with_name(f"{file.name.partition('.json')[0]}.results.jsonl")
    if target.resolve() == file.resolve():
        raise InvalidRequest(f"{target} holds the questions", hint="choose another --out")
    results = ResultFile(target, settings, restart=restart)
    results.check(asked)
    missing = [q for q in asked if q.id not in results.done]
    if missing:
        load = a.Load(model, dtype, tuple(adapter or ()), executor, kv_memory_mb)
        with notes().status(f"Loading {model} ..."):
            llm = load.llm()
        asyncio.run(
            _everything(llm, missing, len(asked), chosen, reward, sampled, concurrency, results)
        )
    wanted = {q.id for q in asked}
    found = summary([r for key, r in sorted(results.done.items()) if key in wanted])
    found["results"] = str(results.path)
    failed = [r for key, r in sorted(results.done.items()) if key in wanted and "error" in r]
    if failed:
        first = f"question {failed[0]['id'] + 1}: {failed[0]['error']}"
        notes().print(f"{len(failed)} without an answer; {first}", style="yellow", markup=False)
    if chosen.get("reward") == ORACLE:
        found["oracle"] = True
    if as_json:
        write_json(found)
    else:
        _print(found)


def _source(file: Path) -> Path:
    """The file; where there is none of an embedded model's name, the questions shipped with it."""
    from tenfold.models.folders import embedded_names

    if file.is_file() or str(file) not in embedded_names():
        return file
    from tenfold.cli.held_out import shipped

    return shipped(str(file))


def _identity(name: str) -> dict[str, Any]:
    """A model's or adapter's name and content, and those of the models an adapter stands on."""
    from tenfold.models.folders import locate
    from tenfold.models.lora import Adapter, is_adapter

    folders = [locate(name)]
    while is_adapter(folders[-1]) and (base := Adapter.base_of(folders[-1])) not in folders:
        folders.append(base)
    return {"name": name, "content": " ".join(map(fingerprint, folders))}


async def _everything(
    llm: AsyncLLM,
    missing: list[Question],
    total: int,
    chosen: dict[str, Any],
    reward: str | None,
    sampled: dict[str, Any],
    concurrency: int,
    results: ResultFile,
) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("eval"), BarColumn(), MofNCompleteColumn(), Remaining())
    try:
        a.add_reward(llm.rewards, reward)
        key = {q.text: q.judge.gold for q in missing if isinstance(q.judge, NumberJudge)}
        if key and ORACLE not in llm.rewards:
            llm.rewards.register(ORACLE, lambda: gsm8k_oracle(key))
        options = a.options(llm, chosen)
        base = llm.model.default_params()
        gate = asyncio.Semaphore(concurrency)
        with Progress(*columns, console=notes()) as progress, results:
            task = progress.add_task("eval", total=total, completed=total - len(missing))
            async with asyncio.TaskGroup() as group:
                for question in missing:
                    params = _seeded(base, sampled, question)
                    group.create_task(
                        _one(llm, question, params, options, gate, results, progress, task)
                    )
    except* TenfoldError as errors:
        raise errors.exceptions[0] from None
    finally:
        await llm.close()


def _seeded(base: SamplingParams, sampled: dict[str, Any], question: Question) -> SamplingParams:
    # Its own seed for every question, so that a resumed run gives what an unbroken one gives.
    seed = sampled["seed"]
    given = {**sampled, "seed": None if seed is None else seed + question.id}
    return a.sampling(base, **given)


async def _one(
    llm: AsyncLLM,
    question: Question,
    params: SamplingParams,
    options: DecodeOptions,
    gate: asyncio.Semaphore,
    results: ResultFile,
    progress: Progress,
    task: Any,
) -> None:
    from tenfold.cli.generate import request_of, result_json

    record: dict[str, Any] = {"id": question.id, "asked": question.digest}
    async with gate:
        try:
            request = request_of(llm, question.item, params)
            record |= result_json(await llm.generate(request, options))
        except (InvalidRequest, TemplateError) as e:
            if isinstance(e, InvalidRequest) and not _of_the_prompt(e):
                raise
            record |= {"error": str(e), "text": "", "candidates": []}
            record |= {"tokens_generated": 0, "ms": 0.0}
    if question.judge is not None:
        record |= question.judge.verdict(record["text"])
        record["right_candidates"] = sum(
            question.judge.verdict(c["text"])["right"] for c in record["candidates"]
        )
    results.add(record)
    progress.advance(task)


def _of_the_prompt(error: InvalidRequest) -> bool:
    """Whether one question is at fault (too long, or without the facts that a reward reads), not
    the options that all have in common."""
    return isinstance(error, PromptTooLong) or (error.param or "").split(".")[0] == "messages"


def _print(found: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table("figure", "value", title="tenfold eval")
    sets = found.pop("sets", {})
    for name, value in found.items():
        table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    console().print(table)
    if sets:
        by_set = Table("set", "questions", "slot error rate", "accuracy")
        for name, row in sets.items():
            rates = (f"{row[key]:.4g}" for key in ("slot_error_rate", "accuracy"))
            by_set.add_row(name, str(row["questions"]), *rates)
        console().print(by_set)
    if found.get("oracle"):
        console().print(
            "The reward gsm8k reads the answer key: this is the bound for perfect selection, "
            "not a result of the model.",
            style="yellow",
        )
