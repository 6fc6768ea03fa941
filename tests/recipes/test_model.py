"""The training model: packed attention, folded multipliers, a look-up that is there at step 0."""

import pytest
import torch
from transformers import LlamaForCausalLM

from recipes.concierge.batches import Row, collate
from recipes.concierge.model import (
    BASE_HIDDEN,
    SHAPES,
    Scaling,
    Shape,
    build_model,
    llama_config,
    load_plain,
    plain_weights,
)

from .made_up import TINY

VOCABULARY = 300
WIDE = Shape(256, 3, 4, 96)  # neither multiplier is 1


def plain_llama(model: LlamaForCausalLM, shape: Shape, attention: str) -> LlamaForCausalLM:
    """Return an ordinary Llama with the folded weights, as any loader would make it."""
    config = llama_config(shape, model.config.vocab_size)
    config._attn_implementation = attention
    plain = LlamaForCausalLM(config)
    missing, unexpected = plain.load_state_dict(plain_weights(model), strict=False)
    assert missing == ["lm_head.weight"]
    assert not unexpected
    plain.tie_weights()
    assert plain.config._attn_implementation == attention
    return plain.eval()


def shaken(shape: Shape, scaled: bool = True) -> LlamaForCausalLM:
    """Return a model in which no weight is at its start, as after training."""
    model = build_model(shape, VOCABULARY, seed=3, scaled=scaled)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model.eval()


def trained_logits(model: LlamaForCausalLM, tokens: torch.Tensor, documents=None) -> torch.Tensor:
    hidden = model.model(tokens, documents=documents, use_cache=False).last_hidden_state
    return model.lm_head(hidden * model.readout)


@pytest.mark.parametrize(
    ("shape", "scaled"), [(WIDE, True), (WIDE, False), (TINY, True), (SHAPES["concierge"], True)]
)
def test_folded_weights_give_the_logits_of_the_scaled_model(shape, scaled):
    model = shaken(shape, scaled)
    tokens = torch.randint(6, VOCABULARY, (2, 60))
    with torch.no_grad():
        ours = trained_logits(model, tokens)
        plain = plain_llama(model, shape, "sdpa")(tokens).logits
    assert ours.std() > 0.1  # else the next line says little
    torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-4)


def test_training_goes_on_from_folded_weights():
    begun = shaken(WIDE)
    other = build_model(WIDE, VOCABULARY, seed=4)
    load_plain(other, plain_weights(begun))
    for name, weight in begun.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], weight)
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_plain(build_model(TINY, VOCABULARY, seed=4), plain_weights(begun))


def test_packed_documents_do_not_see_each_other():
    model = shaken(TINY)
    plain = plain_llama(model, TINY, "sdpa")
    sizes = [[150, 40, 1, 90], [200, 81]]  # beyond one block of queries
    rows = [
        [
            Row(torch.randint(6, VOCABULARY, (n,)).tolist(), [True] * n, [], [], [], "a", 0, 0)
            for n in line
        ]
        for line in sizes
    ]
    batch = collate(rows, 300, 0.0)
    with torch.no_grad():
        packed = trained_logits(model, batch.tokens, batch.documents)
        for i, line in enumerate(rows):
            begin = 0
            for row in line:
                alone = plain(torch.tensor([row.tokens])).logits[0]
                ours = packed[i, begin : begin + len(row.tokens)]
                torch.testing.assert_close(ours, alone, atol=1e-4, rtol=1e-4)
                begin += len(row.tokens)


def test_without_documents_packed_attention_is_plain_causal_attention():
    model = shaken(TINY)
    tokens = torch.randint(6, VOCABULARY, (2, 280))
    with torch.no_grad():
        ours, plain = trained_logits(model, tokens), plain_llama(model, TINY, "sdpa")(tokens).logits
    torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-4)


def test_the_base_is_not_scaled():
    assert Scaling.of(SHAPES["concierge-draft"]) == Scaling(1.0, 1.0, 1.0)
    assert Scaling.of(SHAPES["concierge"], scaled=False) == Scaling(1.0, 1.0, 1.0)
    assert Scaling.of(SHAPES["concierge"]) != Scaling(1.0, 1.0, 1.0)


def test_wider_and_deeper_models_are_scaled_down():
    base = SHAPES["concierge-draft"]
    double = Scaling.of(Shape(2 * BASE_HIDDEN, 2 * base.layers, base.heads, base.inner))
    assert (double.branch, double.readout) == (0.5, 0.5)
    assert double.matrix_rate == pytest.approx(0.5**0.5)


def test_building_depends_on_the_seed_only():
    one, two, other = (build_model(TINY, VOCABULARY, seed) for seed in (1, 1, 2))
    assert all(map(torch.equal, one.state_dict().values(), two.state_dict().values()))
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)


HALF = 60
PLACES = torch.arange(HALF + 3, 2 * HALF)  # in the second half, after a few words of context


@pytest.fixture(scope="module", params=["concierge-draft", "concierge"])
def repeated(request):
    """Return random tokens said twice, and what an untrained model makes of them."""
    shape = SHAPES[request.param]
    model = plain_llama(build_model(shape, 1000, seed=1), shape, "eager")
    torch.manual_seed(0)
    half = torch.stack([torch.randperm(900)[:HALF] + 50 for _ in range(8)])
    tokens = torch.cat([torch.ones(8, 1, dtype=torch.long), half, half], 1)
    with torch.no_grad():
        return tokens, model(tokens, output_attentions=True)


def test_an_untrained_model_looks_at_the_token_before(repeated):
    _, out = repeated
    places = torch.arange(1, 2 * HALF + 1)
    assert out.attentions[0][:, 0, places, places - 1].mean() > 0.85


def test_an_untrained_model_looks_at_what_followed(repeated):
    """A tenth at least: tokens are told apart by 9 numbers in the draft, 18 in the target."""
    _, out = repeated
    looked = out.attentions[1][:, :2].argmax(-1)[:, :, PLACES]  # the two heads of layer 1
    assert (looked == PLACES - HALF + 1).float().mean() > 0.1  # chance is 0.01


def test_an_untrained_model_copies_better_than_chance(repeated):
    tokens, out = repeated
    guessed = out.logits.argmax(-1)[:, PLACES]
    assert (guessed == tokens[:, PLACES + 1]).float().mean() > 0.05  # chance is 0.001
