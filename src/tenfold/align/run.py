"""A training log as columns: what the report and the advice read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenfold.align.entanglement import Verdict
from tenfold.align.record import VERSION, read_log
from tenfold.errors import InvalidRequest

Column = NDArray[np.float64]
PROGRESS = (
    "step", "lr", "loss", "chosen_logp", "rejected_logp", "chosen_gain", "rejected_gain",
    "accuracy", "margin", "chosen_tokens", "rejected_tokens",
)  # fmt: skip
PAIRS = (
    "step", "lr", "row", "chosen_logp", "rejected_logp", "chosen_tokens", "rejected_tokens",
    "inner", "chosen_sq", "rejected_sq", "cosine", "d_w", "d_l", "chosen_change",
    "rejected_change", "chosen_realised", "rejected_realised",
)  # fmt: skip
BATCH = (
    "step", "lr", "inner", "chosen_sq", "rejected_sq", "cosine", "chosen_change", "rejected_change",
)  # fmt: skip
PRODUCTS = ("inner", "chosen_sq", "rejected_sq")


@dataclass(frozen=True, slots=True)
class Heat:
    """Cosines of the gradients of every chosen token with every rejected one."""

    step: int
    row: int | None
    chosen: list[str]
    rejected: list[str]
    cosine: Column  # [chosen, rejected]
    inner: Column  # the products; the cosines where the log has no lengths


@dataclass(frozen=True, slots=True)
class Run:
    """One log; numbers that are not there are nan, tables without rows have columns of length 0."""

    about: Mapping[str, Any]  # the newest line of kind `run`
    progress: Mapping[str, Column]
    pairs: Mapping[str, Column]  # a row a measured pair
    verdicts: list[str]  # of the pairs
    batch: Mapping[str, Column]  # a row a measured step
    batch_verdicts: list[str]
    layers: Mapping[str, Mapping[str, float]]  # products, summed over the measured steps
    heats: list[Heat]
    evaluation: Mapping[str, Column]  # held-out pairs, the same each time; as `progress`
    notes: list[str] = field(default_factory=list)  # what is wrong or missing, for the reader

    @property
    def loss(self) -> str:
        """The loss's name."""
        return str(self.about.get("loss") or "an unnamed loss")

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The loss's parameters."""
        found = self.about.get("loss_parameters")
        return found if isinstance(found, Mapping) else {}

    @property
    def fixes(self) -> list[str]:
        """Names of the fixes that were on."""
        return [str(name) for name in self.about.get("fix") or ()]

    @property
    def optimizer(self) -> str | None:
        """Its name in small letters, where the log tells."""
        config = self.about.get("config")
        named = self.about.get("optimizer") or (
            config.get("optimizer") if isinstance(config, Mapping) else None
        )
        return str(named).lower() if named else None

    def moved(self) -> dict[str, Column]:
        """The measured pairs whose products are known and that the loss moves."""
        keep = np.array([v != Verdict.INACTIVE for v in self.verdicts], bool)
        for name in (*PRODUCTS, "d_w", "d_l"):
            keep &= np.isfinite(self.pairs[name])
        return {name: column[keep] for name, column in self.pairs.items()}


def read_run(path: Path | str) -> Run:
    """Reads a log. Raises InvalidRequest if it is not there, empty, torn or of another version.

    A torn last line, which a kill leaves, is a note and no error.
    """
    path = Path(path)
    try:
        lines = list(read_log(path))
        with path.open("rb") as raw:
            raw.seek(-1, 2)
            torn = raw.read(1) != b"\n"
    except OSError as e:
        if path.is_file() and not path.stat().st_size:
            raise _wrong(path, "is empty", "has the training come to its first step?") from None
        why = "there is no such file" if isinstance(e, FileNotFoundError) else str(e)
        raise _wrong(path, f"cannot be read: {why}", "give the monitor's log, JSON lines") from None
    if not lines:
        raise _wrong(path, "has no whole line", "the training was killed in its first step")
    if lines[0]["kind"] != "run":
        raise _wrong(path, "does not begin with a line of kind `run`", "its beginning is missing")
    for line in lines:
        if line["kind"] == "run" and line.get("version") != VERSION:
            raise _wrong(
                path,
                f"is of version {line.get('version')!r}, this reads {VERSION}",
                "make the report with the tenfold that trained",
            )
    try:
        return _run(lines, torn)
    except (TypeError, ValueError, KeyError, AttributeError) as e:
        raise _wrong(path, f"holds a line that is none of the monitor's: {e!r}", "") from None


def _wrong(path: Path, what: str, hint: str) -> InvalidRequest:
    return InvalidRequest(f"{path} {what}", param="log", hint=hint or None)


def _run(lines: Sequence[Mapping[str, Any]], torn: bool) -> Run:
    of = {kind: [line for line in lines if line["kind"] == kind]
          for kind in ("run", "progress", "entanglement", "tokens", "evaluation")}  # fmt: skip
    measured = of["entanglement"]
    pairs = [
        {"step": s["step"], "lr": s.get("lr"), **pair} for s in measured for pair in s["pairs"]
    ]
    batch = [{"step": s["step"], "lr": s.get("lr"), **s["batch"]} for s in measured]
    notes = ["The log's last line is torn: the run was killed, or it goes on."] if torn else []
    if len(of["run"]) > 1:
        notes.append(f"Training was resumed {len(of['run']) - 1} times.")
    return Run(
        of["run"][-1],
        _columns(of["progress"], PROGRESS),
        _columns(pairs, PAIRS),
        [str(pair["verdict"]) for pair in pairs],
        _columns(batch, BATCH),
        [str(b["verdict"]) for b in batch],
        _layers(measured),
        [_heat(line) for line in of["tokens"]],
        _columns(of["evaluation"], PROGRESS),
        notes,
    )


def _columns(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Column]:
    return {name: np.array([_number(row.get(name)) for row in rows]) for name in names}


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _layers(measured: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for step in measured:
        for name, products in (step.get("layers") or {}).items():
            values = {key: _number(products.get(key)) for key in PRODUCTS}
            if all(np.isfinite(v) for v in values.values()):
                total = found.setdefault(name, dict.fromkeys(PRODUCTS, 0.0))
                for key, value in values.items():
                    total[key] += value
    return found


def _heat(line: Mapping[str, Any]) -> Heat:
    chosen, rejected = ([str(t) for t in line[side]] for side in ("chosen", "rejected"))
    cosine = np.array([[_number(x) for x in row] for row in line["cosine"]], dtype=float)
    if cosine.shape != (len(chosen), len(rejected)):
        raise ValueError(f"cosines {cosine.shape} of {len(chosen)} x {len(rejected)} tokens")
    squares = [
        np.array([_number(x) for x in line.get(f"{side}_sq") or np.ones(len(texts))])
        for side, texts in (("chosen", chosen), ("rejected", rejected))
    ]
    inner, row = cosine * np.sqrt(np.outer(*squares)), line.get("row")
    return Heat(
        int(line["step"]), None if row is None else int(row), chosen, rejected, cosine, inner
    )
