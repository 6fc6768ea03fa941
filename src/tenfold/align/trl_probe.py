"""Gradient entanglement of fixed pairs while any trainer of transformers' kind trains.

A callback never sees the training batch, so it measures pairs of its own, the same ones each time:
their log-probs over the steps are one curve, where those of training batches are of other pairs at
each step. For trainers whose own batches cannot be measured (ORPO, KTO) it is the only way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tenfold.align.encoding import EncodedPair, PairBatch, collate
from tenfold.align.entanglement import PairStats, Verdict
from tenfold.align.ghost import GhostProducts
from tenfold.align.logps import answer_logps
from tenfold.align.losses import Loss, PairLogps
from tenfold.align.pairs import Pair, Text, as_pair, check_pair
from tenfold.errors import InvalidRequest, MissingExtra

try:
    from transformers import Trainer, TrainerCallback
except ImportError as e:  # pragma: no cover
    raise MissingExtra("transformers is not installed", hint='pip install "tenfold[trl]"') from e

START = "entangle_probe.json"


class EntanglementCallback(TrainerCallback):
    """Logs `entangle/probe_*` before training, each `every` steps and after each evaluation.

        trainer.add_callback(EntanglementCallback(trainer, pairs, every=50))

    `pairs` are Pairs or rows in TRL's form, some 8 to 64 of them; `batch` are run at once, as the
    trainer's tokenizer and chat template have them. Verdicts are those of a loss whose d_w equals
    d_l, as in DPO and IPO, unless `loss` is another. Gains are over the model at the start of
    training; where the training goes on they come from a file in the output folder, and a loss
    with a reference takes the same. Training itself is not changed.
    """

    def __init__(
        self,
        trainer: Any,
        pairs: Sequence[Pair | Mapping[str, Any]],
        *,
        every: int = 50,
        loss: Loss | None = None,
        batch: int = 4,
    ) -> None:
        for name, value in (("every", every), ("batch", batch), ("pairs", len(pairs))):
            if value < 1:
                raise InvalidRequest(f"{name} is {value}", param=name, hint="1 at least")
        if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
            raise InvalidRequest(
                "parameters are split over processes: no process can see a pair's gradient",
                param="accelerator",
                hint="measure a checkpoint on one process",
            )
        self.trainer, self.every, self.loss, self.batch = trainer, every, loss, batch
        made = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
        limit = getattr(trainer.args, "max_length", None)
        self.pairs = [_encoded(made, _pair(p, i), limit) for i, p in enumerate(pairs, 1)]
        self._start: list[Tensor] | None = None  # log-probs of chosen and rejected, [pairs] each
        self._done = -1

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        file = Path(args.output_dir) / START
        if state.global_step == 0:
            self._start, self._done = None, -1
            start = self._measure(0)
            if state.is_world_process_zero and start is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps([x.tolist() for x in start]))
            return
        try:
            self._start = [
                torch.tensor(x, dtype=torch.float64) for x in json.loads(file.read_text())
            ]
            fits = [len(x) for x in self._start] == [len(self.pairs)] * 2
        except (OSError, ValueError, TypeError) as e:
            raise InvalidRequest(
                f"{file} does not hold the probe's log-probs of the start: {e}",
                param="pairs",
                hint="train from the start, or without the callback",
            ) from None
        if not fits:
            raise InvalidRequest(
                f"{file} is of other pairs", param="pairs", hint="give the pairs of the beginning"
            )
        self._done = state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.every == 0:
            self._measure(state.global_step)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._measure(state.global_step)

    def _measure(self, step: int) -> list[Tensor] | None:
        """Logs what is found, once a step; gives the log-probs of the start."""
        if step == self._done:
            return self._start
        self._done = step
        model = self.trainer.model
        training = model.training
        model.eval()  # no dropout: no random numbers that training would miss
        try:
            found = [self._run(model, batch) for batch in self._batches(model)]
        finally:
            model.train(training)
        logps = _joined([pairs for pairs, _ in found])
        stats = _joined([stats for _, stats in found])
        if self._start is None:
            self._start = [logps.chosen, logps.rejected]
        logps = replace(logps, ref_chosen=self._start[0], ref_rejected=self._start[1])
        shown = {f"entangle/probe_{k}": v for k, v in self._metrics(logps, stats).items()}
        due = self.trainer.control.should_log
        Trainer.log(self.trainer, shown)  # TRL's own log() would close its running means
        self.trainer.control.should_log = due  # which log() takes for done
        return self._start

    def _batches(self, model: Any) -> Iterator[PairBatch]:
        device = next(model.parameters()).device
        for start in range(0, len(self.pairs), self.batch):
            yield collate(self.pairs[start : start + self.batch]).to(device)

    @staticmethod
    def _run(model: Any, batch: PairBatch) -> tuple[PairLogps, PairStats]:
        with torch.enable_grad(), GhostProducts(model, len(batch)) as ghost:
            out = model(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False)
            summed, counts = answer_logps(out.logits, batch.ids, batch.answer)
            chosen, rejected = summed.chunk(2)
            stats = ghost.ahead(chosen, rejected)
        values = (*summed.chunk(2), *counts.chunk(2))
        return PairLogps(*(x.detach().double().cpu() for x in values)), stats

    def _metrics(self, logps: PairLogps, stats: PairStats) -> dict[str, float]:
        if self.loss is not None:
            given = logps if self.loss.referenced else _bare(logps)
            d_w, d_l = self.loss.weights(given)
            stats = replace(stats, d_w=d_w.double(), d_l=d_l.double())
        gains, verdicts = logps.gains(), stats.verdicts()
        found = {
            "inner": stats.inner, "cosine": stats.cosine,
            "chosen_norm": stats.chosen_sq.sqrt(), "rejected_norm": stats.rejected_sq.sqrt(),
            "ratio_needed": stats.ratio_needed,
            "chosen_logp": logps.chosen, "rejected_logp": logps.rejected,
            "chosen_gain": gains[0], "rejected_gain": gains[1],
            "accuracy": (gains[0] > gains[1]).double(),
        }  # fmt: skip
        shares = {str(v).replace(" ", "_"): verdicts.count(v) / len(verdicts) for v in Verdict}
        return {k: float(v.mean()) for k, v in found.items()} | shares


def _bare(logps: PairLogps) -> PairLogps:
    return replace(logps, ref_chosen=None, ref_rejected=None)


def _joined(parts: list[Any]) -> Any:
    """PairLogps or PairStats of several batches as one."""
    columns = [f.name for f in fields(parts[0]) if getattr(parts[0], f.name) is not None]
    return replace(parts[0], **{c: torch.cat([getattr(p, c) for p in parts]) for c in columns})


def _pair(given: Pair | Mapping[str, Any], place: int) -> Pair:
    pair = given if isinstance(given, Pair) else as_pair("probe", place, given)
    check_pair(pair, "probe")
    return pair


def _encoded(tokenizer: Any, pair: Pair, limit: int | None) -> EncodedPair:
    """As TRL has it: an answer begins where its tokens leave the prompt's."""
    prompt = _ids(tokenizer, pair.prompt, None)
    answers = [_ids(tokenizer, pair.prompt, a) for a in (pair.chosen, pair.rejected)]
    cut = min(_common(prompt, whole) for whole in answers)
    if cut == 0:
        raise InvalidRequest(f"probe, row {pair.row}: the prompt has no tokens", param="prompt")
    longest = max(map(len, answers))
    if limit is not None and longest > limit:
        raise InvalidRequest(
            f"probe, row {pair.row} has {longest} tokens and max_length is {limit}",
            param="pairs",
            hint="take shorter pairs",
        )
    chosen, rejected = (tuple(whole[cut:]) for whole in answers)
    return EncodedPair(pair.row, tuple(prompt[:cut]), chosen, rejected)


def _ids(tokenizer: Any, prompt: Text, answer: Text | None) -> list[int]:
    if isinstance(prompt, str):
        end = "" if answer is None else f"{answer}{tokenizer.eos_token}"
        return list(tokenizer(prompt + end)["input_ids"])
    chat = [{"role": m.role, "content": m.content} for m in (*prompt, *(answer or ()))]
    made = tokenizer.apply_chat_template(chat, add_generation_prompt=answer is None)
    return list(made["input_ids"] if isinstance(made, Mapping) else made)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    both = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(both) if a != b), min(len(one), len(other)))
