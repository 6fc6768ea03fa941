"""What the page about memory shows runs as it stands, and its table has every reason of a score."""

import re
from pathlib import Path

import pytest

from tenfold.memory.features import FEATURES

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "memory.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_an_example_runs_in_a_folder_of_its_own(number, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(BLOCKS[number], f"example {number}", "exec"), {"__name__": "example"})
    assert capsys.readouterr().out.strip()


def test_the_examples_run_one_after_the_other_in_one_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for code in BLOCKS:
        exec(compile(code, "example", "exec"), {"__name__": "example"})
    out = capsys.readouterr().out
    assert "8 gates need hinges." in out
    assert "promoted=False" in out


def test_every_reason_of_a_score_is_explained():
    explained = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| `.*$", PAGE, re.M))))
    assert set(FEATURES) <= explained


def pictures_and_links():
    for page in sorted(DOCS.glob("*.md")):
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) + re.findall(r'src="([^"]+)"', text)
        yield from ((page.name, t) for t in targets if "://" not in t)


@pytest.mark.parametrize(("page", "target"), [*pictures_and_links()])
def test_a_picture_or_page_that_a_page_links_to_is_there(page, target):
    assert (DOCS / target).exists()
