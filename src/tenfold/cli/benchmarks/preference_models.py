"""How well a reward model tells answers apart, on the held-out pairs shipped beside it.

Part of `tenfold bench preference`. Every answer is scored as the server would score it; what the
verifier says of the same answers stands in the file.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenfold.cli.benchmarks import Report
from tenfold.cli.benchmarks import concierge_measures as measures
from tenfold.cli.held_out import HeldOut, drawn, read_held_out, shipped
from tenfold.errors import InvalidRequest
from tenfold.models.folders import locate
from tenfold.rewards.base import Answer, RewardPrompt
from tenfold.rewards.classifier import ClassifierReward

FILE = "held_out.jsonl.gz"
SHARES = (0.1, 0.25, 0.5, 0.75)
WRONG_SLOT = ("wrong_record", "wrong_slot")  # another record's value, another slot's value
PARTIAL = "partial"  # the kind of pairs of answers that are cut
LONG = ("long_seen", "long_unseen")
PROMPTS = 64  # whose samples are scored in parts
BOUNDS = {
    "rm_pairwise_accuracy": ">= 0.85",
    "rm_wrong_slot_accuracy": ">= 0.75",
    "rm_partial_final_corr_25": ">= 0.45",
    "rm_partial_final_corr_50": ">= 0.6",
}


@dataclass(frozen=True, slots=True)
class Held:
    """A held-out question with graded answers, and pairs (kind, better, worse) of them."""

    question: HeldOut
    kinds: tuple[str, ...]  # of the answers
    answers: tuple[Answer, ...]
    verified: tuple[float, ...]  # the verifier's score of each
    pairs: tuple[tuple[str, int, int], ...]

    @property
    def samples(self) -> list[int]:
        return [i for i, kind in enumerate(self.kinds) if kind == "sample"]


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of all answers of a question, and of the beginnings of its samples by share."""

    held: Held
    scores: tuple[float, ...]
    partial: Mapping[float, tuple[float, ...]]

    @property
    def final(self) -> list[float]:
        return [self.scores[i] for i in self.held.samples]

    @property
    def verified(self) -> list[float]:
        return [self.held.verified[i] for i in self.held.samples]


def read_pairs(file: Path) -> tuple[dict[str, Any], list[Held]]:
    """What a held-out file says of itself, and its questions. Raises InvalidRequest for a file of
    another kind."""
    asked = {q.id: q for q in read_held_out(shipped("concierge")).questions}
    try:
        lines = gzip.decompress(file.read_bytes()).decode().splitlines()
        head, *rows = map(json.loads, lines)
        return head["about"], [_held(asked, row) for row in rows]
    except (OSError, EOFError, ValueError, KeyError, TypeError) as e:
        raise InvalidRequest(
            f"{file} holds no held-out pairs ({type(e).__name__}: {e})",
            hint="python -m recipes.preference.pairs --part held writes them",
        ) from None


def _held(asked: Mapping[str, HeldOut], row: Mapping[str, Any]) -> Held:
    kinds, texts, _, verified, finished = zip(*row["answers"], strict=True)
    answers = tuple(Answer(t, finished=f) for t, f in zip(texts, finished, strict=True))
    pairs = tuple((str(k), int(b), int(w)) for k, b, w in row["pairs"])
    return Held(asked[row["id"]], kinds, answers, verified, pairs)


def reward_figures(
    report: Report, reward: str = "concierge-rm", prompts: int | None = None,
    pairs: str = "concierge-rm",
) -> tuple[dict[str, float], dict[str, Any]]:  # fmt: skip
    """The rm_* figures of a classifier by name or folder, and how they were taken.

    `prompts` limits the questions (None: all; a few minutes on one core); `pairs` is the model
    that the held-out file lies beside. Raises InvalidRequest or UnknownName.
    """
    about, held = read_pairs(locate(pairs) / FILE)
    some = drawn_held(held, prompts)
    model = ClassifierReward.of(reward)
    return figures_of(score_all(model, some, report), {"rm": reward, "rm_about": about})


def drawn_held(held: Sequence[Held], count: int | None) -> list[Held]:
    """Some of the questions by lot, always the same."""
    kept = {q.id for q in drawn([h.question for h in held], count)}
    return [h for h in held if h.question.id in kept]


def score_all(reward: ClassifierReward, held: Sequence[Held], report: Report) -> list[Scored]:
    """All scores. The long prompts come first, and so many of them are scored in parts."""

    async def everything() -> list[Scored]:
        parts = [h for h in held if h.question.set in LONG and len(h.samples) > 1]
        in_parts = {h.question.id for h in drawn_held(parts, PROMPTS)}
        found = []
        for number, one in enumerate(held):
            report("reward model", number / len(held))
            found.append(await _score(reward, one, one.question.id in in_parts))
        return found

    return asyncio.run(everything())


async def _score(reward: ClassifierReward, held: Held, in_parts: bool) -> Scored:
    tokenizer = reward.model().tokenizer
    template = reward.model().require_chat_template()
    ids = tuple(tokenizer.encode(template.render(held.question.messages)))
    session = reward.open(RewardPrompt(ids, held.question.messages))
    partial: dict[float, tuple[float, ...]] = {}
    if in_parts:
        whole = [tuple(tokenizer.encode(held.answers[i].text)) for i in held.samples]
        for share in SHARES:
            begun = [w[: max(1, round(share * len(w)))] for w in whole]
            answers = [Answer(tokenizer.decode(b), b, finished=False) for b in begun]
            partial[share] = tuple(await session.score(answers))
    scores = tuple(await session.score(held.answers))
    await session.close()
    return Scored(held, scores, partial)


def accuracies(scored: Sequence[Scored]) -> dict[str, tuple[int, int]]:
    """(right, all) pairs by kind; equal scores are wrong."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for one in scored:
        for kind, better, worse in one.held.pairs:
            found[kind][0] += one.scores[better] > one.scores[worse]
            found[kind][1] += 1
    return {kind: (right, total) for kind, (right, total) in sorted(found.items())}


def figures_of(
    scored: Sequence[Scored], settings: Mapping[str, Any]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Figures by key, and settings with what else was seen."""
    pairs = accuracies(scored)
    by_kind = {kind: measures.ratio(*counts) for kind, counts in pairs.items()}
    # Partial answers repeat the kinds of wrong values: they would count these twice.
    whole_kinds = [share for kind, share in by_kind.items() if kind != PARTIAL]
    figures = {"rm_pairwise_accuracy": statistics.fmean(whole_kinds)}
    # The lower of the two kinds: neither may hide behind the other.
    wrong = [by_kind[kind] for kind in WRONG_SLOT if kind in by_kind]
    if wrong:
        figures["rm_wrong_slot_accuracy"] = min(wrong)
    in_parts = [s for s in scored if s.partial]
    verified = {}
    for share in SHARES:
        key = f"rm_partial_final_corr_{share * 100:g}"
        value = measures.within_prompt_correlation((s.partial[share], s.final) for s in in_parts)[0]
        if value is not None:
            figures[key] = value
        verified[f"{share:g}"] = measures.within_prompt_correlation(
            (s.partial[share], s.verified) for s in in_parts
        )[0]
    whole = [s for s in scored if len(s.final) > 1]
    agreement = measures.within_prompt_correlation((s.final, s.verified) for s in whole)[0]
    more = {
        "rm_pairs": {kind: total for kind, (_, total) in pairs.items()},
        "rm_accuracy_by_kind": {kind: round(share, 4) for kind, share in by_kind.items()},
        "rm_questions": len(scored),
        "rm_prompts_in_parts": len(in_parts),
        "rm_verifier_corr_by_share": verified,
        "rm_verifier_corr_final": agreement,
        "rm_within_prompt_sd": measures.within_prompt_sd([s.final for s in whole]),
    }
    return figures, {**settings, **more}
