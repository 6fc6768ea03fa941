"""The examples of docs/memory.md that need nothing else run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "memory.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize(
    ("holding", "said"),
    [
        ("memory.recall(", "live in Porto"),
        ("half_lives=", "The kettle is blue."),
        ("rerank=", "Porto"),
    ],
)
def test_an_example_prints_what_it_promises(
    holding: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = [block for block in BLOCKS if holding in block]
    exec(compile(block, str(PAGE), "exec"), {})
    printed = capsys.readouterr().out
    assert said in printed.splitlines()[0]
