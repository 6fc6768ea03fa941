"""The house rules: public names, what importing costs, the import contract, sizes of files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tenfold

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src/tenfold").rglob("*.py"))
# Words that say nothing: a module is named after what is in it.
BANNED = {"utils", "util", "common", "helpers", "misc", "core", "manager"}


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def test_public_names_are_pinned() -> None:
    assert sorted(tenfold.__all__) == [
        "AsyncEngine",
        "BestOfN",
        "Completion",
        "LLM",
        "Memory",
        "Message",
        "Sample",
        "SamplingParams",
        "TenfoldError",
        "__version__",
        "load_model",
    ]


def test_public_names_exist() -> None:
    for name in tenfold.__all__:
        assert getattr(tenfold, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = tenfold.Nonsense


@pytest.mark.parametrize(
    "statement",
    [
        "import tenfold; tenfold.SamplingParams",
        "import tenfold.kernels",
        "import tenfold.cli.main as m; m.main(['--help'])",
        "import tenfold.cli.main as m; m.make_app(*m.COMMANDS)",
    ],
)
def test_torch_is_not_imported_early(statement: str) -> None:
    heavy = "{'torch', 'fastapi', 'numpy', 'transformers'}"
    out = python(
        f"{statement}; import sys, json; print(json.dumps(sorted({heavy} & set(sys.modules))))"
    )
    assert json.loads(out.splitlines()[-1]) == []


def test_help_needs_neither_typer_nor_rich() -> None:
    out = python(
        "import sys, tenfold.cli.main as m; m.main(['--help']); "
        "print(sorted({'typer', 'rich', 'click'} & set(sys.modules)))"
    )
    assert out.splitlines()[-1] == "[]"


def test_rooms_import_only_lower_rooms() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    if not lint.exists():
        if os.environ.get("TENFOLD_REQUIRE_ALL") == "1":
            pytest.fail("import-linter is not installed")
        pytest.skip("import-linter is not installed")
    done = subprocess.run(
        [lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout


def test_sizes_keep_their_budgets() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/sizes.py"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_modules_are_named_after_what_they_hold() -> None:
    vague = [
        str(f.relative_to(ROOT))
        for f in SOURCES
        if any(part in BANNED or part.endswith("_manager") for part in (f.stem, f.parent.name))
    ]
    assert vague == []


def test_readme_shows_the_two_commands_early() -> None:
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("there is no README yet")
    beginning = "\n".join(readme.read_text(encoding="utf-8").splitlines()[:60])
    assert "make serve" in beginning
    assert "make test" in beginning


def test_constraints_name_exact_versions_only() -> None:
    exact = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+")  # no local builds, no addresses
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert exact.fullmatch(line), line
