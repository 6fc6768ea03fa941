"""Draw how the models were trained: loss, value_start_accuracy, and how the rate transfers.

``python -m recipes.concierge.plot --work build/concierge --out docs/images/concierge-training.png``
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from .data import DataError
from .model import SHAPES
from .probes import PROBES
from .sweep import read_sweeps

COLOURS = {"concierge": "#1f4e79", "concierge-draft": "#c55a11", "concierge unscaled": "#7f7f7f"}
NAMES = {
    "lookup": "look-ups, 3 records x 4 slots",
    "long_seen": "long answers, services seen",
    "short_seen": "human turns, services seen",
    "short_unseen": "human turns, services never seen",
}


def read_log(work: Path, model: str) -> list[dict[str, Any]]:
    """Return the reports of a run in their order."""
    path = work / "runs" / model / "log.jsonl"
    if not path.is_file():
        raise DataError(f"{path} does not exist: run python -m recipes.concierge.train first")
    return [json.loads(line) for line in path.read_text().splitlines()]


def draw(work: Path, out: Path) -> None:
    """Draw both runs and the sweeps of a work folder."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), dpi=90, layout="constrained")
    loss, starts, rates = figure.subplots(1, 3)
    for model in SHAPES:
        entries = read_log(work, model)
        tokens = [entry["tokens"] / 1e6 for entry in entries]
        loss.plot(tokens, [e["loss"] for e in entries], color=COLOURS[model], label=model)
        if model == "concierge":
            for probe in PROBES:
                starts.plot(tokens, [e[probe] for e in entries], label=NAMES[probe])
    loss.set(title="loss of answer tokens", xlabel="million tokens", ylabel="nats", ylim=(0, 4))
    starts.set(title="first token of a value right, held out", xlabel="million tokens")
    starts.set(ylim=(0, 1), ylabel="share (concierge)")
    starts.axhline(0.9, color="grey", linewidth=0.8, linestyle=":")
    for name, losses in read_sweeps(work).items():
        best = min(losses, key=losses.__getitem__)
        rates.plot(list(losses), list(losses.values()), "o-", color=COLOURS[name], label=name)
        rates.plot([best], [losses[best]], "*", markersize=14, color=COLOURS[name])
    rates.set(title="short runs: the best rate (star) transfers", xlabel="rate", ylabel="nats")
    rates.set_xscale("log", base=2)
    for axes in (loss, starts, rates):
        axes.legend(fontsize=8, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


def main() -> None:
    """Draw one work folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    try:
        draw(options.work, options.out)
    except DataError as error:
        sys.exit(f"plot: {error}")


if __name__ == "__main__":
    main()
