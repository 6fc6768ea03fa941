"""Gradient entanglement in TRL's trainers, measured on the training pass itself.

    class Trainer(EntanglementMixin, DPOTrainer): ...

    Trainer(model, args=args, train_dataset=pairs, entanglement=Entanglement(every=10)).train()

`entangle/*` stands beside TRL's own figures in its logs and reporters, and every measured pair in
a JSONL file. Training is what it is without the mixin, bit for bit.
"""

from __future__ import annotations

import inspect
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tenfold.align.ghost import Only
from tenfold.align.monitor import EntanglementMonitor
from tenfold.align.record import StepRecord
from tenfold.align.trl_passes import PROBE, CPOPasses, DPOPasses, Passes, undropped
from tenfold.align.trl_probe import EntanglementCallback
from tenfold.errors import InvalidRequest, MissingExtra

try:
    from transformers import TrainerCallback
except ImportError as e:  # pragma: no cover
    raise MissingExtra("transformers is not installed", hint='pip install "tenfold[trl]"') from e

if TYPE_CHECKING:
    _Trainer = Any
else:
    _Trainer = object

__all__ = ["Entanglement", "EntanglementCallback", "EntanglementMixin"]
log = logging.getLogger(__name__)
_PASSES: dict[str, type[Passes]] = {"DPOTrainer": DPOPasses, "CPOTrainer": CPOPasses}


@dataclass(frozen=True, slots=True)
class Entanglement:
    """How `EntanglementMixin` measures: what EntanglementMonitor takes, and where it writes.

    `log` is the JSONL file, True for `entanglement.jsonl` in the trainer's output folder, False for
    none. `realised` runs each measured batch forward again after the step, so that the log has what
    became of its log-probs beside what was predicted. `tokens` maps, after each measured step, the
    tokens of that many pairs, those of the largest cosine: a backward pass a token.
    """

    every: int = 10
    backend: str = "ghost"
    layers: bool = False
    realised: bool = False
    tokens: int = 0
    only: Only | None = None
    log: Path | str | bool = True


class EntanglementMixin(_Trainer):  # type: ignore[misc]
    """Put it before DPOTrainer, or CPOTrainer of trl.experimental: `class T(EntanglementMixin, X)`.

    Takes the trainer's arguments and `entanglement`. A column `row` of whole numbers in
    the training data names the pairs in the log; without one they are counted from 1.

    Raises InvalidRequest for trainers without pairs and for settings under which a pair's gradient
    cannot be seen (torch.compile, sharded parameters, Liger, routers' auxiliary loss).
    """

    def __init__(self, *args: Any, entanglement: Entanglement | None = None, **kwargs: Any) -> None:
        self._passes_of = _passes_of(type(self))
        self.entanglement = entanglement or Entanglement()
        self._passes: Passes | None = None
        self._kept: list[Passes] = []
        given = inspect.signature(super().__init__).bind_partial(*args, **kwargs)
        data = given.arguments.get("train_dataset")
        if data is not None:
            given.arguments["train_dataset"] = _numbered(data)
        _refuse_args(given.arguments.get("args"))
        super().__init__(*given.args, **given.kwargs)
        _refuse(self)
        self.monitor = self._new_monitor(None, None)
        self.data_collator: Any = _Rows(self.data_collator)
        self.add_callback(_Steps(self))

    def training_step(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        rows = inputs.pop("row", None)
        rows = None if rows is None else rows.tolist()
        passes = self._passes = self._passes_of(self, inputs, rows)
        try:
            with self.monitor.watch(pairs=passes.pairs, rows=rows) as step, passes.watching():
                value: Tensor = super().training_step(model, inputs, *args, **kwargs)
                passes.tell(step)
        finally:
            self._passes = None
        if passes.due and (self.entanglement.realised or self.entanglement.tokens):
            self._kept.append(passes)
        scaler = getattr(self.accelerator, "scaler", None)
        self._scale = 1.0 if scaler is None else float(scaler.get_scale())
        return value

    def compute_loss(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        found = super().compute_loss(model, inputs, *args, **kwargs)
        if self._passes is not None:
            self._passes.differentiate(found[0] if isinstance(found, tuple) else found)
        return found

    def concatenated_forward(self, model: nn.Module, batch: Any) -> Any:
        """CPOTrainer's."""
        found = super().concatenated_forward(model, batch)
        if isinstance(self._passes, CPOPasses):
            self._passes.ran(found)
        return found

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if "row" not in self._signature_columns:
            self._signature_columns.append("row")

    def _new_monitor(self, step: int | None, log: Path | None) -> EntanglementMonitor:
        how = self.entanglement
        return EntanglementMonitor(
            self.model, every=how.every, backend=how.backend, layers=how.layers, step=step,
            only=how.only, log=log, about=_about(self),
        )  # fmt: skip

    def _begin(self, done: int) -> None:
        named = self.entanglement.log
        path = None if isinstance(named, bool) else Path(named)
        if named is True:
            path = Path(self.args.output_dir) / "entanglement.jsonl"
        if not self.is_world_process_zero():
            path = None
        if path is not None and not done:
            _put_aside(path)
        self.monitor = self._new_monitor(done or None, path)
        self._kept.clear()

    def _end(self, lr: float) -> None:
        """After an optimizer step."""
        measured = self.monitor.due
        kept, self._kept = self._kept, []

        def after() -> tuple[Tensor, Tensor]:
            found = [passes.now() for passes in kept]
            return torch.cat([c for c, _ in found]), torch.cat([r for _, r in found])

        wanted = kept and self.entanglement.realised
        self.monitor.stepped(lr=lr, after=after if wanted else None, scale=self._scale)
        if measured and self.monitor.last is not None:
            self._show(self.monitor.last.metrics())
            self._map(kept, self.monitor.last)

    def _map(self, kept: list[Passes], step: StepRecord) -> None:
        """The token maps; by the process that writes, of its own pairs, which come first."""
        if not self.entanglement.tokens or not self.is_world_process_zero():
            return
        places = [(passes, i) for passes in kept for i in range(passes.pairs)]
        found = [
            (record.cosine, record.row, *place)
            for record, place in zip(step.pairs, places, strict=False)
            if not math.isnan(record.cosine)
        ]
        found.sort(key=lambda one: -one[0])
        tokenizer: Any = getattr(self.processing_class, "tokenizer", self.processing_class)
        with undropped(self.model):
            for _, row, passes, place in found[: self.entanglement.tokens]:
                self.monitor.tokens(row, *passes.pair(place), lambda i: tokenizer.decode([i]))

    def _show(self, metrics: dict[str, float]) -> None:
        """Into TRL's own figures of training; means over the processes."""
        values = torch.tensor(list(metrics.values()), device=self.accelerator.device)
        means = self.accelerator.gather(values).view(-1, len(values)).nanmean(0).tolist()
        shown = self._metrics if hasattr(self, "_metrics") else self._stored_metrics
        for name, value in zip(metrics, means, strict=True):
            if not math.isnan(value):
                shown["train"][f"entangle/{name}"].append(value)


class _Steps(TrainerCallback):
    """Tells the mixin where steps begin and end."""

    def __init__(self, trainer: EntanglementMixin) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer._begin(state.global_step)

    def on_optimizer_step(
        self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any
    ) -> None:
        skipped = self.trainer.accelerator.optimizer_step_was_skipped
        self.trainer._end(0.0 if skipped else float(optimizer.param_groups[0]["lr"]))


class _Rows:
    """A collator that hands the pairs' rows on."""

    def __init__(self, collator: Any) -> None:
        self.collator = collator

    def __call__(self, examples: list[dict[str, Any]]) -> Any:
        rows = [example.get("row") for example in examples]
        batch = self.collator([{k: v for k, v in e.items() if k != "row"} for e in examples])
        if all(isinstance(row, int) for row in rows):
            batch["row"] = torch.tensor(rows)
        return batch


def _numbered(data: Any) -> Any:
    """The training data with a column `row`."""
    columns: Any = data.column_names or next(iter(data), {})
    if "row" in columns:
        return data
    if hasattr(data, "add_column") and hasattr(data, "__len__"):
        return data.add_column("row", list(range(1, len(data) + 1)))
    return data.map(_with_row, with_indices=True)


def _with_row(example: dict[str, Any], place: int) -> dict[str, Any]:
    return {**example, "row": place + 1}


def _passes_of(kind: type) -> type[Passes]:
    names = [one.__name__ for one in kind.__mro__]
    for name in names:
        if name in _PASSES:
            return _PASSES[name]
    why = {
        "ORPOTrainer": "ORPOTrainer learns the prompt besides, inseparably from the chosen answer",
        "KTOTrainer": "KTOTrainer's batches hold answers, not pairs",
    }
    found = next((why[name] for name in names if name in why), f"{kind.__name__} is none of them")
    raise InvalidRequest(
        f"EntanglementMixin goes before {' or '.join(_PASSES)}: {found}", hint=PROBE
    )


def _refuse_args(args: Any) -> None:
    for name, why in (
        ("torch_compile", "a compiled model calls no hooks"),
        ("use_liger_kernel", "Liger's kernels hide layers"),
    ):
        if getattr(args, name, False):
            raise InvalidRequest(
                f"with {name} entanglement cannot be measured: {why}",
                param=name,
                hint=f"{name}=False",
            )


def _refuse(trainer: Any) -> None:
    """Models and processes in which the rows' gradients are not to be seen."""
    parallel = getattr(trainer.accelerator, "parallelism_config", None) is not None
    sharded = trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled or parallel
    for wrong, param, why, hint in (
        (sharded, "accelerator", "parameters or rows are split over processes", PROBE),
        (trainer.aux_loss_enabled, "router_aux_loss_coef",
         "the routers' loss mixes into every gradient", "router_aux_loss_coef=0.0"),
        (getattr(trainer, "is_encoder_decoder", False), "model", "it has an encoder", PROBE),
    ):  # fmt: skip
        if wrong:
            raise InvalidRequest(
                f"entanglement cannot be measured here: {why}", param=param, hint=hint
            )


def _about(trainer: Any) -> dict[str, Any]:
    """The loss by our name where it is one of ours, for the log's first line."""
    beta: dict[str, Any] = {"beta": trainer.beta}
    if trainer._passes_of is CPOPasses:
        kind = trainer.loss_type
        if kind == "sigmoid" and not trainer.label_smoothing:
            name = "cpo"
            beta |= {"nll": trainer.cpo_alpha, "per_token": True}
        elif kind == "simpo" and not trainer.cpo_alpha:
            name = "simpo"
            beta |= {"gamma": trainer.simpo_gamma}
        else:
            name = f"trl cpo {kind}"
    else:
        kinds, weights = list(trainer.loss_types), list(trainer.loss_weights)
        ours = {"sigmoid": "dpo", "ipo": "ipo", "sppo_hard": "sppo"}
        if kinds == ["sigmoid", "sft"]:
            name = "dpo"
            beta |= {"nll": weights[1] / weights[0]}
        elif len(kinds) == 1 and kinds[0] in ours:
            name = ours[kinds[0]]
        else:
            name = "trl " + "+".join(kinds)
    names = [one.__name__ for one in type(trainer).__mro__ if one.__name__ in _PASSES]
    return {"trainer": names[0], "loss": name, "loss_parameters": beta}


def _put_aside(path: Path) -> None:
    """The log of an earlier run keeps a name of its own."""
    if not path.exists() or not path.stat().st_size:
        return
    places = (path.with_stem(f"{path.stem}.{n}") for n in range(1, 1_000_000))
    aside = next(place for place in places if not place.exists())
    path.rename(aside)
    log.warning("%s was another run's log; it is now %s", path, aside)
