"""Products of rows' gradients from random projections: for rows too long for Grams.

A weight's gradient G = D^T A of one row is looked at through fixed random signs P [outputs, k] and
Q [inputs, k], as P^T G Q = (D P)^T (A Q), k x k numbers at a cost that grows with the tokens, not
with their square. With entries of variance 1 / k the product of two rows' sketches has the mean
<G, G'>; for gradients of one column and one row its variance is ((1 + 2 / k)^2 - 1) |G|^4 at most,
for others less. `BLOCKS` independent sketches are averaged, and their spread is the standard error.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from tenfold.align.entanglement import unscaled
from tenfold.align.ghost import GhostProducts, Only
from tenfold.align.grams import Grams, Part, exact, is_linear, own

BLOCKS, WIDTH = 8, 16


class Signs:
    """The random signs of each weight and side, the same in every step and process."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._kept: dict[tuple[str, int], Tensor] = {}  # a byte a sign

    def of(self, name: str, side: int, size: int, device: torch.device) -> Tensor:
        """[size, BLOCKS * WIDTH] of +-1 for a weight's outputs (side 0) or inputs (side 1)."""
        if (name, side) not in self._kept:
            key = hashlib.sha256(f"{self.seed} {name} {side}".encode()).digest()
            drawn = torch.Generator().manual_seed(int.from_bytes(key[:7], "big"))
            bits = torch.randint(0, 2, (size, BLOCKS * WIDTH), generator=drawn, dtype=torch.int8)
            self._kept[name, side] = (2 * bits - 1).to(device)
        return self._kept[name, side].float()


class SketchProducts(GhostProducts):
    """GhostProducts by sketches: unbiased estimates, with the standard error of <g_w, g_l>.

    Biases and the vectors of norms are exact. `stats` and `layer_stats` as there; a square is at
    least 0, a cosine may leave [-1, 1] by its error.
    """

    def __init__(
        self, model: nn.Module, pairs: int, only: Only | None = None, signs: Signs | None = None
    ) -> None:
        super().__init__(model, pairs, only)
        self._signs = signs or Signs()
        self._sums: dict[int, tuple[str, Tensor]] = {}  # of each weight [rows, BLOCKS, k, k]
        self._spread: Tensor | None = None  # [BLOCKS, pairs, 3], the sketched part

    def errors(self, d_w: Tensor, d_l: Tensor, share: float | Tensor = 1.0) -> Tensor:
        """Standard error of <g_w, g_l>, [pairs]; after `stats`."""
        if self._spread is None:
            return torch.zeros(self.pairs, dtype=torch.float64)
        c_w, c_l = ((d.detach() * share).double().cpu() for d in (d_w, d_l))
        each = torch.stack([unscaled(block, c_w, c_l)[:, 0] for block in self._spread])
        found: Tensor = each.std(0) / BLOCKS**0.5
        return found

    def _told(self, part: Part, rows: list[int]) -> dict[str, Tensor]:
        self._take(part, rows)
        return {}

    def _take(self, part: Part, rows: list[int] | None = None) -> None:
        if not (is_linear(part.module) or isinstance(part.module, nn.Embedding)):
            self.layers[part.name] = own(part, Grams())
            return
        if "weight" in part.trained:
            name, sums = self._sums.setdefault(
                id(part.module.weight), (part.name, self._zeros(part))
            )
            place = slice(None) if rows is None else rows
            sums[place] += self._sketch(part, name)
        if "bias" in part.trained:
            only_bias = Part(
                part.module, part.name, part.inputs, frozenset({"bias"}), outputs=part.grads
            )
            self.layers[f"{part.name}.bias"] = own(only_bias, Grams())
        part.inputs = part.outputs = torch.empty(0)

    def _zeros(self, part: Part) -> Tensor:
        return torch.zeros(2 * self.pairs, BLOCKS, WIDTH, WIDTH, device=part.grads.device)

    def _sketch(self, part: Part, name: str) -> Tensor:
        grads, device = exact(part.grads), part.grads.device
        if isinstance(part.module, nn.Embedding):  # its gradient is [entries, features]
            written = self._signs.of(name, 0, part.module.num_embeddings, device)[part.inputs]
            read = grads @ self._signs.of(name, 1, grads.shape[-1], device).to(grads)
        else:
            inputs = exact(part.inputs)
            written = grads @ self._signs.of(name, 0, grads.shape[-1], device).to(grads)
            read = inputs @ self._signs.of(name, 1, inputs.shape[-1], device).to(inputs)
        one, other = (
            x.reshape(len(x), -1, BLOCKS, WIDTH).transpose(1, 2).float() for x in (written, read)
        )  # [rows, BLOCKS, tokens, k]
        found: Tensor = one.transpose(2, 3) @ other / WIDTH
        return found

    def _close(self) -> None:
        for name, sums in self._sums.values():
            chosen, rejected = sums.chunk(2)
            blocks = torch.stack(
                [(a * b).sum((2, 3)) for a, b in (
                    (chosen, rejected), (chosen, chosen), (rejected, rejected),
                )]
            ).permute(2, 1, 0).double().cpu()  # fmt: skip
            self._spread = blocks if self._spread is None else self._spread + blocks
            self.layers[name] = blocks.mean(0)
        self._sums.clear()
