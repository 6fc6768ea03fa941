"""Preference losses as pure functions of log-probs, each with its gradient weights in closed form.

A loss L(l_w, l_l) of the log-probs of a pair moves the parameters by `rate * (d_w g_w - d_l g_l)`,
where g are the gradients of the two log-probs, d_w = -dL/dl_w and d_l = dL/dl_l. These two numbers
are all that gradient entanglement needs to know of a loss (2410.13828, section 3), so every loss
states them beside its formula; tests hold them against autograd.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from tenfold.errors import InvalidRequest, UnknownName

Weights = tuple[Tensor, Tensor]  # d_w, d_l: [pairs] each


@dataclass(frozen=True, slots=True)
class PairLogps:
    """Summed log-probs of the answers' tokens, one row a pair; all tensors are [pairs].

    `ref_*` are the reference model's. Raises InvalidRequest, naming the row, for an answer without
    tokens or a log-prob that is no number.
    """

    chosen: Tensor
    rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    ref_chosen: Tensor | None = None
    ref_rejected: Tensor | None = None

    def __post_init__(self) -> None:
        if (self.ref_chosen is None) != (self.ref_rejected is None):
            raise InvalidRequest("give the reference's log-probs of both answers, or of neither")
        for field in fields(self):
            values = getattr(self, field.name)
            if values is None:
                continue
            if values.shape != self.chosen.shape or values.dim() != 1:
                raise InvalidRequest(
                    f"{field.name} is {list(values.shape)}, one value a pair is needed:"
                    f" {list(self.chosen.shape)}",
                    param=field.name,
                )
            wrong = values < 1 if field.name.endswith("tokens") else ~values.isfinite()
            if bool(wrong.any()):
                row = int(wrong.nonzero()[0])
                raise InvalidRequest(
                    f"row {row}: {field.name} is {float(values[row]):.4g}",
                    param=field.name,
                    hint="an answer has at least one token"
                    if field.name.endswith("tokens")
                    else "the model has overflown: lower the learning rate, look at this row",
                )

    @property
    def referenced(self) -> bool:
        """Whether a reference's log-probs are there."""
        return self.ref_chosen is not None

    def gains(self) -> Weights:
        """How much likelier than by the reference the chosen and the rejected answer are."""
        if self.ref_chosen is None or self.ref_rejected is None:
            raise InvalidRequest("this loss compares with a reference model and there is none")
        return self.chosen - self.ref_chosen, self.rejected - self.ref_rejected

    def margin(self) -> Tensor:
        """The difference of the two gains, or of the log-probs where there is no reference."""
        if not self.referenced:
            return self.chosen - self.rejected
        chosen, rejected = self.gains()
        return chosen - rejected

    def means(self) -> Weights:
        """Log-probs a token."""
        return self.chosen / self.chosen_tokens, self.rejected / self.rejected_tokens


class Loss(Protocol):
    """A preference loss with its parameters."""

    name: ClassVar[str]
    source: ClassVar[str]  # the paper
    referenced: ClassVar[bool]  # whether it compares with a reference model

    def __call__(self, pairs: PairLogps) -> Tensor:
        """The loss of each pair, [pairs]."""
        ...

    def weights(self, pairs: PairLogps) -> Weights:
        """d_w and d_l of each pair, [pairs], in closed form."""
        ...


@dataclass(frozen=True, slots=True)
class DPO:
    """-log s(beta m) - nll l_w / |w|, m the margin of gains, s the logistic function.

    `label_smoothing` is the share of labels that may be the wrong way round (conservative DPO);
    `nll` how much the chosen answer is learnt besides, a token (2404.19733 has 1). TRL's
    `loss_type=["sigmoid", "sft"]` weighs all tokens of a batch alike, this one all answers.
    """

    beta: float = 0.1
    label_smoothing: float = 0.0
    nll: float = 0.0
    name: ClassVar[str] = "dpo"
    source: ClassVar[str] = "2305.18290"
    referenced: ClassVar[bool] = True

    def __call__(self, pairs: PairLogps) -> Tensor:
        z, e = self.beta * pairs.margin(), self.label_smoothing
        preferred = -(1 - e) * F.logsigmoid(z) - e * F.logsigmoid(-z)
        return preferred - self.nll * pairs.means()[0] if self.nll else preferred

    def weights(self, pairs: PairLogps) -> Weights:
        z, e = self.beta * pairs.margin(), self.label_smoothing
        d = self.beta * ((1 - e) * torch.sigmoid(-z) - e * torch.sigmoid(z))
        return d + self.nll / pairs.chosen_tokens, d


@dataclass(frozen=True, slots=True)
class IPO:
    """(m - 1 / (2 beta))^2, the margin of gains a token as its authors ran it.

    `per_token=False` is the formula as printed, with summed log-probs.
    """

    beta: float = 0.1
    per_token: bool = True
    name: ClassVar[str] = "ipo"
    source: ClassVar[str] = "2310.12036"
    referenced: ClassVar[bool] = True

    def _margin(self, pairs: PairLogps) -> Tensor:
        chosen, rejected = pairs.gains()
        if self.per_token:
            return chosen / pairs.chosen_tokens - rejected / pairs.rejected_tokens
        return chosen - rejected

    def __call__(self, pairs: PairLogps) -> Tensor:
        return (self._margin(pairs) - 1 / (2 * self.beta)) ** 2

    def weights(self, pairs: PairLogps) -> Weights:
        d = 2 * (1 / (2 * self.beta) - self._margin(pairs))
        if self.per_token:
            return d / pairs.chosen_tokens, d / pairs.rejected_tokens
        return d, d


@dataclass(frozen=True, slots=True)
class RDPO:
    """DPO whose reward pays for length: -log s(beta m + alpha (|w| - |l|))."""

    beta: float = 0.1
    alpha: float = 0.2
    name: ClassVar[str] = "rdpo"
    source: ClassVar[str] = "2403.19159"
    referenced: ClassVar[bool] = True

    def _logit(self, pairs: PairLogps) -> Tensor:
        longer = pairs.chosen_tokens - pairs.rejected_tokens
        return self.beta * pairs.margin() + self.alpha * longer

    def __call__(self, pairs: PairLogps) -> Tensor:
        return -F.logsigmoid(self._logit(pairs))

    def weights(self, pairs: PairLogps) -> Weights:
        d = self.beta * torch.sigmoid(-self._logit(pairs))
        return d, d


@dataclass(frozen=True, slots=True)
class SimPO:
    """-log s(beta (l_w / |w| - l_l / |l|) - gamma): no reference, log-probs a token."""

    beta: float = 2.0
    gamma: float = 1.0
    name: ClassVar[str] = "simpo"
    source: ClassVar[str] = "2405.14734"
    referenced: ClassVar[bool] = False

    def _logit(self, pairs: PairLogps) -> Tensor:
        chosen, rejected = pairs.means()
        return self.beta * (chosen - rejected) - self.gamma

    def __call__(self, pairs: PairLogps) -> Tensor:
        return -F.logsigmoid(self._logit(pairs))

    def weights(self, pairs: PairLogps) -> Weights:
        d = self.beta * torch.sigmoid(-self._logit(pairs))
        return d / pairs.chosen_tokens, d / pairs.rejected_tokens


@dataclass(frozen=True, slots=True)
class CPO:
    """-log s(beta (l_w - l_l)) - nll l_w: no reference, and the chosen answer is learnt too.

    `per_token` takes the mean of the answer's tokens in the second term instead of the sum; TRL
    the mean over the tokens of all chosen answers of the batch.
    """

    beta: float = 0.1
    nll: float = 1.0
    per_token: bool = False
    name: ClassVar[str] = "cpo"
    source: ClassVar[str] = "2401.08417"
    referenced: ClassVar[bool] = False

    def __call__(self, pairs: PairLogps) -> Tensor:
        learnt = pairs.means()[0] if self.per_token else pairs.chosen
        return -F.logsigmoid(self.beta * (pairs.chosen - pairs.rejected)) - self.nll * learnt

    def weights(self, pairs: PairLogps) -> Weights:
        d = self.beta * torch.sigmoid(-self.beta * (pairs.chosen - pairs.rejected))
        extra = self.nll / pairs.chosen_tokens if self.per_token else self.nll
        return d + extra, d


@dataclass(frozen=True, slots=True)
class DPOP:
    """-log s(beta (m - penalty max(0, ref_w - l_w))): the chosen answer may not fall (Smaug)."""

    beta: float = 0.3
    penalty: float = 50.0
    name: ClassVar[str] = "dpop"
    source: ClassVar[str] = "2402.13228"
    referenced: ClassVar[bool] = True

    def _logit(self, pairs: PairLogps) -> Tensor:
        fallen = torch.relu(-pairs.gains()[0])
        return self.beta * (pairs.margin() - self.penalty * fallen)

    def __call__(self, pairs: PairLogps) -> Tensor:
        return -F.logsigmoid(self._logit(pairs))

    def weights(self, pairs: PairLogps) -> Weights:
        d = self.beta * torch.sigmoid(-self._logit(pairs))
        return d * (1 + self.penalty * (pairs.gains()[0] < 0)), d


@dataclass(frozen=True, slots=True)
class SLiC:
    """max(0, delta - l_w + l_l) - nll l_w: a hinge, and the chosen answer is learnt (SLiC-HF)."""

    delta: float = 1.0
    nll: float = 0.1
    name: ClassVar[str] = "slic"
    source: ClassVar[str] = "2305.10425"
    referenced: ClassVar[bool] = False

    def __call__(self, pairs: PairLogps) -> Tensor:
        hinge = torch.relu(self.delta - pairs.chosen + pairs.rejected)
        return hinge - self.nll * pairs.chosen

    def weights(self, pairs: PairLogps) -> Weights:
        active = (pairs.chosen - pairs.rejected < self.delta).to(pairs.chosen.dtype)
        return active + self.nll, active


@dataclass(frozen=True, slots=True)
class ORPO:
    """-l_w / |w| - weight log s(log odds ratio), odds p / (1 - p) of p = exp(log-prob a token).

    TRL's first term learns the prompt too.
    """

    weight: float = 0.1
    name: ClassVar[str] = "orpo"
    source: ClassVar[str] = "2403.07691"
    referenced: ClassVar[bool] = False

    @staticmethod
    def _log_odds(mean: Tensor) -> Tensor:
        return mean - _log1mexp(mean)

    def _ratio(self, pairs: PairLogps) -> Tensor:
        chosen, rejected = pairs.means()
        return self._log_odds(chosen) - self._log_odds(rejected)

    def __call__(self, pairs: PairLogps) -> Tensor:
        return -pairs.means()[0] - self.weight * F.logsigmoid(self._ratio(pairs))

    def weights(self, pairs: PairLogps) -> Weights:
        s = self.weight * torch.sigmoid(-self._ratio(pairs))
        chosen, rejected = (-torch.expm1(mean) for mean in pairs.means())  # 1 - p
        return (1 + s / chosen) / pairs.chosen_tokens, s / rejected / pairs.rejected_tokens


@dataclass(frozen=True, slots=True)
class KTO:
    """Each answer against a reference point z: 1 - s(beta (g_w - z)) and 1 - s(beta (z - g_l)).

    g are gains. `z` estimates the divergence from the reference (of mismatched answers, clipped at
    0); it is a number that no gradient passes, 0 where it is not estimated. TRL has half of this:
    it averages over answers.
    """

    beta: float = 0.1
    desirable: float = 1.0
    undesirable: float = 1.0
    z: float = 0.0
    name: ClassVar[str] = "kto"
    source: ClassVar[str] = "2402.01306"
    referenced: ClassVar[bool] = True

    def __call__(self, pairs: PairLogps) -> Tensor:
        chosen, rejected = pairs.gains()
        up = 1 - torch.sigmoid(self.beta * (chosen - self.z))
        down = 1 - torch.sigmoid(self.beta * (self.z - rejected))
        return self.desirable * up + self.undesirable * down

    def weights(self, pairs: PairLogps) -> Weights:
        chosen, rejected = (torch.sigmoid(self.beta * (g - self.z)) for g in pairs.gains())
        return (
            self.desirable * self.beta * chosen * (1 - chosen),
            self.undesirable * self.beta * rejected * (1 - rejected),
        )


@dataclass(frozen=True, slots=True)
class RRHF:
    """max(0, l_l / |l| - l_w / |w|) - nll l_w: log-probs a token are ranked, the best is learnt."""

    nll: float = 1.0
    name: ClassVar[str] = "rrhf"
    source: ClassVar[str] = "2304.05302"
    referenced: ClassVar[bool] = False

    def __call__(self, pairs: PairLogps) -> Tensor:
        chosen, rejected = pairs.means()
        return torch.relu(rejected - chosen) - self.nll * pairs.chosen

    def weights(self, pairs: PairLogps) -> Weights:
        chosen, rejected = pairs.means()
        active = (rejected > chosen).to(pairs.chosen.dtype)
        return active / pairs.chosen_tokens + self.nll, active / pairs.rejected_tokens


@dataclass(frozen=True, slots=True)
class SPPO:
    """(g_w - 1 / (2 beta))^2 + (g_l + 1 / (2 beta))^2: gains g towards fixed points.

    The paper's form for labels that are certain.
    """

    beta: float = 0.001
    name: ClassVar[str] = "sppo"
    source: ClassVar[str] = "2405.00675"
    referenced: ClassVar[bool] = True

    def __call__(self, pairs: PairLogps) -> Tensor:
        (chosen, rejected), aim = pairs.gains(), 1 / (2 * self.beta)
        return (chosen - aim) ** 2 + (rejected + aim) ** 2

    def weights(self, pairs: PairLogps) -> Weights:
        (chosen, rejected), aim = pairs.gains(), 1 / (2 * self.beta)
        return 2 * (aim - chosen), 2 * (aim + rejected)


@dataclass(frozen=True, slots=True)
class CalDPO:
    """-log s(m) + (g_w - 1 / (2 beta))^2 + (g_l + 1 / (2 beta))^2: DPO with calibrated gains g."""

    beta: float = 0.1
    name: ClassVar[str] = "caldpo"
    source: ClassVar[str] = "2412.14516"
    referenced: ClassVar[bool] = True

    def __call__(self, pairs: PairLogps) -> Tensor:
        return -F.logsigmoid(pairs.margin()) + SPPO(self.beta)(pairs)

    def weights(self, pairs: PairLogps) -> Weights:
        d = torch.sigmoid(-pairs.margin())
        chosen, rejected = SPPO(self.beta).weights(pairs)
        return d + chosen, d + rejected


def _log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x < 0 without cancellation on either side."""
    near = x > -math.log(2)
    return torch.where(near, torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(x)))


LOSSES: Mapping[str, type[Any]] = {
    kind.name: kind
    for kind in (
        DPO, IPO, RDPO, SimPO, CPO, DPOP, SLiC, ORPO, KTO, RRHF, SPPO, CalDPO,
    )
}  # fmt: skip


def make_loss(name: str, **parameters: float) -> Loss:
    """A loss by its name; parameters that are not given are the paper's.

    Raises UnknownName for a name or a parameter that does not exist, InvalidRequest for a value
    that is no finite number.
    """
    if name not in LOSSES:
        raise UnknownName("loss", name, LOSSES, param="loss")
    kind = LOSSES[name]
    known = [field.name for field in fields(kind)]
    for key, value in parameters.items():
        if key not in known:
            raise UnknownName(f"parameter of {name}", key, known, param=f"loss.{key}")
        if not math.isfinite(value) or (key == "beta" and value <= 0):
            raise InvalidRequest(f"{key} is {value}", param=f"loss.{key}", hint="a number above 0")
    made: Loss = kind(**parameters)
    return made


def check_reference(loss: Loss, referenced: bool) -> None:
    """Raises InvalidRequest for a reference that the loss has no use for, or lacks."""
    if loss.referenced and not referenced:
        raise InvalidRequest(
            f"{loss.name} compares with a reference model and there is none",
            param="reference",
            hint="give the model that training starts from, or take simpo, cpo, orpo, slic, rrhf",
        )
    if referenced and not loss.referenced:
        raise InvalidRequest(
            f"{loss.name} has no reference model",
            param="reference",
            hint="leave the reference out: it costs a forward pass and changes nothing",
        )


def autograd_weights(loss: Callable[[PairLogps], Tensor], pairs: PairLogps) -> Weights:
    """d_w and d_l of any loss by autograd through the log-probs alone, [pairs] each.

    Costs nothing beside a model's backward pass, and holds for losses that no class here states.
    """
    with torch.enable_grad():
        chosen = pairs.chosen.detach().clone().requires_grad_()
        rejected = pairs.rejected.detach().clone().requires_grad_()
        value = loss(replace(pairs, chosen=chosen, rejected=rejected)).sum()
        grads = torch.autograd.grad(value, (chosen, rejected), allow_unused=True)
    d_w, d_l = (torch.zeros_like(chosen) if g is None else g for g in grads)
    return -d_w, d_l
