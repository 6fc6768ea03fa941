from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tenfold.align.trainer import LOG
from tests.align.runs import config, lines, train

pytest.importorskip("peft")

CHANGES = {"steps": 40, "checkpoint_every": 5, "monitor": {"every": 1}, "learning_rate": 1e-3}


def started(root: Path) -> subprocess.Popen[bytes]:
    path = root / "c.json"
    path.write_text(json.dumps(config(root, **CHANGES).plain()))
    return subprocess.Popen(
        [sys.executable, "-m", "tenfold", "train", "preference", str(path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def wait_for_step(log: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    while not log.exists() or log.read_bytes().count(b'"progress"') < step:
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        time.sleep(0.005)


@pytest.mark.timeout(600)  # a second process imports everything anew
def test_a_process_killed_between_checkpoints_goes_on_to_the_same_weights_and_log(
    tmp_path: Path,
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(tmp_path, output=str(tmp_path / "whole"), **CHANGES)
        process = started(tmp_path)
        wait_for_step(tmp_path / "run" / LOG, 8, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not (tmp_path / "run" / "adapter_config.json").exists()
        result = train(tmp_path, **CHANGES)
    finally:
        torch.set_num_threads(threads)
    assert result.finished
    assert result.resumed >= 5
    assert result.resumed % 5 == 0
    assert [p["step"] for p in lines(tmp_path / "run", "progress")] == list(range(1, 41))
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")
    one, other = (load_file(tmp_path / r / "adapter_model.safetensors") for r in ("run", "whole"))
    assert all(torch.equal(one[name], other[name]) for name in other)
