"""One of the processes of test_ddp: trains its part of the pairs for two steps."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from tenfold.align.losses import PairLogps, make_loss
from tenfold.align.monitor import EntanglementMonitor
from tests.align.models import Batch, llama, pair_logps

PAIRS, RATE = 5, 1e-3


def part(rank: int, world: int) -> tuple[Batch, list[int]]:
    """The pairs of one process, of different numbers: [0, 1, 2] and [3, 4] of two."""
    whole = Batch(pairs=PAIRS)
    mine = list(range(PAIRS)) if world == 1 else [[0, 1, 2], [3, 4]][rank]
    rows = mine + [PAIRS + i for i in mine]
    whole.pairs = len(mine)
    for name in ("ids", "attention", "answer"):
        setattr(whole, name, getattr(whole, name)[rows])
    return whole, mine


def train(accelerator: Accelerator | None, backend: str, log: Path) -> list[torch.Tensor]:
    """Two steps; the gradients of the last."""
    rank, world = (accelerator.process_index, 2) if accelerator else (0, 1)
    batch, mine = part(rank, world)
    model, loss = llama(), make_loss("dpo")
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    if accelerator is not None:
        model, optimizer = accelerator.prepare(model, optimizer)
    monitor = EntanglementMonitor(model, every=1, backend=backend, log=log, layers=True)
    for _ in range(2):
        optimizer.zero_grad()
        with monitor.watch(pairs=len(mine), rows=mine) as step:
            value = step.loss(loss, _logps(model, batch, backend))
            # the mean of the processes' means is made the mean over all pairs
            value = value * world * len(mine) / PAIRS
            value.backward() if accelerator is None else accelerator.backward(value)
        grads = [p.grad.clone() for p in model.parameters()]
        optimizer.step()
        monitor.stepped(lr=RATE, after=lambda: batch.logps(model)[0].chunk(2))
    return grads


def _logps(model: torch.nn.Module, batch: Batch, backend: str) -> PairLogps:
    if backend != "split":
        return pair_logps(*batch.logps(model))
    b = batch.pairs
    (chosen, n), (rejected, m) = (batch.logps(model, r) for r in (slice(b), slice(b, 2 * b)))
    ref = chosen.detach() + 0.3, rejected.detach() - 0.2
    return PairLogps(chosen, rejected, n, m, *ref)


if __name__ == "__main__":
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    accelerator = Accelerator(cpu=True)
    for backend in ("ghost", "split", "sketch"):
        found = train(accelerator, backend, folder / f"{backend}.jsonl")
        if accelerator.is_main_process:
            named = {str(i): g.contiguous() for i, g in enumerate(found)}
            save_file(named, folder / f"{backend}.safetensors")
    accelerator.wait_for_everyone()
    accelerator.end_training()
