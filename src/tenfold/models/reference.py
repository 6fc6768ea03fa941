"""Plain causal attention over one sequence: what every faster path is compared with.

Off the main path: tests, calibration, embeddings and the scores of given texts use it. `DenseCache`
keeps all keys and values in two tensors per layer, so that a sequence can be continued token by
token.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import torch
from torch import Tensor

from tenfold.models.decoder import Attend, Decoder
from tenfold.models.spec import DecoderSpec
from tenfold.models.stepwise import Steps

PIECE = 256  # tokens read at once: bounds the memory for attention and for logits


def dense_attention(
    q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None, past: int = 0
) -> Tensor:
    """Causal softmax attention in float32 with grouped heads.

    q [tokens, heads, head_dim], k and v [past + tokens, kv_heads, head_dim] -> like q, in q's
    dtype. With a window, a query sees the last `window` tokens, itself included.
    """
    tokens, heads, head_dim = q.shape
    kv_heads = k.shape[1]
    queries = q.float().view(tokens, kv_heads, heads // kv_heads, head_dim)
    scores = torch.einsum("tkgd,skd->kgts", queries, k.float()) * scale
    query_at = torch.arange(past, past + tokens, device=q.device).unsqueeze(1)
    key_at = torch.arange(k.shape[0], device=q.device).unsqueeze(0)
    hidden = key_at > query_at
    if window is not None:
        hidden = hidden | (key_at <= query_at - window)
    weights = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1)
    out = torch.einsum("kgts,skd->tkgd", weights, v.float())
    return out.reshape(tokens, heads, head_dim).to(q.dtype)


def dense_attend(spec: DecoderSpec) -> Attend:
    """An `Attend` for a whole sequence at once: no past, nothing kept."""

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return dense_attention(q, k, v, scale=spec.attention_scale, window=spec.window(layer))

    return attend


class DenseCache:
    """An `Attend` that appends to the keys and values of one sequence and attends over all."""

    def __init__(self, spec: DecoderSpec) -> None:
        self.spec = spec
        self._keys: list[Tensor | None] = [None] * spec.layers  # [length, kv_heads, head_dim]
        self._values: list[Tensor | None] = [None] * spec.layers

    def copy(self) -> DenseCache:
        """A cache of the same past that goes its own way; shared tensors never change."""
        other = DenseCache(self.spec)
        other._keys, other._values = list(self._keys), list(self._values)
        return other

    def layer(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one layer, each [length, kv_heads, head_dim]; maybe of length 0."""
        keys, values = self._keys[layer], self._values[layer]
        if keys is None or values is None:
            none = torch.empty(0, self.spec.kv_heads, self.spec.head_dim)
            return none, none
        return keys, values

    @property
    def length(self) -> int:
        """Tokens whose keys and values the last layer holds."""
        last = self._keys[-1]
        return 0 if last is None else last.shape[0]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Append k and v to the layer's past, attend over it; shapes as in `decoder.Attend`."""
        old_keys, old_values = self._keys[layer], self._values[layer]
        keys = k if old_keys is None else torch.cat((old_keys, k))
        values = v if old_values is None else torch.cat((old_values, v))
        self._keys[layer], self._values[layer] = keys, values
        past = keys.shape[0] - k.shape[0]
        scale, window = self.spec.attention_scale, self.spec.window(layer)
        return dense_attention(q, keys, values, scale=scale, window=window, past=past)


def reference_hidden(
    decoder: Decoder, token_ids: Tensor, cache: DenseCache | None = None
) -> Tensor:
    """Hidden states of one sequence, [tokens] -> [tokens, hidden]; continues `cache` if given."""
    past = 0 if cache is None else cache.length
    positions = torch.arange(past, past + token_ids.shape[0], device=token_ids.device)
    attend = dense_attend(decoder.spec) if cache is None else cache
    return decoder.forward(token_ids, positions, attend)


def reference_logits(
    decoder: Decoder, token_ids: Tensor, cache: DenseCache | None = None
) -> Tensor:
    """Logits of one sequence, [tokens] -> [tokens, vocab] float32.

    With a `cache` the tokens continue those it has seen, and it grows by them.
    """
    return decoder.logits(reference_hidden(decoder, token_ids, cache))


def reference_scores(decoder: Decoder, token_ids: Tensor) -> Tensor:
    """Classification scores at every position, [tokens] -> [tokens, num_labels] float32."""
    return decoder.classify(reference_hidden(decoder, token_ids))


def read(
    decoder: Decoder, token_ids: Sequence[int], cache: DenseCache
) -> Generator[Tensor, None, None]:
    """Hidden states of one sequence a piece at a time; `cache` grows by its tokens."""
    for begin in range(0, len(token_ids), PIECE):
        piece = torch.tensor(token_ids[begin : begin + PIECE], device=decoder.device)
        yield reference_hidden(decoder, piece, cache)


def embed(decoder: Decoder, token_ids: Sequence[int]) -> Steps[list[float]]:
    """The mean of a text's hidden states, scaled to length 1: [hidden_size] numbers."""
    total = torch.zeros(decoder.spec.hidden_size, device=decoder.device)
    for hidden in read(decoder, token_ids, DenseCache(decoder.spec)):
        total = total + hidden.float().sum(0)
        yield
    vector: list[float] = torch.nn.functional.normalize(total, dim=0).tolist()
    return vector
