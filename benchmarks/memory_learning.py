"""Draw what feedback teaches: recall at 10 against the number of feedback, with its control.

``tenfold bench memory --json FILE`` measures it;
``python benchmarks/memory_learning.py FILE --out docs/images/memory-learning.png`` draws it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

LINES = {
    "useful": ("what answered the question was said to be useful", "#1f4e79", "o-"),
    "shuffled": ("control: the same labels, shuffled", "#c55a11", "s--"),
}


def draw(curves: dict[str, dict[str, Any]], out: Path) -> None:
    """Both curves with the 95 % limits of their gain over no feedback."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.0), dpi=100, layout="constrained")
    axes = figure.subplots()
    before = curves["useful"]["recall"][0]
    axes.axhline(before, color="grey", linewidth=0.8, linestyle=":")
    for name, (label, colour, style) in LINES.items():
        curve = curves[name]
        counts, recall = curve["feedback"], curve["recall"]
        axes.plot(counts, recall, style, color=colour, label=label, markersize=4)
        low, high = ([before + pair[i] for pair in curve["limits"]] for i in (0, 1))
        axes.fill_between(counts, low, high, color=colour, alpha=0.15, linewidth=0)
        share = curve["promoted"][-1]
        axes.annotate(
            f"{recall[-1]:.1f}  ({share:.0%} pass the gate)",
            (counts[-1], recall[-1]),
            xytext=(0, 9),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=colour,
        )
    axes.annotate(
        f"before: {before:.1f}",
        (0, before),
        xytext=(4, -12),
        textcoords="offset points",
        fontsize=8,
    )
    axes.set(
        title="Evidence found among the first ten, in conversations no feedback is about",
        xlabel="feedback given",
        ylabel="recall at 10, percent",
    )
    axes.title.set_fontsize(10)
    axes.margins(y=0.15)
    axes.legend(fontsize=8, frameon=False, loc="upper right", bbox_to_anchor=(1.0, 0.5))
    axes.spines[["top", "right"]].set_visible(False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


def main() -> None:
    """Draw the curves of one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", type=Path, help="what `tenfold bench memory --json` wrote")
    parser.add_argument("--out", type=Path, default=Path("docs/images/memory-learning.png"))
    options = parser.parse_args()
    settings = json.loads(options.figures.read_text(encoding="utf-8"))["settings"]
    if "feedback_curve" not in settings:
        parser.error(f"{options.figures} has no feedback curve: LoCoMo was not at hand")
    draw(settings["feedback_curve"], options.out)


if __name__ == "__main__":
    main()
