"""`tenfold bench concierge`: is the embedded model good, and does search find anything to do?

Everything is measured on the held-out questions shipped with the model, judged by the verifier.
"""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenfold.cli.benchmarks import Figures, Report
from tenfold.cli.benchmarks import concierge_measures as measures
from tenfold.cli.benchmarks.concierge_answers import (
    ANSWER_TOKENS,
    SHARES,
    TEMPERATURE,
    Answered,
    Sampled,
    answer_greedily,
    draw_samples,
)
from tenfold.cli.benchmarks.concierge_teacher import (
    ALL,
    LOOKED_UP,
    VALUES,
    acceptance,
    reference_tokens,
    value_starts,
)
from tenfold.cli.held_out import HeldOutFile, drawn, read_held_out, shipped
from tenfold.engine.async_engine import in_passing_thread
from tenfold.errors import TenfoldError
from tenfold.models.folders import locate
from tenfold.models.loading import load_model
from tenfold.rewards.facts import facts_of
from tenfold.search.llm import AsyncLLM

BOUNDS = {
    "value_start_accuracy": ">= 0.9",
    "ser_short_seen": "<= 0.20",
    "ser_short_unseen": "<= 0.40",
    "ser_long_seen": "0.03 .. 0.35",
    "ser_over_best_baseline": "<= 0.5",
    "answer_tokens_median_long": ">= 90",
    "within_prompt_reward_sd": ">= 0.08",
    "oracle_gain_64": ">= 0.15",
    "partial_final_corr_25": ">= 0.25",
    "partial_final_corr_50": ">= 0.4",
    "score_length_corr": "<= 0.2",
    "distinct_phrasings": ">= 0.5",
    "draft_acceptance": ">= 0.6",
    "lr_transfer_regret": "<= 0.01",
}
LOOKUP, LONG = "lookup_3x4", "long_seen"
ANSWERED = ("short_seen", "short_unseen", LONG, "long_unseen")
COMPARED = ("short_seen", LONG)  # with the baselines, and with the draft
SWEEP = "lr_transfer.json"
CHOICE = 8  # candidates of best-of-n among the samples


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured; None is everything."""

    questions: int | None  # of each set
    prompts: int  # that are sampled
    samples: int  # of each
    drafted: int  # answers of each set that the draft reads


FULL = Plan(questions=None, prompts=40, samples=64, drafted=60)
QUICK = Plan(questions=20, prompts=6, samples=64, drafted=8)


@dataclass(slots=True)
class Found:
    """Figures as they come in, and why others do not."""

    figures: dict[str, float] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def put(self, key: str, value: float | None, why: str) -> None:
        """A figure, or why there is none."""
        if value is None:
            self.absent[key] = why
        else:
            self.figures[key] = value


def run(quick: bool, report: Report) -> Figures:
    """All figures of the shipped models; a few minutes on two cores, with `quick` under one."""
    return measure("concierge", "concierge-draft", QUICK if quick else FULL, report)


def measure(
    model: str, draft: str, plan: Plan, report: Report, questions: Path | None = None
) -> Figures:
    """All figures of a model and its draft, by names or folders."""
    file = questions or shipped(model)
    asked = read_held_out(file)
    found = Found()
    found.settings |= {
        "questions": {name: len(asked.of(name, plan.questions)) for name in asked.sets},
        "about": asked.about,
        "temperature": TEMPERATURE,
        "max_tokens": ANSWER_TOKENS,
        "seeds": "0, 1, ... by prompt",
        "samples": plan.samples,
    }
    _value_starts(model, asked, plan, report, found)
    answers, samples = asyncio.run(_answers(model, asked, plan, report))
    _slot_errors(asked, answers, found)
    if samples:
        _spread(asked, samples, found)
    else:
        found.absent |= dict.fromkeys(_OF_SAMPLES, f"there are no questions of the set {LONG}")
    _draft_acceptance(model, draft, answers, plan, report, found)
    _lr_transfer(locate(model) / SWEEP, found)
    figures = {k: found.figures[k] for k in (*BOUNDS, *found.figures) if k in found.figures}
    return Figures(figures, found.settings, BOUNDS, found.absent)


_OF_SAMPLES = (
    "within_prompt_reward_sd",
    "oracle_gain_64",
    *(f"partial_final_corr_{share * 100:.0f}" for share in SHARES),
    "score_length_corr",
    "distinct_phrasings",
)


def _value_starts(model: str, asked: HeldOutFile, plan: Plan, report: Report, found: Found) -> None:
    """Is the first token of a value right? Names that are only repeated count beside the figure."""
    questions = asked.of(LOOKUP, plan.questions)
    counts = in_passing_thread(
        lambda: value_starts(load_model(model, dtype="float32"), questions, report)
    )
    right, total = counts[LOOKED_UP]
    accuracy = right / total if total else None
    found.put("value_start_accuracy", accuracy, f"no values in the set {LOOKUP}")
    found.settings |= {
        "value_starts": total,
        "value_start_accuracy_values": measures.ratio(*counts[VALUES]),
        "value_start_accuracy_with_repeated_names": measures.ratio(*counts[ALL]),
    }


async def _answers(
    model: str, asked: HeldOutFile, plan: Plan, report: Report
) -> tuple[list[Answered], list[Sampled]]:
    report("loading", 0.0)
    llm = AsyncLLM.load(model)
    try:
        questions = [q for name in (*ANSWERED, LOOKUP) for q in asked.of(name, plan.questions)]
        answers = await answer_greedily(llm, asked, questions, report)
        prompts = asked.of(LONG, plan.prompts)
        samples = await draw_samples(llm, asked, prompts, plan.samples, report)
    finally:
        await llm.close()
    return answers, samples


def _slot_errors(asked: HeldOutFile, answers: Sequence[Answered], found: Found) -> None:
    """Error rates of greedy answers, by set and kind and beside the baselines."""
    by_set = {n: [a for a in answers if a.question.set == n] for n in (*ANSWERED, LOOKUP)}
    for name, rows in by_set.items():
        found.put(f"ser_{name}", _ser(rows), f"there are no questions of the set {name}")
    compared = [
        a for n in COMPARED for a in by_set[n] if a.question.baselines and a.verdict.required
    ]
    baselines = _baselines(asked, compared)
    ours = _ser(compared) or 0.0
    over = measures.over_best_baseline(ours, baselines)
    found.put("ser_over_best_baseline", over, "the questions have no baseline that errs")
    lengths = [len(a.completion.token_ids) for a in by_set[LONG]]
    median = statistics.median(lengths) if lengths else None
    found.put("answer_tokens_median_long", median, f"there are no questions of the set {LONG}")
    share = _share(lambda a: a.verdict.slot_errors == 0)
    cut = _share(lambda a: a.completion.finish_reason == "length")
    found.figures |= {"exact_answers": share(answers), "truncated_answers": cut(answers)}
    kinds = dict.fromkeys(a.question.kind for a in answers)
    found.settings |= {
        "ser_beside_baselines": {"concierge": ours, **baselines},
        "exact_by_set": {name: share(rows) for name, rows in by_set.items()},
        "truncated_by_set": {name: cut(rows) for name, rows in by_set.items()},
        "ser_by_kind": {k: _ser([a for a in answers if a.question.kind == k]) for k in kinds},
        "errors_by_set": {
            name: {
                what: sum(len(getattr(a.verdict, what)) for a in rows)
                for what in ("missing", "wrong", "invented")
            }
            | {"required": sum(a.verdict.required for a in rows)}
            for name, rows in by_set.items()
        },
    }


def _ser(answers: Sequence[Answered]) -> float | None:
    """(Missing + wrong + invented) over required, where anything is required."""
    rows = [a.verdict for a in answers if a.verdict.required]
    if not rows:
        return None
    return sum(v.slot_errors for v in rows) / sum(v.required for v in rows)


def _share(holds: Callable[[Answered], bool]) -> Callable[[Sequence[Answered]], float]:
    return lambda answers: measures.ratio(sum(map(holds, answers)), len(answers))


def _baselines(asked: HeldOutFile, answers: Sequence[Answered]) -> dict[str, float]:
    """The error rates of the baselines that answered all of these questions."""
    names = set.intersection(*(set(a.question.baselines) for a in answers)) if answers else set()
    found = {}
    for name in sorted(names):
        verdicts = [asked.verifier(a.question).check(a.question.baselines[name]) for a in answers]
        errors, required = (sum(v.slot_errors for v in verdicts), sum(v.required for v in verdicts))
        found[name] = errors / required
    return found


def _spread(asked: HeldOutFile, samples: Sequence[Sampled], found: Found) -> None:
    """What search has to work with: how samples of one prompt differ."""
    final = [s.final for s in samples]
    skipped = {}
    why = "no prompt's samples differ in both"
    for share in SHARES:
        key = f"partial_final_corr_{share * 100:.0f}"
        value, skipped[key] = measures.within_prompt_correlation(
            [(s.partial[share], s.final) for s in samples]
        )
        found.put(key, value, why)
    signed, skipped["score_length_corr"] = measures.within_prompt_correlation(
        [(s.final, s.tokens) for s in samples]
    )
    found.put("score_length_corr", None if signed is None else abs(signed), why)
    required = sum(len(s.question.required) for s in samples)

    def ser(*kept: Sequence[float]) -> float:
        """The average over groups of a prompt's errors, summed over prompts."""
        return measures.ratio(sum(map(statistics.fmean, kept)), required)

    phrasings = [
        measures.distinct_share([c.text for c in s.completions], _phrases(s)) for s in samples
    ]
    found.figures |= {
        "within_prompt_reward_sd": measures.within_prompt_sd(final),
        "oracle_gain_64": measures.oracle_gain(final),
        "distinct_phrasings": statistics.fmean(phrasings),
        "ser_sampled_long": ser(*(s.slot_errors for s in samples)),
        f"ser_best_of_{CHOICE}_facts_long": ser(
            *(measures.chosen(s.verified, s.slot_errors, CHOICE) for s in samples)
        ),
        f"ser_best_of_{CHOICE}_logprob_long": ser(
            *(measures.chosen(s.logprob, s.slot_errors, CHOICE) for s in samples)
        ),
    }
    everything = [c for s in samples for c in s.completions]
    found.settings |= {
        "sampled_prompts": len(samples),
        "prompts_without_variance": skipped,
        "score_length_corr_signed": signed,
        "mean_score_sampled": statistics.fmean(map(statistics.fmean, final)),
        "sample_tokens_median": statistics.median(len(c.token_ids) for c in everything),
        "truncated_samples": measures.ratio(
            sum(c.finish_reason == "length" for c in everything), len(everything)
        ),
    }


def _phrases(sampled: Sampled) -> list[str]:
    """Values and names that may stand in a prompt's answers."""
    records = facts_of(sampled.question.messages).records
    return [text for r in records for text in (r.name, *(value for _, value in r.fields))]


def _draft_acceptance(
    model: str, draft: str, answers: Sequence[Answered], plan: Plan, report: Report, found: Found
) -> None:
    """The share of the draft's proposals that is accepted along the held-out references, and beside
    it along the target's greedy answers."""
    by_set = ([a for a in answers if a.question.set == name] for name in COMPARED)
    kept = {q.id for rows in by_set for q in drawn([a.question for a in rows], plan.drafted)}
    rows = [a for a in answers if a.question.id in kept]

    def compare() -> tuple[tuple[float, int], tuple[float, int]]:
        target, smaller = (load_model(m, dtype="float32") for m in (model, draft))
        if target.tokenizer.backend.get_vocab() != smaller.tokenizer.backend.get_vocab():
            raise TenfoldError(f"{draft} has another vocabulary than {model}")
        references = [reference_tokens(target, a.question) for a in rows]
        greedy = [(a.prompt_ids, a.completion.token_ids) for a in rows]
        along = acceptance(target, smaller, references, report)
        return along, acceptance(target, smaller, greedy, report)

    try:
        (accepted, tokens), (greedily, _) = in_passing_thread(compare)
    except TenfoldError as e:
        found.absent["draft_acceptance"] = e.message
    else:
        found.figures["draft_acceptance"] = accepted
        found.settings["draft_acceptance_tokens"] = tokens
        found.settings["draft_acceptance_greedy"] = greedily


def _lr_transfer(file: Path, found: Found) -> None:
    """The learning-rate sweep is hours of training: its record is shown, not repeated."""
    key = "lr_transfer_regret"
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        found.figures[key] = float(record[key])
    except OSError:
        found.absent[key] = f"no sweep is recorded in {file.name}"
    except (ValueError, KeyError, TypeError):
        found.absent[key] = f"{file.name} holds no {key}"
    else:
        command = record.get("command", "an unknown command")
        found.settings[key] = f"recorded by {command}"
        found.settings["lr_transfer_sweep"] = record.get("sweep")
