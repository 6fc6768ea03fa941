"""What an optimizer step's micro-batches say together, of all processes: the monitor's lines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tenfold.align.entanglement import PairStats, Verdict, verdict
from tenfold.align.losses import PairLogps
from tenfold.align.record import PairRecord, StepRecord

_PRODUCTS = ("inner", "chosen_sq", "rejected_sq", "cosine")
_VERDICTS = list(Verdict)


@dataclass(slots=True)
class Micro:
    """One micro-batch; tensors are detached, [pairs]."""

    rows: list[int | None]
    logps: PairLogps | None = None
    value: Tensor | None = None  # the loss
    weights: tuple[Tensor, Tensor] | None = None
    share: Tensor | None = None  # of each pair in what was differentiated
    stats: PairStats | None = None
    errors: Tensor | None = None  # of <g_w, g_l>, where it is estimated
    layers: dict[str, PairStats] = field(default_factory=dict)

    @property
    def known(self) -> PairLogps:
        """Its log-probs, once it was told them."""
        assert self.logps is not None
        return self.logps


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def first() -> bool:
    """Whether this process is the one that writes."""
    return processes() == 1 or dist.get_rank() == 0


def gathered(mine: Tensor) -> Tensor:
    """Rows of all processes, in their order, from each one's [rows, columns]."""
    if processes() == 1:
        return mine
    on = torch.device("cpu") if dist.get_backend() == "gloo" else torch.device("cuda")
    count = torch.tensor([len(mine)], device=on)
    counts = [torch.zeros_like(count) for _ in range(processes())]
    dist.all_gather(counts, count)
    most = max(int(c) for c in counts)
    padded = torch.zeros(most, mine.shape[1], dtype=mine.dtype, device=on)
    padded[: len(mine)] = mine.to(on)
    found = [torch.zeros_like(padded) for _ in counts]
    dist.all_gather(found, padded)
    return torch.cat([rows[: int(c)] for rows, c in zip(found, counts, strict=True)]).to(mine)


def progress(step: int, lr: float, micro: Sequence[Micro]) -> dict[str, Any]:
    """The line of every step: means over its pairs."""
    columns = []
    for m in micro:
        p, value = m.known, m.value
        nothing = torch.full_like(p.chosen, math.nan)
        gains = p.gains() if p.referenced else (nothing, nothing)
        loss = nothing if value is None else value.to(p.chosen).expand(len(p.chosen))
        columns.append(
            _columns(
                loss, p.chosen, p.rejected, *gains, p.margin() > 0, p.margin(),
                p.chosen_tokens, p.rejected_tokens,
            )
        )  # fmt: skip
    names = (
        "loss", "chosen_logp", "rejected_logp", "chosen_gain", "rejected_gain", "accuracy",
        "margin", "chosen_tokens", "rejected_tokens",
    )  # fmt: skip
    means = gathered(torch.cat(columns)).mean(0).tolist()
    return {"kind": "progress", "step": step, "lr": lr, **dict(zip(names, means, strict=True))}


def pair_records(
    lr: float, scale: float, micro: Sequence[Micro], now: tuple[Tensor, Tensor] | None
) -> list[PairRecord]:
    """Of all pairs of the step; `now` are this process's log-probs after it."""
    columns, begin = [], 0
    for m in micro:
        p, s = m.known, m.stats
        assert s is not None
        begin, end = begin + len(s), begin + len(s)
        share = torch.ones(len(s)) if m.share is None else m.share.double().cpu() / scale
        share = share / processes()  # whose gradients are averaged
        nothing = torch.full((len(s),), math.nan)
        realised = (
            (nothing, nothing)
            if now is None
            else (now[0][end - len(s) : end].detach().cpu().double() - p.chosen.double().cpu(),
                  now[1][end - len(s) : end].detach().cpu().double() - p.rejected.double().cpu())
        )  # fmt: skip
        rows = torch.tensor([math.nan if r is None else r for r in m.rows], dtype=torch.float64)
        columns.append(
            _columns(
                p.chosen, p.rejected, p.chosen_tokens, p.rejected_tokens,
                s.inner, s.chosen_sq, s.rejected_sq, s.cosine, s.d_w, s.d_l,
                lr * share * s.chosen_change, lr * share * s.rejected_change,
                torch.tensor([_VERDICTS.index(v) for v in s.verdicts()]),
                *realised, nothing if m.errors is None else m.errors, rows,
            )
        )  # fmt: skip
    return [_pair_record(values) for values in gathered(torch.cat(columns)).tolist()]


def _pair_record(values: list[float]) -> PairRecord:
    *numbers, kind, chosen, rejected, error, row = values
    filled: list[Any] = [None if math.isnan(row) else int(row), *numbers, str(_VERDICTS[int(kind)])]
    filled += [None if math.isnan(x) else x for x in (chosen, rejected, error)]
    return PairRecord(*filled)


def of_pairs(step: int, lr: float, records: list[PairRecord], micro: Sequence[Micro]) -> StepRecord:
    """A step whose pairs are known one by one; its batch is the mean of those that it moves."""
    moved = [r for r in records if not math.isnan(r.inner)]
    names = (*_PRODUCTS, "chosen_change", "rejected_change")
    means = {
        name: sum(getattr(r, name) for r in moved) / len(moved) if moved else math.nan
        for name in names
    }
    kind = verdict(means["chosen_change"], means["rejected_change"], not moved)
    batch = {"of": "pairs", **means, "verdict": str(kind)}
    return StepRecord(step, lr, records, batch, by_layer([m.layers for m in micro]))


def of_sums(
    step: int, lr: float, records: list[PairRecord], stats: PairStats, layers: Mapping[str, Any]
) -> StepRecord:
    """A step of which only the sums over its pairs are known."""
    batch = {
        "of": "sum",
        **{name: float(getattr(stats, name)) for name in _PRODUCTS},
        "chosen_change": lr * float(stats.chosen_change),
        "rejected_change": lr * float(stats.rejected_change),
        "verdict": str(stats.verdicts()[0]),
    }
    return StepRecord(step, lr, records, batch, by_layer([layers], apart=False))


def by_layer(
    found: Sequence[Mapping[str, PairStats]], *, apart: bool = True
) -> dict[str, dict[str, float]]:
    """Means over the pairs by layer; `apart` says that each process has pairs of its own."""
    names = list(dict.fromkeys(name for one in found for name in one))
    if not names:
        return {}
    mine = torch.cat(
        [
            torch.stack([getattr(one[n], key).double() for n in names for key in _PRODUCTS], 1)
            for one in found
        ]
    )
    means = (gathered(mine) if apart else mine).nanmean(0).view(len(names), -1).tolist()
    return {n: dict(zip(_PRODUCTS, m, strict=True)) for n, m in zip(names, means, strict=True)}


def _columns(*values: Tensor) -> Tensor:
    return torch.stack([v.detach().double().cpu() for v in values], 1)
