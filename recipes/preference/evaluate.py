"""Measure a reward model on held-out pairs, let it choose among samples, and write its card.

``python -m recipes.preference.evaluate --model FOLDER --pairs FOLDER`` prints all figures;
``--best-of`` those of choosing among samples, ``--judge FOLDER`` lets the judge have a say on what
was chosen; ``--card`` writes ``README.md`` beside the adapter.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tenfold.cli.benchmarks.concierge_answers import Sampled, draw_samples
from tenfold.cli.benchmarks.concierge_measures import ratio, within_prompt_correlation
from tenfold.cli.benchmarks.preference_models import BOUNDS, SHARES, reward_figures
from tenfold.cli.held_out import read_held_out, shipped
from tenfold.rewards.base import Answer, RewardPrompt
from tenfold.rewards.classifier import ClassifierReward
from tenfold.search.llm import AsyncLLM

log = logging.getLogger(__name__)
PROMPTS, CANDIDATES = 40, 8


def quiet(stage: str, share: float) -> None:
    """No progress is shown."""


async def scores_of(reward: ClassifierReward, sampled: Sequence[Sampled]) -> list[list[float]]:
    """A model's score of every sample."""
    found = []
    for one in sampled:
        session = reward.open(RewardPrompt((), one.question.messages))
        answers = [Answer(c.text) for c in one.completions]
        found.append(list(await session.score(answers)))
        await session.close()
    return found


async def best_of(model: str, judge: str | None) -> dict[str, Any]:
    """Slot error rate of what each reward chooses among 8 samples of held-out long prompts, and
    the judge's mean score of it."""
    asked = read_held_out(shipped("concierge"))
    questions = asked.of("long_seen", PROMPTS)
    llm = AsyncLLM.load("concierge")
    sampled = await draw_samples(llm, asked, questions, CANDIDATES, quiet)
    await llm.close()
    trained = await scores_of(ClassifierReward.of(model), sampled)
    judged = await scores_of(ClassifierReward.of(judge), sampled) if judge else None
    by: dict[str, list[list[float]]] = {
        "one sample": [],
        "logprob": [s.logprob for s in sampled],
        "facts": [s.verified for s in sampled],
        "reward model": trained,
        "perfect": [[-float(e) for e in s.slot_errors] for s in sampled],
    }
    required = sum(len(s.question.required) for s in sampled)
    table = {}
    for name, rows in by.items():
        picks = [range(CANDIDATES) if not rows else [_best(rows[i])] for i in range(len(sampled))]
        errors = [
            statistics.fmean(s.slot_errors[i] for i in p)
            for s, p in zip(sampled, picks, strict=True)
        ]
        table[name] = {"ser": round(ratio(sum(errors), required), 4)}
        if judged:
            means = [statistics.fmean(j[i] for i in p) for j, p in zip(judged, picks, strict=True)]
            table[name]["judge"] = round(statistics.fmean(means), 4)
    found: dict[str, Any] = {"best_of_8": table, "prompts": len(sampled)}
    finals = [s.final for s in sampled]
    found["rm_verifier_corr"] = within_prompt_correlation(zip(trained, finals, strict=True))[0]
    if judged:
        found["judge_verifier_corr"] = within_prompt_correlation(zip(judged, finals, strict=True))[
            0
        ]
        found["rm_judge_corr"] = within_prompt_correlation(zip(trained, judged, strict=True))[0]
    return found


def _best(scores: Sequence[float]) -> int:
    return max(range(len(scores)), key=scores.__getitem__)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table; the first is its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def number(value: float | None) -> str:
    """A figure as the card writes it."""
    return "–" if value is None else f"{value:.3f}"


def card(name: str, words: Mapping[str, str], found: Mapping[str, Any]) -> str:
    """The model card."""
    figures, settings = found["figures"], found["settings"]
    kinds = [
        [kind, str(settings["rm_pairs"][kind]), number(share)]
        for kind, share in settings["rm_accuracy_by_kind"].items()
    ]
    parts = [
        [
            f"{share * 100:g} %",
            number(figures.get(f"rm_partial_final_corr_{share * 100:g}")),
            number(settings["rm_verifier_corr_by_share"][f"{share:g}"]),
        ]
        for share in SHARES
    ]
    bounds = [[key, number(figures.get(key)), bound] for key, bound in BOUNDS.items()]
    chosen = found.get("best_of", {}).get("best_of_8", {})
    best = [[name, number(row["ser"]), number(row.get("judge"))] for name, row in chosen.items()]
    text = [
        "---",
        "license: cc-by-sa-4.0",
        "base_model: concierge",
        "library_name: peft",
        "---",
        f"# {name}",
        words["what"],
        "",
        words["use"],
        "",
        "## Data",
        words["data"],
        "",
        "## Training",
        words["training"],
        "",
        "## Figures",
        f"On {settings['rm_questions']} held-out questions (dialogues, values of large pools and "
        "templates that no training saw), in `held_out.jsonl.gz` beside concierge-rm.",
        "",
        table([["figure", "value", words.get("bound", "bound")], *bounds]),
        "",
        "Share of pairs in which the better answer scores higher, by what is wrong with the worse "
        "one:",
        "",
        table([["kind of negative", "pairs", "accuracy"], *kinds]),
        "",
        words["kinds"],
        "",
        "Within-prompt correlation of the score of a sample's first tokens (a share of its own "
        "length) with its own final score, and with the verifier's final score "
        f"({settings['rm_prompts_in_parts']} long prompts, up to 8 samples at temperature 0.7):",
        "",
        table([["first", "own final score", "verifier's final score"], *parts]),
        "",
        f"Whole samples: correlation with the verifier {number(settings['rm_verifier_corr_final'])}"
        ", standard deviation of scores within a prompt "
        f"{number(settings['rm_within_prompt_sd'])}.",
    ]
    if best:
        prompts = found["best_of"]["prompts"]
        text += [
            "",
            f"Slot error rate of the best of {CANDIDATES} samples ({prompts} held-out long "
            "prompts, temperature 0.7) by what chooses, and the judge's mean score of what was "
            "chosen (the judge guides nothing):",
            "",
            table([["chosen by", "slot error rate", "judge"], *best]),
        ]
    text += ["", "## Failures and limits", words["limits"], "", "## Licence", words["licence"]]
    return "\n".join(text) + "\n"


def main() -> int:
    """Measure, print, and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", required=True, help="the adapter: a folder or embedded name")
    parser.add_argument("--pairs", required=True, help="the folder that held_out.jsonl.gz lies in")
    parser.add_argument("--judge", help="another classifier, for what best of 8 chose")
    parser.add_argument("--best-of", action="store_true", help="let it choose among samples too")
    parser.add_argument("--questions", type=int, help="fewer, for a quick look")
    parser.add_argument(
        "--card", type=Path, help="cards.json, the words of the cards: write README.md"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    figures, settings = reward_figures(quiet, options.model, options.questions, options.pairs)
    found: dict[str, Any] = {"figures": figures, "settings": settings}
    if options.best_of:
        found["best_of"] = asyncio.run(best_of(options.model, options.judge))
    print(json.dumps(found, indent=2))
    folder = Path(options.model)
    if options.card and folder.is_dir():
        words = json.loads(options.card.read_text(encoding="utf-8"))[folder.name]
        (folder / "README.md").write_text(card(folder.name, words, found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
