"""The log of a training run: one JSON object a line, so that a kill costs at most the last one.

Kinds of lines: `run` (first, and again after a resume), `progress` (each optimizer step),
`entanglement` (each measured step) and `tokens` (heat maps, where asked for). What is no number is
null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tenfold.align.entanglement import Verdict
from tenfold.errors import InvalidRequest

VERSION = 1


@dataclass(frozen=True, slots=True)
class PairRecord:
    """What one measured step did to one pair.

    Products are those of the gradients of the summed log-probs. The changes, in nats, are the
    pair's own part in a step of plain SGD, to first order: learning rate and the pair's share of
    the batch included, what other pairs do to it and what Adam makes of it not.
    """

    row: int | None
    chosen_logp: float
    rejected_logp: float
    chosen_tokens: float
    rejected_tokens: float
    inner: float
    chosen_sq: float
    rejected_sq: float
    cosine: float
    d_w: float
    d_l: float
    chosen_change: float
    rejected_change: float
    verdict: str
    chosen_realised: float | None = None
    rejected_realised: float | None = None
    inner_error: float | None = None  # standard error, of sketches


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One measured optimizer step: its pairs (empty for batch statistics), all of them, by layer.

    `batch["of"]` says what the batch's products are: "sum" of the d-weighted mean log-probs of all
    chosen and all rejected answers (exact: what pairs do to each other included), "pairs" the
    means over the pairs that the loss moves.
    """

    step: int
    lr: float
    pairs: list[PairRecord]
    batch: dict[str, Any]
    layers: dict[str, dict[str, float]] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """Means for a training log: what TRL shows as `entangle/*`."""
        found = {
            "inner": self.batch["inner"],
            "cosine": self.batch["cosine"],
            "chosen_norm": _root(self.batch["chosen_sq"]),
            "rejected_norm": _root(self.batch["rejected_sq"]),
            "chosen_change": self.batch["chosen_change"],
            "rejected_change": self.batch["rejected_change"],
        }
        verdicts = [p.verdict for p in self.pairs] or [self.batch["verdict"]]
        for verdict in Verdict:
            found[str(verdict).replace(" ", "_")] = verdicts.count(verdict) / len(verdicts)
        return found

    def line(self) -> dict[str, Any]:
        """As the log holds it."""
        return {"kind": "entanglement", **asdict(self)}


class RunLog:
    """Appends to a log file. `append(line)` is on disk, whole, when it returns.

    `done` is how many optimizer steps the training that goes on has behind it: what the file says
    of later ones (a run killed after its last checkpoint) is dropped, and a torn last line always.
    With `done` None the file must be new: InvalidRequest if there is something in it.
    """

    def __init__(self, path: Path | str, done: int | None = None) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists() or not self.path.stat().st_size:
            return
        if done is None:
            raise InvalidRequest(
                f"{self.path} holds the log of another run",
                param="log",
                hint="name another file, or give the step that training goes on from",
            )
        kept = [x for x in read_log(self.path) if x.get("step") is None or x["step"] <= done]
        whole = self.path.with_suffix(".part")
        whole.write_text("".join(map(_line, kept)), encoding="utf-8")
        whole.replace(self.path)

    def append(self, line: Mapping[str, Any]) -> None:
        """Writes one line."""
        with self.path.open("a", encoding="utf-8") as out:
            out.write(_line(line))


def read_log(path: Path | str) -> Iterator[dict[str, Any]]:
    """The lines of a log, without a torn last one. InvalidRequest names a line that is wrong."""
    with Path(path).open(encoding="utf-8", errors="replace") as lines:
        for number, text in enumerate(lines, 1):
            if not text.endswith("\n"):
                return  # a kill came in the middle of it
            try:
                found = json.loads(text)
            except ValueError:
                found = None
            if not isinstance(found, dict) or "kind" not in found:
                raise InvalidRequest(
                    f"{path}:{number} is no line of a training log",
                    param="log",
                    hint="one JSON object a line, as EntanglementMonitor writes them",
                )
            yield found


def _line(found: Mapping[str, Any]) -> str:
    return json.dumps(_plain(found), ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def _root(value: float) -> float:
    return math.sqrt(value) if value >= 0 else math.nan
