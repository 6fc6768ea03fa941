"""`tenfold quantize` and `tenfold bench quant` on a tiny model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tenfold.cli.benchmarks import quant
from tenfold.cli.held_out import FILE, read_held_out
from tenfold.errors import InvalidRequest
from tenfold.models import folders
from tenfold.quant import quantize as quantizing
from tenfold.quant.checkpoint import load_quantized
from tests.tiny_checkpoint import save_tiny_checkpoint

from .held_out_questions import write_questions
from .test_cli import run


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny", 1024)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text("the cat sat on the mat, hello there. " * 60)
    return file


def test_a_model_is_quantized_and_loads(
    capsys: pytest.CaptureFixture[str], source: Path, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small"
    arguments = ("quantize", str(source), "-o", str(out), "--calibrate", str(text))
    code, printed, _ = run(capsys, *arguments, "--json")
    assert code == 0
    told = json.loads(printed)
    assert told["scheme"] == "w4a4-kv4"
    assert told["block_size"] == 32
    assert len(told["inputs"]) == 8
    assert all(0 < i["error"] < 0.1 for i in told["inputs"])
    assert load_quantized(out).config.scheme.kv == 4
    assert (out / "tokenizer.json").is_file()
    assert "<svg" in (out / "quantization.html").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["small", "text.txt"]
    # The same folder again, and a quantized model as the source, are refused.
    assert "exists" in run(capsys, *arguments)[2]
    again = ("quantize", str(out), "-o", str(tmp_path / "b"), "--calibrate", str(text))
    code, _, said = run(capsys, *again)
    assert code == 2
    assert "quantized already" in said


def test_conversations_calibrate_too(
    capsys: pytest.CaptureFixture[str], source: Path, tmp_path: Path
) -> None:
    questions = write_questions(tmp_path / FILE)
    out = tmp_path / "small"
    options = ("--scheme", "w8a8", "--method", "nearest", "--calibrate", str(questions))
    code, printed, _ = run(capsys, "quantize", str(source), "-o", str(out), *options)
    assert code == 0
    assert "w8a8, blocks of 32" in printed
    assert "down" in printed
    assert load_quantized(out).config.scheme.activations == 8


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--scheme", "w4a5"], "unknown scheme"),
        (["--block-size", "64"], "do not divide 96"),
        (["--block-size", "48"], "blocks of 48"),
        (["--method", "best"], "unknown method"),
        (["--calibrate", "/no/such/file"], "cannot be read"),
    ],
)
def test_bad_options_leave_nothing(
    capsys: pytest.CaptureFixture[str],
    source: Path,
    text: Path,
    tmp_path: Path,
    options: list[str],
    words: str,
) -> None:
    out = tmp_path / "small"
    base = ("quantize", str(source), "-o", str(out), "--calibrate", str(text))
    code, _, said = run(capsys, *base, *options)
    assert code == 2
    assert words in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == [text]


def test_without_text_or_with_too_little(
    capsys: pytest.CaptureFixture[str], source: Path, tmp_path: Path
) -> None:
    base = ("quantize", str(source), "-o", str(tmp_path / "small"))
    assert "no calibration text" in run(capsys, *base)[2]
    for content, words in (("", "empty"), ("a cat", "too short")):
        (tmp_path / "t.txt").write_text(content)
        assert words in run(capsys, *base, "--calibrate", str(tmp_path / "t.txt"))[2]


def test_an_interruption_leaves_nothing_that_loads(
    capsys: pytest.CaptureFixture[str],
    source: Path,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(quantizing, "input_moments", interrupted)
    out = tmp_path / "small"
    code, _, _ = run(capsys, "quantize", str(source), "-o", str(out), "--calibrate", str(text))
    assert code == 130
    assert not out.exists()


@pytest.fixture
def embedded(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "embedded"
    shutil.copytree(source, root / "concierge")
    write_questions(root / "concierge" / FILE)
    monkeypatch.setattr(folders, "embedded_root", lambda: root)
    return root


def test_the_benchmark_measures_every_bounded_figure(embedded: Path) -> None:
    told: list[str] = []
    measured = quant.measure("concierge", quant.Plan(1, 1, 1), lambda stage, _: told.append(stage))
    assert set(quant.BOUNDS) <= set(measured.figures)
    assert measured.figures["kv4_bytes_ratio"] == pytest.approx((32 + 6) * 2 / 256)
    assert {"ser_full", "ser_fmpq", "ser_fmpq_outliers"} <= set(measured.figures)
    assert measured.figures["share_a4_without_outliers"] == 1.0
    assert "full precision" in told


def test_calibration_and_evaluation_share_no_question(embedded: Path) -> None:
    asked = read_held_out(embedded / "concierge" / FILE)
    for plan in (quant.Plan(1, 1, 0), quant.Plan(9, 1, 0), quant.Plan(9, 9, 0)):
        evaluated, calibrated = quant.split(asked, plan)
        assert not {q.id for q in evaluated} & {q.id for q in calibrated}
        assert evaluated
        assert len(calibrated) >= len(asked.sets)


def test_a_model_without_questions_is_refused(source: Path) -> None:
    with pytest.raises(InvalidRequest, match="without held-out questions"):
        quant.measure(str(source), quant.QUICK, lambda stage, share: None)
