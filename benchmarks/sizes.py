"""Lines per room against a budget, and no file over 500: a room that outgrows it is a decision.

python benchmarks/sizes.py      prints the table; exits with 1 when something is over
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 500
# Folder: (what is counted, budget in lines). Raise a budget in the commit that needs it.
BUDGET = {
    "src/tenfold/kernels": ("*.py", 1200),
    "src/tenfold/models": ("*.py", 3500),
    "src/tenfold/quant": ("*.py", 2500),
    "src/tenfold/engine": ("*.py", 3000),
    "src/tenfold/rewards": ("*.py", 2300),
    "src/tenfold/search": ("*.py", 1800),
    "src/tenfold/memory": ("*.py", 14000),
    "src/tenfold/align": ("*.py", 7500),
    "src/tenfold/agents": ("*.py", 600),
    "src/tenfold/server": ("*.py", 5800),
    "src/tenfold/cli": ("*.py", 8400),
    "native": ("*.[ch]*", 2500),
    "recipes": ("*.py", 8400),
    "playground/src": ("*.ts*", 5800),
    "tests": ("*.py", 29800),
    "benchmarks": ("*.py", 2500),
}
FLOOR = 700  # the modules directly under src/tenfold


def lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def too_long() -> list[str]:
    files = [f for d in ("src", "tests", "benchmarks", "recipes") for f in (ROOT / d).rglob("*.py")]
    files += [f for f in (ROOT / "native").rglob("*") if f.suffix in (".cpp", ".h")]
    return [
        f"{f.relative_to(ROOT)}: {n} lines, {LONGEST} at most"
        for f in sorted(files)
        if (n := lines(f)) > LONGEST
    ]


def rooms() -> list[tuple[str, int, int, int]]:
    """(room, files, lines, budget)"""
    floor = list((ROOT / "src/tenfold").glob("*.py"))
    table = [("src/tenfold/*.py", len(floor), sum(map(lines, floor)), FLOOR)]
    for folder, (pattern, budget) in BUDGET.items():
        files = [
            f
            for f in (ROOT / folder).rglob(pattern)
            if f.is_file() and "node_modules" not in f.parts
        ]
        table.append((folder, len(files), sum(map(lines, files)), budget))
    return table


def unlisted() -> list[str]:
    inside = (p for p in (ROOT / "src/tenfold").iterdir() if (p / "__init__.py").is_file())
    listed = {Path(f).name for f in BUDGET}
    return [f"{p.relative_to(ROOT)} has no budget" for p in inside if p.name not in listed]


def main() -> int:
    table = rooms()
    print(f"{'room':<24}{'files':>6}{'lines':>8}{'budget':>8}")
    for room, files, count, budget in table:
        over = "  OVER" if count > budget else ""
        print(f"{room:<24}{files:>6}{count:>8}{budget:>8}{over}")
    problems = [f"{room}: {n} lines, {b} budgeted" for room, _, n, b in table if n > b]
    problems += too_long() + unlisted()
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
