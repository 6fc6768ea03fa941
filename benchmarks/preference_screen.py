"""Does screening rank pairs as their exact gradients do? Rank correlations on real pairs.

Exact cosines of all of a model's gradients (ghost products), for as many pairs of model solutions
to GSM8K and of HH-harmless, against each score of `tenfold.align.screen`. Needs TENFOLD_DATA;
prints a Markdown table. About 0.6 CPU seconds a pair with the concierge.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from tenfold.align.encoding import EncodedPair, PairEncoder, collate
from tenfold.align.ghost import GhostProducts
from tenfold.align.logps import answer_logps
from tenfold.align.pairs import Pair, read_pairs
from tenfold.align.screen import Screened, screen
from tenfold.models.folders import locate
from tenfold.models.tokenizer import Tokenizer


def solutions(data: Path) -> list[Pair]:
    """A right and a wrong solution of the same question, all 2,429."""
    pairs: list[Pair] = []
    path = data / "maths" / "gsm8k-model-solutions.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for item in map(json.loads, lines):
            solved = [s for s in item.values() if isinstance(s, dict)]
            right, wrong = (
                [s["solution"] for s in solved if s["is_correct"] is ok] for ok in (True, False)
            )
            pairs += [
                Pair(len(pairs) + i, item["question"] + "\n", a, b)
                for i, (a, b) in enumerate(product(right, wrong), 1)
            ]
    return pairs


def exact(model: torch.nn.Module, pair: EncodedPair) -> tuple[float, float]:
    """Cosine of the two answers' gradients and <g_w, g_l> / |g_w|^2, over all parameters."""
    batch = collate([pair])
    with GhostProducts(model, 1) as products:
        logits = model(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False).logits
        chosen, rejected = answer_logps(logits, batch.ids, batch.answer)[0]
        (rejected - chosen).backward()
    stats = products.stats(torch.ones(1), torch.ones(1))
    model.zero_grad()
    return float(stats.cosine), float(stats.inner / stats.chosen_sq)


def spearman(a: list[float], b: list[float]) -> float:
    """Correlation of ranks; ties have their mean rank."""

    def ranks(values: list[float]) -> NDArray[np.float64]:
        _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
        below = np.cumsum(counts) - counts
        mean: NDArray[np.float64] = (below + (counts - 1) / 2)[place]
        return mean

    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


SCORES = {
    "edit distance (1 -)": lambda s: 1 - s.overlap.distance,
    "shared tokens": lambda s: s.overlap.shared,
    "shared over chosen tokens": lambda s: s.overlap.kept,
    "common prefix": lambda s: s.overlap.prefix / s.overlap.chosen,
    "CHES": lambda s: s.seen.ches,
    "CHES, means": lambda s: s.seen.ches_mean,
    "readout cosine": lambda s: s.seen.cosine,
    "readout ratio": lambda s: s.seen.ratio_needed,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=200, help="of each set")
    parser.add_argument("--model", default="concierge")
    parser.add_argument("--max-tokens", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data, folder = Path(os.environ["TENFOLD_DATA"]), locate(args.model)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    encoder = PairEncoder(Tokenizer.from_folder(folder))
    found: dict[str, tuple[list[Screened], list[tuple[float, float]]]] = {}
    hh = read_pairs(data / "preference" / "hh-harmless-test.jsonl.gz", strict=False)
    for name, pairs in (("GSM8K solutions", solutions(data)), ("HH-harmless", hh)):
        random.Random(args.seed).shuffle(pairs)
        tried = screen(pairs[: 2 * args.pairs], encoder, max_tokens=args.max_tokens)
        bad = {f.row for f in tried.findings if f.kind in ("too long", "empty", "identical")}
        kept = [p for p in pairs[: 2 * args.pairs] if p.row not in bad][: args.pairs]
        ranked = sorted(screen(kept, encoder, model).pairs, key=lambda s: s.row)
        encoded = {p.row: encoder(p) for p in kept}
        found[name] = ranked, [exact(model, encoded[s.row]) for s in ranked]
    for name, (ranked, truth) in found.items():
        cosines, ratios = zip(*truth, strict=True)
        low, mid, high = np.quantile(cosines, [0.05, 0.5, 0.95])
        print(f"\n{name}: {len(ranked)} pairs, exact cosine {mid:.2f} ({low:.2f} to {high:.2f})")
        print("| score | rank correlation with the cosine | with the ratio needed | top tenth |")
        print("|---|---|---|---|")
        tenth = len(ranked) // 10
        worst = set(np.argsort(cosines)[-tenth:])
        for score, of in SCORES.items():
            values = [float(of(s)) for s in ranked]
            to = spearman(values, list(cosines)), spearman(values, list(ratios))
            top = len(worst & set(np.argsort(values)[-tenth:]))
            print(f"| {score} | {to[0]:+.2f} | {to[1]:+.2f} | {top} of {tenth} |")
        falls, said = (np.asarray(x) > 1 for x in (ratios, [s.ratio_needed for s in ranked]))
        print(
            f"chosen answers that DPO pushes down: {falls.sum()}; named by the readout:"
            f" {said.sum()}, rightly: {(falls & said).sum()}"
        )


if __name__ == "__main__":
    main()
