"""How alike a model finds two answers, from one forward pass: no gradient is taken.

The gradient of the readout (the last linear layer) is known without a backward pass: one answer's
is the sum over its tokens of (p - e) h^T, p the next token's distribution, e the true token and h
the hidden state it was predicted from. Its products stand for the whole model's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tenfold.align.encoding import EncodedPair, collate

_NUMBERS = 1 << 26  # logits held at once


@dataclass(frozen=True, slots=True)
class Likeness:
    """Two answers as a model sees them; S is the sum of the states an answer is predicted from.

    `ches` is the centred hidden embedding similarity, <S_w, S_l> - |S_w|^2 (2410.08847,
    definition 2), `ches_mean` the same with means instead of sums, for answers of unlike length.
    The others are of the readout's gradients: their cosine, and the least d_w / d_l with which the
    chosen answer would not fall, <g_w, g_l> / |g_w|^2.
    """

    row: int
    ches: float
    ches_mean: float
    cosine: float
    ratio_needed: float


def likeness(
    model: nn.Module, pairs: Sequence[EncodedPair], progress: Callable[[int], None] | None = None
) -> list[Likeness]:
    """Of each pair, in order; `model` is a decoder of transformers' kind, and is left as it was.

    `progress` is told how many more pairs are done.
    """
    training = model.training
    found: dict[int, Likeness] = {}
    model.eval()
    try:
        with torch.no_grad():
            for batch in _batches(model, pairs):
                found |= {seen.row: seen for seen in _run(model, batch)}
                if progress is not None:
                    progress(len(batch))
    finally:
        model.train(training)
    return [found[pair.row] for pair in pairs]


def _batches(model: nn.Module, pairs: Sequence[EncodedPair]) -> Iterator[list[EncodedPair]]:
    """Pairs of like length, as many as their logits have room for."""
    batch: list[EncodedPair] = []
    for pair in sorted(pairs, key=lambda p: p.tokens):
        if batch and 2 * (len(batch) + 1) * pair.tokens * model.config.vocab_size > _NUMBERS:  # type: ignore[union-attr, operator]
            yield batch
            batch = []
        batch.append(pair)
    if batch:
        yield batch


def _run(model: nn.Module, pairs: list[EncodedPair]) -> Iterator[Likeness]:
    batch = collate(pairs).to(next(model.parameters()).device)
    out = model(
        input_ids=batch.ids,
        attention_mask=batch.attention,
        output_hidden_states=True,
        use_cache=False,
    )
    states, scores = out.hidden_states[-1], out.logits
    for place, pair in enumerate(pairs):
        sides = []
        for at, answer in ((place, pair.chosen), (place + len(pairs), pair.rejected)):
            read = slice(len(pair.prompt) - 1, len(pair.prompt) - 1 + len(answer))
            sides.append((states[at, read].float(), scores[at, read].float().softmax(-1), answer))
        yield _alike(pair.row, *sides)


_Side = tuple[Tensor, Tensor, Sequence[int]]  # states [tokens, width], p [tokens, words], tokens


def _alike(row: int, chosen: _Side, rejected: _Side) -> Likeness:
    s_w, s_l = chosen[0].sum(0), rejected[0].sum(0)
    n_w, n_l = len(chosen[2]), len(rejected[2])
    inner, chosen_sq, rejected_sq = (
        _product(a, b) for a, b in ((chosen, rejected), (chosen, chosen), (rejected, rejected))
    )
    return Likeness(
        row,
        ches=float(s_w @ s_l - s_w @ s_w),
        ches_mean=float(s_w @ s_l / (n_w * n_l) - s_w @ s_w / n_w**2),
        cosine=inner / (chosen_sq * rejected_sq) ** 0.5,
        ratio_needed=inner / chosen_sq,
    )


def _product(a: _Side, b: _Side) -> float:
    """<., .> of two readout gradients by Grams over tokens: (p - e)(p' - e')^T * h h'^T, summed."""
    (states, p, ids), (others, q, jds) = a, b
    i, j = (torch.tensor(x, device=p.device) for x in (ids, jds))
    residuals = p @ q.T - p[:, j] - q[:, i].T + (i[:, None] == j)
    return float((residuals * (states @ others.T)).sum())
