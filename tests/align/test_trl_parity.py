"""Our losses against TRL's own code, on the same log-probs: values and gradients.

TRL's trainers are made without a model (`__new__`) and handed one that returns the log-probs that
were drawn, so that what runs is the code that TRL's users train with.
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from tenfold.align.logps import token_logps
from tenfold.align.losses import PairLogps, make_loss

PAIRS, TOKENS, PROMPT, VOCABULARY = 5, 12, 3, 11


class Drawn:
    """Token log-probs of pairs whose answers have different lengths; double precision."""

    def __init__(self, pairs: int = PAIRS, seed: int = 0) -> None:
        drawn = torch.Generator().manual_seed(seed)
        self.pairs = pairs
        self.ids = torch.randint(0, VOCABULARY, (2 * pairs, TOKENS), generator=drawn)
        place = torch.arange(TOKENS)[None]
        ends = torch.randint(PROMPT + 1, TOKENS + 1, (2 * pairs, 1), generator=drawn)
        self.answer = ((place >= PROMPT) & (place < ends)).long()
        self.attention = (place < ends).long()
        logits = torch.randn(2 * pairs, TOKENS, VOCABULARY, generator=drawn, dtype=torch.float64)
        self.logits = (2 * logits).requires_grad_()
        self.reference = self.answer[:, 1:] * torch.randn(
            2 * pairs, TOKENS - 1, generator=drawn, dtype=torch.float64
        ).sub(2)

    def tokens(self) -> Tensor:
        """Log-probs of the answers' tokens, 0 elsewhere: [rows, tokens - 1]."""
        return token_logps(self.logits, self.ids) * self.answer[:, 1:]

    def logps(self, *, referenced: bool) -> PairLogps:
        summed, counts = self.tokens().sum(1), self.answer[:, 1:].sum(1).double()
        ref = self.reference.sum(1).chunk(2) if referenced else (None, None)
        return PairLogps(*summed.chunk(2), *counts.chunk(2), *ref)

    def mean_chosen_token(self) -> Tensor:
        """TRL's SFT terms: the mean over all tokens of all chosen answers, not answer by answer."""
        return self.tokens()[: self.pairs].sum() / self.answer[: self.pairs, 1:].sum()


def stub(cls, **settings):
    """One of TRL's trainers without what its constructor needs."""
    made = cls.__new__(cls)
    made.accelerator = SimpleNamespace(
        device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x
    )
    made.model = SimpleNamespace(training=True)
    made._metrics = {"train": defaultdict(list)}
    made._total_train_tokens, made._tp_size, made.aux_loss_enabled = 0, 1, False
    vars(made).update(settings)
    return made


class Fused(nn.Module):
    """Answers like a model with TRL's fused head: log-probs that were drawn."""

    def __init__(self, log_probs: Tensor) -> None:
        super().__init__()
        self.log_probs = log_probs

    def forward(self, input_ids: Tensor, **_: object) -> SimpleNamespace:
        nothing = torch.zeros_like(self.log_probs).detach()
        return SimpleNamespace(
            log_probs=self.log_probs, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool()
        )


def dpo(drawn: Drawn, *kinds: str, weights: tuple[float, ...] = (), **settings: float) -> Tensor:
    from trl import DPOTrainer

    chosen, rejected = drawn.reference.sum(1).chunk(2)
    trainer = stub(
        DPOTrainer,
        **{"beta": 0.1, "label_smoothing": 0.0, **settings},
        loss_types=list(kinds),
        loss_weights=list(weights) or [1.0] * len(kinds),
        ld_alpha=None,
        f_divergence_type="reverse_kl",
        use_weighting=False,
        precompute_ref_logps=True,
    )
    inputs = {
        "input_ids": drawn.ids,
        "attention_mask": drawn.attention,
        "completion_mask": drawn.answer,
        "ref_chosen_logps": chosen,
        "ref_rejected_logps": rejected,
    }
    return trainer._compute_loss(Fused(drawn.tokens()), inputs, False)


def pairwise(cls, drawn: Drawn, **settings: object) -> Tensor:
    """CPO's and ORPO's loss, from logits."""
    trainer = stub(cls, is_encoder_decoder=False, pad_token_id=0, padding_value=0, **settings)
    labels = drawn.ids.masked_fill(drawn.answer == 0, -100)
    batch = {}
    for side, rows in (("chosen", slice(0, drawn.pairs)), ("rejected", slice(drawn.pairs, None))):
        batch[f"{side}_input_ids"] = drawn.ids[rows]
        batch[f"{side}_attention_mask"] = drawn.attention[rows]
        batch[f"{side}_labels"] = labels[rows]
    loss, _ = trainer.get_batch_loss_metrics(
        lambda *_, **__: SimpleNamespace(logits=drawn.logits), batch
    )
    return loss


def cpo(drawn: Drawn, kind: str, **settings: float) -> Tensor:
    from trl.experimental.cpo import CPOTrainer

    parameters = {"beta": 0.1, "label_smoothing": 0.0, "alpha": 0.0, "simpo_gamma": 0.5}
    return pairwise(CPOTrainer, drawn, loss_type=kind, **{**parameters, **settings})


def same(ours: Tensor, theirs: Tensor, drawn: Drawn) -> None:
    """The same value and the same gradient with respect to what the model gave."""
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    gradients = [torch.autograd.grad(x, drawn.logits, retain_graph=True)[0] for x in (ours, theirs)]
    assert gradients[1].abs().max() > 0
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "parameters", "kind", "theirs"),
    [
        ("dpo", {"beta": 0.3}, "sigmoid", {"beta": 0.3}),
        ("ipo", {"beta": 0.2}, "ipo", {"beta": 0.2}),
        ("sppo", {"beta": 0.05}, "sppo_hard", {"beta": 0.05}),
    ],
)
def test_a_loss_with_a_reference_is_trls(name, parameters, kind, theirs):
    drawn = Drawn()
    ours = make_loss(name, **parameters)(drawn.logps(referenced=True)).mean()
    same(ours, dpo(drawn, kind, **theirs), drawn)


def test_label_smoothing_is_trls_but_for_the_factor_that_keeps_robust_dpo_unbiased():
    drawn, e = Drawn(), 0.2
    pairs = drawn.logps(referenced=True)
    # conservative DPO: (1 - e) a + e b; TRL has only the robust form ((1 - e) a - e b) / (1 - 2e)
    smoothed = make_loss("dpo", label_smoothing=e)(pairs).mean()
    plain = make_loss("dpo")(pairs).mean()
    flipped = (smoothed - (1 - e) * plain) / e
    robust = ((1 - e) * plain - e * flipped) / (1 - 2 * e)
    same(robust, dpo(drawn, "robust", label_smoothing=e), drawn)
    # TRL smooths in CPO, where without a reference the margin is that of the log-probs
    bare = PairLogps(
        *(getattr(pairs, x) for x in ("chosen", "rejected", "chosen_tokens", "rejected_tokens"))
    )
    ours = make_loss("dpo", label_smoothing=e)(bare).mean()
    same(ours, cpo(drawn, "sigmoid", label_smoothing=e, cpo_alpha=0.0), drawn)


def test_dpo_with_its_sft_term_is_trls_list_for_one_pair():
    drawn = Drawn(pairs=1)
    ours = make_loss("dpo", nll=0.7)(drawn.logps(referenced=True)).mean()
    same(ours, dpo(drawn, "sigmoid", "sft", weights=(1.0, 0.7)), drawn)


def test_trls_sft_term_weighs_tokens_alike_and_ours_answers():
    drawn = Drawn()
    pairs = drawn.logps(referenced=True)
    assert len(set(pairs.chosen_tokens.tolist())) > 1
    ours = make_loss("dpo")(pairs).mean() - 0.7 * drawn.mean_chosen_token()
    same(ours, dpo(drawn, "sigmoid", "sft", weights=(1.0, 0.7)), drawn)
    tokens = pairs.chosen_tokens
    by_answer = make_loss("dpo", nll=0.7)(pairs) - make_loss("dpo")(pairs)  # [pairs]
    again = make_loss("dpo")(pairs).mean() + (by_answer * tokens).sum() / tokens.sum()
    same(again, dpo(drawn, "sigmoid", "sft", weights=(1.0, 0.7)), drawn)


def test_hinges_are_slics_with_the_margin_in_other_units():
    drawn, beta = Drawn(), 0.25
    pairs = drawn.logps(referenced=True)
    slic = make_loss("slic", delta=1 / beta, nll=0.0)
    bare = PairLogps(pairs.chosen, pairs.rejected, pairs.chosen_tokens, pairs.rejected_tokens)
    same(beta * slic(bare).mean(), cpo(drawn, "hinge", beta=beta, cpo_alpha=0.0), drawn)
    gains = PairLogps(*pairs.gains(), pairs.chosen_tokens, pairs.rejected_tokens)
    same(beta * slic(gains).mean(), dpo(drawn, "hinge", beta=beta), drawn)


def test_simpo_is_trls_cpo_without_its_sft_term():
    drawn = Drawn()
    ours = make_loss("simpo", beta=2.0, gamma=0.5)(drawn.logps(referenced=False)).mean()
    same(ours, cpo(drawn, "simpo", beta=2.0, simpo_gamma=0.5, cpo_alpha=0.0), drawn)


def test_cpo_is_trls_for_one_pair_and_in_a_batch_trl_weighs_tokens_alike():
    one = Drawn(pairs=1)
    ours = make_loss("cpo", nll=0.8, per_token=True)(one.logps(referenced=False)).mean()
    same(ours, cpo(one, "sigmoid", cpo_alpha=0.8), one)
    drawn = Drawn()
    preference = make_loss("cpo", nll=0.0)(drawn.logps(referenced=False)).mean()
    same(preference - 0.8 * drawn.mean_chosen_token(), cpo(drawn, "sigmoid", cpo_alpha=0.8), drawn)


def test_orpo_is_trls_but_that_trl_learns_the_prompt_too():
    from trl.experimental.orpo import ORPOTrainer

    drawn, weight = Drawn(), 0.2
    pairs = drawn.logps(referenced=False)
    odds = (make_loss("orpo", weight=weight)(pairs) + pairs.means()[0]).mean()
    read = (token_logps(drawn.logits, drawn.ids) * drawn.attention[:, 1:])[: drawn.pairs]
    learnt = read.sum() / drawn.attention[: drawn.pairs, 1:].sum()  # prompt and answer
    theirs = pairwise(ORPOTrainer, drawn, beta=weight)
    # TRL takes the odds in single precision
    torch.testing.assert_close(odds - learnt, theirs.double(), rtol=1e-6, atol=1e-6)
    ours, found = (
        torch.autograd.grad(x, drawn.logits, retain_graph=True)[0] for x in (odds - learnt, theirs)
    )
    torch.testing.assert_close(ours, found, rtol=1e-4, atol=1e-7)


def test_kto_is_half_of_ours_at_trls_reference_point():
    from trl import KTOTrainer

    drawn, mismatched = Drawn(), torch.linspace(-1, 3, 2 * PAIRS, dtype=torch.float64)
    settings = {"beta": 0.3, "desirable_weight": 1.5, "undesirable_weight": 0.5}
    trainer = stub(
        KTOTrainer, **settings, loss_type="kto", calculate_KL=True, precompute_ref_logps=True
    )
    trainer._compute_kl_logps = lambda *_: mismatched
    inputs = {
        "input_ids": drawn.ids,
        "attention_mask": drawn.attention,
        "completion_mask": drawn.answer,
        "label": torch.arange(2 * PAIRS) < PAIRS,
        "ref_logps": drawn.reference.sum(1),
        "ref_KL_logps": torch.zeros(2 * PAIRS, dtype=torch.float64),
    }
    theirs = trainer._compute_loss(Fused(drawn.tokens()), inputs, False)
    z = float(mismatched.mean().clamp(min=0))
    ours = make_loss("kto", beta=0.3, desirable=1.5, undesirable=0.5, z=z)
    # a mean over answers there, over pairs here: a pair is two answers
    same(ours(drawn.logps(referenced=True)).mean() / 2, theirs, drawn)
