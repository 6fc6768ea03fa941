"""Products of per-pair gradients out of the training pass against a loop over the pairs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tenfold.align.ghost import GhostProducts
from tenfold.align.losses import make_loss
from tenfold.errors import InvalidRequest, TenfoldError
from tests.align.models import Batch, by_a_loop, gpt2, llama, train_once

pytest.importorskip("transformers")


def measured(model: nn.Module, batch: Batch, name: str = "dpo"):
    loss = make_loss(name)
    with GhostProducts(model, batch.pairs) as ghost:
        pairs = train_once(model, batch, loss)
    return ghost.stats(*loss.weights(pairs), share=1 / batch.pairs), ghost


def agrees(model: nn.Module, batch: Batch, name: str = "dpo") -> None:
    stats, _ = measured(model, batch, name)
    found = torch.stack([stats.inner, stats.chosen_sq, stats.rejected_sq], 1)
    torch.testing.assert_close(found, by_a_loop(model, batch), rtol=2e-5, atol=1e-9)


@pytest.mark.parametrize("make", [llama, lambda: llama(tied=False), gpt2])
@pytest.mark.parametrize("name", ["dpo", "simpo", "cpo"])
def test_products_are_those_of_a_loop_over_pairs(make, name):
    agrees(make(), Batch(), name)


def test_rows_longer_than_the_layers_are_wide_are_measured_the_other_way():
    agrees(llama(), Batch(pairs=2, tokens=60))


def test_a_frozen_layer_is_left_out_of_both():
    model = llama()
    for p in model.model.layers[0].parameters():
        p.requires_grad_(False)
    agrees(model, Batch())


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_only_the_adapter_counts_where_only_it_is_trained():
    peft = pytest.importorskip("peft")
    torch.manual_seed(3)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    agrees(peft.get_peft_model(llama(), config), Batch())


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_nothing(reentrant):
    model = llama()
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    model.train()
    if reentrant:
        model.enable_input_require_grads()
    stats, _ = measured(model, Batch())
    model.activation_checkpointing_disable()
    torch.testing.assert_close(stats.inner, by_a_loop(model, Batch())[:, 0], rtol=2e-5, atol=1e-9)


def test_layers_add_up_to_the_whole():
    stats, ghost = measured(llama(), Batch())
    layers = ghost.layer_stats(stats.d_w, stats.d_l, share=1 / 3)
    assert any(" x " in name for name in layers)  # the tied embedding's cross terms
    torch.testing.assert_close(sum(s.inner for s in layers.values()), stats.inner)


def test_bf16_autocast_is_close():
    model, batch, loss = llama(), Batch(), make_loss("dpo")
    with GhostProducts(model, batch.pairs) as ghost, torch.autocast("cpu", torch.bfloat16):
        pairs = train_once(model, batch, loss)
    stats = ghost.stats(*loss.weights(pairs), share=1 / batch.pairs)
    torch.testing.assert_close(stats.cosine, _cosine(by_a_loop(model, batch)), rtol=0.05, atol=0.02)


def _cosine(products: torch.Tensor) -> torch.Tensor:
    return products[:, 0] / (products[:, 1] * products[:, 2]).sqrt()


def test_the_training_gradient_is_untouched():
    model, batch, loss = llama(), Batch(), make_loss("dpo")
    train_once(model, batch, loss)
    plain = [p.grad.clone() for p in model.parameters()]
    measured(model, batch)
    for p, grad in zip(model.parameters(), plain, strict=True):
        assert torch.equal(p.grad, grad)
    assert not any(m._forward_hooks for m in model.modules())


def test_a_pair_that_the_loss_leaves_alone_is_said_to_be_inactive():
    stats, _ = measured(llama(), Batch(), "rrhf")
    inactive = stats.d_l == 0
    assert bool(inactive.any())
    assert bool(stats.inner[inactive].isnan().all())
    assert all(v == "inactive" for v, dead in zip(stats.verdicts(), inactive, strict=True) if dead)


class _Past(nn.Module):
    """A readout whose weight is read past its module, as fused kernels do."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 4)
        self.head = nn.Linear(4, 9, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.table(ids) @ self.head.weight.T


def test_a_weight_read_past_its_module_is_an_error_not_a_wrong_figure():
    model = _Past()
    with GhostProducts(model, 1) as ghost:
        model(torch.tensor([[1, 2], [3, 4]])).sum().backward()
    one = torch.ones(1)
    with pytest.raises(TenfoldError, match=r"head\.weight"):
        ghost.stats(one, one)


class _Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.layer(x))


def test_modules_that_cannot_be_taken_apart_are_refused_by_name():
    with (
        GhostProducts(_Twice(), 1) as ghost,
        pytest.raises(InvalidRequest, match="layer is called twice"),
    ):
        ghost._model(torch.ones(2, 3, 4))
    with GhostProducts(_Twice(), 2) as ghost, pytest.raises(InvalidRequest, match="sees 6 rows"):
        ghost._model(torch.ones(6, 4))
    with pytest.raises(TenfoldError, match="nothing was measured"):
        GhostProducts(llama(), 1).stats(torch.ones(1), torch.ones(1))


def test_an_embedding_that_scales_what_it_gives_is_refused_and_not_mismeasured():
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    config = Gemma3TextConfig(
        vocab_size=97, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8,
    )  # fmt: skip
    with pytest.raises(InvalidRequest, match=r"embed_tokens .* in its own way"):
        GhostProducts(Gemma3ForCausalLM(config), 2)
