"""The forward pass of a small BERT sentence encoder, in plain torch on the CPU.

Post-norm blocks, absolute positions, exact GELU; the text's vector is the mean of its last states,
brought to unit length (Reimers and Gurevych, 1908.10084). Batches hold texts of like length, so
that little of them is padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

from tenfold.errors import CheckpointError
from tenfold.memory.store import Vectors
from tenfold.models.checkpoint import open_safetensors
from tenfold.models.folders import read_json
from tenfold.models.tokenizer import Tokenizer

BATCH_TOKENS = 2048  # of one forward pass, padding included: larger does not run faster on a CPU


@dataclass(frozen=True, slots=True)
class Block:
    """One layer's weights: queries, keys and values as one matrix, each pair (weight, bias)."""

    qkv: tuple[Tensor, Tensor]
    out: tuple[Tensor, Tensor]
    after_attention: tuple[Tensor, Tensor]
    up: tuple[Tensor, Tensor]
    down: tuple[Tensor, Tensor]
    after_mlp: tuple[Tensor, Tensor]


class Encoder:
    """A BERT in the layout of Hugging Face, read from a folder. Raises CheckpointError.

    With `bf16` the large matrices are kept in half the bytes; sums and norms stay in fp32.
    """

    def __init__(self, folder: Path, *, longest: int, bf16: bool = False) -> None:
        config = read_json(folder / "config.json")
        if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu":
            raise CheckpointError(f"{folder} has no BERT with GELU", hint="all-MiniLM-L6-v2 is one")
        self._tokenizer = Tokenizer.from_folder(folder).backend
        file = open_safetensors(folder / "model.safetensors")
        weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        self.width = int(config["hidden_size"])
        self._heads = int(config["num_attention_heads"])
        self._eps = float(config["layer_norm_eps"])
        self._pad = int(config["pad_token_id"])
        self._tokenizer.enable_truncation(min(longest, int(config["max_position_embeddings"])))
        self._tokenizer.no_padding()
        self._words = weights["embeddings.word_embeddings.weight"]
        # Every token is of the first segment, so its vector is added to the positions once.
        segment = weights["embeddings.token_type_embeddings.weight"][0]
        self._positions = weights["embeddings.position_embeddings.weight"] + segment
        self._norm = _pair(weights, "embeddings.LayerNorm")
        self._dtype = torch.bfloat16 if bf16 else torch.float32
        layers = range(int(config["num_hidden_layers"]))
        self._blocks = [_block(weights, i, self._dtype) for i in layers]

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, with its marks of start and end."""
        return [e.ids for e in self._tokenizer.encode_batch_fast(list(texts))]

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of unit length [texts, width], in the order of the texts."""
        ids = self.tokens(texts)
        vectors: Vectors = np.empty((len(texts), self.width), dtype=np.float32)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]), reverse=True)
        while order:
            rows = max(1, BATCH_TOKENS // len(ids[order[0]]))
            batch, order = order[:rows], order[rows:]
            vectors[batch] = self._forward([ids[i] for i in batch]).numpy()
        return vectors

    @torch.inference_mode()
    def _forward(self, ids: list[list[int]]) -> Tensor:
        lengths = torch.tensor([len(i) for i in ids])
        longest = int(lengths.max())
        padded = torch.tensor([i + [self._pad] * (longest - len(i)) for i in ids])
        real = torch.arange(longest) < lengths[:, None]  # [texts, tokens]
        # A batch without padding needs no mask, which is the case of a lone query.
        mask = None if bool(real.all()) else real[:, None, None, :]
        x = self._normed(self._words[padded] + self._positions[:longest], self._norm)
        for block in self._blocks:
            x = self._through(x, block, mask)
        weight = real.to(x.dtype)[:, :, None]
        mean = (x * weight).sum(1) / weight.sum(1)
        return torch.nn.functional.normalize(mean, dim=1)

    def _through(self, x: Tensor, block: Block, mask: Tensor | None) -> Tensor:
        texts, tokens, width = x.shape
        qkv = self._linear(x, block.qkv).view(texts, tokens, 3, self._heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [texts, heads, tokens, width of a head]
        attended = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        attended = attended.transpose(1, 2).reshape(texts, tokens, width)
        x = self._normed(x + self._linear(attended, block.out), block.after_attention)
        return self._normed(
            x + self._linear(gelu(self._linear(x, block.up)), block.down), block.after_mlp
        )

    def _linear(self, x: Tensor, matrix: tuple[Tensor, Tensor]) -> Tensor:
        return linear(x.to(self._dtype), *matrix).float()

    def _normed(self, x: Tensor, norm: tuple[Tensor, Tensor]) -> Tensor:
        return layer_norm(x, (self.width,), *norm, eps=self._eps)


def _pair(weights: dict[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _block(weights: dict[str, Tensor], index: int, dtype: torch.dtype) -> Block:
    at = f"encoder.layer.{index}"
    three = [_pair(weights, f"{at}.attention.self.{n}") for n in ("query", "key", "value")]

    def matrix(name: str) -> tuple[Tensor, Tensor]:
        weight, bias = _pair(weights, f"{at}.{name}")
        return weight.to(dtype), bias.to(dtype)

    return Block(
        qkv=(
            torch.cat([w for w, _ in three]).to(dtype),
            torch.cat([b for _, b in three]).to(dtype),
        ),
        out=matrix("attention.output.dense"),
        after_attention=_pair(weights, f"{at}.attention.output.LayerNorm"),
        up=matrix("intermediate.dense"),
        down=matrix("output.dense"),
        after_mlp=_pair(weights, f"{at}.output.LayerNorm"),
    )
