"""The forward pass, once: shared by the reference and by the engine's torch executor.

On the main path: `forward` runs a ragged batch, all tokens of all sequences in one flat dimension,
and hands queries, keys and values of each layer to the caller's `attend`, which owns the KV cache.
What a sequence is, and where its past lies, is unknown here. Architecture: Llama 2302.13971 §2.2
with the switches of `spec.DecoderSpec`; norms and rope tables are computed in float32, as the
models were trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from tenfold.models.layout import (
    CLASSIFIER,
    EMBEDDING,
    FINAL_NORM,
    LANGUAGE_HEAD,
    layer_prefix,
)
from tenfold.models.linear import Linear
from tenfold.models.rope import inverse_frequencies
from tenfold.models.spec import DecoderSpec


class Attend(Protocol):
    """Attention of one layer over whatever past the caller keeps.

    q [tokens, heads, head_dim] and k [tokens, kv_heads, head_dim] are rotated; v as k. Returns
    [tokens, heads, head_dim]. It stores k and v as it likes and must scale by
    `spec.attention_scale`.
    """

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention output of one layer; shapes as above."""
        ...


@dataclass(slots=True)
class _Layer:
    attention_norm: Tensor  # [hidden]
    qkv: Linear  # [(heads + 2 kv_heads) * head_dim, hidden]: all queries, all keys, all values
    output: Linear  # [hidden, heads * head_dim]
    mlp_norm: Tensor  # [hidden]
    gate_up: Linear  # [2 * intermediate, hidden]
    down: Linear  # [hidden, intermediate]
    q_norm: Tensor | None  # [head_dim]
    k_norm: Tensor | None


class Decoder:
    """A decoder with its weights on one device in one dtype.

    `tensors` maps the names of `layout.expected_shapes` to weights; each is asked for once, layer
    by layer, so a lazy mapping streams. Query, key and value projections, and gate and up, are
    fused.
    """

    def __init__(
        self,
        spec: DecoderSpec,
        tensors: Mapping[str, Tensor],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.spec = spec
        self.dtype = dtype
        self.device = torch.device(device)
        with torch.inference_mode():
            self.embedding = self._take(tensors, EMBEDDING)  # [vocab, hidden]
            self._layers = [self._read_layer(tensors, i) for i in range(spec.layers)]
            self._norm = self._take(tensors, FINAL_NORM)
            self._head: Linear | None = None
            if spec.language_head:
                tied = spec.tied_embeddings
                self._head = Linear(self.embedding if tied else self._take(tensors, LANGUAGE_HEAD))
            self._score = Linear(self._take(tensors, CLASSIFIER)) if spec.num_labels else None
            self._cos_sin = self._rope_table()

    def _take(self, tensors: Mapping[str, Tensor], name: str) -> Tensor:
        # A copy: what a checkpoint returns is mapped from a file that may change.
        return tensors[name].to(device=self.device, dtype=self.dtype, copy=True)

    def _fused(self, tensors: Mapping[str, Tensor], names: list[str], bias: bool) -> Linear:
        """One linear whose rows are those of `names` one after the other."""

        def join(suffix: str) -> Tensor:
            parts = [tensors[f"{n}.{suffix}"].to(self.device, self.dtype) for n in names]
            return torch.cat(parts)

        return Linear(join("weight"), join("bias") if bias else None)

    def _read_layer(self, tensors: Mapping[str, Tensor], layer: int) -> _Layer:
        spec, prefix = self.spec, layer_prefix(layer)
        attention, mlp = f"{prefix}self_attn.", f"{prefix}mlp."
        names = [f"{attention}{n}_proj" for n in "qkv"]
        pair = [f"{mlp}gate_proj", f"{mlp}up_proj"]
        return _Layer(
            attention_norm=self._take(tensors, f"{prefix}input_layernorm.weight"),
            qkv=self._fused(tensors, names, spec.qkv_bias),
            output=self._fused(tensors, [f"{attention}o_proj"], spec.output_bias),
            mlp_norm=self._take(tensors, f"{prefix}post_attention_layernorm.weight"),
            gate_up=self._fused(tensors, pair, spec.mlp_bias),
            down=self._fused(tensors, [f"{mlp}down_proj"], spec.mlp_bias),
            q_norm=self._take(tensors, f"{attention}q_norm.weight") if spec.qk_norm else None,
            k_norm=self._take(tensors, f"{attention}k_norm.weight") if spec.qk_norm else None,
        )

    def _rope_table(self) -> Tensor:
        """[max_positions, 2, head_dim]: cosines, and sines signed for the swapped halves."""
        spec = self.spec
        frequencies = inverse_frequencies(spec.rope, spec.head_dim)
        positions = torch.arange(spec.max_positions, dtype=torch.float32)
        angles = torch.outer(positions, frequencies)  # [positions, head_dim / 2]
        cos = angles.cos() * spec.rope.attention_factor
        sin = angles.sin() * spec.rope.attention_factor
        halves = (cos, cos, -sin, sin)
        table = torch.cat(halves, dim=-1).view(spec.max_positions, 2, spec.head_dim)
        return table.to(device=self.device, dtype=self.dtype)

    @torch.inference_mode()
    def forward(self, token_ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """Hidden states after the final norm, [tokens, hidden], of a flat ragged batch.

        `token_ids` and `positions` are [tokens] integers; positions must lie below `max_positions`.
        """
        spec = self.spec
        tokens, heads, rotated = token_ids.shape[0], spec.heads, spec.heads + spec.kv_heads
        eps, alpha = spec.norm_eps, spec.residual_multiplier
        cos, sin = self._cos_sin[positions].unsqueeze(2).unbind(1)  # each [tokens, 1, head_dim]
        half = spec.head_dim // 2
        x = F.embedding(token_ids, self.embedding)  # [tokens, hidden]
        if spec.embedding_multiplier != 1.0:
            x = x * spec.embedding_multiplier
        for i, layer in enumerate(self._layers):
            h = F.rms_norm(x, (spec.hidden_size,), layer.attention_norm, eps)
            qkv = layer.qkv(h).view(tokens, rotated + spec.kv_heads, spec.head_dim)
            qk, v = qkv[:, :rotated], qkv[:, rotated:]
            if layer.q_norm is not None and layer.k_norm is not None:
                qk = torch.cat(
                    (
                        F.rms_norm(qk[:, :heads], (spec.head_dim,), layer.q_norm, eps),
                        F.rms_norm(qk[:, heads:], (spec.head_dim,), layer.k_norm, eps),
                    ),
                    dim=1,
                )
            swapped = torch.cat((qk[..., half:], qk[..., :half]), dim=-1)
            qk = torch.addcmul(qk * cos, swapped, sin)
            h = attend(i, qk[:, :heads], qk[:, heads:], v)
            x = torch.add(x, layer.output(h.reshape(tokens, spec.query_size)), alpha=alpha)
            h = F.rms_norm(x, (spec.hidden_size,), layer.mlp_norm, eps)
            gate, up = layer.gate_up(h).chunk(2, dim=-1)
            x = torch.add(x, layer.down(F.silu(gate).mul_(up)), alpha=alpha)
        return F.rms_norm(x, (spec.hidden_size,), self._norm, eps)

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of every vocabulary entry, [rows, hidden] -> [rows, vocab] in float32."""
        assert self._head is not None, "a classifier has no language head"
        out = self._head(hidden).float()
        return out if self.spec.logits_divisor == 1.0 else out.div_(self.spec.logits_divisor)

    @torch.inference_mode()
    def classify(self, hidden: Tensor) -> Tensor:
        """Scores of the classification head, [rows, hidden] -> [rows, num_labels] in float32."""
        assert self._score is not None, "this model has no classification head"
        return self._score(hidden).float()

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The weights under their layout names, unfused, as they are used (adapters merged)."""
        spec = self.spec
        yield EMBEDDING, self.embedding
        for i, layer in enumerate(self._layers):
            prefix = layer_prefix(i)
            sizes = {
                "qkv": [spec.query_size, spec.kv_size, spec.kv_size],
                "gate_up": [spec.intermediate_size] * 2,
            }
            names = {
                "qkv": [f"self_attn.{n}_proj" for n in "qkv"],
                "output": ["self_attn.o_proj"],
                "gate_up": ["mlp.gate_proj", "mlp.up_proj"],
                "down": ["mlp.down_proj"],
            }
            yield f"{prefix}input_layernorm.weight", layer.attention_norm
            yield f"{prefix}post_attention_layernorm.weight", layer.mlp_norm
            for part, members in names.items():
                linear: Linear = getattr(layer, part)
                rows = sizes.get(part, [linear.out_features])
                weights = torch.split(linear.weight, rows)
                yield from (
                    (f"{prefix}{n}.weight", w) for n, w in zip(members, weights, strict=True)
                )
                if linear.bias is not None:
                    biases = torch.split(linear.bias, rows)
                    yield from (
                        (f"{prefix}{n}.bias", b) for n, b in zip(members, biases, strict=True)
                    )
            if layer.q_norm is not None and layer.k_norm is not None:
                yield f"{prefix}self_attn.q_norm.weight", layer.q_norm
                yield f"{prefix}self_attn.k_norm.weight", layer.k_norm
        yield FINAL_NORM, self._norm
        if self._head is not None and not spec.tied_embeddings:
            yield LANGUAGE_HEAD, self._head.weight
        if self._score is not None:
            yield CLASSIFIER, self._score.weight
