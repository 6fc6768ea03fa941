"""Find the learning rate on the draft, and show that it transfers to the target.

``python -m recipes.concierge.sweep --work build/concierge --model concierge-draft`` trains short
runs, one a core, at multiples of the rates of train.py, all on the same conversations. The same for
``--model concierge`` and for ``--model concierge --scaled 0`` (without the mean-field multipliers);
then ``--record FILE`` writes what they show: the loss of the target at the draft's best rate over
the best of its own sweep, minus 1.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import multiprocessing

from .checkpoint import load_tokenizer
from .data import DataError, load_corpus
from .train import Run, Settings

log = logging.getLogger(__name__)
RATES = (0.25, 0.5, 1.0, 2.0)
LAST = 0.25  # the loss is the mean over this last share of the tokens
COMMAND = "python -m recipes.concierge.sweep"


def final_loss(run: Run) -> float:
    """Train to the end of the budget and return the mean loss of the last answers."""
    total = count = 0.0
    while run.progress < 1:
        loss, answers = run.step()
        if run.progress > 1 - LAST:
            total, count = total + loss, count + answers
    return total / count


def name_of(settings: Settings) -> str:
    """Return the name of a sweep: the model, and whether it is scaled."""
    return settings.model + ("" if settings.scaled else " unscaled")


def one_rate(
    index: int, settings: Settings, rates: Sequence[float], work: Path, cores: int
) -> None:
    """Train every ``cores``-th rate; exit with 2 where that cannot be."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        _train_rates(settings, rates[index::cores], work)
    except DataError as error:
        log.error("%s", error)
        sys.exit(2)


def _train_rates(settings: Settings, rates: Sequence[float], work: Path) -> None:
    """Train with each rate and append its loss to ``sweep.jsonl``."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    corpus = load_corpus(work)
    tokenizer = load_tokenizer(work / "tokenizer")
    for rate in rates:
        torch._dynamo.reset()
        run = Run(replace(settings, rate=rate), corpus, tokenizer, work / "sweep")
        entry = {"name": name_of(settings), "rate": rate, "tokens": settings.tokens}
        entry["loss"] = round(final_loss(run), 5)
        log.info("%s", entry)
        with (work / "sweep.jsonl").open("a") as out:
            out.write(json.dumps(entry) + "\n")


def read_sweeps(work: Path) -> dict[str, dict[float, float]]:
    """Return the losses by rate of every sweep: of its last budget, the last run of each rate.

    Raise DataError where the sweeps have different budgets, which cannot be compared.
    """
    path = work / "sweep.jsonl"
    if not path.is_file():
        raise DataError(f"{path} does not exist: run {COMMAND} --work {work} first")
    sweeps: dict[str, dict[float, float]] = {}
    budgets: dict[str, int] = {}
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        name, tokens = entry["name"], entry["tokens"]
        if budgets.get(name) != tokens:
            budgets[name], sweeps[name] = tokens, {}
        sweeps[name][entry["rate"]] = entry["loss"]
    if len(set(budgets.values())) > 1:
        told = ", ".join(f"{name} {tokens}" for name, tokens in sorted(budgets.items()))
        raise DataError(f"the sweeps in {path} have different --tokens ({told}): repeat some")
    return {name: dict(sorted(losses.items())) for name, losses in sweeps.items()}


def regret(base: dict[float, float], target: dict[float, float]) -> float:
    """Return what the best rate of ``base`` costs ``target`` over its own best, as a share.

    Raise DataError where the sweeps do not tell.
    """
    best, own = min(base, key=base.__getitem__), min(target, key=target.__getitem__)
    if best not in target:
        raise DataError(f"the target's sweep lacks {best:g}, the best of the draft's --rates")
    if own in (min(target), max(target)):
        raise DataError(
            f"the target's best rate, {own:g}, lies at an edge of its sweep: its own best is not "
            "known before --rates beyond it are tried"
        )
    return target[best] / min(target.values()) - 1


def record(work: Path, path: Path) -> None:
    """Write the regret of the transfer and the sweeps it comes from."""
    sweeps = read_sweeps(work)
    missing = {"concierge-draft", "concierge"} - set(sweeps)
    if missing:
        raise DataError(f"no sweep of {', '.join(sorted(missing))} in {work / 'sweep.jsonl'} yet")
    draft, target = sweeps["concierge-draft"], sweeps["concierge"]
    found = {
        "lr_transfer_regret": round(regret(draft, target), 5),
        "sweep": {name: {str(r): v for r, v in losses.items()} for name, losses in sweeps.items()},
        "command": f"{COMMAND} --model concierge-draft, concierge, concierge --scaled 0",
    }
    if "concierge unscaled" in sweeps:
        unscaled = sweeps["concierge unscaled"]
        found["regret_unscaled"] = round(regret(draft, unscaled), 5)
    path.write_text(json.dumps(found, indent=2) + "\n")
    log.info("%s", json.dumps(found, indent=2))


def main() -> int:
    """Sweep one model, or record what the sweeps show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", default="concierge-draft")
    parser.add_argument("--scaled", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=600_000)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.record:
        try:
            record(options.work, options.record)
        except DataError as error:
            log.error("%s", error)
            return 2
        return 0
    settings = Settings(
        model=options.model, scaled=options.scaled, tokens=options.tokens, rows=10, seed=2
    )
    arguments = (settings, options.rates, options.work, options.cores)
    try:
        multiprocessing.spawn(one_rate, arguments, nprocs=options.cores)
    except multiprocessing.ProcessExitedException as error:
        return error.exit_code  # the process has said why
    return 0


if __name__ == "__main__":
    sys.exit(main())
