"""Draw the loss and value_start_accuracy of a run.

``python -m recipes.concierge.plot --work build/concierge --out training.png``
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def draw(log: Path, out: Path) -> None:
    """Read ``log.jsonl`` of a run and draw both curves over the tokens seen."""
    from matplotlib.figure import Figure

    entries = [json.loads(line) for line in log.read_text().splitlines()]
    tokens = [entry["tokens"] / 1e6 for entry in entries]
    figure = Figure(figsize=(9, 3.4), dpi=80, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(tokens, [entry["loss"] for entry in entries], color="black")
    left.set(title="training loss of answer tokens", xlabel="million tokens", ylim=(0, 4))
    for name in ("lookup1", "lookup3", "seen", "unseen"):
        right.plot(tokens, [entry[name] for entry in entries], label=name)
    right.set(title="value_start_accuracy, held out", xlabel="million tokens", ylim=(0, 1))
    right.legend()
    figure.savefig(out)


def main() -> None:
    """Draw one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    draw(options.work / "run" / "log.jsonl", options.out)


if __name__ == "__main__":
    main()
