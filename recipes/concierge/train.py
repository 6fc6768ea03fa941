"""Train a concierge from scratch on CPU cores, one process a core; stop and resume at will.

``python -m recipes.concierge.train --work build/concierge --model concierge --minutes 75``
continues from the checkpoint in ``build/concierge/runs/concierge``. The budget is minutes of
training or, to repeat a run, ``--tokens``; curriculum and learning rate follow the share spent.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import distributed, multiprocessing
from torch.nn import functional
from transformers import LlamaForCausalLM

from .batches import Batch, EpisodeStream
from .checkpoint import (
    check_tokenizer,
    drop_entries_after,
    fingerprint,
    load_counters,
    load_tensors,
    load_tokenizer,
    newest_checkpoint,
    read_state,
    replace_checkpoint,
)
from .data import Corpus, load_corpus
from .datafiles import DataError
from .model import SHAPES, Scaling, build_model, load_plain
from .optimizer import MixedOptimizer
from .probes import probe_batches, value_start_accuracy

log = logging.getLogger(__name__)
Body = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is made of; ``tokens`` or ``minutes`` is its budget."""

    model: str = "concierge"
    minutes: float = 75.0
    tokens: int = 0
    rows: int = 5  # of each process: a step takes processes x rows x length tokens
    length: int = 768
    rate: float = 1.0  # on both rates below; found on the draft (sweep.py)
    matrix_rate: float = 4e-3
    vector_rate: float = 3e-3
    prompt_weight: float = 0.2
    prompt_until: float = 0.6
    scaled: int = 1
    begin: str = ""  # a folder of export.py to go on from, instead of fresh weights
    seed: int = 1
    save_minutes: float = 4.0
    report_minutes: float = 2.0
    compile: int = 1  # twice as fast after a minute of compiling; 0 for tests


def token_losses(
    model: LlamaForCausalLM, body: Body, batch: Batch
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return loss and weight of each counted token, both [counted]; ``body`` may be compiled."""
    weights = batch.weights[:, 1:]
    counted = weights > 0
    with torch.autocast("cpu", torch.bfloat16):
        hidden = body(
            batch.tokens[:, :-1], documents=batch.documents[:, :-1], use_cache=False
        ).last_hidden_state
        logits = model.lm_head(hidden[counted] * model.readout)
    losses = functional.cross_entropy(
        logits.float(), batch.tokens[:, 1:][counted], reduction="none"
    )
    return losses, weights[counted]


class Run:
    """A training run: model, optimizer, data stream and what was spent so far."""

    def __init__(
        self,
        settings: Settings,
        corpus: Corpus,
        tokenizer: Tokenizer,
        folder: Path,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.settings, self.folder, self.rank, self.world = settings, folder, rank, world
        shape = SHAPES[settings.model]
        scaled = bool(settings.scaled)
        self.model = build_model(shape, tokenizer.get_vocab_size(), settings.seed, scaled)
        if settings.begin:
            self._begin_with(Path(settings.begin), tokenizer)
        self.body: Body = self.model.model
        if settings.compile:
            self.body = torch.compile(self.model.model, dynamic=False)
        matrix_rate = settings.rate * settings.matrix_rate * Scaling.of(shape, scaled).matrix_rate
        vector_rate = settings.rate * settings.vector_rate
        self.optimizer = MixedOptimizer(self.model, matrix_rate, vector_rate, rank, world)
        seed = f"{settings.seed}-{rank}"
        self.stream = EpisodeStream(corpus, tokenizer, seed, settings.rows, settings.length + 1)
        self.parameters = list(self.model.parameters())
        self.steps = self.seen_tokens = 0
        self.seconds = self._last_seconds = 0.0

    def _begin_with(self, exported: Path, tokenizer: Tokenizer) -> None:
        """Take the weights of an exported folder, which must have this tokenizer and shape."""
        other = exported / "tokenizer.json"
        if not other.is_file() or fingerprint(Tokenizer.from_file(str(other))) != fingerprint(
            tokenizer
        ):
            raise DataError(f"--begin {exported} has not the tokenizer of this work folder")
        try:
            load_plain(self.model, load_file(exported / "model.safetensors"))
        except (OSError, KeyError, RuntimeError, SafetensorError) as error:
            raise DataError(
                f"--begin {exported} holds no {self.settings.model}: {error}"
            ) from error

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, in [0, 1]."""
        if self.settings.tokens:
            return min(1.0, self.seen_tokens / self.settings.tokens)
        return min(1.0, self.seconds / (60 * self.settings.minutes))

    def step(self) -> tuple[float, float]:
        """Train on one batch a process; return the summed loss and number of answer tokens."""
        begun, progress = time.monotonic(), self.progress
        weight = self.settings.prompt_weight if progress < self.settings.prompt_until else 0.0
        batch = self.stream.next(progress, weight)
        losses, weights = token_losses(self.model, self.body, batch)
        (losses * weights).sum().backward()
        answers = weights >= 1
        sums = [
            weights.sum(),
            losses.detach()[answers].sum(),
            answers.sum(),
            (batch.documents > 0).sum(),
            torch.tensor(self._last_seconds),  # of the step before: all must agree on it
        ]
        grads = [p.grad for p in self.parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in grads] + [torch.stack(sums).float()])
        if self.world > 1:
            distributed.all_reduce(flat)
        total, loss, count, tokens, seconds = flat[-5:].tolist()
        for grad, summed in zip(grads, flat.split([g.numel() for g in grads] + [5]), strict=False):
            grad.copy_(summed.view_as(grad) / total)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step(progress)
        self.model.zero_grad(set_to_none=True)
        self.steps += 1
        self.seen_tokens += int(tokens)
        self.seconds += seconds / self.world
        self._last_seconds = time.monotonic() - begun
        return loss, count

    def save(self) -> None:
        """Write a checkpoint; the old one stays until the new one is complete."""
        try:
            self._write(self.folder / "checkpoint.new")
        except (OSError, SafetensorError) as error:
            kept = newest_checkpoint(self.folder)
            step = read_state(kept / "model.safetensors")["steps"] if kept else 0
            raise DataError(
                f"the checkpoint of step {self.steps} could not be written ({error}): make room, "
                f"and start again to go on from step {step}" + (f", kept in {kept}" if kept else "")
            ) from error
        if self.rank == 0:
            replace_checkpoint(self.folder)
        self._wait()

    def _write(self, new: Path) -> None:
        """Write what this process keeps into ``new`` and wait until all have."""
        if self.rank == 0:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
        self._wait()
        save_file(self.optimizer.tensors(), new / f"optimizer-{self.rank}.safetensors")
        stream = json.dumps(self.stream.state())
        (new / f"stream-{self.rank}.json").write_text(stream)
        if self.rank == 0:
            state = {"steps": self.steps, "seen_tokens": self.seen_tokens, "seconds": self.seconds}
            state |= {"scaled": self.settings.scaled}
            state |= {"world": self.world, "tokenizer": fingerprint(self.stream.tokenizer)}
            tensors = {k: v for k, v in self.model.state_dict().items() if k != "lm_head.weight"}
            metadata = {"state": json.dumps(state), "format": "pt"}
            save_file(tensors, new / "model.safetensors", metadata=metadata)
        self._wait()

    def _wait(self) -> None:
        if self.world > 1:
            distributed.barrier()

    def restore(self) -> bool:
        """Continue from the newest complete checkpoint, if there is one."""
        path = newest_checkpoint(self.folder)
        if path is None:
            return False
        state = read_state(path / "model.safetensors")
        if state["world"] != self.world:
            raise DataError(
                f"{path} was written by {state['world']} processes: resume with as many "
                "(--processes), or move the folder away to begin anew"
            )
        if bool(state.get("scaled", 1)) != bool(self.settings.scaled):
            raise DataError(
                f"{path} was trained with --scaled {state.get('scaled', 1)}: resume with the same, "
                "or move the folder away to begin anew"
            )
        tensors = load_tensors(path / "model.safetensors")
        rows = len(tensors["model.embed_tokens.weight"])
        check_tokenizer(self.stream.tokenizer, state, rows, path)
        self.model.load_state_dict(tensors, strict=False)
        self.optimizer.restore(load_tensors(path / f"optimizer-{self.rank}.safetensors"))
        self.steps, self.seen_tokens = int(state["steps"]), int(state["seen_tokens"])
        self.seconds = float(state["seconds"])
        self.stream.restore(load_counters(path / f"stream-{self.rank}.json"))
        if self.rank == 0:
            drop_entries_after(self.folder / "log.jsonl", self.steps)
        return True


def report(run: Run, probes: dict[str, list[Batch]], loss: float) -> dict[str, Any]:
    """Measure the run on the held-out probes and log one line."""
    entry = {
        "minutes": round(run.seconds / 60, 2),
        "steps": run.steps,
        "tokens": run.seen_tokens,
        "loss": round(loss, 4),
    }
    for name, batches in probes.items():
        tally = value_start_accuracy(run.model, run.body, batches)
        right, total = (sum(cell[i] for cell in tally.values()) for i in (0, 1))
        entry[name] = round(right / max(1, total), 3)
        entry[f"{name} by records x slots"] = {
            f"{r}x{s}": [a, b] for (r, s), (a, b) in tally.items()
        }
    brief = {k: v for k, v in entry.items() if " by " not in k}
    rate = run.seen_tokens / max(1e-9, run.seconds)
    log.info("%3.0f %% %s, %.0f tokens/s", 100 * run.progress, brief, rate)
    with (run.folder / "log.jsonl").open("a") as out:
        out.write(json.dumps(entry) + "\n")
    return entry


def train(run: Run, probes: dict[str, list[Batch]]) -> float:
    """Train until the budget is spent, reporting and saving on the way; return the last loss."""
    run.folder.mkdir(parents=True, exist_ok=True)
    total = counted = 0.0
    last = math.nan
    saved = reported = run.seconds
    while run.progress < 1:
        loss, answers = run.step()
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss} at step {run.steps}; resume from the last checkpoint"
            )
        total, counted = total + loss, counted + answers
        if run.seconds - reported > 60 * run.settings.report_minutes or run.progress >= 1:
            last = total / counted
            if run.rank == 0:
                report(run, probes, last)
            total = counted = 0.0
            reported = run.seconds
        if run.seconds - saved > 60 * run.settings.save_minutes:
            run.save()
            saved = run.seconds
    run.save()
    return last


def parse_settings() -> tuple[Settings, Path, int]:
    """Read the command line: one option for each setting."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, required=True, help="folder with corpus.json.gz and tokenizer/"
    )
    parser.add_argument("--processes", type=int, default=2, help="one for each core")
    for name, value in Settings.__dataclass_fields__.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=type(value.default), default=value.default
        )
    options = vars(parser.parse_args())
    if options["model"] not in SHAPES:
        parser.error(f"--model {options['model']}: there are {', '.join(sorted(SHAPES))}")
    if options["tokens"] <= 0 and not 0 < options["minutes"] < math.inf:
        parser.error(f"--minutes {options['minutes']}: a time above 0, or --tokens N")
    work, processes = options.pop("work"), options.pop("processes")
    return Settings(**options), work, processes


def work_in_process(rank: int, settings: Settings, work: Path, world: int) -> None:
    """Train or resume, as one of ``world`` processes; exit with 2 where that cannot be."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        _train_or_resume(rank, settings, work, world)
    except DataError as error:
        log.error("%s", error)
        sys.exit(2)


def _train_or_resume(rank: int, settings: Settings, work: Path, world: int) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    folder = work / "runs" / settings.model
    if world > 1:
        meeting = f"file://{(work / '.meeting').resolve()}"
        distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
    corpus = load_corpus(work)
    tokenizer = load_tokenizer(work / "tokenizer")
    run = Run(settings, corpus, tokenizer, folder, rank, world)
    resumed = run.restore()
    probes = {}
    if rank == 0:
        log.info("%.2fM parameters, resumed: %s", run.model.num_parameters() / 1e6, resumed)
        probes = probe_batches(corpus, tokenizer, settings.rows, settings.length + 1)
    train(run, probes)
    if world > 1:
        distributed.destroy_process_group()


def run_together(settings: Settings, work: Path, processes: int) -> None:
    """Run all processes until they end; none outlives this one, however it is asked to stop."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    together = multiprocessing.spawn(
        work_in_process, (settings, work, processes), nprocs=processes, join=False
    )
    try:
        while not together.join():
            pass
    except multiprocessing.ProcessExitedException as error:
        sys.exit(error.exit_code)  # the process has said why
    finally:
        for process in together.processes:
            process.terminate()


def main() -> None:
    """Start one process for each core."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    settings, work, processes = parse_settings()
    try:  # here, since processes that wait for each other would not say it
        load_corpus(work)
        load_tokenizer(work / "tokenizer")
    except DataError as error:
        log.error("%s", error)
        sys.exit(2)
    (work / ".meeting").unlink(missing_ok=True)
    if processes == 1:
        work_in_process(0, settings, work, 1)
    else:
        run_together(settings, work, processes)


if __name__ == "__main__":
    main()
