"""Preference training for those without a loop of their own: `tenfold train preference`.

A step's batches, learning rate and random numbers follow from the configuration and the step's
number alone, so a training that was killed goes on from its last checkpoint as if nothing had
happened: same weights, same log.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tenfold.align.config import TrainingConfig
from tenfold.align.encoding import EncodedPair, PairBatch, PairEncoder, encode, within
from tenfold.align.fixes import Fixes
from tenfold.align.losses import PairLogps, check_reference
from tenfold.align.monitor import EntanglementMonitor, Realised
from tenfold.align.pairs import read_pairs
from tenfold.align.policy import adapt, device_of, dropping, load_policy, save_policy
from tenfold.align.reading import Reader
from tenfold.align.record import RunLog, read_log
from tenfold.align.reference import ReferenceLogps
from tenfold.align.schedule import Schedule
from tenfold.align.training_state import (
    RunFolder,
    data_key,
    load_tensors,
    save_tensors,
    weights_key,
)
from tenfold.errors import CheckpointError, InvalidRequest

LOG, REPORT = "entanglement.jsonl", "report.html"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training stands, for a progress bar: `done` of `total` in a stage."""

    stage: str  # "reference" (pairs), "training" (steps) or "evaluation" (pairs)
    done: int
    total: int
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """What a training came to."""

    folder: Path
    steps: int
    total: int
    seconds: float
    resumed: int  # the step it went on from
    dropped: Mapping[str, list[int]]  # rows left out as too long, by file
    evaluation: Mapping[str, float]  # the last one, empty without eval_data

    @property
    def finished(self) -> bool:
        """Whether the weights are written; otherwise the same command goes on."""
        return self.steps == self.total


class _Unmeasured(EntanglementMonitor):
    """Writes progress and measures nothing."""

    @property
    def due(self) -> bool:
        return False


class PreferenceTrainer:
    """Trains a model on preference pairs as a configuration says.

    `run` may be called once. `stop` may be called from anywhere, a signal handler included: the
    step in progress is finished and kept. Raises InvalidRequest, before anything is trained, for
    data, model and output that do not fit the configuration.
    """

    def __init__(
        self, config: TrainingConfig, progress: Callable[[Progress], None] = lambda _: None
    ) -> None:
        self.config, self._progress = config, progress
        self.loss = config.make_loss()
        check_reference(self.loss, self.loss.referenced and config.reference is not None)
        self.device = device_of(config.device)
        self.folder = RunFolder(config.output, config.plain())
        self.dropped: dict[str, list[int]] = {}
        self._encoder = PairEncoder.of(config.model, chat=config.chat)
        pad = self._encoder.tokenizer.named_id("pad_token")
        pad = self._encoder.end if pad is None else pad
        self._reader = Reader(self.device, pad, config.batch, config.autocast)
        self._stopping = False
        self._lines: list[dict[str, Any]] = []

    def stop(self) -> None:
        """Ends the training after this step, with a checkpoint."""
        self._stopping = True

    def run(self) -> Result:
        """Trains, from the last checkpoint where there is one, and writes the weights."""
        started = time.monotonic()
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(self.config.seed)
            self._prepare()
            resumed = self._done
            try:
                while self._done < self.total and not self._stopping:
                    self._advance()
                if self._saved != self._done:
                    self._save()
            except OSError as e:
                raise CheckpointError(
                    f"{self.folder.path} cannot be written to: {e}",
                    hint="make room and run the same command again: it goes on from there",
                ) from None
        if self._done == self.total:
            save_policy(self.policy, self.folder.path, self.config.model)
            from tenfold.align.report.page import write_report  # nothing before this needs a page

            write_report(self.folder.file(LOG), self.folder.file(REPORT))
        return Result(
            self.folder.path,
            self._done,
            self.total,
            time.monotonic() - started,
            resumed,
            self.dropped,
            self.evaluation,
        )

    # Before the first step

    def _prepare(self) -> None:
        config = self.config
        dtype = torch.bfloat16 if config.dtype == "bfloat16" else torch.float32
        model = load_policy(config.model, dtype, self.device)
        limit = self._limit(model)
        self._train = self._read(config.data, limit)
        self._eval = self._read(config.eval_data, limit) if config.eval_data else []
        self._mapped = self._asked_for()
        keys = {"data": data_key(self._train), "model": weights_key(model)}
        if self._eval:
            keys["eval_data"] = data_key(self._eval)
        reference: tuple[str, torch.nn.Module] | None = None
        if self.loss.referenced:
            reference = keys["model"], model
            if config.reference != "start":
                reference = self._other_reference(dtype)
            keys["reference"] = reference[0]
        self.folder.claim(keys)
        self._references = {
            name: self._reference(name, pairs, reference)
            for name, pairs in (("data", self._train), ("eval_data", self._eval))
        }
        del reference  # a model of its own is not needed any more
        self.policy = adapt(model, config.lora, config.model)
        self._parameters = [p for p in self.policy.parameters() if p.requires_grad]
        split = config.monitor is not None and config.monitor.backend == "split"
        self.fixes = Fixes(self.policy, config.fix, backend="split" if split else "ghost")
        self.optimizer = self._make_optimizer()
        self.schedule = Schedule(config, [pair.tokens for pair in self._train])
        self.total = self.schedule.total
        self._done = self._saved = self._restore()
        self.evaluation = self._last_evaluation()
        self.monitor = self._make_monitor()
        # A run that was killed before its first checkpoint evaluates anew before its first step.
        self._log = RunLog(self.folder.file(LOG), self._done or -1)
        if self._done == 0:
            self._evaluate()

    def _restore(self) -> int:
        """Steps done; the last checkpoint is back in place."""
        self._trained = self.fixes.beside(self.policy)
        done, kept = self.folder.restore(self._trained, self.optimizer)
        self.fixes.load(kept)
        return done

    def _limit(self, model: torch.nn.Module) -> int:
        context = getattr(model.config, "max_position_embeddings", None)
        asked = self.config.max_tokens
        if asked is not None and context is not None and asked > context:
            raise InvalidRequest(
                f"max_tokens is {asked} and the model's context {context}",
                param="max_tokens",
                hint=f"{context} or less",
            )
        return asked or context or 2**31

    def _read(self, path: str, limit: int) -> list[EncodedPair]:
        encoded = encode(read_pairs(path), self._encoder)
        kept, over = within(encoded, limit, drop=self.config.too_long == "drop")
        if over:
            self.dropped[path] = over
        return kept

    def _asked_for(self) -> list[int]:
        """Places of the rows whose tokens are to be compared."""
        place = {pair.row: i for i, pair in enumerate(self._train)}
        rows = self.config.monitor.tokens if self.config.monitor is not None else ()
        for row in rows:
            if row not in place:
                raise InvalidRequest(
                    f"{self.config.data} has no row {row} to train on", param="monitor.tokens"
                )
        return [place[row] for row in rows]

    def _other_reference(self, dtype: torch.dtype) -> tuple[str, torch.nn.Module]:
        name = str(self.config.reference)
        theirs, ours = PairEncoder.of(name).tokenizer, self._encoder.tokenizer
        if theirs.backend.get_vocab() != ours.backend.get_vocab():
            raise InvalidRequest(
                f"the reference {name} has another tokenizer than {self.config.model}",
                param="reference",
                hint="log-probs of other tokens cannot be compared: take one of the same family",
            )
        model = load_policy(name, dtype, self.device)
        return weights_key(model), model

    def _make_optimizer(self) -> torch.optim.Optimizer:
        config = self.config
        groups: list[dict[str, Any]] = [
            {"params": self._parameters, "weight_decay": config.weight_decay, "times": 1.0}
        ]
        if self.fixes.mask is not None:  # follows the schedule at a rate of its own
            times = self.fixes.mask.rate / config.learning_rate
            groups.append({"params": self.fixes.parameters(), "weight_decay": 0, "times": times})
        kind = torch.optim.SGD if config.optimizer == "sgd" else torch.optim.AdamW
        return kind(groups, lr=config.learning_rate)

    def _make_monitor(self) -> EntanglementMonitor:
        chosen = self.config.monitor
        about = {
            "model": self.config.model,
            "pairs": len(self._train),
            "steps": self.total,
            "pairs_a_step": self.config.batch * self.config.accumulation,
            "optimizer": self.config.optimizer,
            "learning_rate": self.config.learning_rate,
            "loss": self.loss.name,
            "loss_parameters": asdict(self.loss),  # type: ignore[call-overload]
            "fix": {name: dict(options) for name, options in self.config.fix.items()},
        }
        log = self.folder.file(LOG)
        if chosen is None:
            nothing = {"every": None, "backend": None}
            return _Unmeasured(self.policy, log=log, step=self._done, about=about | nothing)
        return EntanglementMonitor(
            self.policy,
            every=chosen.every,
            backend=chosen.backend,
            layers=chosen.layers,
            log=log,
            step=self._done,
            about=about,
        )

    def _reference(
        self,
        name: str,
        pairs: Sequence[EncodedPair],
        reference: tuple[str, torch.nn.Module] | None,
    ) -> ReferenceLogps | None:
        """The reference's log-probs, computed once for these pairs and this model."""
        if reference is None or not pairs:
            return None
        key, model = reference
        precision = f"{self.config.dtype}{' autocast' * self.config.autocast} {self.device.type}"
        about = {"model": key, "data": data_key(pairs), "precision": precision}
        path = self.folder.file(f"reference-{name}.safetensors")
        if path.is_file():
            tensors, kept = load_tensors(path)
            if kept == about:
                return ReferenceLogps(pairs, tensors["tokens"])
        logps = ReferenceLogps(pairs)
        for places, found, batch in self._over("reference", model, pairs):
            logps.put(places, found, batch.answer)
        save_tensors(path, {"tokens": logps.tokens}, about)
        return logps

    # Steps

    def _advance(self) -> None:
        step, config = self._done, self.config
        torch.manual_seed(self.schedule.seed(step))
        lr = self.schedule.rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["times"]
        batches = self.schedule.batches(step)
        pairs = sum(map(len, batches))
        figures = {"loss": 0.0, "accuracy": 0.0, "lr": lr}
        with dropping(self.policy):
            for places in batches:
                value, logps = self._learn(places, len(places) / pairs)
                figures["loss"] += value
                figures["accuracy"] += float((logps.margin() > 0).sum()) / pairs
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, config.clip or math.inf)
        if not bool(norm.isfinite()):
            raise self._broken([r for b in batches for r in self._rows(b)], "the gradient")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._done = step + 1
        cut = max(1.0, float(norm) / config.clip) if config.clip else 1.0
        self.monitor.stepped(lr=lr, after=self._after(batches), scale=cut)
        self.fixes.stepped()
        self._flush()
        if self._done in (1, self.total):
            self._compare_tokens()
        if self._done == self.total or (config.eval_every and self._done % config.eval_every == 0):
            self._evaluate()
        if self._done % config.checkpoint_every == 0:
            self._save()
        self._progress(Progress("training", self._done, self.total, figures))

    def _save(self) -> None:
        self.folder.save(self._trained, self.optimizer, self._done, self.fixes.state())
        self._saved = self._done

    def _learn(self, places: Sequence[int], share: float) -> tuple[float, PairLogps]:
        """Adds `share` of the mean loss's gradient of one batch."""
        rows = self._rows(places)
        watching, fixing = self.monitor.watch(pairs=len(places), rows=rows), self.fixes.watch
        with watching as watched, fixing(len(places)) as fix:
            logps = self._logps(places)
            try:
                loss = watched.loss(fix.loss(self.loss, logps), logps)
            except InvalidRequest as e:
                raise InvalidRequest(
                    f"step {self._done + 1}: {e.message}", param=e.param, hint=e.hint
                ) from None
            (share * (loss + fix.penalty())).backward()  # type: ignore[no-untyped-call]
        return share * float(loss.detach()), logps

    def _logps(self, places: Sequence[int]) -> PairLogps:
        tokens, batch = self._reader.tokens(self.policy, self._reader.batch(self._train, places))
        return self._paired(tokens, batch, places, "data", self.fixes)

    def _paired(
        self,
        tokens: Tensor,
        batch: PairBatch,
        places: Sequence[int],
        name: str,
        fixes: Fixes,
    ) -> PairLogps:
        """Log-probs of answers, of the tokens that count where there are fixes."""
        counted, known = fixes.counted(batch.ids, batch.answer), self._references[name]
        found = fixes.logps(tokens, counted)
        wrong = ~found.detach().isfinite()
        if bool(wrong.any()):
            at = wrong.nonzero().flatten().tolist()
            raise self._broken(sorted({batch.rows[p % len(batch)] for p in at}), "the log-prob")
        counts = counted[:, 1:].sum(1).to(found).chunk(2)
        ref = () if known is None else fixes.logps(known.of(places, batch.answer), counted).chunk(2)
        return PairLogps(*found.chunk(2), *counts, *ref)

    def _compare_tokens(self) -> None:
        """Which tokens entangle, in the rows that were asked for: at the beginning and the end."""
        tokenizer = self._encoder.tokenizer
        for place in self._mapped:
            batch = self._reader.batch(self._train, [place])
            self.monitor.tokens(
                batch.rows[0],
                batch.ids,
                batch.attention,
                batch.answer,
                lambda i: tokenizer.decode([i], skip_special=False),
            )

    def _broken(self, rows: Sequence[int], what: str) -> InvalidRequest:
        kept = (
            f"the checkpoint of step {self._saved} is kept" if self._saved else "none is kept yet"
        )
        shown = ", ".join(map(str, rows[:8])) + (", ..." if len(rows) > 8 else "")
        return InvalidRequest(
            f"step {self._done + 1}: {what} of row{'s' * (len(rows) > 1)} {shown} is no number",
            param="learning_rate",
            hint=f"{kept}; lower learning_rate, look at the rows",
        )

    def _after(self, batches: Sequence[Sequence[int]]) -> Realised | None:
        if self.config.monitor is None or not self.config.monitor.realised:
            return None

        @torch.no_grad()
        def now() -> tuple[Tensor, Tensor]:
            found = []
            for places in batches:
                with self.fixes.watch(len(places), measure=False):
                    found.append(self._logps(places))
            return torch.cat([f.chosen for f in found]), torch.cat([f.rejected for f in found])

        return now

    def _rows(self, places: Sequence[int]) -> list[int]:
        return [self._train[i].row for i in places]

    # Evaluation

    def _over(
        self, stage: str, model: torch.nn.Module, pairs: Sequence[EncodedPair]
    ) -> Iterator[tuple[list[int], Tensor, PairBatch]]:
        def told(done: int) -> None:
            self._progress(Progress(stage, done, len(pairs)))

        return self._reader.over(model, pairs, told)

    def _evaluate(self) -> None:
        if not self._eval:
            return
        known, sums = self._references["eval_data"], dict.fromkeys(_FIGURES, 0.0)
        whole = Fixes(self.policy)  # all tokens of answers, whatever trains them
        for places, tokens, batch in self._over("evaluation", self.policy, self._eval):
            logps = self._paired(tokens, batch, places, "eval_data", whole)
            for name, value in _figures(self.loss(logps), logps).items():
                sums[name] += value
        self.evaluation = {
            k: v / len(self._eval) for k, v in sums.items() if known is not None or "gain" not in k
        }
        self._lines.append({"kind": "evaluation", "step": self._done, **self.evaluation})
        if self._done:
            self._flush()

    def _last_evaluation(self) -> dict[str, float]:
        """What the log of a training that goes on says of it."""
        if not self._done:
            return {}
        found = [x for x in read_log(self.folder.file(LOG)) if x["kind"] == "evaluation"]
        return {k: v for k, v in found[-1].items() if k not in ("kind", "step")} if found else {}

    def _flush(self) -> None:
        """The log begins with its `run` line, which the first step writes: what comes before that
        waits."""
        lines, self._lines = self._lines, []
        for line in lines:
            self._log.append(line)


_FIGURES = (
    "loss", "accuracy", "margin", "chosen_logp", "rejected_logp", "chosen_gain", "rejected_gain",
)  # fmt: skip


def _figures(values: Tensor, logps: PairLogps) -> dict[str, float]:
    """Sums over pairs."""
    found = {
        "loss": values,
        "accuracy": logps.margin() > 0,
        "margin": logps.margin(),
        "chosen_logp": logps.chosen,
        "rejected_logp": logps.rejected,
    }
    if logps.referenced:
        found["chosen_gain"], found["rejected_gain"] = logps.gains()
    return {name: float(v.double().sum()) for name, v in found.items()}
