"""The optimizer: schedule, state, and matrices shared out among processes."""

from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing

from recipes.concierge.batches import Batch
from recipes.concierge.model import SHAPES, build_model
from recipes.concierge.optimizer import MixedOptimizer, learning_rate_scale
from recipes.concierge.train import Run

from .made_up import TINY, small_corpus, small_tokenizer
from .tiny_run import settings

STEPS = 3


def test_rates_rise_stay_and_fall():
    scales = [learning_rate_scale(p) for p in (0.0, 0.005, 0.1, 0.55, 0.8, 1.0)]
    assert scales[0] < scales[1] < 1
    assert scales[2:4] == [1.0, 1.0]
    assert 1 > scales[4] > scales[5] == pytest.approx(0.02)


def optimizer(model: torch.nn.Module) -> MixedOptimizer:
    return MixedOptimizer(model, 4e-3, 3e-3, rank=0, world=1)


def push(model: torch.nn.Module, how: MixedOptimizer, seed: int) -> None:
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    how.step(0.5)


def test_state_survives_a_round_trip():
    one, two = build_model(TINY, 100, 1), build_model(TINY, 100, 1)
    first = optimizer(one)
    push(one, first, 0)
    two.load_state_dict(one.state_dict())
    second = optimizer(two)
    second.restore({name: tensor.clone() for name, tensor in first.tensors().items()})
    push(one, first, 1)
    push(two, second, 1)
    assert all(map(torch.equal, one.parameters(), two.parameters()))


def test_without_its_state_the_optimizer_would_go_elsewhere():
    one, two = build_model(TINY, 100, 1), build_model(TINY, 100, 1)
    first = optimizer(one)
    push(one, first, 0)
    two.load_state_dict(one.state_dict())
    push(one, first, 1)
    push(two, optimizer(two), 1)
    assert not all(map(torch.equal, one.parameters(), two.parameters()))


def test_every_parameter_is_stepped_by_one_of_its_parts():
    model = build_model(TINY, 100, 1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    how = optimizer(model)
    push(model, how, 0)
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert "model.embed_tokens.weight" in how.names[1]
    assert not set(how.names[0]) & set(how.names[1])


def new_run(folder: Path, rank: int = 0, world: int = 1) -> Run:
    SHAPES["tiny"] = TINY
    return Run(settings(30_000), small_corpus(), small_tokenizer(), folder, rank, world)


def train_in_process(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder / 'meeting'}"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    run = new_run(folder / "run", rank, 2)
    for _ in range(STEPS):
        run.step()
    run.save()
    torch.save([p.detach() for p in run.parameters], folder / f"rank-{rank}.pt")
    # What was saved is what a process of the same rank takes back.
    again = new_run(folder / "run", rank, 2)
    assert again.restore()
    run.step()
    again.step()
    assert all(map(torch.equal, run.parameters, again.parameters))
    distributed.destroy_process_group()


class Joined:
    """The streams of two processes as one, of twice as many rows."""

    def __init__(self, runs: list[Run]) -> None:
        self.streams = [run.stream for run in runs]

    def next(self, progress: float, weight: float) -> Batch:
        one, two = (stream.next(progress, weight) for stream in self.streams)
        return Batch(
            torch.cat([one.tokens, two.tokens]),
            torch.cat([one.documents, two.documents]),
            torch.cat([one.weights, two.weights]),
            one.starts,
            one.sizes,
        )


def distance(one: list[torch.Tensor], two: list[torch.Tensor]) -> float:
    return sum((a - b).square().sum().item() for a, b in zip(one, two, strict=True)) ** 0.5


@pytest.mark.timeout(300)  # starts processes, which is slow on busy cores
def test_two_processes_train_as_one_with_all_their_rows(tmp_path, monkeypatch):
    monkeypatch.setitem(SHAPES, "tiny", TINY)
    multiprocessing.spawn(train_in_process, (tmp_path,), nprocs=2)
    zero, one = (torch.load(tmp_path / f"rank-{rank}.pt") for rank in (0, 1))
    assert all(map(torch.equal, zero, one))

    alone = new_run(tmp_path / "alone")
    start = [p.detach().clone() for p in alone.parameters]
    alone.stream = Joined([new_run(tmp_path, rank, 2) for rank in (0, 1)])
    half = new_run(tmp_path / "half")
    for _ in range(STEPS):
        alone.step()
        half.step()
    moved = distance(start, zero)
    # Sums in bfloat16 come in another order, and AdamW's first steps go by signs alone.
    assert distance(alone.parameters, zero) < 0.1 * moved
    assert distance(half.parameters, zero) > 0.3 * moved  # else it would prove little
