"""Fixes for entangled gradients, each of which works with every loss (2410.13828, section 5).

- The normalised gradient steps along g_w / |g_w| - g_l / |g_l|: neither answer can drag the other.
- The automatic lambda weighs what a loss does for the chosen answer alone just so much that no
  chosen answer falls.
- Token masks (masks.py) leave tokens out of the log-probs.

The first two need the products of the pairs' gradients before the step. They come from a pass of
their own, which forms no weight's gradient, or from what the monitor measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tenfold.align.entanglement import PairStats
from tenfold.align.ghost import GhostProducts
from tenfold.align.losses import Loss, PairLogps, Weights, autograd_weights
from tenfold.align.masks import KINDS, LearntMask, distinct
from tenfold.align.split import halves
from tenfold.align.tally import gathered
from tenfold.errors import InvalidRequest, TenfoldError, UnknownName

_NORMALISED, _SHARED, _LEARNT, _AUTO = "normalised", "shared_mask", "learned_mask", "auto_lambda"
FIXES: Mapping[str, tuple[str, ...]] = {  # with their options
    _NORMALISED: (),
    _SHARED: ("kind",),
    _LEARNT: ("l1", "start", "rate"),
    _AUTO: ("every", "cap", "keep"),
}
ALIKE = 1e-5  # squared distance of two unit gradients that count as one


class Reweighted:
    """A loss with other gradient weights: its value, but a pair moves by `a_w g_w - a_l g_l`.

    `weights` are of one batch, [pairs] each. Where the loss compares with a reference it is gains
    that move, so that a learnt mask, which weighs both, learns from both.
    """

    def __init__(self, base: Loss, weights: Weights) -> None:
        self.base, self._weights = base, weights
        self.name, self.source, self.referenced = base.name, base.source, base.referenced

    def __call__(self, pairs: PairLogps) -> Tensor:
        a_w, a_l = self.weights(pairs)
        chosen, rejected = pairs.gains() if self.referenced else (pairs.chosen, pairs.rejected)
        moves = a_l * rejected - a_w * chosen
        return self.base(pairs).detach() + moves - moves.detach()

    def weights(self, pairs: PairLogps) -> Weights:
        """a_w and a_l, [pairs]."""
        a_w, a_l = (a.detach().to(pairs.chosen) for a in self._weights)
        return a_w, a_l


class WithSFT:
    """A loss and `nll` times the chosen answer's negative log-prob, a token of it."""

    def __init__(self, base: Loss, nll: float) -> None:
        self.base, self.nll = base, nll
        self.name, self.source, self.referenced = base.name, base.source, base.referenced

    def __call__(self, pairs: PairLogps) -> Tensor:
        return self.base(pairs) - self.nll * pairs.means()[0]

    def weights(self, pairs: PairLogps) -> Weights:
        """The loss's own d_w and what is learnt besides, and its d_l."""
        d_w, d_l = self.base.weights(pairs)
        return d_w + self.nll / pairs.chosen_tokens, d_l


def normalised(stats: PairStats) -> Weights:
    """Weights a_w, a_l [pairs] of the pairwise normalised gradient, for products with d_w and d_l.

    The step of a pair is c (s_w g_w / |g_w| - s_l g_l / |g_l|), s the signs of d_w and d_l, and c
    makes it as long as d_w g_w - d_l g_l, so that a learning rate means what it did. To first
    order the chosen log-prob then changes by c |g_w| (s_w - s_l cos) and the rejected one by
    -c |g_l| (s_l - s_w cos): each goes where the loss wants it, whatever the cosine. Of the loss
    only these signs and the length are left: what d_w has beyond d_l (an SFT term) is not. A pair
    whose gradients are the same has no such direction and does not move; one of which the loss
    moves a single answer is left as it is.
    """
    w, l_ = stats.chosen_sq.sqrt(), stats.rejected_sq.sqrt()
    s_w, s_l = stats.d_w.sign(), stats.d_l.sign()
    away = 2 - 2 * s_w * s_l * stats.cosine
    length = (stats.d_w**2 * stats.chosen_sq + stats.d_l**2 * stats.rejected_sq
              - 2 * stats.d_w * stats.d_l * stats.inner).clamp_min(0)  # fmt: skip
    c = torch.where(away > ALIKE, (length / away.clamp_min(ALIKE)).sqrt(), 0.0)
    alone = (stats.d_w == 0) | (stats.d_l == 0) | ~(w * l_ > 0)
    return (
        torch.where(alone, stats.d_w, c * s_w / w),
        torch.where(alone, stats.d_l, c * s_l / l_),
    )


class AutoLambda:
    """The smallest lambda with which no chosen answer of a batch falls, to first order.

    Lambda is the loss's own: `nll` of CPO, SLiC, RRHF and DPO, `penalty` of DPOP, where it takes
    the place of the loss's number; any other loss gets an SFT term (WithSFT). A chosen answer does
    not fall from d_w >= d_l <g_w, g_l> / |g_w|^2 on, so that what d_w lacks gives lambda: for DPOP
    max(0, <g_w, g_l> / |g_w|^2 - 1) over the answers below their reference, the others being free
    to fall back to it. What pairs of one batch do to each other, and Adam, is not in it.

    `every` steps it is computed anew: it rises at once to what is needed and falls slowly, keeping
    `keep` of what it was. It never adds more to d_w than `cap` times |d_l|: past that a pair is
    left to fall (`capped` counts such pairs). `value` is the lambda now. In data parallel training
    it is what the neediest pair of all processes needs: each takes in as many batches as the others
    (`capped` is of its own pairs).
    """

    def __init__(self, *, every: int = 10, cap: float = 10.0, keep: float = 0.9) -> None:
        for name, value, right in (
            ("every", every, every >= 1),
            ("cap", cap, cap > 0),
            ("keep", keep, 0 <= keep < 1),
        ):
            if not right:
                raise InvalidRequest(f"{name} is {value}", param=f"fix.auto_lambda.{name}")
        self.every, self.cap, self.keep = every, cap, keep
        self.value, self.capped = 0.0, 0
        self._step, self._before, self._needed = 0, 0.0, 0.0

    @property
    def due(self) -> bool:
        """Whether lambda is computed in the step that comes next."""
        return self._step % self.every == 0

    def loss(self, base: Loss) -> Loss:
        """The loss with the lambda of now."""
        return _with_lambda(base, self.value)

    def update(self, base: Loss, pairs: PairLogps, stats: PairStats) -> float:
        """Takes in the products of a batch, [pairs]; their weights are not looked at."""
        d_w, d_l = (d.double().cpu() for d in autograd_weights(_with_lambda(base, 0.0), pairs))
        own, _ = (d.double().cpu() for d in autograd_weights(_with_lambda(base, 1.0), pairs))
        least = (d_l * stats.inner / stats.chosen_sq).nan_to_num(0.0) - d_w
        most = self.cap * d_l.abs()
        self.capped = int((least > most).sum())
        if base.name == "dpop":  # there d depends on the penalty, d_w / d_l does not
            fallen = (pairs.gains()[0] < 0).detach().double().cpu()
            each = torch.where(d_l > 0, fallen / d_l.clamp_min(1e-30), 0.0)
        else:
            each = 1 / (own - d_w)
        needed = (torch.minimum(least, most).clamp_min(0) * each).max()
        needed = gathered(needed.view(1, 1)).max()  # of all processes
        self._needed = max(self._needed, float(needed))  # over the micro-batches of a step
        fallen_to = self.keep * self._before + (1 - self.keep) * self._needed
        self.value = max(self._needed, fallen_to)
        return self.value

    def stepped(self) -> None:
        """Closes an optimizer step."""
        self._step += 1
        self._before, self._needed = self.value, 0.0

    def state(self) -> Tensor:
        """[2]: what a resumed run needs."""
        return torch.tensor([self.value, self._step], dtype=torch.float64)

    def load(self, state: Tensor) -> None:
        """Takes back what `state` gave."""
        self.value, self._step = float(state[0]), int(state[1])
        self._before = self.value


def _with_lambda(base: Loss, value: float) -> Loss:
    """The loss with its own lambda set to a value."""
    changed: Any = base
    for name in ("penalty", "nll"):
        if hasattr(base, name):
            return replace(changed, **{name: value})  # type: ignore[no-any-return]
    return cast(Loss, WithSFT(base, value))


class Fixes:
    """The fixes of a run by name, for a training loop; with none it changes nothing.

        fixes = Fixes(model, {"normalised": {}})
        counted = fixes.counted(ids, answer)                  # of policy and reference alike
        with fixes.watch(pairs=4) as fix:
            logits = model(ids, attention_mask=attention).logits
            logps = fix.logps(token_logps(logits, ids), counted)
            pairs = PairLogps(*logps.chunk(2), ...)
            loss = fix.loss(dpo, pairs)                       # an ordinary loss, for this batch
            (loss(pairs).mean() + fix.penalty()).backward()
        optimizer.step()
        fixes.stepped()

    `chosen` are names of fixes, each with its options. `backend` says how products are measured:
    "ghost" for every pair of a batch, "split" for any model, one pair a batch. An
    EntanglementMonitor may watch the same pass: it then records the weights and the changes of the
    step as it is mended.

    Raises UnknownName for a fix, an option or a back end that does not exist.
    """

    def __init__(
        self,
        model: nn.Module,
        chosen: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
        *,
        backend: str = "ghost",
    ) -> None:
        check_fixes(chosen)
        if backend not in ("ghost", "split"):
            raise UnknownName("back end", backend, ("ghost", "split"), param="backend")
        self.names, self.backend = tuple(chosen), backend
        self._model = model.module if isinstance(model, DistributedDataParallel) else model
        self._kind = chosen[_SHARED].get("kind", KINDS[0]) if _SHARED in chosen else None
        self.mask = LearntMask.of(self._model, **chosen[_LEARNT]) if _LEARNT in chosen else None
        self.auto = AutoLambda(**chosen[_AUTO]) if _AUTO in chosen else None
        self._ghost: GhostProducts | None = None

    @property
    def due(self) -> bool:
        """Whether the next step needs the products of its pairs."""
        return _NORMALISED in self.names or (self.auto is not None and self.auto.due)

    def parameters(self) -> list[nn.Parameter]:
        """What the fixes learn, to be optimised beside the model's."""
        return [] if self.mask is None else list(self.mask.parameters())

    def counted(self, ids: Tensor, answer: Tensor) -> Tensor:
        """The answers' tokens that count, [2 * pairs, tokens]."""
        return answer if self._kind is None else distinct(ids, answer, self._kind)

    @contextmanager
    def watch(self, pairs: int, *, measure: bool = True) -> Iterator[Fixes]:
        """The forward and backward pass of a batch of pairs goes inside; without `measure` it is
        one that no `loss` is asked for."""
        with ExitStack() as inside:
            if measure and self.due and self.backend == "ghost":
                self._ghost = inside.enter_context(GhostProducts(self._model, pairs))
            if self.mask is not None:
                inside.enter_context(self.mask.watch(self._model))
            try:
                yield self
            finally:
                self._ghost = None

    def logps(self, tokens: Tensor, counted: Tensor) -> Tensor:
        """Log-probs of the answers, [rows], of their tokens' [rows, tokens - 1] (`token_logps`).

        Also for the reference's, so that a mask is the same for both.
        """
        mu = counted[:, 1:].to(tokens) if self.mask is None else self.mask(counted).to(tokens)
        return (tokens * mu).sum(1)

    def loss(self, base: Loss, pairs: PairLogps) -> Loss:
        """The loss to differentiate in this pass; `pairs` carry their graph."""
        if not self.due:
            return base if self.auto is None else self.auto.loss(base)
        stats, loss = self._products(pairs), base
        if self.auto is not None:
            if self.auto.due:
                self.auto.update(base, pairs, stats)
            loss = self.auto.loss(base)
        if _NORMALISED in self.names:
            d_w, d_l = (d.double().cpu() for d in autograd_weights(loss, pairs))
            weights = normalised(replace(stats, d_w=d_w, d_l=d_l))
            loss = cast(Loss, Reweighted(loss, weights))
        return loss

    def penalty(self) -> Tensor | float:
        """What the learnt mask adds to the mean loss."""
        return 0.0 if self.mask is None else self.mask.penalty()

    def stepped(self) -> None:
        """Closes an optimizer step."""
        if self.auto is not None:
            self.auto.stepped()

    def beside(self, model: nn.Module) -> nn.Module:
        """The model and what the fixes learn, as one module of all trained parameters."""
        return model if self.mask is None else nn.ModuleDict({"model": model, "mask": self.mask})

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs besides what `beside` holds."""
        return {} if self.auto is None else {_AUTO: self.auto.state()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes back what `state` gave, if anything."""
        if self.auto is not None and _AUTO in state:
            self.auto.load(state[_AUTO])

    def _products(self, pairs: PairLogps) -> PairStats:
        if self.backend == "ghost":
            if self._ghost is None:
                raise TenfoldError("no pass is watched: take `with fixes.watch(pairs=...)`")
            return self._ghost.ahead(pairs.chosen, pairs.rejected)
        if len(pairs.chosen) > 1:
            raise InvalidRequest(
                f"the split back end cannot tell apart the {len(pairs.chosen)} pairs of a batch",
                param="batch",
                hint="one pair a batch with accumulation, or the ghost back end",
            )
        trained = [p for p in self._model.parameters() if p.requires_grad]
        one = torch.ones_like(pairs.chosen)
        both = halves(pairs.chosen, pairs.rejected, (one, one), trained, share=1.0, keep=True)
        return both.stats()


def check_fixes(chosen: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises UnknownName for a fix or an option that does not exist, InvalidRequest for a value."""
    for name, options in chosen.items():
        if name not in FIXES:
            raise UnknownName("fix", name, FIXES, param="fix")
        for key, value in options.items():
            if key not in FIXES[name]:
                raise UnknownName(f"option of {name}", key, FIXES[name], param=f"fix.{name}.{key}")
            if key == "kind":
                if value not in KINDS:
                    raise UnknownName("mask", str(value), KINDS, param="fix.shared_mask.kind")
            elif isinstance(value, bool) or not isinstance(value, int | float):
                raise InvalidRequest(f"{key} is {value!r}", param=f"fix.{name}.{key}")
    if _LEARNT in chosen:
        LearntMask(1, **chosen[_LEARNT])
    if _AUTO in chosen:
        AutoLambda(**chosen[_AUTO])
