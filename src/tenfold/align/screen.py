"""Pre-flight: which pairs will entangle, and what is wrong with the data, before any training.

Pairs are ranked by what predicts the exact cosine of their two gradients best: with a model the
readout's gradients (`readout`), without one the share of tokens that both answers have (`overlap`).
docs/preference.md says how well either does on real pairs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import nn

from tenfold.align.encoding import EncodedPair, PairEncoder
from tenfold.align.findings import (
    Finding,
    LengthBias,
    by_kind,
    faults,
    near_repeats,
    prompts,
    repeats,
    too_long,
)
from tenfold.align.overlap import Overlap, overlap
from tenfold.align.pairs import Pair, words
from tenfold.align.readout import Likeness, likeness
from tenfold.errors import InvalidRequest
from tenfold.models.tokenizer import Tokenizer

_WORD = re.compile(r"\w+|[^\w\s]")
_Tokens = tuple[Sequence[int], Sequence[int], Sequence[int]]  # prompt, chosen, rejected


@dataclass(frozen=True, slots=True)
class Screened:
    """One pair's scores; `seen` is what a model says of it, None without a model."""

    row: int
    kind: str
    prompt: int  # tokens
    overlap: Overlap
    seen: Likeness | None = None

    @property
    def score(self) -> float:
        """What the ranking goes by, up to 1: an estimate of the cosine of the two gradients."""
        return self.overlap.shared if self.seen is None else self.seen.cosine

    @property
    def ratio_needed(self) -> float:
        """An estimate of <g_w, g_l> / |g_w|^2: above the loss's d_w / d_l (1 in DPO) it falls."""
        return self.overlap.kept if self.seen is None else self.seen.ratio_needed

    def as_dict(self) -> dict[str, Any]:
        """All scores by name."""
        o = self.overlap
        found = {"row": self.row, "kind": self.kind, "score": self.score}
        found |= {"ratio_needed": self.ratio_needed, "distance": o.distance, "shared": o.shared}
        found |= {"prefix": o.prefix, "suffix": o.suffix, "prompt_tokens": self.prompt}
        found |= {"chosen_tokens": o.chosen, "rejected_tokens": o.rejected}
        if self.seen is not None:
            found |= {"ches": self.seen.ches, "ches_mean": self.seen.ches_mean}
            found |= {"readout_cosine": self.seen.cosine}
        return found


@dataclass(frozen=True, slots=True)
class Screening:
    """What is known of a data set before training; `pairs` is ranked, the most entangled first.

    Rows with a fault (empty, identical, unreadable) have findings and no rank.
    """

    pairs: list[Screened]
    findings: list[Finding]
    length: LengthBias
    rows: int
    prompts: int  # distinct ones
    most_repeated: int  # rows of the commonest prompt
    unit: str  # what lengths are counted in: tokens, or words where there is no tokenizer

    def worst(self, share: float = 0.1) -> list[int]:
        """Rows of the most entangled share of pairs, to look at or to leave out."""
        return [pair.row for pair in self.pairs[: round(share * len(self.pairs))]]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: numbers and rows, no text of the data."""
        return {
            "rows": self.rows,
            "unit": self.unit,
            "score": "readout_cosine" if self._modelled else "shared",
            "prompts": {"distinct": self.prompts, "most_repeated": self.most_repeated},
            "length": asdict(self.length) | {"biased": self.length.biased},
            "findings": [asdict(f) for f in self.findings],
            "pairs": [pair.as_dict() for pair in self.pairs],
        }

    def table(self, most: int = 10) -> str:
        """A page of plain text: the data set, what was found, the `most` entangled pairs."""
        return "\n".join([*self._summary(), "", *self._found(most), *self._ranking(most)])

    @property
    def _modelled(self) -> bool:
        return bool(self.pairs) and self.pairs[0].seen is not None

    def _summary(self) -> list[str]:
        bias = self.length
        lines = [
            f"{self.rows} pairs, {self.prompts} prompts"
            + (f" (one has {self.most_repeated} rows)" if self.most_repeated > 1 else "")
        ]
        if not self.pairs:
            return [*lines, "no pair can be ranked"]
        low, mid, high = np.quantile([p.score for p in self.pairs], [0.1, 0.5, 0.9])
        by = "cosine of the readout's gradients" if self._modelled else f"shared {self.unit}"
        over = sum(p.ratio_needed > 1 for p in self.pairs) / len(self.pairs)
        return [
            *lines,
            f"entanglement by {by}: median {mid:.2f}, tenths {low:.2f} to {high:.2f}",
            f"pairs whose chosen answer DPO would push down (needs d_w/d_l > 1): {over:.1%}"
            if self._modelled
            else "a model (--model) would also say how many chosen answers fall",
            f"length: chosen longer in {bias.chosen_longer:.0%}, rejected in"
            f" {bias.rejected_longer:.0%}; chosen/rejected {bias.ratio:.2f}; correlation with being"
            f" chosen {bias.correlation:+.2f}; 'the longer wins' is right in {bias.longer_wins:.1%}"
            + (": length gives the label away" if bias.biased else ""),
        ]

    def _found(self, most: int) -> list[str]:
        if not self.findings:
            return ["nothing wrong was found", ""]
        lines = []
        for kind, some in by_kind(self.findings):
            lines.append(f"{kind}: {len(some)}")
            lines += [f"  row {f.row}, {f.field}: {f.message}" for f in some[:most]]
            lines += [f"  and {len(some) - most} more"] if len(some) > most else []
        return [*lines, ""]

    def _ranking(self, most: int) -> list[str]:
        if not self.pairs:
            return []
        head = f"{'row':>7} {'score':>6} {'needed':>6} {'shared':>6} {'edits':>6} {'prefix':>6}"
        head += f" {'chosen':>7} {'reject':>7}" + (f" {'CHES':>9}" if self._modelled else "")
        lines = ["most entangled pairs", head]
        for pair in self.pairs[:most]:
            o = pair.overlap
            line = f"{pair.row:>7} {pair.score:>6.2f} {pair.ratio_needed:>6.2f} {o.shared:>6.2f}"
            line += f" {o.distance:>6.2f} {o.prefix:>6} {o.chosen:>7} {o.rejected:>7}"
            lines.append(line + (f" {pair.seen.ches:>9.3g}" if pair.seen is not None else ""))
        return lines


def screen(
    pairs: Sequence[Pair],
    tokenizer: Tokenizer | PairEncoder | None = None,
    model: nn.Module | None = None,
    *,
    max_tokens: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Screening:
    """Ranks pairs by likely entanglement and finds what is wrong with them.

    `tokenizer` (or an encoder, which chats need) gives the model's tokens, else words are counted.
    `model` is a decoder of transformers' kind; it takes one forward pass over the data. Rows over
    `max_tokens` (prompt and longer answer; the model's context where it is not given) are found,
    and not shown to the model. `progress` is told how many more pairs
    the model has seen.

    Raises InvalidRequest without pairs, for a model without a tokenizer, and where no row can be
    encoded; anything that is wrong with single rows is a finding. Read files with
    `read_pairs(path, strict=False)`.
    """
    if not pairs:
        raise InvalidRequest("there are no pairs to screen", param="data")
    if model is not None and tokenizer is None:
        raise InvalidRequest("a model needs its tokenizer", param="tokenizer")
    if model is not None and max_tokens is None:
        max_tokens = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    unit = "words" if tokenizer is None else "tokens"
    found = faults(pairs)
    sound = _without(pairs, found)
    encoded, unread = _encoded(sound, tokenizer)
    found += unread
    sound = _without(sound, unread)
    tokens: Mapping[int, _Tokens] = {e.row: (e.prompt, e.chosen, e.rejected) for e in encoded}
    found += repeats(sound)
    found += near_repeats(tokens, {f.row for f in found})
    lengths = {row: (len(p), len(w), len(l_)) for row, (p, w, l_) in tokens.items()}
    over = [] if max_tokens is None else too_long(lengths, max_tokens, unit)
    skipped = {f.row for f in over}
    seen = _seen(model, [e for e in encoded if e.row not in skipped], progress)
    if seen:  # what the model did not see has no rank
        sound = [pair for pair in sound if pair.row in seen]
    ranked = [
        Screened(p.row, p.kind, lengths[p.row][0], overlap(*tokens[p.row][1:]), seen.get(p.row))
        for p in sound
    ]
    counts = prompts(pairs)
    return Screening(
        sorted(ranked, key=lambda pair: -pair.score),
        sorted(found + over, key=lambda f: f.row),
        LengthBias.of([n for _, n, _ in lengths.values()], [n for _, _, n in lengths.values()]),
        len(pairs),
        len(counts),
        max(counts.values()),
        unit,
    )


def _seen(
    model: nn.Module | None, pairs: list[EncodedPair], progress: Callable[[int], None] | None
) -> dict[int, Likeness]:
    if model is None:
        return {}
    return {seen.row: seen for seen in likeness(model, pairs, progress)}


def _without(pairs: Sequence[Pair], found: Sequence[Finding]) -> list[Pair]:
    bad = {f.row for f in found}
    return [pair for pair in pairs if pair.row not in bad]


def _encoded(
    pairs: Sequence[Pair], tokenizer: Tokenizer | PairEncoder | None
) -> tuple[list[EncodedPair], list[Finding]]:
    """Tokens of each pair, and what could not be encoded."""
    if tokenizer is None:
        return _counted(pairs), []
    encoder = tokenizer if isinstance(tokenizer, PairEncoder) else PairEncoder(tokenizer)
    encoded, found, first = [], [], None
    for pair in pairs:
        try:
            encoded.append(encoder(pair))
        except InvalidRequest as e:
            first = first or e
            kind = "identical" if "same tokens" in e.message else "unreadable"
            found.append(Finding(pair.row, e.param or "prompt", kind, e.message))
    if first is not None and not encoded:
        raise first
    return encoded, found


def _counted(pairs: Sequence[Pair]) -> list[EncodedPair]:
    """Words and punctuation marks as numbers."""
    known: dict[str, int] = {}

    def numbers(text: str) -> tuple[int, ...]:
        return tuple(known.setdefault(word, len(known)) for word in _WORD.findall(text))

    return [
        EncodedPair(p.row, *(numbers(words(t)) for t in (p.prompt, p.chosen, p.rejected)))
        for p in pairs
    ]
