"""Measures gradient entanglement while a model trains (2410.13828): a context manager for any loop.

    monitor = EntanglementMonitor(model, every=10, log="run/entanglement.jsonl")
    with monitor.watch(pairs=4, rows=[7, 8, 9, 12]) as step:
        logps, tokens = answer_logps(model(ids, attention_mask=attention).logits, ids, answer)
        step.loss(dpo, PairLogps(*logps.chunk(2), *tokens.chunk(2), *reference.chunk(2))).backward()
    optimizer.step()
    monitor.stepped(lr=1e-5)

Only steps that are due are measured; the others cost what writing two numbers costs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from tenfold.align import tally
from tenfold.align.ghost import GhostProducts, Only
from tenfold.align.losses import Loss, PairLogps, autograd_weights
from tenfold.align.record import VERSION, PairRecord, RunLog, StepRecord
from tenfold.align.sketch import Signs, SketchProducts
from tenfold.align.split import SplitStep
from tenfold.align.tally import Micro
from tenfold.align.token_products import token_products
from tenfold.errors import InvalidRequest, TenfoldError, UnknownName

BACKENDS = ("ghost", "split", "sketch")
Realised = Callable[[], tuple[Tensor, Tensor]]


class EntanglementMonitor:
    """Watches the training of `model`, measures every `every`-th step, writes `log`.

    `backend`: "ghost" has the exact products of every pair out of the training backward pass (the
    batch's rows are the chosen answers, then the rejected ones); "split" has exact statistics of
    the whole step for any model, cheap where the two answers go through two forward passes (with
    one that holds both, the backward pass is walked twice); "sketch" estimates every pair's, for
    answers of thousands of tokens. `layers` adds products by module. `only` says by name which of
    the trained parameters are measured (`lambda name: "lora_" in name`); the log then says so.
    `step` is how many optimizer steps lie behind a training that goes on; without it the log must
    be new. `about` goes into the log's first line.

    In data parallel training every process watches its own pairs and calls `stepped`; records hold
    the pairs of all, and only the first process writes. Changes are those of plain SGD: under Adam
    they say which way a pair's own gradient pulls, not how far the step goes.

    `last` is the newest StepRecord, None before the first measured step. Raises InvalidRequest for
    a wrong `every` or `backend`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        every: int = 10,
        backend: str = "ghost",
        log: Path | str | None = None,
        layers: bool = False,
        only: Only | None = None,
        step: int | None = None,
        about: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        if every < 1:
            raise InvalidRequest(
                f"every is {every}", param="every", hint="1 measures each step, 10 one in ten"
            )
        if backend not in BACKENDS:
            raise UnknownName("back end", backend, BACKENDS, param="backend")
        self.model, self.every, self.backend, self.layers = _bare(model), every, backend, layers
        self.step = step or 0  # optimizer steps done
        self.last: StepRecord | None = None
        self.only = only
        self._signs = Signs(seed)
        self._log = RunLog(log, step) if log is not None and tally.first() else None
        self._about = dict(about or {})
        self._begun = False
        self._micro: list[Micro] = []
        self._split: SplitStep | None = None

    @property
    def due(self) -> bool:
        """Whether the step that comes next is measured: the first, then each `every`-th."""
        return self.step % self.every == 0

    def watch(self, *, pairs: int, rows: Sequence[int | None] | None = None) -> Watch:
        """One micro-batch of `pairs` pairs: its forward and backward pass go inside.

        `rows` are the pairs' lines in the data. Gradient accumulation is several of them before
        `stepped`. An exception inside leaves no hook behind and the micro-batch out of the step.
        """
        names: list[int | None] = [None] * pairs if rows is None else list(rows)
        if pairs < 1 or len(names) != pairs:
            raise InvalidRequest(f"{pairs} pairs with {len(names)} rows", param="rows")
        return Watch(self, Micro(names))

    def stepped(self, *, lr: float, after: Realised | None = None, scale: float = 1.0) -> None:
        """Closes an optimizer step, after `optimizer.step()`, and writes its lines.

        `after` is called on measured steps and gives the log-probs now, (chosen, rejected), of all
        pairs since the last call in their order: with it the log has realised changes. `scale` is
        what a gradient scaler multiplied the loss by, or clipping divided the step by. Raises
        InvalidRequest without a watched pass.
        """
        if not self._micro:
            raise InvalidRequest(
                "no pass was watched in this step", hint="with monitor.watch(...): ... comes first"
            )
        micro, self._micro = self._micro, []
        split, self._split = self._split, None
        measured = self.due
        self.step += 1
        if not self._begun:
            self._write({"kind": "run", "version": VERSION, **self._described(micro[0])})
            self._begun = True
        self._write(tally.progress(self.step, lr, micro))
        if measured:
            now = after() if after else None
            self.last = self._record(lr, scale, micro, split, now)
            self._write(self.last.line())

    def tokens(
        self,
        row: int | None,
        ids: Tensor,
        attention: Tensor,
        answer: Tensor,
        text: Callable[[int], str],
        *,
        only: Only | None = None,
    ) -> None:
        """Writes which tokens of a pair's two answers entangle, as the model is now.

        The tensors are one pair's, [2, tokens], and `text` gives a token's text by its id. `only`
        is by default the monitor's. Costs a backward pass a token; every process may call it.
        """
        found = token_products(self.model, ids, attention, answer, only=only or self.only)
        self._write(
            {
                "kind": "tokens",
                "step": self.step,
                "row": row,
                "chosen": [text(int(i)) for i in ids[0, found.chosen]],
                "rejected": [text(int(i)) for i in ids[1, found.rejected]],
                "cosine": found.cosine.tolist(),
                "chosen_sq": found.chosen_sq.tolist(),
                "rejected_sq": found.rejected_sq.tolist(),
            }
        )

    def _record(
        self,
        lr: float,
        scale: float,
        micro: Sequence[Micro],
        split: SplitStep | None,
        now: tuple[Tensor, Tensor] | None,
    ) -> StepRecord:
        if split is None:
            return tally.of_pairs(self.step, lr, tally.pair_records(lr, scale, micro, now), micro)
        stats, modules = split.stats(self.only)
        records: list[PairRecord] = []
        if sum(len(m.rows) for m in micro) == 1 and tally.processes() == 1:
            (one,) = micro
            assert one.weights is not None
            d_w, d_l = (d.double().cpu() for d in one.weights)
            one.share = torch.where(d_w != 0, stats.d_w / d_w, stats.d_l / d_l)
            one.stats = replace(stats, d_w=d_w, d_l=d_l)
            records = tally.pair_records(lr, scale, micro, now)
        return tally.of_sums(self.step, lr / scale, records, stats, modules if self.layers else {})

    def _watcher(self, pairs: int) -> GhostProducts | None:
        if not self.due or self.backend == "split":
            return None
        if self.backend == "sketch":
            return SketchProducts(self.model, pairs, self.only, self._signs)
        return GhostProducts(self.model, pairs, self.only)

    def _name(self, loss: Any) -> None:
        self._about.setdefault("loss", getattr(loss, "name", type(loss).__name__))
        if is_dataclass(loss):
            known = {f.name: getattr(loss, f.name) for f in fields(loss)}
            self._about.setdefault("loss_parameters", known)

    def _described(self, first: Micro) -> dict[str, Any]:
        trained = {n: p.numel() for n, p in self.model.named_parameters() if p.requires_grad}
        measured = sum(n for name, n in trained.items() if self.only is None or self.only(name))
        return {
            "backend": self.backend,
            "every": self.every,
            "parameters": sum(trained.values()),
            "parameters_measured": measured,
            "processes": tally.processes(),
            "reference": first.known.referenced,
            **self._about,
        }

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._log is not None:
            self._log.append(line)


class Watch:
    """What `EntanglementMonitor.watch` gives: takes one micro-batch's log-probs and loss."""

    def __init__(self, monitor: EntanglementMonitor, micro: Micro) -> None:
        self._monitor, self._micro = monitor, micro
        self._ghost: GhostProducts | None = None
        self._caught: dict[str, Tensor] = {}

    def __enter__(self) -> Watch:
        self._ghost = self._monitor._watcher(len(self._micro.rows))
        if self._ghost is not None:
            self._ghost.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._ghost is not None:
            self._ghost.__exit__(kind, error, trace)
        if error is not None:
            return
        if self._micro.logps is None:
            raise InvalidRequest(
                "the watched pass told nothing of its loss",
                hint="call step.loss(loss, pairs), or step.weighed(...) for a loss made elsewhere",
            )
        if self._ghost is not None:
            self._measure(self._ghost)
        self._monitor._micro.append(self._micro)

    def loss(self, loss: Loss, pairs: PairLogps) -> Tensor:
        """The mean of the loss over the pairs, to call `backward()` on, scaled at will.

        Raises InvalidRequest, with the row, for a loss that is no number.
        """
        values = loss(pairs)
        self._check(values.detach())
        weights = autograd_weights(loss, pairs)
        value = values.mean()
        self._monitor._name(loss)
        self._known(pairs, weights, value)
        if not self._monitor.due:
            return value
        if self._monitor.backend == "split":
            if self._monitor._split is None:
                self._monitor._split = SplitStep(self._monitor.model)
            return self._monitor._split.apart(value, pairs, weights)
        for name in ("chosen", "rejected"):
            logps = getattr(pairs, name)
            if not logps.requires_grad:
                raise InvalidRequest(f"the {name} log-probs carry no graph", param=name)
            logps.register_hook(lambda grad, name=name: self._caught.update({name: grad}))
        return value

    def weighed(
        self,
        pairs: PairLogps,
        d_w: Tensor,
        d_l: Tensor,
        *,
        share: float | None = None,
        value: Tensor | None = None,
    ) -> None:
        """The same for a loss that is computed elsewhere; its gradient weights are given, [pairs].

        `share` is what each pair's loss counts in what `backward()` is called on: 1 / pairs for a
        mean, divided by the accumulation steps where the trainer does that. `value` is the loss.
        """
        if self._monitor.due and self._monitor.backend == "split":
            raise InvalidRequest(
                "the split back end differentiates the loss itself",
                param="backend",
                hint="take ghost, or step.loss",
            )
        self._check(d_w.detach() + d_l.detach())
        self._known(pairs, (d_w.detach(), d_l.detach()), value)
        part = 1 / len(self._micro.rows) if share is None else share
        self._micro.share = torch.full_like(d_w.detach(), part)

    def readout(self, weight: Tensor, inputs: Tensor, grads: Callable[[list[int]], Tensor]) -> None:
        """What a fused kernel keeps from the modules: GhostProducts.readout; after `backward()`."""
        if self._ghost is not None:
            self._ghost.readout(weight, inputs, grads)

    def _known(
        self, pairs: PairLogps, weights: tuple[Tensor, Tensor], value: Tensor | None
    ) -> None:
        if len(pairs.chosen) != len(self._micro.rows):
            raise InvalidRequest(
                f"log-probs of {len(pairs.chosen)} pairs, {len(self._micro.rows)} are watched",
                param="pairs",
            )
        self._micro.logps = _detached(pairs)
        self._micro.weights = weights
        self._micro.value = None if value is None else value.detach()

    def _check(self, values: Tensor) -> None:
        wrong = ~values.isfinite()
        if bool(wrong.any()):
            place = int(wrong.nonzero()[0])
            row = self._micro.rows[place]
            raise InvalidRequest(
                f"row {place if row is None else row}: the loss is {float(values[place])}",
                param="loss",
                hint="look at this pair; lower the learning rate if the model has overflown",
            )

    def _measure(self, ghost: GhostProducts) -> None:
        assert self._micro.weights is not None
        d_w, d_l = self._micro.weights
        if self._micro.share is None:
            if not self._caught:
                raise TenfoldError(
                    "the loss was not differentiated inside the watched pass",
                    hint="call backward() before `with monitor.watch(...)` ends",
                )
            # what the trainer made of the mean (accumulation, scaling) shows in what came back
            nothing = torch.zeros_like(d_w)
            c_w = -self._caught.get("chosen", nothing)
            c_l = self._caught.get("rejected", nothing)
            share = torch.where(d_w != 0, c_w / d_w, torch.where(d_l != 0, c_l / d_l, 0.0))
            self._micro.share = share.detach()
        self._micro.stats = ghost.stats(d_w, d_l, share=self._micro.share)
        if isinstance(ghost, SketchProducts):
            self._micro.errors = ghost.errors(d_w, d_l, self._micro.share)
        if self._monitor.layers:
            self._micro.layers = ghost.layer_stats(d_w, d_l, share=self._micro.share)


def _bare(model: nn.Module) -> nn.Module:
    """The model itself where a wrapper for data parallel training is given."""
    if isinstance(model, nn.parallel.DistributedDataParallel):
        return model.module  # type: ignore[no-any-return]
    return model


def _detached(pairs: PairLogps) -> PairLogps:
    ref: tuple[Tensor | None, Tensor | None] = (None, None)
    if pairs.ref_chosen is not None and pairs.ref_rejected is not None:
        ref = (pairs.ref_chosen.detach(), pairs.ref_rejected.detach())
    return PairLogps(
        pairs.chosen.detach(),
        pairs.rejected.detach(),
        pairs.chosen_tokens.detach(),
        pairs.rejected_tokens.detach(),
        *ref,
    )
