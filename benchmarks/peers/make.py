"""Makes a peer's own environment: build/peers/NAME, from the pinned NAME.txt beside this file.

python benchmarks/peers/make.py mem0      (again: does nothing; --anew: from scratch)

Peers never share tenfold's environment: what they drag in must not decide what tenfold runs with.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1] / "build" / "peers"


def make(name: str, *, anew: bool = False) -> Path:
    """The folder of the environment; its file `made` holds the pins that it was made from."""
    pins = HERE / f"{name}.txt"
    if not pins.is_file():
        known = ", ".join(sorted(p.stem for p in HERE.glob("*.txt")))
        raise SystemExit(f"there is no peer {name!r}; known: {known}")
    folder = ROOT / name
    stamp = folder / "made"
    if not anew and stamp.is_file() and stamp.read_text() == pins.read_text():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--requirement", pins], check=True)
    stamp.write_text(pins.read_text())
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the environment of a peer.")
    parser.add_argument("name", help="mem0")
    parser.add_argument("--anew", action="store_true", help="also where it is there already")
    options = parser.parse_args()
    sys.stdout.write(f"{make(options.name, anew=options.anew)}\n")


if __name__ == "__main__":
    main()
