"""Stop and resume: by choice, by a kill, on a full disk, and with something that does not fit."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import normalizers

import recipes.concierge.train as training
from recipes.concierge.checkpoint import (
    drop_entries_after,
    newest_checkpoint,
    read_state,
    replace_checkpoint,
)
from recipes.concierge.data import load_corpus
from recipes.concierge.datafiles import DataError
from recipes.concierge.export import export
from recipes.concierge.model import SHAPES
from recipes.concierge.tokenizer import write_tokenizer
from recipes.concierge.train import Run

from .made_up import TINY, small_corpus, small_tokenizer
from .tiny_run import prepare, settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _tiny_shape(monkeypatch):
    monkeypatch.setitem(SHAPES, "tiny", TINY)


def new_run(folder: Path, tokenizer=None, world: int = 1) -> Run:
    tokenizer = tokenizer or small_tokenizer()
    return Run(settings(30_000), small_corpus(), tokenizer, folder, world=world)


def test_resumed_training_equals_uninterrupted_training(tmp_path):
    whole = new_run(tmp_path / "whole")
    losses = [whole.step() for _ in range(6)]
    first = new_run(tmp_path / "parts")
    parts = [first.step() for _ in range(3)]
    first.save()
    second = new_run(tmp_path / "parts")
    assert second.restore()
    parts += [second.step() for _ in range(3)]
    assert parts == losses
    assert all(map(torch.equal, whole.model.parameters(), second.model.parameters()))


def train_until(work: Path, tokens: int, lines: int | None = None) -> None:
    """Train in a process; kill it as soon as the log has ``lines`` lines."""
    command = [sys.executable, "-m", "tests.recipes.tiny_run", str(work), str(tokens)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    log = work / "runs/tiny/log.jsonl"
    while lines is not None and process.poll() is None:
        if log.exists() and log.read_text().count("\n") >= lines:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.002)
    assert process.wait(250) == (0 if lines is None else -signal.SIGKILL)


def entries(work: Path) -> list[tuple[int, int, float]]:
    lines = (work / "runs/tiny/log.jsonl").read_text().splitlines()
    return [(e["steps"], e["tokens"], e["loss"]) for e in map(json.loads, lines)]


@pytest.mark.timeout(300)  # starts processes, which is slow on busy cores
def test_killed_training_resumes_without_repeating_or_losing_a_step(tmp_path, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for work in (whole, killed):
        prepare(work)
    monkeypatch.setattr(training, "probe_batches", lambda *_: {})
    training.work_in_process(0, settings(12_000), whole, 1)
    torch.set_flush_denormal(False)
    train_until(killed, 12_000, lines=5)
    train_until(killed, 12_000)
    steps = [step for step, _, _ in entries(whole)]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) > 10
    assert entries(killed) == entries(whole)
    one, two = (load_file(w / "runs/tiny/checkpoint/model.safetensors") for w in (whole, killed))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def alive(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().split()[2]
    except FileNotFoundError:
        return False


@pytest.mark.timeout(300)
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_no_process_outlives_a_run_that_is_asked_to_stop(tmp_path):
    script = (
        "import sys, pathlib, recipes.concierge.train as t, tests.recipes.tiny_run as tiny\n"
        "t.work_in_process = tiny.wait_for_ever\n"
        "t.run_together(tiny.settings(1), pathlib.Path(sys.argv[1]), 2)"
    )
    run = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT)
    notes = [tmp_path / f"process-{rank}" for rank in (0, 1)]
    while not all(n.exists() and n.read_text() for n in notes) and run.poll() is None:
        time.sleep(0.02)
    run.terminate()
    assert run.wait(60) == 128 + signal.SIGTERM
    processes = [int(n.read_text()) for n in notes]
    for _ in range(500):
        if not any(map(alive, processes)):
            break
        time.sleep(0.02)
    assert not any(map(alive, processes))


def test_entries_after_the_checkpoint_leave_the_log(tmp_path):
    path = tmp_path / "log.jsonl"
    drop_entries_after(path, 3)  # there is none yet
    path.write_text("".join(f'{{"steps": {n}}}\n' for n in (1, 3, 4)) + '{"ste')
    drop_entries_after(path, 3)
    assert path.read_text() == '{"steps": 1}\n{"steps": 3}\n'


@pytest.fixture
def saved(tmp_path) -> Run:
    """Return a run of two steps with a checkpoint of each."""
    run = new_run(tmp_path / "run")
    for _ in range(2):
        run.step()
        run.save()
    return run


def steps_of(folder: Path) -> int:
    path = newest_checkpoint(folder)
    assert path is not None
    return read_state(path / "model.safetensors")["steps"]


class Killed(BaseException):
    """What a kill is to the code that it ends."""


@pytest.mark.parametrize("moment", range(3))
def test_a_kill_at_any_moment_of_replacing_leaves_a_checkpoint(saved, monkeypatch, moment):
    folder = saved.folder
    shutil.copytree(folder / "checkpoint", folder / "checkpoint.new")
    calls = iter(range(3))

    def until(real):
        def act(*args, **kwargs):
            if next(calls) == moment:
                raise Killed
            return real(*args, **kwargs)

        return act

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", until(shutil.rmtree))
        patched.setattr(os, "replace", until(os.replace))
        with pytest.raises(Killed):
            replace_checkpoint(folder)
    assert steps_of(folder) == 2


def test_a_second_kill_after_one_between_the_renames_is_survived(saved, monkeypatch):
    folder = saved.folder
    os.replace(folder / "checkpoint", folder / "checkpoint.old.2")
    shutil.rmtree(folder / "checkpoint.old")
    os.replace(folder / "checkpoint.old.2", folder / "checkpoint.old")
    run = new_run(folder)
    assert run.restore()
    assert run.steps == 2

    def killed(*_):
        raise Killed

    run.step()
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        with pytest.raises(Killed):
            run.save()
    assert steps_of(folder) == 2
    run.save()
    assert steps_of(folder) == 3


def test_a_full_disk_leaves_the_old_checkpoint_and_says_so(saved):
    saved.step()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # no file may grow beyond
    try:
        with pytest.raises(DataError, match=r"step 3 could not be written.*make room.*from step 2"):
            saved.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    again = new_run(saved.folder)
    assert again.restore()
    assert again.steps == 2
    again.step()
    assert all(map(torch.equal, again.model.parameters(), saved.model.parameters()))
    again.save()
    assert steps_of(saved.folder) == 3


def test_a_full_disk_before_the_first_checkpoint_is_said_too(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("recipes.concierge.train.save_file", full)
    run = new_run(tmp_path / "run")
    run.step()
    with pytest.raises(DataError, match=r"No space left on device.*from step 0$"):
        run.save()


def test_a_broken_checkpoint_is_named(saved):
    path = saved.folder / "checkpoint" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        DataError, match=r"checkpoint/model\.safetensors is broken.*checkpoint\.old"
    ):
        new_run(saved.folder).restore()
    shutil.rmtree(path.parent)  # as the message says
    again = new_run(saved.folder)
    assert again.restore()
    assert again.steps == 1


def test_another_number_of_processes_is_refused(saved):
    with pytest.raises(DataError, match="was written by 1 processes"):
        new_run(saved.folder, world=2).restore()


def test_another_scaling_is_refused(saved):
    other = replace(settings(30_000), scaled=0)
    with pytest.raises(DataError, match="was trained with --scaled 1"):
        Run(other, small_corpus(), small_tokenizer(), saved.folder).restore()


def test_another_tokenizer_is_refused_on_resume(saved):
    smaller, same_size = small_tokenizer(350), small_tokenizer()
    with pytest.raises(DataError, match=r"has 400 tokens, the tokenizer 350: put back"):
        new_run(saved.folder, smaller).restore()
    same_size.normalizer = normalizers.Lowercase()
    with pytest.raises(DataError, match="another tokenizer of the same size: put back"):
        new_run(saved.folder, same_size).restore()


def test_another_tokenizer_is_refused_on_export(saved, tmp_path):
    right, wrong, out = tmp_path / "right", tmp_path / "wrong", tmp_path / "out"
    write_tokenizer(small_tokenizer(), right)
    write_tokenizer(small_tokenizer(350), wrong)
    with pytest.raises(DataError, match="has 400 tokens, the tokenizer 350"):
        export(saved.folder, wrong, out, "tiny")
    shutil.rmtree(wrong)
    write_tokenizer(small_tokenizer(), wrong)
    (wrong / "tokenizer.json").write_text(
        (wrong / "tokenizer.json").read_text().replace("<|user|>", "<|guest|>")
    )
    with pytest.raises(DataError, match="another tokenizer of the same size"):
        export(saved.folder, wrong, out, "tiny")
    assert not out.exists()
    export(saved.folder, right, out, "tiny")
    assert (out / "model.safetensors").is_file()
    assert (out / "tokenizer.json").read_bytes() == (right / "tokenizer.json").read_bytes()


def test_a_tokenizer_that_is_cut_off_or_missing_is_refused_on_export(saved, tmp_path):
    write_tokenizer(small_tokenizer(), tmp_path)
    (tmp_path / "tokenizer.json").write_text((tmp_path / "tokenizer.json").read_text()[:200])
    with pytest.raises(DataError, match=r"cannot be read .*recipes\.concierge\.tokenizer"):
        export(saved.folder, tmp_path, tmp_path / "out", "tiny")
    with pytest.raises(DataError, match="cannot be read"):
        export(saved.folder, tmp_path / "nowhere", tmp_path / "out", "tiny")


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer-0.safetensors", "stream-0.json"])
def test_a_checkpoint_that_is_cut_off_is_named(saved, tmp_path, file):
    shutil.copytree(saved.folder, tmp_path, dirs_exist_ok=True)
    broken = tmp_path / "checkpoint" / file
    broken.write_bytes(broken.read_bytes()[:-40])
    with pytest.raises(DataError, match=rf"{file} is broken"):
        new_run(tmp_path).restore()


def test_without_a_checkpoint_there_is_nothing_to_export(tmp_path):
    with pytest.raises(DataError, match=r"holds no checkpoint: run .*train first"):
        export(tmp_path, tmp_path, tmp_path / "out", "tiny")


def test_a_prepared_folder_is_read_as_a_run_reads_it(tmp_path):
    prepare(tmp_path)
    assert len(load_corpus(tmp_path).train) == 1
