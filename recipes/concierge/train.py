"""Train the concierge from scratch on two CPU cores; stop and resume at will.

``python -m recipes.concierge.train --work build/concierge`` continues from the newest
checkpoint in ``build/concierge/run``. The budget is minutes of training or, for an exactly
repeatable run, ``--tokens``; curriculum and learning rate follow the share that is spent.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from .batches import Batch, EpisodeStream
from .data import Corpus, load_corpus
from .optimizer import MixedOptimizer
from .probes import probe_batches, value_start_accuracy
from .tokenizer import MAX_POSITIONS

log = logging.getLogger(__name__)
Body = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is made of; ``tokens`` or ``minutes`` is its budget."""

    minutes: float = 51.5
    tokens: int = 0
    hidden: int = 256
    layers: int = 6
    heads: int = 4
    inner: int = 704
    batch_tokens: int = 4096
    max_length: int = 512
    matrix_rate: float = 4e-3
    vector_rate: float = 3e-3
    prompt_weight: float = 0.2
    prompt_until: float = 0.8
    seed: int = 1
    save_minutes: float = 4.0
    compile: int = 1  # about 1.3 times faster after a minute of compiling; 0 for tests


def build_model(settings: Settings, vocabulary: int) -> LlamaForCausalLM:
    """Return a fresh Llama whose queries start equal to its keys, so that like attends to like."""
    torch.manual_seed(settings.seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=settings.hidden,
        intermediate_size=settings.inner,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        initializer_range=0.03,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        attn_implementation="sdpa",
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        half = settings.hidden // 2
        for layer in model.model.layers:
            attention = layer.self_attn
            attention.q_proj.weight[:half] = attention.k_proj.weight[:half]
    return model


def token_losses(
    model: LlamaForCausalLM, body: Body, batch: Batch
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return loss and weight of each counted token, both [counted]; ``body`` may be compiled."""
    weights = batch.weights[:, 1:]
    counted = weights > 0
    with torch.autocast("cpu", torch.bfloat16):
        hidden = body(batch.tokens[:, :-1], use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[counted])
    losses = functional.cross_entropy(
        logits.float(), batch.tokens[:, 1:][counted], reduction="none"
    )
    return losses, weights[counted]


class Run:
    """A training run: model, optimizer, data stream and what was spent so far."""

    def __init__(
        self, settings: Settings, corpus: Corpus, tokenizer: Tokenizer, folder: Path
    ) -> None:
        self.settings, self.folder = settings, folder
        self.model = build_model(settings, tokenizer.get_vocab_size())
        self.body: Body = (
            torch.compile(self.model.model, dynamic=True) if settings.compile else self.model.model
        )
        self.optimizer = MixedOptimizer(self.model, settings.matrix_rate, settings.vector_rate)
        self.stream = EpisodeStream(
            corpus, tokenizer, settings.seed, settings.batch_tokens, settings.max_length
        )
        self.steps = self.seen_tokens = 0
        self.seconds = 0.0

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, in [0, 1]."""
        if self.settings.tokens:
            return min(1.0, self.seen_tokens / self.settings.tokens)
        return min(1.0, self.seconds / (60 * self.settings.minutes))

    def step(self) -> tuple[float, float]:
        """Train on one batch; return the summed loss and the number of answer tokens."""
        begun, progress = time.monotonic(), self.progress
        weight = self.settings.prompt_weight if progress < self.settings.prompt_until else 0.0
        batch = self.stream.next(progress, weight)
        losses, weights = token_losses(self.model, self.body, batch)
        ((losses * weights).sum() / weights.sum()).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step(progress)
        self.steps += 1
        self.seen_tokens += sum(len(row.tokens) for row in batch.rows)
        self.seconds += time.monotonic() - begun
        answers = weights >= 1
        return losses.detach()[answers].sum().item(), answers.sum().item()

    def save(self) -> None:
        """Write a checkpoint; the old one stays until the new one is complete."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            f"model|{k}": v for k, v in self.model.state_dict().items() if k != "lm_head.weight"
        }
        tensors |= {f"optimizer|{k}": v for k, v in self.optimizer.tensors().items()}
        state = {
            "steps": self.steps,
            "seen_tokens": self.seen_tokens,
            "seconds": self.seconds,
            "stream": self.stream.state(),
        }
        path = self.folder / "checkpoint.safetensors"
        save_file(
            tensors, path.with_suffix(".new"), metadata={"state": json.dumps(state), "format": "pt"}
        )
        os.replace(path.with_suffix(".new"), path)

    def restore(self) -> bool:
        """Continue from the checkpoint in the run's folder, if there is one."""
        path = self.folder / "checkpoint.safetensors"
        if not path.is_file():
            return False
        tensors = load_file(path)
        model = {k[6:]: v for k, v in tensors.items() if k.startswith("model|")}
        self.model.load_state_dict(model | {"lm_head.weight": model["model.embed_tokens.weight"]})
        self.optimizer.restore(
            {k[10:]: v for k, v in tensors.items() if k.startswith("optimizer|")}
        )
        state = read_state(path)
        self.steps, self.seen_tokens = int(state["steps"]), int(state["seen_tokens"])
        self.seconds = float(state["seconds"])
        self.stream.restore(state["stream"])
        return True


def read_state(path: Path) -> dict[str, Any]:
    """Return the counters kept in a checkpoint's header."""
    with safe_open(path, "pt") as opened:
        return json.loads(opened.metadata()["state"])


def report(run: Run, probes: dict[str, list[Batch]], loss: float) -> dict[str, Any]:
    """Measure the run on the held-out probes and log one line."""
    entry = {
        "minutes": round(run.seconds / 60, 2),
        "steps": run.steps,
        "tokens": run.seen_tokens,
        "loss": round(loss, 4),
    }
    for name, batches in probes.items():
        tally = value_start_accuracy(run.model, batches)
        right, total = (sum(cell[i] for cell in tally.values()) for i in (0, 1))
        entry[name] = round(right / max(1, total), 3)
        entry[f"{name} by records x slots"] = {
            f"{r}x{s}": [a, b] for (r, s), (a, b) in tally.items()
        }
    brief = {k: v for k, v in entry.items() if " by " not in k}
    log.info(
        "%3.0f %% %s, %.0f tokens/s",
        100 * run.progress,
        brief,
        run.seen_tokens / max(1e-9, run.seconds),
    )
    with (run.folder / "log.jsonl").open("a") as out:
        out.write(json.dumps(entry) + "\n")
    return entry


def train(run: Run, probes: dict[str, list[Batch]]) -> None:
    """Train until the budget is spent, reporting and saving on the way."""
    run.folder.mkdir(parents=True, exist_ok=True)
    total = counted = 0.0
    saved = reported = run.seconds
    while run.progress < 1:
        loss, answers = run.step()
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss} at step {run.steps}; resume from the last checkpoint"
            )
        total, counted = total + loss, counted + answers
        if run.seconds - reported > 60 or run.progress >= 1:
            report(run, probes, total / counted)
            total = counted = 0.0
            reported = run.seconds
        if run.seconds - saved > 60 * run.settings.save_minutes:
            run.save()
            saved = run.seconds
    run.save()


def parse_settings() -> tuple[Settings, Path, int]:
    """Read the command line: one option for each setting."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, required=True, help="folder with corpus.json.gz and tokenizer/"
    )
    parser.add_argument("--threads", type=int, default=2)
    for name, value in Settings.__dataclass_fields__.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=type(value.default), default=value.default
        )
    options = vars(parser.parse_args())
    work, threads = options.pop("work"), options.pop("threads")
    return Settings(**options), work, threads


def main() -> None:
    """Train or resume."""
    settings, work, threads = parse_settings()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    corpus = load_corpus(work / "corpus.json.gz")
    tokenizer = Tokenizer.from_file(str(work / "tokenizer" / "tokenizer.json"))
    run = Run(settings, corpus, tokenizer, work / "run")
    log.info("%.2fM parameters, resumed: %s", run.model.num_parameters() / 1e6, run.restore())
    train(run, probe_batches(corpus, tokenizer, settings.max_length))


if __name__ == "__main__":
    main()
