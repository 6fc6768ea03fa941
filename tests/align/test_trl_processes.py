"""The mixin where a training is killed and goes on, and where two processes train."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest
from trl import DPOTrainer

from tenfold.align.record import read_log
from tenfold.align.trl_trainer import Entanglement, EntanglementMixin
from tests.align import trl_models as trl_

pytestmark = [pytest.mark.filterwarnings(w) for w in trl_.WARNINGS]
pytestmark.append(pytest.mark.timeout(400))  # other processes start: a busy machine takes its time


class Entangled(EntanglementMixin, DPOTrainer):
    pass


def test_a_killed_training_goes_on_with_a_log_that_neither_repeats_nor_loses_steps(tmp_path):
    dead, whole = tmp_path / "dead", tmp_path / "whole"
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.align.trl_models", "die", str(dead)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # sums in the order that this process has
    )
    assert found.returncode == -signal.SIGKILL, found.stderr
    torn = (dead / "entanglement.jsonl").read_text()
    assert '"step": 5' in torn
    assert not torn.endswith("\n")
    how = Entanglement(every=3)
    resumed = trl_.killed(Entangled, dead, entanglement=how)
    resumed.train(resume_from_checkpoint=True)
    steady = trl_.killed(Entangled, whole, entanglement=how)
    steady.train()
    assert [line["step"] for line in trl_.log_of(resumed, "progress")] == [1, 2, 3, 4, 5, 6]
    for kind in ("progress", "entanglement"):
        assert trl_.log_of(resumed, kind) == trl_.log_of(steady, kind)
    assert [line["step"] for line in trl_.log_of(steady)] == [1, 4]
    assert len(trl_.log_of(resumed, "run")) == 2


def test_two_processes_say_what_one_says_of_the_same_pairs(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        about = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    about |= {"WORLD_SIZE": "2", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-W", "ignore", "-m", "tests.align.trl_models", "half"]
    with ExitStack() as ends:
        running = []
        for rank in ("0", "1"):
            place = {**os.environ, **about, "RANK": rank, "LOCAL_RANK": rank}
            one = subprocess.Popen([*command, str(tmp_path / "two")], env=place)
            ends.enter_context(one)
            ends.callback(one.kill)
            running.append(one)
        assert [one.wait(timeout=300) for one in running] == [0, 0]
    how = Entanglement(every=1, realised=True, layers=True)
    single = trl_.parallel(Entangled, tmp_path / "one", 4, entanglement=how)
    single.train()
    one, two = (
        [x for x in read_log(tmp_path / name / "entanglement.jsonl") if x["kind"] == "entanglement"]
        for name in ("one", "two")
    )
    assert len(two) == 2
    for mine, theirs in zip(one, two, strict=True):
        by_row = {pair["row"]: pair for pair in theirs["pairs"]}
        assert len(by_row) == 4
        for pair in mine["pairs"]:
            other = by_row[pair["row"]]
            for key in ("inner", "chosen_sq", "chosen_change", "d_w", "chosen_logp"):
                assert other[key] == pytest.approx(pair[key], rel=1e-4)
            assert other["chosen_realised"] == pytest.approx(pair["chosen_realised"], abs=1e-4)
    shown = json.loads((tmp_path / "two" / "shown.json").read_text())
    measured = [x for x in single.state.log_history if "entangle/cosine" in x]
    for mine, theirs in zip(measured, shown, strict=True):
        for key in mine:
            if key.startswith("entangle/"):
                assert theirs[key] == pytest.approx(mine[key], rel=1e-3)
