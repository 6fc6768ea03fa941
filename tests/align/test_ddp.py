"""Data parallel training by accelerate: two processes say what one says of the same pairs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tenfold.align.record import read_log

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from safetensors.torch import load_file

from tests.align.two_processes import train

ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.timeout(300)  # three starts of Python on a busy machine


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What two real processes wrote."""
    found = tmp_path_factory.mktemp("ddp")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    about = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    with (found / "errors.txt").open("w") as told:
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.align.two_processes", str(found)],
                env={**os.environ, **about, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                cwd=ROOT,
                stderr=told,
            )
            for rank in (0, 1)
        ]
        try:
            codes = [one.wait(timeout=280) for one in running]
        finally:
            for one in running:
                one.kill()
                one.wait()
    assert codes == [0, 0], (found / "errors.txt").read_text()
    return found


@pytest.mark.parametrize("backend", ["ghost", "split", "sketch"])
def test_two_processes_are_one(backend, folder, tmp_path):
    grads = train(None, backend, tmp_path / "log.jsonl")
    theirs = load_file(folder / f"{backend}.safetensors")
    for place, mine in enumerate(grads):
        torch.testing.assert_close(theirs[str(place)], mine, rtol=1e-4, atol=1e-6)
    one, two = (list(read_log(p)) for p in (tmp_path / "log.jsonl", folder / f"{backend}.jsonl"))
    assert [x["kind"] for x in two] == ["run", *["progress", "entanglement"] * 2]
    assert two[0]["processes"] == 2
    for single, double in zip(one[1:], two[1:], strict=True):
        _same(single, double)


def _same(single, double) -> None:
    if isinstance(single, dict):
        assert single.keys() == double.keys()
        for key in single:
            _same(single[key], double[key])
    elif isinstance(single, list):
        for mine, theirs in zip(single, double, strict=True):
            _same(mine, theirs)
    elif isinstance(single, float):
        assert double == pytest.approx(single, rel=2e-3, abs=2e-5)
    else:
        assert single == double
