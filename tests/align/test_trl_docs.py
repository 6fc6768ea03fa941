"""What the page about TRL shows runs as it stands, and so does the example behind it."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

from tests.align import trl_models as trl_

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "preference-trl.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
pytestmark = [pytest.mark.filterwarnings(w) for w in trl_.WARNINGS]
pytestmark.append(pytest.mark.timeout(400))  # seconds of work, on a machine that may be busy


def test_the_page_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    names: dict[str, object] = {"__name__": "page"}
    for number, code in enumerate(BLOCKS):
        exec(compile(code, f"block {number}", "exec"), names)
    history = names["trainer"].state.log_history
    assert any("entangle/cosine" in line for line in history)
    assert any("entangle/probe_cosine" in line for line in history)
    assert "<svg" in Path("out/report.html").read_text(encoding="utf-8")


def test_the_example_runs_and_its_remedy_keeps_the_chosen_answers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["preference_trl", "--out", str(tmp_path), "--steps", "20", "--learn", "60"]
    )
    runpy.run_path(str(ROOT / "examples" / "preference_trl.py"), run_name="__main__")
    lines = [x for x in capsys.readouterr().out.splitlines() if x.startswith("step  20")]
    falling, kept = (float(re.search(r"chosen +([-+][\d.]+)", x).group(1)) for x in lines)
    assert falling < 0 < kept - falling
    assert (tmp_path / "dpo" / "report.html").exists()
