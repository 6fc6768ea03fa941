"""What a reward model is asked to learn from a group, and how well it does on others.

The target of an answer is minus its errors (missing, wrong, invented), halved and bounded. Every
token of an answer is to predict what the whole answer will come to (a value function, as partial
answers need it); the last one is to know; and of two whole answers the better one is to be scored
higher (Bradley-Terry). Helpers say what was right and wrong so far, and which tokens stand where
others should: they show early in training where to look, and are thrown away after it.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tenfold.cli.benchmarks.concierge_measures import within_prompt_correlation

from .branches import Layout, lay_out
from .groups import Graded, Group
from .low_rank import Scorer
from .pairs import pairs_of

HELPERS = 3  # right so far / 4, bad so far / 2, logit of "this token is part of an error"
BESIDE = 16  # tokens along which a changed answer is compared with its original
WORST = 8  # more errors count as so many
END_ID = 2
LOCAL = ("wrong_record", "wrong_slot", "invented", "missing")  # errors at one place
SHARES = (0.1, 0.25, 0.5, 0.75)


@dataclass(frozen=True, slots=True)
class Weights:
    """Of the parts of the loss."""

    value: float = 0.5
    last: float = 1.0
    pairs: float = 1.0
    beside: float = 1.0
    running: float = 0.5
    error: float = 1.0


def target(answer: Graded) -> float:
    """What an answer is worth."""
    return -min(answer.errors, WORST) / 2


def choose(group: Group, most: int, rng: random.Random) -> list[int]:
    """At most `most` answers of a group: the reference, and samples and changes by turns."""
    samples = [i for i, a in enumerate(group.answers) if a.kind == "sample"]
    changed = [i for i, a in enumerate(group.answers) if a.kind not in ("sample", "reference")]
    rng.shuffle(samples)
    rng.shuffle(changed)
    taken = [0]
    while (samples or changed) and len(taken) < most:
        from_samples = samples and (not changed or len(taken) % 2)
        one = samples.pop() if from_samples else changed.pop()
        taken += [i for i in (group.answers[one].original, one) if i >= 0 and i not in taken]
    return taken


def spoken(answer: Graded) -> list[int]:
    """The tokens of an answer, with the one that ends it."""
    return [*answer.ids, END_ID] if answer.finished else answer.ids


def lay_out_answers(group: Group, chosen: Sequence[int]) -> tuple[Layout, list[int]]:
    """The flat row of some answers of a group, and where each ends among the answers' tokens."""
    tokens = [spoken(group.answers[i]) for i in chosen]
    ends, total = [], 0
    for one in tokens:
        total += len(one)
        ends.append(total)
    return lay_out(group.prompt_ids, tokens), ends


def _error_span(answer: Graded, original: Graded) -> tuple[int, int]:
    """The tokens that differ from those of the right answer, or the one that follows a gap."""
    if answer.kind == "missing":
        return answer.begins, answer.begins + 1
    one, two = answer.ids, original.ids
    same = 0
    while same < min(len(one), len(two)) - answer.begins and one[-1 - same] == two[-1 - same]:
        same += 1
    return answer.begins, max(answer.begins + 1, len(one) - same)


def loss_of(scorer: Scorer, group: Group, chosen: Sequence[int], w: Weights) -> dict[str, Tensor]:
    """The parts of the loss on some answers of a group, weighted."""
    layout, ends = lay_out_answers(group, chosen)
    with torch.autocast("cpu", torch.bfloat16):
        scores, helped = scorer(layout)
    answers = [group.answers[i] for i in chosen]
    worth = torch.tensor([target(a) for a in answers])
    last = scores[[e - 1 for e in ends]]
    parts: dict[str, list[Tensor]] = defaultdict(list)
    begin = 0
    for number, (answer, end) in enumerate(zip(answers, ends, strict=True)):
        first = begin + min(answer.begins, end - begin - 1)
        along = scores[first:end]
        parts["value"].append(F.smooth_l1_loss(along, worth[number].expand_as(along)))
        if answer.running:
            places = torch.tensor([begin + at for at, _, _ in answer.running])
            so_far = torch.tensor([[r / 4, b / 2] for _, r, b in answer.running])
            parts["running"].append(F.smooth_l1_loss(helped[places, :2], so_far))
        if answer.original >= 0:  # right and wrong, token beside token
            original = group.answers[answer.original]
            before = ends[list(chosen).index(answer.original)] - len(spoken(original))
            room = min(end - begin, len(spoken(original)))
            some = slice(answer.begins, min(room, answer.begins + BESIDE))
            apart = scores[before:][some] - scores[begin:][some]
            if len(apart):
                parts["beside"].append(F.softplus(-apart).mean())
        if answer.kind in (*LOCAL, "reference"):
            marks = torch.zeros(end - begin)
            if answer.kind != "reference":
                a, b = _error_span(answer, group.answers[answer.original])
                marks[a:b] = 1
            weight = 1 + 7 * marks
            logits = helped[begin:end, 2]
            lost = F.binary_cross_entropy_with_logits(logits, marks, weight, reduction="sum")
            parts["error"].append(lost / weight.sum())
        begin = end
    found = {name: torch.stack(some).mean() * getattr(w, name) for name, some in parts.items()}
    found["last"] = F.smooth_l1_loss(last, worth) * w.last
    better = worth[:, None] > worth[None, :]
    if better.any():
        found["pairs"] = F.softplus(-(last[:, None] - last[None, :]))[better].mean() * w.pairs
    return found


@dataclass(frozen=True, slots=True)
class Accuracy:
    """By kind of pair (right, all), and correlations of partial and final scores of samples."""

    pairs: dict[str, tuple[int, int]]
    correlations: dict[str, float | None]

    def macro(self) -> float:
        """The mean accuracy over kinds."""
        shares = [right / total for right, total in self.pairs.values() if total]
        return sum(shares) / len(shares)


@torch.no_grad()
def accuracy(scorer: Scorer, groups: Iterable[Group]) -> Accuracy:
    """How well other groups are told apart; samples are cut at shares of their own tokens."""
    right: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    lines: dict[str, list[tuple[list[float], list[float]]]] = defaultdict(list)
    for group in groups:
        layout, ends = lay_out_answers(group, range(len(group.answers)))
        with torch.autocast("cpu", torch.bfloat16):
            scores = scorer(layout)[0].tolist()
        last = [scores[e - 1] for e in ends]
        for kind, better, worse in pairs_of(group, random.Random(group.id)):
            right[kind][0] += last[better] > last[worse]
            right[kind][1] += 1
        samples = [i for i, a in enumerate(group.answers) if a.kind == "sample"]
        final = [last[i] for i in samples]
        checked = [group.answers[i].score for i in samples]
        lines["final/verifier"].append((final, checked))
        for share in SHARES:
            begins = [0, *ends]
            partial = [
                scores[begins[i] + max(0, round(share * len(group.answers[i].ids)) - 1)]
                for i in samples
            ]
            lines[f"{share:g}"].append((partial, final))
            lines[f"{share:g}/verifier"].append((partial, checked))
    correlations = {name: within_prompt_correlation(some)[0] for name, some in lines.items()}
    return Accuracy({k: (r, n) for k, (r, n) in sorted(right.items())}, correlations)
