"""`tenfold bench`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenfold.cli.machine import machine
from tenfold.cli.output import console, notes
from tenfold.errors import BackendUnavailable, InvalidRequest

if TYPE_CHECKING:
    from tenfold.cli.benchmarks import Figures, Report


def command(
    name: Annotated[str | None, typer.Argument(help="which; none: list them")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the figures here")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="smaller and fewer runs")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="exit with 1 when a bound is missed")
    ] = False,
    locomo: Annotated[
        Path | None, typer.Option("--locomo", help="memory: locomo10.json, or a part of it")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="memory: who answers guests, instead of concierge")
    ] = None,
) -> None:
    """Run a benchmark and print its figures."""
    from tenfold.cli.benchmarks import NAMES, find

    if name is None:
        for known, what in NAMES.items():
            console().print(f"{known:<12} {what}")
        return
    path = find(name)
    given = {k: v for k, v in (("locomo", locomo), ("model", model)) if v is not None}
    for option in given if name != "memory" else ():
        raise InvalidRequest(f"benchmark {name} has no option --{option}", param=option)
    try:
        module = import_module(path)
    except ModuleNotFoundError as e:
        raise BackendUnavailable(
            f"benchmark {name} needs {e.name}", hint=f"pip install {e.name}, or `make setup`"
        ) from e
    with _progress(f"{name}{' (quick)' if quick else ''}") as report:
        measured: Figures = module.run(quick, report, **given)
    envelope: dict[str, Any] = {
        "name": name,
        "machine": machine(),
        "figures": dict(measured.figures),
        "settings": {"quick": quick, **measured.settings},
    }
    if measured.absent:
        envelope["settings"]["absent"] = dict(measured.absent)
    if json_file is not None:
        json_file.write_text(json.dumps(envelope, indent=2) + "\n", encoding="utf-8")
    missed = _print(name, measured)
    if check and missed:
        raise typer.Exit(1)


@contextmanager
def _progress(title: str) -> Iterator[Report]:
    """A bar on standard error for what is being measured now."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=notes(), transient=True) as progress:
        task = progress.add_task(f"Measuring {title}", total=None)

        def report(stage: str, done: float) -> None:
            progress.update(task, description=f"{title}: {stage}", total=1.0, completed=done)

        yield report


def _print(name: str, measured: Figures) -> list[str]:
    """Prints the table and the verdict; returns the figures that missed their bounds."""
    from rich.table import Table

    m = machine()
    table = Table("figure", "measured", "bound", "", title=f"tenfold bench {name}")
    missed = []
    for key, value in measured.figures.items():
        bound = measured.bounds.get(key, "")
        if bound and not holds(value, bound):
            missed.append(key)
        verdict = "" if not bound else "[red]no[/]" if key in missed else "[green]ok[/green]"
        table.add_row(key, f"{value:.4g}", bound, verdict)
    for key, why in measured.absent.items():
        bound = measured.bounds.get(key, "")
        if bound:
            missed.append(key)
        table.add_row(key, f"[dim]{why}[/]", bound, "[red]absent[/]" if bound else "")
    out = console()
    out.print(table)
    out.print(
        f"{m['cpu']}, {m['cores']} cores, {m['isa']}, torch {m['torch']}, commit {m['commit']}",
        style="dim",
    )
    if missed:
        out.print(f"bounds missed: {', '.join(missed)}", style="bold red")
    elif measured.bounds:
        out.print("all bounds kept", style="green")
    else:
        out.print("no figure here has a bound", style="dim")
    return missed


def holds(value: float, bound: str) -> bool:
    """Whether a figure keeps a bound such as ">= 1.3", "<= 0" or "0.03 .. 0.35" (ends included)."""
    low, between, high = bound.partition(" .. ")
    if between:
        return float(low) <= value <= float(high)
    sign, _, limit = bound.partition(" ")
    return value >= float(limit) if sign == ">=" else value <= float(limit)
