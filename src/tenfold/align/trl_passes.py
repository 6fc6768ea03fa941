"""What happens in a training pass of TRL's trainers, caught in place: log-probs and their weights.

The gradient weights are not those of a formula: TRL's own loss is differentiated with respect to
the log-probs that it was given, so lists of losses, their weights and classes derived from TRL's
are covered as they are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from tenfold.align.losses import PairLogps
from tenfold.align.monitor import Watch
from tenfold.errors import InvalidRequest, TenfoldError

PROBE = "EntanglementCallback measures any trainer on fixed pairs"
_FAR = 0.1  # nats a token between TRL's log-probs and those of a plain readout


@contextmanager
def undropped(model: nn.Module) -> Iterator[None]:
    """Without dropout, which would draw random numbers that training goes on to draw."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


class Passes(ABC):
    """One micro-batch: forward passes inside `watching`, then `differentiate`, then `tell`."""

    def __init__(self, trainer: Any, inputs: Mapping[str, Any], rows: Sequence[int] | None) -> None:
        self.trainer, self.inputs, self.rows = trainer, inputs, rows
        self.due: bool = trainer.monitor.due
        self.scale = 1.0  # of the loss in what backward() is called on
        self._value: Tensor | None = None

    @property
    @abstractmethod
    def pairs(self) -> int:
        """In this micro-batch."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Looks on while it lasts."""
        yield

    def differentiate(self, loss: Tensor) -> None:
        """The weights of the loss; before it is differentiated for training."""
        self._value = loss.detach()
        if self.due:
            self._weigh(loss)
            loss.register_hook(self._scaled)  # type: ignore[no-untyped-call]

    def tell(self, step: Watch) -> None:
        """Hands all of it to the monitor; after the backward pass."""
        logps = self._logps()
        nothing = torch.zeros_like(logps.chosen)
        d_w, d_l = self._weights() if self.due else (nothing, nothing)
        step.weighed(logps, d_w, d_l, share=self.scale / self.pairs, value=self._value)

    def now(self) -> tuple[Tensor, Tensor]:
        """The log-probs as they are after the step, [pairs] each: one more forward pass."""
        with torch.no_grad(), undropped(self.trainer.model):
            return self._again(self.trainer._prepare_inputs(dict(self.inputs)))

    @abstractmethod
    def pair(self, place: int) -> tuple[Tensor, Tensor, Tensor]:
        """Ids, attention and answer of one pair, [2, tokens] each."""

    def _scaled(self, grad: Tensor) -> None:
        self.scale = float(grad)

    def _checked(self, *logps: Tensor) -> Sequence[Tensor]:
        """Names the row of a log-prob that is no number."""
        for name, values in zip(("chosen", "rejected"), logps, strict=True):
            for place in (~values.isfinite()).nonzero().flatten().tolist():
                row = place if self.rows is None else self.rows[place]
                raise InvalidRequest(
                    f"row {row}: the {name} log-prob is {float(values[place])}",
                    param=name,
                    hint="lower the learning rate if the model has overflown; look at this row",
                )
        return logps

    @abstractmethod
    def _weigh(self, loss: Tensor) -> None:
        """Differentiates TRL's loss with respect to its log-probs; on steps that are due."""

    @abstractmethod
    def _weights(self) -> tuple[Tensor, Tensor]:
        """d_w and d_l, [pairs] each; after `_weigh`."""

    @abstractmethod
    def _logps(self) -> PairLogps:
        """Summed log-probs and lengths of the answers, as they were before the step."""

    @abstractmethod
    def _again(self, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Summed log-probs by one more forward pass, [pairs] each."""


class DPOPasses(Passes):
    """DPOTrainer's: token log-probs of a fused head, and a reference by whatever means it has one.

    With `ld_alpha` an answer's log-prob is TRL's: tokens beyond the shorter answer's length count
    less.
    """

    _tokens: Tensor  # [rows, tokens - 1], with the graph
    _labels: Tensor
    _hidden: Tensor | None = None
    _reference: Tensor | None = None
    _grads: Tensor

    @property
    def pairs(self) -> int:
        return len(self.inputs["input_ids"]) // 2

    def pair(self, place: int) -> tuple[Tensor, Tensor, Tensor]:
        names, rows = (
            ("input_ids", "attention_mask", "completion_mask"),
            [place, place + self.pairs],
        )
        ids, attention, answer = (self.inputs[name][rows] for name in names)
        return ids, attention, answer.bool()

    @contextmanager
    def watching(self) -> Iterator[None]:
        model = self.trainer.model
        with ExitStack() as hooks:
            for one in (model, self.trainer.ref_model):
                if one is not None:
                    handle = one.register_forward_hook(self._ran, with_kwargs=True)
                    hooks.callback(handle.remove)
            self._head = _readout(model) if self.due else None
            if self._head is not None:
                backbone = _causal(model).base_model
                hooks.callback(backbone.register_forward_hook(self._read).remove)
            yield

    def _ran(
        self, _: nn.Module, args: Any, kwargs: Mapping[str, Any], output: Mapping[str, Any]
    ) -> None:
        tokens = output.get("log_probs") if isinstance(output, Mapping) else None
        if tokens is None:
            raise TenfoldError(
                "DPOTrainer computes log-probs in another way than this version knows",
                hint='pip install "trl>=1.16"; ' + PROBE,
            )
        if tokens.shape[1] != self.inputs["input_ids"].shape[1] - 1:
            raise InvalidRequest(
                "the model puts tokens of its own before the prompt",
                param="peft_config",
                hint="prompt tuning cannot be measured, LoRA can",
            )
        if not tokens.requires_grad:
            self._reference = tokens.detach()
        else:
            self._tokens, self._labels = tokens, kwargs["labels"][:, 1:]

    def _read(self, _: nn.Module, args: Any, output: Any) -> None:
        if torch.is_grad_enabled():
            self._hidden = output.last_hidden_state.detach()[:, :-1]

    def _weigh(self, loss: Tensor) -> None:
        (self._grads,) = torch.autograd.grad(loss, self._tokens, retain_graph=True)

    def _weights(self) -> tuple[Tensor, Tensor]:
        """d_w, d_l from the gradients of the tokens' log-probs, which one factor a row explains."""
        counts = self._counts()
        first = counts.argmax(1, keepdim=True)
        factor = self._grads.gather(1, first)
        off = ((self._grads - factor * counts) * (counts > 0)).abs().max()
        if off > 1e-4 * self._grads.abs().max():
            raise InvalidRequest(
                "the loss weighs the tokens of one answer unlike: its gradient is not a multiple"
                " of the log-prob's",
                param="loss_type",
                hint='without ld_alpha, "sft" can be measured; ' + PROBE,
            )
        chosen, rejected = (self.pairs * factor.squeeze(1)).chunk(2)
        return -chosen, rejected

    def _logps(self) -> PairLogps:
        counts = self._counts()
        chosen, rejected = self._checked(*(self._tokens.detach() * counts).sum(1).chunk(2))
        tokens = (counts > 0).sum(1).to(chosen).chunk(2)
        if "ref_chosen_logps" in self.inputs:
            ref = [self.inputs[f"ref_{side}_logps"].to(chosen) for side in ("chosen", "rejected")]
        elif self._reference is not None:
            ref = list((self._reference * counts).sum(1).chunk(2))
        else:
            ref = [None, None]
        return PairLogps(chosen, rejected, *tokens, *ref)

    def _counts(self) -> Tensor:
        """What each token counts in its answer's log-prob: [rows, tokens - 1]."""
        answer = (self._labels != -100).to(self._tokens.dtype)
        alpha = self.trainer.ld_alpha
        if alpha is None:
            return answer
        shared = torch.minimum(*answer.sum(1).chunk(2)).repeat(2)[:, None]
        return torch.where(answer.cumsum(1) <= shared, answer, alpha * answer)

    def tell(self, step: Watch) -> None:
        if self._head is not None and self._hidden is not None:
            step.readout(self._head.weight, self._hidden, self._scores)
        super().tell(step)

    def _scores(self, rows: list[int]) -> Tensor:
        """Gradient of the scores that the fused head never shows, [2, tokens - 1, vocabulary]."""
        assert self._head is not None
        assert self._hidden is not None
        answer = self._labels[rows] != -100
        labels = self._labels[rows].clamp(min=0)[..., None]
        bias = None if self._head.bias is None else self._head.bias.detach().float()
        scores = nn.functional.linear(
            self._hidden[rows].float(), self._head.weight.detach().float(), bias
        ).log_softmax(-1)
        apart = scores.gather(2, labels).squeeze(2) - self._tokens.detach()[rows]
        if float((apart.abs() * answer).sum() / answer.sum()) > _FAR:
            raise InvalidRequest(
                "the model scales or caps its scores, which TRL's fused head hides",
                param="model",
                hint="train LoRA adapters, which leave the head alone; " + PROBE,
            )
        weight = (self.scale * self._grads[rows] * answer).float()[..., None]
        return (scores.exp_() * -weight).scatter_add_(2, labels, weight)

    def _again(self, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
        output = self.trainer.model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], labels=labels,
            fused_lm_head=True, use_cache=False,
        )  # fmt: skip
        chosen, rejected = (output.log_probs * self._counts()).sum(1).chunk(2)
        return chosen, rejected


class CPOPasses(Passes):
    """CPOTrainer's: log-probs of the answers, summed or a token, and a mean over chosen tokens."""

    _summed: tuple[Tensor, Tensor, Tensor]  # chosen, rejected, mean nll; as TRL has them
    _found: tuple[Tensor, Tensor]

    @property
    def pairs(self) -> int:
        return len(self.inputs["chosen_labels"])

    def pair(self, place: int) -> tuple[Tensor, Tensor, Tensor]:
        ids, attention, labels = (
            pad_sequence(
                [self.inputs[f"{side}_{name}"][place] for side in ("chosen", "rejected")],
                batch_first=True,
                padding_value=fill,
            )
            for name, fill in (("input_ids", 0), ("attention_mask", 0), ("labels", -100))
        )
        return ids, attention, labels != -100

    def ran(self, output: Sequence[Tensor]) -> None:
        """What `concatenated_forward` gave."""
        self._summed = (output[0], output[1], output[4])

    def _lengths(self) -> tuple[Tensor, Tensor]:
        """Tokens of the answers, [pairs] each."""
        like = self._summed[0].detach()
        chosen, rejected = (
            (self.inputs[f"{side}_labels"][:, 1:] != -100).sum(1).to(like)
            for side in ("chosen", "rejected")
        )
        return chosen, rejected

    def _units(self) -> tuple[Tensor, Tensor]:
        """What one of TRL's log-probs is in sums."""
        lengths = self._lengths()
        averaged = self.trainer.loss_type in ("ipo", "simpo")
        return lengths if averaged else (torch.ones_like(lengths[0]), torch.ones_like(lengths[1]))

    def _weigh(self, loss: Tensor) -> None:
        wanted = [x for x in self._summed if x.requires_grad]
        grads = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
        chosen, rejected = (
            self.pairs * (torch.zeros_like(u) if g is None else g) / u
            for g, u in zip(grads[:2], self._units(), strict=True)
        )
        if len(grads) == 3 and grads[2] is not None:
            chosen = chosen - self.pairs * grads[2] / self._lengths()[0].sum()
        self._found = (-chosen, rejected)

    def _weights(self) -> tuple[Tensor, Tensor]:
        return self._found

    def _logps(self) -> PairLogps:
        tokens = self._lengths()
        chosen, rejected = self._checked(
            *(x.detach() * u for x, u in zip(self._summed[:2], self._units(), strict=True))
        )
        return PairLogps(chosen, rejected, *tokens)

    def _again(self, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        units = self._units()
        chosen, rejected = self.trainer.concatenated_forward(self.trainer.model, inputs)[:2]
        return chosen * units[0], rejected * units[1]


def _causal(model: Any) -> Any:
    """The causal language model under an adapter."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _readout(model: Any) -> Any:
    """The model's last linear layer if training changes it."""
    head = _causal(model).get_output_embeddings()
    return head if head is not None and head.weight.requires_grad else None
