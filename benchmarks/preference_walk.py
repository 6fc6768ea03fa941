"""The pairs and the pictures of docs/preference.md.

`python benchmarks/preference_walk.py pairs DIR` writes pairs.jsonl, held_out.jsonl and dpo.yaml
there; after the trainings of the page, `... pictures DIR` draws docs/images/preference-*.png from
their logs, and `... figures DIR` prints the page's tables.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tenfold.align.pairs import Pair, words
from tenfold.align.record import read_log
from tenfold.cli.benchmarks.preference import HELD
from tenfold.cli.benchmarks.preference_pairs import damaged, encoded

RUNS = {
    "dpo": "DPO",
    "normalised": "DPO, normalised gradient",
    "auto_lambda": "DPO, automatic lambda",
    "shared_mask": "DPO, shared-token mask",
}
CHOSEN, REJECTED, GREY = "#1b7f5c", "#b8432f", "#8a8f98"
CONFIG = """\
model: concierge
data: {folder}/pairs.jsonl
eval_data: {folder}/held_out.jsonl
output: {folder}/dpo
loss: {{name: dpo, beta: 0.1}}
lora: null                 # all weights
learning_rate: 1.0e-4
schedule: constant
warmup: 0
epochs: 2
batch: 4
eval_every: 4
monitor: {{every: 1}}
"""


def write_pairs(folder: Path) -> None:
    """The pairs of `tenfold bench preference`: 20 held out, the others to train on."""
    pairs = {p.row: p for p in damaged()}
    order = [pairs[e.row] for e in encoded(list(pairs.values()))]
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "held_out.jsonl", order[:HELD])
    _write(folder / "pairs.jsonl", order[HELD:])
    (folder / "dpo.yaml").write_text(CONFIG.format(folder=folder), encoding="utf-8")


def _write(path: Path, pairs: Sequence[Pair]) -> None:
    with path.open("w", encoding="utf-8") as out:
        for pair in pairs:
            assert not isinstance(pair.prompt, str)
            prompt = [{"role": m.role, "content": m.content} for m in pair.prompt]
            row = {"prompt": prompt, "chosen": words(pair.chosen),
                   "rejected": words(pair.rejected), "kind": pair.kind}  # fmt: skip
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def lines(run: Path, kind: str) -> list[dict[str, Any]]:
    return [x for x in read_log(run / "entanglement.jsonl") if x["kind"] == kind]


def figures(folder: Path) -> None:
    """A row a run: log-probs against the start, and what the measured steps say.

    Of the pairs trained on it is the mean over the last epoch, each before its step.
    """
    print("| training | trained on: chosen | rejected | held out: chosen | rejected"
          " | in order | steps that lower chosen |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    for name, title in RUNS.items():
        if not (folder / name / "entanglement.jsonl").is_file():
            continue
        run = next(iter(lines(folder / name, "run")))
        progress = lines(folder / name, "progress")
        last = progress[len(progress) // 2 :]
        held = lines(folder / name, "evaluation")[-1]
        pairs = [p for s in lines(folder / name, "entanglement") for p in s["pairs"]]
        falls = sum(p["chosen_change"] < 0 for p in pairs) / len(pairs)
        means = [sum(p[f"{s}_gain"] for p in last) / len(last) for s in ("chosen", "rejected")]
        masked = any(fix.endswith("mask") for fix in run["fix"])  # logs of other log-probs
        trained = "- | -" if masked else f"{means[0]:+.2f} | {means[1]:+.2f}"
        print(f"| {title} | {trained} | {held['chosen_gain']:+.2f} | {held['rejected_gain']:+.2f}"
              f" | {held['accuracy']:.2f} | {falls:.0%} |")  # fmt: skip


def pictures(folder: Path, out: Path) -> None:
    """Curves of all runs side by side, and what each pair's gradients said in the first epoch."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    runs = [n for n in RUNS if (folder / n / "entanglement.jsonl").is_file()]
    figure, axes = plt.subplots(1, len(runs), figsize=(2.9 * len(runs), 3.0), sharey=True)
    for axis, name in zip(axes, runs, strict=True):
        progress, held = lines(folder / name, "progress"), lines(folder / name, "evaluation")
        for side, colour in (("chosen", CHOSEN), ("rejected", REJECTED)):
            axis.plot(
                [p["step"] - 1 for p in progress], [p[f"{side}_gain"] for p in progress],
                color=colour, alpha=0.3, lw=1,
            )  # fmt: skip
            axis.plot(
                [p["step"] for p in held], [p[f"{side}_gain"] for p in held],
                color=colour, marker="o", ms=3, lw=1.6, label=side,
            )  # fmt: skip
        axis.axhline(0, color=GREY, lw=0.8)
        axis.set_title(RUNS[name], fontsize=9)
        axis.set_xlabel("step")
    axes[0].set_ylabel("log-prob against the start, nats")
    axes[0].legend(frameon=False, loc="lower left")
    _save(figure, out / "preference-runs.png")
    figure, axis = plt.subplots(figsize=(4.2, 3.6))
    for name, colour in (("dpo", REJECTED), ("normalised", CHOSEN)):
        pairs = [p for s in lines(folder / name, "entanglement") for p in s["pairs"]]
        axis.scatter(
            [p["chosen_change"] for p in pairs], [p["rejected_change"] for p in pairs],
            s=10, color=colour, alpha=0.7, label=RUNS[name],
        )  # fmt: skip
    axis.axhline(0, color=GREY, lw=0.8)
    axis.axvline(0, color=GREY, lw=0.8)
    axis.set_xlabel("predicted change of chosen, nats a step of SGD")
    axis.set_ylabel("predicted change of rejected")
    axis.legend(frameon=False, fontsize=8)
    _save(figure, out / "preference-quadrants.png")


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=150, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("pairs", "pictures", "figures"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    given = parser.parse_args()
    if given.what == "pairs":
        write_pairs(given.folder)
    elif given.what == "figures":
        figures(given.folder)
    else:
        pictures(given.folder, given.out)


if __name__ == "__main__":
    main()
