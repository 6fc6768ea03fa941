from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tenfold.align.config import read_config
from tenfold.align.trainer import LOG, PreferenceTrainer
from tenfold.cli.main import main
from tests.align.runs import config, lines, pairs_file

pytest.importorskip("peft")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = 0
    try:
        main(["train", *arguments])
    except SystemExit as e:
        code = int(e.code or 0)
    out, err = capsys.readouterr()
    return code, out, " ".join(err.split())


def written(root: Path, **changes: Any) -> str:
    path = root / "c.json"
    path.write_text(json.dumps(config(root, **changes).plain()))
    return str(path)


def test_a_training_by_command_and_its_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, eval_data=str(tmp_path / "held.jsonl"))
    code, out, _ = run(capsys, "preference", path, "--set", "steps=3", "--json")
    found = json.loads(out)
    assert (code, found["finished"], found["steps"]) == (0, True, 3)
    assert set(found["evaluation"]) >= {"loss", "accuracy", "chosen_gain", "rejected_gain"}
    assert (tmp_path / "run" / "report.html").read_text().startswith("<!")
    code, out, _ = run(capsys, "preference", path, "--set", "steps=3")
    assert code == 0
    assert f"adapter: {tmp_path / 'run'}" in out
    elsewhere = tmp_path / "page.html"
    code, out, _ = run(capsys, "report", str(tmp_path / "run"), "-o", str(elsewhere))
    assert (code, out.strip()) == (0, str(elsewhere))
    assert elsewhere.read_text() == (tmp_path / "run" / "report.html").read_text()


def test_rows_that_are_left_out_are_counted_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, too_long="drop", steps=1, max_tokens=34)
    code, _, err = run(capsys, "preference", path)
    assert code == 0
    over = [r for r, n in enumerate(tokens(tmp_path), 1) if n > 34]
    assert 0 < len(over) < 12
    assert f"left out of {tmp_path / 'pairs.jsonl'}: {len(over)} rows over" in err
    assert f"(first: {over[0]})" in err


def tokens(root: Path) -> list[int]:
    """Bytes of each pair's longer row, and the end of text."""
    rows = map(json.loads, (root / "pairs.jsonl").read_text().splitlines())
    return [len(r["prompt"]) + max(len(r["chosen"]), len(r["rejected"])) + 1 for r in rows]


def test_ctrl_c_keeps_the_step_and_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, steps=200, monitor={"every": 1})
    log = tmp_path / "run" / LOG

    def interrupt() -> None:
        while not log.exists() or log.read_bytes().count(b'"progress"') < 2:
            time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    code, _, err = run(capsys, "preference", path)
    thread.join()
    done = len(lines(tmp_path / "run", "progress"))
    assert code == 130
    assert 2 <= done < 200
    assert f"stopped after step {done} of 200, checkpoint kept: the same command goes on" in err
    trainer = PreferenceTrainer(read_config(path))
    trainer.stop()
    assert trainer.run().resumed == done


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["lora.rank=2"], "unknown key 'lora.rank' (did you mean 'lora.r'?"),
        (["monitor.every=0"], "monitor.every is 0"),
        (["loss=dpoo"], "unknown loss 'dpoo' (did you mean 'dpo'?"),
        (["data=nothing.jsonl"], "nothing.jsonl cannot be read"),
        (["reference=null"], "dpo compares with a reference model"),
    ],
)
def test_what_is_wrong_is_one_line_with_a_hint(
    changes: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [x for change in changes for x in ("--set", change)]
    code, _, err = run(capsys, "preference", written(tmp_path), *options)
    assert code == 2
    assert message in err


def test_a_configuration_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "preference", "none.yaml")
    assert code == 2
    assert "none.yaml cannot be read" in err


def test_screening_ranks_pairs_and_names_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = pairs_file(tmp_path / "pairs.jsonl")
    with path.open("a") as out:
        out.write(json.dumps({"prompt": "Well?", "chosen": "", "rejected": " No."}) + "\n")
    code, text, _ = run(capsys, "screen", str(path), "--json", str(tmp_path / "s.json"))
    found = json.loads((tmp_path / "s.json").read_text())
    assert (code, found["rows"], len(found["pairs"])) == (0, 13, 12)
    assert [(f["row"], f["kind"]) for f in found["findings"]][-1] == (13, "empty")
    assert "13 pairs" in text
    code, text, _ = run(capsys, "screen", str(path), "--json", "-")
    assert json.loads(text) == found


def test_screening_by_a_model_says_which_chosen_answers_fall(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = config(tmp_path)
    code, out, _ = run(capsys, "screen", chosen.data, "--model", chosen.model)
    assert code == 0
    assert "whose chosen answer DPO would push down" in out
    code, _, err = run(capsys, "screen", chosen.data, "--chat")
    assert (code, "--chat needs --model" in err) == (2, True)
