"""What the page about coming from other libraries shows runs as it stands."""

import importlib.util
import os
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "memory-migrating.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_an_example_runs(number, tmp_path, monkeypatch, capsys):
    code = BLOCKS[number]
    if "langgraph" in code and not os.environ.get("TENFOLD_REQUIRE_ALL"):
        for name in ("langgraph", "langchain_core"):
            if importlib.util.find_spec(name) is None:
                pytest.skip("langgraph-checkpoint is not installed")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "example"}
    exec(compile(code, f"example {number}", "exec"), names)
    assert capsys.readouterr().out.strip()
    if "store" in names:
        names["store"].memory.close()
