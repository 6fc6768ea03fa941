"""From logits to the next token of every row of a batch.

Order of processing, and why:

1. Reported logprobs come from the raw distribution: temperature 1, no penalty, nothing cut. They
   say what the model believes, whatever the request did to the choice.
2. Repetition penalty (CTRL, 1909.05858 section 4.1; prompt and output), then presence and frequency
   penalties (output), then logit bias: all are defined on logits, before the temperature scales
   them, as OpenAI's and vLLM's users expect. Repetition is first since it looks at a logit's sign.
3. Forbidden ids and the constraint's mask: after the bias, so that no bias gets round them.
4. Temperature (0 is argmax, the lowest id winning a tie); then top-k, top-p and min-p, each on what
   the former left: top-p is relative to the mass top-k kept, min-p to the most likely token. All
   three keep every token that ties with the least likely one kept, so that the result never
   depends on how a sort breaks ties.

A row's draw inverts the cumulative distribution, in the order of the vocabulary, at one uniform
number that is a function of (seed, candidate, position). Every operation is on one row at a time
or elementwise, and which path a row takes is decided by that row alone: its result has the same
bits alone and among others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from tenfold.engine.constraint import ConstraintState
from tenfold.engine.randomness import block_sums, draw, invert, uniforms
from tenfold.errors import EngineError
from tenfold.types import SamplingParams

_GROUP: Final = 32  # tokens of which only the maximum is looked at first when searching the largest
_STAGES: Final = (128, 2048)  # candidates tried before a full sort; each row stops at its own stage
_MOST_LOGPROBS: Final = 20  # SamplingParams allows no more
_COLDEST: Final = 1e-6  # lower temperatures would overflow float32 and mean the same


@dataclass(slots=True)
class SampleRow:
    """What the sampler needs to know about one row of logits; it changes nothing here."""

    params: SamplingParams
    seed: int  # resolved, 64-bit
    candidate: int
    position: int  # index in the output of the token to be sampled
    prompt_ids: Sequence[int]  # only read when a penalty needs them
    output_ids: Sequence[int]
    forbid: frozenset[int]  # ids that may not be sampled now, such as end-of-text before min_tokens
    constraint: ConstraintState | None


@dataclass(frozen=True, slots=True)
class Sampled:
    """A chosen token, its raw logprob, and the likeliest alternatives when asked for."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


class SamplingFailed(EngineError):
    """Some rows have no token to give; `rows` maps their indices to the reasons.

    Rows do not influence one another: sampling the others without these gives what they would get.
    """

    def __init__(self, rows: Mapping[int, str]) -> None:
        self.rows = dict(rows)
        super().__init__("; ".join(f"row {i}: {why}" for i, why in sorted(self.rows.items())))


def sample(logits: Tensor, rows: Sequence[SampleRow]) -> list[Sampled]:
    """One token for every row; logits: float32 [rows, vocab], left as they are.

    Raises SamplingFailed, before anything is drawn, naming every row whose logits are not numbers
    or to which bias, forbidden ids and constraint leave no token.
    """
    if logits.dim() != 2 or len(logits) != len(rows):
        raise ValueError(f"{len(rows)} rows for logits of shape {tuple(logits.shape)}")
    if not rows:
        return []
    peak = logits.amax(-1)  # NaN if any is
    raw = torch.softmax(logits, -1)
    _refuse(peak, lambda i: f"the model's logits are not finite (largest: {peak[i].item()})")
    # softmax's largest value is 1 / sum(exp(x - max)): the log-sum-exp without another pass.
    log_sum = peak.double() - raw.amax(-1).double().log()

    work, changed = _processed(logits, rows)
    greedy = [i for i, row in enumerate(rows) if row.params.temperature == 0.0]
    drawn = [i for i, row in enumerate(rows) if row.params.temperature != 0.0]
    tokens = torch.empty(len(rows), dtype=torch.long, device=logits.device)
    if greedy:
        tokens[greedy] = _take(work, greedy).argmax(-1)
    if drawn:
        tokens[drawn] = _draw(work, raw, rows, drawn, changed)

    logprobs = (logits.gather(1, tokens[:, None])[:, 0].double() - log_sum).tolist()
    tops = _alternatives(logits, log_sum, rows)
    return [
        Sampled(token, logprob, tops.get(i, ()))
        for i, (token, logprob) in enumerate(zip(tokens.tolist(), logprobs, strict=True))
    ]


def _processed(logits: Tensor, rows: Sequence[SampleRow]) -> tuple[Tensor, frozenset[int]]:
    """Steps 2 and 3 of the module's order: logits [rows, vocab], and which rows differ."""
    changed = [i for i, row in enumerate(rows) if _changes(row)]
    if not changed:
        return logits, frozenset()
    work = logits.clone()
    failures: dict[int, str] = {}
    for i in changed:
        try:
            _process(work[i], rows[i])
        except EngineError as e:
            failures[i] = e.message
    if failures:
        raise SamplingFailed(failures)
    reason = "the constraint, forbidden ids and logit bias leave no token"
    _refuse(work[changed].amax(-1), lambda i: reason, changed)
    return work, frozenset(changed)


def _changes(row: SampleRow) -> bool:
    p = row.params
    return bool(penalised(p) or p.logit_bias or row.forbid or row.constraint is not None)


def penalised(p: SamplingParams) -> bool:
    """Whether earlier tokens matter; if not, a row's prompt and output ids are never read."""
    return p.repetition_penalty != 1.0 or p.presence_penalty != 0 or p.frequency_penalty != 0


def _process(logits: Tensor, row: SampleRow) -> None:
    """Penalties, bias, forbidden ids and constraint on one row's logits [vocab], in place."""
    params = row.params
    if params.repetition_penalty != 1.0:
        seen = _ids({*row.prompt_ids, *row.output_ids}, logits, "the prompt")
        old = logits[seen]
        factor = params.repetition_penalty
        logits[seen] = torch.where(old < 0, old * factor, old / factor)
    if params.presence_penalty != 0 or params.frequency_penalty != 0:
        said, counts = _ids(row.output_ids, logits, "the output").unique(return_counts=True)  # type: ignore[no-untyped-call]
        logits[said] -= params.presence_penalty + params.frequency_penalty * counts
    if params.logit_bias:
        biased = _ids(params.logit_bias, logits, "logit_bias")
        logits[biased] += logits.new_tensor(list(params.logit_bias.values()))
    if row.forbid:
        logits[_ids(row.forbid, logits, "the list of forbidden ids")] = -torch.inf
    if row.constraint is not None:
        row.constraint.apply(logits)


def _ids(ids: Collection[int], logits: Tensor, where: str) -> Tensor:
    """The ids as an index [n] into logits [vocab]; EngineError when one is outside."""
    vocab = len(logits)
    for extreme in (min(ids), max(ids)) if ids else ():
        if not 0 <= extreme < vocab:
            raise EngineError(f"{where} names token {extreme}, but the vocabulary has {vocab}")
    return torch.tensor(list(ids), dtype=torch.long, device=logits.device)


def _refuse(peak: Tensor, why: Callable[[int], str], names: Sequence[int] | None = None) -> None:
    """SamplingFailed for the rows whose largest logit [rows] is not a finite number."""
    bad = (~peak.isfinite()).nonzero()[:, 0].tolist()
    if bad:
        raise SamplingFailed({(i if names is None else names[i]): why(i) for i in bad})


def _take(x: Tensor, index: Sequence[int]) -> Tensor:
    """Rows `index` of x, without a copy when that is all of them in order."""
    return x if len(index) == len(x) else x[list(index)]


def _draw(
    work: Tensor, raw: Tensor, rows: Sequence[SampleRow], drawn: list[int], changed: frozenset[int]
) -> Tensor:
    """Tokens [len(drawn)] for rows with a temperature; work, raw: [rows, vocab]."""
    seeds, candidates = [rows[i].seed for i in drawn], [rows[i].candidate for i in drawn]
    positions = [rows[i].position for i in drawn]
    u = torch.from_numpy(uniforms(seeds, candidates, positions)).to(work.device)
    tokens = torch.empty(len(drawn), dtype=torch.long, device=work.device)
    # Four kinds of row: is the raw softmax already the one to draw from, and is anything cut?
    kinds: dict[tuple[bool, bool], list[int]] = {}
    for at, i in enumerate(drawn):
        p = rows[i].params
        as_is = p.temperature == 1.0 and i not in changed
        cut = 0 < p.top_k < work.shape[1] or p.top_p < 1.0 or p.min_p > 0.0
        kinds.setdefault((as_is, cut), []).append(at)
    for (as_is, cut), members in kinds.items():
        index = [drawn[at] for at in members]
        params = [rows[i].params for i in index]
        x = _take(work, index)
        weights = _take(raw, index) if as_is else _weights(x, params)
        if cut:
            tokens[members] = _draw_cut(x, weights, params, u[members])
        else:
            tokens[members] = draw(weights, u[members])
    return tokens


def _weights(x: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """softmax(x / temperature), [rows, vocab].

    The maximum goes first, so that no temperature can overflow; all in one buffer, since fresh
    memory of this size costs more than the arithmetic.
    """
    temperatures = x.new_tensor([[max(p.temperature, _COLDEST)] for p in params])
    scaled = (x - x.amax(-1, keepdim=True)).div_(temperatures)
    return torch.softmax(scaled, -1, out=scaled)


def _draw_cut(x: Tensor, weights: Tensor, params: list[SamplingParams], u: Tensor) -> Tensor:
    """Tokens [rows] drawn after top-k, top-p and min-p; x, weights: [rows, vocab], u: [rows].

    Only the largest logits are looked at. A row whose cut lies beyond them goes on to the next
    stage, and at last to a full sort.
    """
    vocab = x.shape[1]
    mass = block_sums(weights).double().cumsum(-1)[:, -1:]
    tokens = torch.empty(len(x), dtype=torch.long, device=x.device)
    waiting = list(range(len(x)))
    for size in (*(s for s in _STAGES if s < vocab), vocab):
        ready = [i for i in waiting if params[i].top_k < size or size == vocab]
        if not ready:
            continue
        values, ids = _largest(_take(x, ready), size)
        likely = _take(weights, ready).gather(1, ids)
        keep, settled = _kept(values, likely.double(), mass[ready], [params[i] for i in ready])
        settled |= size == vocab
        # In the vocabulary's order, so that neither ties nor the stage can change the choice.
        ids, order = ids.sort(-1)
        at, _ = invert((likely * keep).gather(1, order), u[ready])
        done = [i for i, ok in zip(ready, settled.tolist(), strict=True) if ok]
        tokens[done] = ids.gather(1, at[:, None])[settled, 0]
        waiting = sorted({*waiting} - {*done})
    return tokens


def _kept(
    values: Tensor, likely: Tensor, mass: Tensor, params: Sequence[SamplingParams]
) -> tuple[Tensor, Tensor]:
    """Which of the largest survive, [rows, n], and whether that is known without the rest, [rows].

    values: logits, descending; likely: their weights in float64; mass [rows, 1]: of all weights.
    """
    count = values.shape[1]
    top_k = torch.tensor([[min(p.top_k, count)] for p in params], device=values.device)
    top_p = torch.tensor([[p.top_p] for p in params], dtype=torch.double, device=values.device)
    min_p = torch.tensor([[p.min_p] for p in params], dtype=torch.double, device=values.device)

    least = values.gather(1, (top_k - 1).clamp(0, count - 1))
    keep = values >= least.masked_fill(top_k == 0, -torch.inf)
    cumulative = (likely * keep).cumsum(-1)
    mass = torch.where(top_k > 0, cumulative[:, -1:], mass)
    # The last one needed is the first to bring the mass up to top_p.
    last = (cumulative < top_p * mass).sum(-1, keepdim=True)
    least = values.gather(1, last.clamp(max=count - 1))
    keep &= values >= least.masked_fill(top_p == 1.0, -torch.inf)
    keep &= likely >= min_p * likely[:, :1]
    found = (last < count) | (top_p == 1.0)
    # Outside are only logits that are no larger: settled if the smallest here is cut or impossible.
    return keep, (found[:, 0] & ~keep[:, -1]) | (likely[:, -1] == 0)


def _largest(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest logits, descending, and their ids; [rows, vocab] -> [rows, count] each.

    Looks at the maxima of small groups first: the groups with the `count` largest maxima hold the
    `count` largest values, ties included.
    """
    vocab = x.shape[1]
    whole = vocab // _GROUP * _GROUP
    if 2 * count * _GROUP > whole:
        values, ids = x.topk(count) if count < vocab else x.sort(-1, descending=True)
        return values, ids
    groups = x[:, :whole].view(len(x), -1, _GROUP)
    best = groups.amax(-1).topk(count).indices[:, :, None]
    every = torch.arange(vocab, device=x.device)
    ids = (best * _GROUP + every[:_GROUP]).flatten(1)
    ids = torch.cat([ids, every[whole:].expand(len(x), -1)], 1)
    values, at = x.gather(1, ids).topk(count)
    return values, ids.gather(1, at)


def _alternatives(
    logits: Tensor, log_sum: Tensor, rows: Sequence[SampleRow]
) -> dict[int, tuple[tuple[int, float], ...]]:
    """The likeliest tokens of the rows that ask for them, by raw logprob, ties by id."""
    asked = [i for i, row in enumerate(rows) if row.params.logprobs]
    if not asked:
        return {}
    # Always the same count, so that a tie at a row's own boundary cannot hang on another's.
    values, ids = _largest(_take(logits, asked), min(_MOST_LOGPROBS, logits.shape[1]))
    found = (values.double() - _take(log_sum, asked)[:, None]).tolist()
    out = {}
    for i, pair in enumerate(zip(ids.tolist(), found, strict=True)):
        ranked = sorted(zip(*pair, strict=True), key=lambda item: (-item[1], item[0]))
        out[asked[i]] = tuple(ranked[: rows[asked[i]].params.logprobs])
    return out
