"""Small models of real architectures, batches of pairs, and products by a loop over pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tenfold.align.logps import answer_logps
from tenfold.align.losses import Loss, PairLogps

VOCABULARY = 97


def llama(*, tied: bool = True) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config)


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return GPT2LMHeadModel(config)


class Batch:
    """Pairs with a common prompt and answers of different lengths, padded on the right.

    The prompt is 8 tokens; the answers of a pair begin with the same `alike` - 8.
    """

    def __init__(self, pairs: int = 3, tokens: int = 20, seed: int = 1, alike: int = 12) -> None:
        drawn = torch.Generator().manual_seed(seed)
        self.pairs = pairs
        self.ids = torch.randint(3, VOCABULARY, (2 * pairs, tokens), generator=drawn)
        self.ids[pairs:, :alike] = self.ids[:pairs, :alike]
        lengths = torch.randint(alike + 1, tokens + 1, (2 * pairs,), generator=drawn)
        place = torch.arange(tokens)[None]
        self.attention = (place < lengths[:, None]).long()
        self.answer = (place >= 8) & (place < lengths[:, None])
        self.ids[self.attention == 0] = 0

    def logps(self, model: nn.Module, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
        out = model(input_ids=self.ids[rows], attention_mask=self.attention[rows], use_cache=False)
        return answer_logps(out.logits, self.ids[rows], self.answer[rows])


def pair_logps(summed: Tensor, counts: Tensor, *, referenced: bool = True) -> PairLogps:
    """Rows of the chosen answers, then of the rejected ones; a reference a little off."""
    chosen, rejected = summed.chunk(2)
    tokens, others = counts.chunk(2)
    ref = (chosen.detach() + 0.3, rejected.detach() - 0.2) if referenced else (None, None)
    return PairLogps(chosen, rejected, tokens, others, *ref)


def train_once(model: nn.Module, batch: Batch, loss: Loss) -> PairLogps:
    """A forward and a backward pass over the mean loss."""
    model.zero_grad()
    pairs = pair_logps(*batch.logps(model), referenced=loss.referenced)
    loss(pairs).mean().backward()
    return pairs


def by_a_loop(model: nn.Module, batch: Batch) -> Tensor:
    """<g_w, g_l>, |g_w|^2, |g_l|^2 of each pair, two backward passes a pair: [pairs, 3]."""
    trained = [p for p in model.parameters() if p.requires_grad]

    def gradient(row: int) -> Tensor:
        summed, _ = batch.logps(model, slice(row, row + 1))
        found = torch.autograd.grad(summed.sum(), trained, allow_unused=True)
        return torch.cat(
            [
                (torch.zeros_like(p) if g is None else g).flatten().double()
                for p, g in zip(trained, found, strict=True)
            ]
        )

    products = []
    for row in range(batch.pairs):
        chosen, rejected = gradient(row), gradient(row + batch.pairs)
        products.append(torch.stack([chosen @ rejected, chosen @ chosen, rejected @ rejected]))
    return torch.stack(products)
