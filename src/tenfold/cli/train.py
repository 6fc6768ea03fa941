"""`tenfold train`: preference training, what to look at before it and after it."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenfold.cli.arguments import AsJson
from tenfold.cli.output import console, notes, write_json
from tenfold.errors import InvalidRequest

if TYPE_CHECKING:
    from tenfold.align.trainer import Progress, Result

app = typer.Typer(help="Train on preferences, and see what training does to them.")


@app.command()
def preference(
    config: Annotated[Path, typer.Argument(help="YAML, TOML or JSON: docs/preference-training.md")],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE laid over the file, such as loss.beta=0.2"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a model on preference pairs; a run that was stopped goes on where it was."""
    from tenfold.align.config import read_config
    from tenfold.align.trainer import PreferenceTrainer

    chosen = read_config(config, changes or ())
    _quiet()
    with _bars() as progress:
        trainer = PreferenceTrainer(chosen, progress)
        with _stopped_by_signals(trainer.stop):
            result = trainer.run()
    for path, rows in result.dropped.items():
        notes().print(f"left out of {path}: {len(rows)} rows over max_tokens (first: {rows[0]})")
    if as_json:
        write_json(_described(result))
    elif result.finished:
        _show(result)
    if not result.finished:
        notes().print(
            f"stopped after step {result.steps} of {result.total}, checkpoint kept: "
            "the same command goes on from there",
            style="yellow",
        )
        raise typer.Exit(130)


@app.command()
def screen(
    data: Annotated[Path, typer.Argument(help="JSON lines of prompt, chosen, rejected")],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="a model that reads the pairs: slower, says more"),
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="a prompt that is plain text is what a user says")
    ] = False,
    max_tokens: Annotated[
        int | None, typer.Option(help="rows over it are named; default: the model's context")
    ] = None,
    rows: Annotated[int, typer.Option(help="worst rows to show")] = 10,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="all rows and findings into a file, or - ")
    ] = None,
) -> None:
    """Rank pairs by likely entanglement and find what is wrong with them, before training."""
    import torch

    from tenfold.align.encoding import PairEncoder
    from tenfold.align.pairs import read_pairs
    from tenfold.align.policy import load_policy
    from tenfold.align.screen import screen as screened
    from tenfold.align.trainer import Progress

    pairs = read_pairs(data, strict=False)
    if model is None:
        if chat:
            raise InvalidRequest("--chat needs --model", param="--chat", hint="whose template?")
        found = screened(pairs, max_tokens=max_tokens)
    else:
        _quiet()
        with _bars() as progress:
            seen = 0

            def more(count: int) -> None:
                nonlocal seen
                seen += count
                progress(Progress("screening", seen, len(pairs)))

            found = screened(
                pairs,
                PairEncoder.of(model, chat=chat),
                load_policy(model, torch.float32, torch.device("cpu")),
                max_tokens=max_tokens,
                progress=more,
            )
    if json_file is not None:
        _write(json_file, found.as_dict())
    if json_file != Path("-"):
        console().print(found.table(rows), markup=False, soft_wrap=True)


@app.command()
def report(
    log: Annotated[Path, typer.Argument(help="a training's log, or its folder")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="default: report.html beside the log")
    ] = None,
) -> None:
    """Write a page that shows what a training did to its pairs and what to change."""
    from tenfold.align.report.page import write_report
    from tenfold.align.trainer import LOG, REPORT

    log = log / LOG if log.is_dir() else log
    written = write_report(log, log.with_name(REPORT) if out is None else out)
    console().print(str(written), markup=False, soft_wrap=True)


def _write(path: Path, value: Any) -> None:
    if path == Path("-"):
        write_json(value)
        return
    try:
        path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as e:
        raise InvalidRequest(f"{path} cannot be written: {e.strerror}", param="--json") from None


def _quiet() -> None:
    """One progress bar is enough: transformers has its own for every file it reads."""
    try:
        from transformers.utils import logging
    except ImportError:
        return  # said with its hint where it is needed
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def _described(result: Result) -> dict[str, Any]:
    return {
        "output": str(result.folder),
        "steps": result.steps,
        "total": result.total,
        "finished": result.finished,
        "resumed_from": result.resumed,
        "seconds": round(result.seconds, 1),
        "dropped": {path: len(rows) for path, rows in result.dropped.items()},
        "evaluation": dict(result.evaluation),
    }


def _show(result: Result) -> None:
    out = console()
    since = f" (from step {result.resumed})" if result.resumed else ""
    out.print(f"{result.steps} steps{since} in {result.seconds:.0f} s")
    for name, value in result.evaluation.items():
        out.print(f"  {name.replace('_', ' '):<14} {value:9.4f}")
    adapter = (result.folder / "adapter_config.json").is_file()
    out.print(f"{'adapter' if adapter else 'model'}: {result.folder}", soft_wrap=True)
    out.print(f"report: {result.folder / 'report.html'}", soft_wrap=True)
    out.print(f"try it: tenfold generate --model {result.folder} PROMPT", soft_wrap=True)


@contextmanager
def _bars() -> Iterator[Callable[[Progress], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Bars(*columns, console=notes()) as bars:
        tasks: dict[str, Any] = {}

        def show(seen: Progress) -> None:
            if seen.stage not in tasks:
                tasks[seen.stage] = bars.add_task(seen.stage, total=seen.total, figures="")
            figures = "  ".join(f"{k} {v:.3g}" for k, v in seen.figures.items())
            bars.update(tasks[seen.stage], completed=seen.done, total=seen.total, figures=figures)

        yield show


@contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM ends the training after its step, a second one at once."""
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, _: object) -> None:
        stop()
        notes().print("stopping after this step", style="yellow")
        for one in before:
            signal.signal(one, signal.default_int_handler)

    for one in before:
        signal.signal(one, handle)
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
