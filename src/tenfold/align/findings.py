"""What is wrong with a set of preference pairs, found without a model.

A finding names a row, a field and, where there is one, the other row; it never quotes the text.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tenfold.align.pairs import Pair, words

_HASHES, _BANDS, _SEED = 64, 16, 20  # min-hashes; bands of four: a likeness of 0.9 is always found
NEAR = 0.9  # Jaccard similarity of three-token runs from which two rows are near duplicates


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to look at in one row."""

    row: int
    field: str
    kind: str  # empty, identical, duplicate, near duplicate, contradiction, too long, unreadable
    message: str
    other: int | None = None  # the row it is compared with


def faults(pairs: Sequence[Pair]) -> list[Finding]:
    """Answers that are empty, and pairs that prefer an answer to itself."""
    found = []
    for pair in pairs:
        empty = [n for n in ("chosen", "rejected") if not words(getattr(pair, n)).strip()]
        found += [Finding(pair.row, name, "empty", "the answer is empty") for name in empty]
        if not empty and _squeezed(words(pair.chosen)) == _squeezed(words(pair.rejected)):
            message = "both answers are the same: there is no preference in it"
            found.append(Finding(pair.row, "rejected", "identical", message))
    return found


def repeats(pairs: Sequence[Pair]) -> list[Finding]:
    """Rows that say again what an earlier one said, or the opposite; spaces and case do not count.

    The prompts of both rows are the same.
    """
    first: dict[tuple[str, str, str], int] = {}
    found = []
    for pair in pairs:
        prompt, chosen, rejected = (
            _squeezed(words(t)) for t in (pair.prompt, pair.chosen, pair.rejected)
        )
        if chosen == rejected:
            continue
        same = first.setdefault((prompt, chosen, rejected), pair.row)
        if same != pair.row:
            found.append(Finding(pair.row, "chosen", "duplicate", f"the same as row {same}", same))
        elif (against := first.get((prompt, rejected, chosen))) is not None:
            message = f"prefers the answers of row {against} the other way round"
            found.append(Finding(pair.row, "chosen", "contradiction", message, against))
    return found


def near_repeats(tokens: Mapping[int, Sequence[Sequence[int]]], known: set[int]) -> list[Finding]:
    """Rows that are almost an earlier one, by the runs of three tokens of prompt and answers.

    `tokens` holds (prompt, chosen, rejected) of each row; `known` rows are left out. Candidates
    come from min-hashes (Broder 1997), and their Jaccard similarity is then counted exactly.
    """
    buckets: dict[tuple[int, bytes], int] = {}
    runs = {row: _runs(texts) for row, texts in tokens.items() if row not in known}
    drawn = np.random.default_rng(_SEED)
    factors, shifts = drawn.integers(1, 1 << 63, (2, _HASHES, 1), dtype=np.uint64)
    found = []
    for row, own in runs.items():
        if not len(own):
            continue
        least = ((own * (factors | np.uint64(1)) + shifts) >> np.uint64(20)).min(1)
        keys = [(b, band.tobytes()) for b, band in enumerate(least.reshape(_BANDS, -1))]
        others = sorted({buckets.setdefault(key, row) for key in keys} - {row})
        best = max(((_jaccard(own, runs[o]), -o) for o in others), default=(0.0, 0))
        if best[0] >= NEAR:
            other = -best[1]
            message = f"{best[0]:.0%} like row {other}"
            found.append(Finding(row, "chosen", "near duplicate", message, other))
    return found


def too_long(lengths: Mapping[int, tuple[int, int, int]], limit: int, unit: str) -> list[Finding]:
    """Rows whose prompt and longer answer have more tokens than `limit`."""
    found = []
    for row, (prompt, chosen, rejected) in lengths.items():
        longer = "chosen" if chosen >= rejected else "rejected"
        if prompt + max(chosen, rejected) > limit:
            message = (
                f"{prompt + max(chosen, rejected)} {unit} (prompt {prompt}, chosen {chosen},"
                f" rejected {rejected}) and the limit is {limit}"
            )
            found.append(Finding(row, "prompt" if prompt >= limit else longer, "too long", message))
    return found


@dataclass(frozen=True, slots=True)
class LengthBias:
    """How far length alone tells the chosen answers from the rejected ones."""

    chosen_longer: float  # share of pairs
    rejected_longer: float
    ratio: float  # |w| / |l|, geometric mean
    correlation: float  # of an answer's length with its being chosen, over all answers
    longer_wins: float  # how often "the longer one is chosen" is right; a tie is half right
    noise: float  # two standard errors of `longer_wins` if length told nothing

    @property
    def biased(self) -> bool:
        """Whether a rule that sees lengths only does better than chance, and by 5 points."""
        return abs(self.longer_wins - 0.5) > max(self.noise, 0.05)

    @classmethod
    def of(cls, chosen: Sequence[int], rejected: Sequence[int]) -> LengthBias:
        """Of pairs of answers, by their numbers of tokens."""
        w, l_ = np.asarray(chosen, float), np.asarray(rejected, float)
        if not len(w):
            return cls(*(math.nan,) * 6)
        longer, shorter = float((w > l_).mean()), float((w < l_).mean())
        label = np.repeat([1.0, 0.0], len(w))
        every = np.concatenate([w, l_])
        correlation = float(np.corrcoef(every, label)[0, 1]) if every.std() else 0.0
        ratio = float(np.exp(np.log(w / l_).mean()))
        wins = longer + (1 - longer - shorter) / 2
        return cls(longer, shorter, ratio, correlation, wins, 1 / math.sqrt(len(w)))


def prompts(pairs: Sequence[Pair]) -> Counter[str]:
    """How many rows each prompt has."""
    return Counter(_squeezed(words(pair.prompt)) for pair in pairs)


def _squeezed(text: str) -> str:
    return " ".join(text.casefold().split())


def _runs(texts: Sequence[Sequence[int]]) -> NDArray[np.uint64]:
    """The distinct runs of three tokens of each text, as numbers: those of another text differ."""
    parts: list[NDArray[np.uint64]] = []
    for place, text in enumerate(texts, 1):
        t = np.asarray(text, dtype=np.uint64)
        if len(t) > 2:
            mixed = (t[:-2] * np.uint64(0x9E3779B97F4A7C15)) ^ (t[1:-1] + np.uint64(place))
            mixed = (mixed ^ mixed >> np.uint64(29)) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ t[2:] ^ mixed >> np.uint64(32)) * np.uint64(0x94D049BB133111EB)
            parts.append(mixed ^ mixed >> np.uint64(31))
    return np.unique(np.concatenate(parts)) if parts else np.empty(0, np.uint64)


def _jaccard(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> float:
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / (len(a) + len(b) - both)


def by_kind(findings: Sequence[Finding]) -> Iterator[tuple[str, list[Finding]]]:
    """Findings of each kind, the commonest first."""
    for kind, _ in Counter(f.kind for f in findings).most_common():
        yield kind, [f for f in findings if f.kind == kind]
