"""`tenfold quantize`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenfold.cli import arguments as a
from tenfold.cli.generate import read_jsonl
from tenfold.cli.output import console, notes, write_json
from tenfold.errors import CheckpointError, InvalidRequest
from tenfold.types import as_messages

if TYPE_CHECKING:
    from tenfold.models.loading import LoadedModel
    from tenfold.quant.calibration import CalibrationText
    from tenfold.quant.quantize import QuantizedModel, SiteReport


def command(
    model: Annotated[str, typer.Argument(help="embedded name, folder or hf:owner/name")],
    out: Annotated[Path, typer.Option("--out", "-o", help="the folder to make")],
    scheme: Annotated[
        str, typer.Option(help="w4a16, w4a8, w4a4 or w8a8, with -kv8 or -kv4")
    ] = "w4a4-kv4",
    calibrate: Annotated[
        Path | None,
        typer.Option(help="text, or JSONL of {text} or {messages}; a model's own held-out file"),
    ] = None,
    block_size: Annotated[
        int | None, typer.Option(help="128, 64 or 32 channels; default: the largest that fits")
    ] = None,
    method: Annotated[str, typer.Option(help="gptq, or nearest, which is faster")] = "gptq",
    tokens: Annotated[int, typer.Option(min=1, help="calibrate on so many at most")] = 262_144,
    as_json: a.AsJson = False,
) -> None:
    """Quantize a model's weights, activations and cache to few bits."""
    from tenfold.quant.checkpoint import check_free, save_quantized
    from tenfold.quant.quantize import quantize
    from tenfold.quant.report import html_report
    from tenfold.quant.scheme import QuantConfig, Scheme, block_for

    chosen = Scheme.parse(scheme)
    check_free(out)
    if calibrate is None:
        raise InvalidRequest(
            "there is no calibration text",
            param="calibrate",
            hint="--calibrate FILE: text like what the model will read, some thousand words",
        )
    with notes().status(f"Loading {model} ..."):
        loaded = _load(model)
    text = calibration_text(loaded, calibrate, tokens)
    config = QuantConfig(chosen, block_size or block_for(loaded.spec), _method(method))
    config.check(loaded.spec)
    tensors = dict(loaded.decoder.tensors())
    state = out.with_name(f".{out.name}.calibration")
    with _bar(f"Quantizing {loaded.name}") as progress:
        made = quantize(loaded.spec, tensors, text, config, progress=progress, state=state)
        page = {"quantization.html": html_report(made, loaded.name)}
        save_quantized(made, out, loaded.folder, page)
    state.unlink(missing_ok=True)
    if as_json:
        write_json(as_object(made, out))
    else:
        _print(made, out)


def _load(model: str) -> LoadedModel:
    from tenfold.models.checkpoint import Checkpoint
    from tenfold.models.folders import locate
    from tenfold.models.loading import load_model

    folder = locate(model)
    if (folder / "config.json").is_file() and "quantization_config" in Checkpoint(folder).config:
        raise CheckpointError(
            f"{model} is quantized already", hint="quantize the checkpoint it was made from"
        )
    return load_model(model)


def _method(name: str) -> Any:
    return name  # QuantConfig refuses what it does not know


def calibration_text(model: LoadedModel, file: Path, tokens: int) -> CalibrationText:
    """The windows of a file: JSONL is read conversation by conversation, other text as one piece.

    Raises InvalidRequest when the file cannot be read, holds nothing or too little.
    """
    from tenfold.quant.calibration import WINDOW, CalibrationText

    length = min(WINDOW, model.spec.max_positions)
    if ".jsonl" not in file.suffixes:
        try:
            whole = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise InvalidRequest(f"{file} cannot be read: {e}", param="calibrate") from None
        return CalibrationText.cut(model.tokenizer.encode(whole), length, tokens)
    windows, left = [], tokens
    for item in read_jsonl(file):
        said = _said(model, item)
        if said and left > 0:
            ids = model.tokenizer.encode(said)[: min(length, left)]
            windows.append(tuple(ids))
            left -= len(ids)
    return CalibrationText(tuple(windows))


def _said(model: LoadedModel, item: Mapping[str, Any]) -> str:
    """One object's text; of a conversation, what the model reads and the reference after it."""
    if isinstance(item.get("text"), str):
        return str(item["text"])
    if isinstance(item.get("messages"), list):
        chat = model.require_chat_template().render(as_messages(item["messages"]))
        return chat + str(item.get("reference", ""))
    return ""


@contextmanager
def _bar(title: str) -> Iterator[Callable[[str, float], None]]:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=notes(), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def progress(stage: str, share: float) -> None:
            bar.update(task, description=f"{title}: {stage}", total=1.0, completed=share)

        yield progress


def as_object(model: QuantizedModel, out: Path) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "folder": str(out),
        "scheme": model.config.scheme.name,
        "block_size": model.config.block,
        "share_a4": model.share_a4,
        "inputs": [
            {
                "name": r.site.name,
                "share_a4": r.share_a4,
                "error": r.error,
                "bytes": r.bytes,
            }
            for r in model.reports
        ],
    }


def _print(model: QuantizedModel, out: Path) -> None:
    from rich.table import Table

    title = f"{model.config.scheme.name}, blocks of {model.config.block}"
    table = Table("layer", "input", "A4 blocks", "error", "KiB", "outliers", title=title)
    for r in model.reports:
        share = "-" if r.share_a4 is None else f"{r.share_a4:.0%}"
        row = (f"{r.error:.2%}", f"{r.bytes / 1024:.0f}", _peak(r))
        table.add_row(str(r.site.layer), r.site.kind, share, *row)
    out_ = console()
    out_.print(table)
    out_.print(f"{model.share_a4:.0%} of the multiplications read 4-bit activations")
    out_.print(f"written to {out}; see quantization.html there", markup=False)


def _peak(report: SiteReport) -> str:
    """How far the largest channel stands out from the median one."""
    median = float(report.before.median())
    return f"{float(report.before.max()) / median:.1f}x" if median > 0 else "-"
