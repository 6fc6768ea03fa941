"""The torch executor, with every attention backend that runs here, against the reference."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from tenfold.engine.torch_executor import TorchExecutor
from tenfold.kernels.ops import PAGED_ATTENTION
from tenfold.kernels.registry import backends
from tests.conformance.executor import BLOCK, ExecutorConformance, Tape, decoder_of

BACKENDS = [b.backend for b in backends(PAGED_ATTENTION) if b.available]


class TestDefault(ExecutorConformance):
    make = TorchExecutor


@pytest.mark.parametrize("backend", BACKENDS)
class TestBackends(ExecutorConformance):
    @pytest.fixture(params=["llama", "window"])
    def tape(self, request: pytest.FixtureRequest, backend: str) -> Tape:
        decoder = decoder_of(request.param)
        make = partial(TorchExecutor, attention=backend)
        return Tape(decoder, make(decoder, num_blocks=64, block_size=BLOCK))


def test_bfloat16_stays_near_float32() -> None:
    decoder = decoder_of("llama", torch.bfloat16)
    exact = decoder_of("llama")
    executor = TorchExecutor(decoder, num_blocks=64, block_size=BLOCK)
    tape = Tape(exact, executor, tolerance=0.15)
    row = ExecutorConformance().row(30)
    tape.step([], [(row, 20)])
    for _ in range(10):
        tape.step([row], [])
