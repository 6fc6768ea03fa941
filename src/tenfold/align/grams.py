"""Products of rows' gradients of one module, from its inputs and the gradients of its outputs.

The gradient of a linear layer's weight for one row is D^T A (A its inputs, D the gradient of its
outputs, [tokens, features] each), so the product of two rows' gradients is the sum of
(A A'^T) * (D D'^T): no gradient of a single row is formed, unless that is the smaller of the two.
Sums are float32 at least, whatever the model computes in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

WIDE = 4  # outputs an input feature, from which a layer is a readout


@dataclass(slots=True)
class Part:
    """One module's part in a pass: inputs [rows, tokens, ...] and the gradient of its outputs.

    `trained` names the module's parameters that count, `readers` how many modules have the same
    inputs. Rows are those of the chosen answers, then of the rejected ones.
    """

    module: nn.Module
    name: str
    inputs: Tensor
    trained: frozenset[str]
    readers: int = 1
    edge: torch.autograd.graph.GradientEdge | None = None  # of its outputs
    outputs: Tensor | None = None  # their gradient

    @property
    def grads(self) -> Tensor:
        """The gradient of the outputs, once the backward pass has been here."""
        assert self.outputs is not None, self.name
        return self.outputs

    def crop(self) -> None:
        """Drops tokens whose outputs matter to no row: prompts at a readout, padding."""
        padding = getattr(self.module, "padding_idx", None)
        if padding is not None:  # autograd gives this entry no gradient, wherever it stands
            self.outputs = self.grads.masked_fill((self.inputs == padding)[..., None], 0)
        if not is_linear(self.module) or self.grads.dim() != 3:
            return
        if self.grads.shape[2] < WIDE * self.inputs.shape[2]:
            return
        seen = self.grads.amax((0, 2)).ne(0) | self.grads.amin((0, 2)).ne(0)
        places = seen.nonzero().flatten().tolist() or [0]
        kept = slice(places[0], places[-1] + 1)
        self.inputs, self.outputs = self.inputs[:, kept], self.grads[:, kept]


class Grams:
    """Remembers the last inputs' products: queries, keys and values read the same."""

    def __init__(self) -> None:
        self._last: tuple[Tensor, Tensor] | None = None

    def of(self, inputs: Tensor) -> Tensor:
        """A A'^T of each pair's rows, [3, pairs, tokens, tokens]."""
        if self._last is not None and _same(self._last[0], inputs):
            return self._last[1]
        found = _three(exact(inputs), torch.matmul)
        self._last = (inputs, found)
        return found


def is_linear(module: nn.Module) -> bool:
    """Whether a module's outputs are its inputs times a weight: Linear, or GPT-2's Conv1D."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def own(part: Part, grams: Grams) -> Tensor:
    """<g_w, g_l>, |g_w|^2, |g_l|^2 of one module's parameters, [pairs, 3]."""
    if is_linear(part.module):
        return _linear(part, grams).T
    if isinstance(part.module, nn.Embedding):
        same = _three(part.inputs, lambda a, b: a.transpose(1, 2) == b, token_ids=True)
        return (same * _three(exact(part.grads), torch.matmul)).sum((2, 3)).T
    rows = _by_broadcast(part)
    return _dots(_by_vmap(part) if rows is None else rows).T


def across(one: Part, other: Part) -> Tensor:
    """What the weight that two modules share adds to the three products, [pairs, 3]."""
    half = len(one.inputs) // 2
    w, l_ = slice(0, half), slice(half, None)
    return torch.stack(
        [
            _between(one, other, w, l_) + _between(one, other, l_, w),
            2 * _between(one, other, w, w),
            2 * _between(one, other, l_, l_),
        ],
        1,
    )


def _between(one: Part, other: Part, a: slice, b: slice) -> Tensor:
    """The gradient that `one` has for rows a times that which `other` has for rows b, [pairs]."""
    table = isinstance(one.module, nn.Embedding), isinstance(other.module, nn.Embedding)
    if table == (True, False):
        return _between(other, one, b, a)
    grads, others = exact(one.grads[a]), exact(other.grads[b])
    if table == (True, True):
        same = one.inputs[a][:, :, None] == other.inputs[b][:, None, :]
        return (same * (grads @ others.transpose(1, 2))).sum((1, 2))
    inputs = exact(one.inputs[a])
    if table == (False, True):  # a readout and its embedding: only the scores of b's tokens meet
        ids = other.inputs[b][:, None, :].expand(-1, grads.shape[1], -1)
        return (grads.gather(2, ids) * (inputs @ others.transpose(1, 2))).sum((1, 2))
    alike = inputs @ exact(other.inputs[b]).transpose(1, 2)
    return (alike * (grads @ others.transpose(1, 2))).sum((1, 2))


def _linear(part: Part, grams: Grams) -> Tensor:
    inputs, grads = (_by_token(x) for x in (part.inputs, exact(part.grads)))
    total = torch.zeros(3, len(inputs) // 2, device=inputs.device, dtype=grads.dtype)
    if "weight" in part.trained:
        tokens, read, written = inputs.shape[1], inputs.shape[2], grads.shape[2]
        if 3 * tokens * (read / part.readers + written) < 2 * read * written:
            total += (grams.of(inputs) * _three(grads, torch.matmul)).sum((2, 3))
        else:  # long rows in narrow layers: the rows' gradients are smaller than their Grams
            total += _dots((grads.transpose(1, 2) @ exact(inputs)).flatten(1))
    if "bias" in part.trained:
        total += _dots(grads.sum(1))
    return total


def _by_token(x: Tensor) -> Tensor:
    """[rows, tokens, features], whatever lies between."""
    return x[:, None] if x.dim() == 2 else x.flatten(1, -2)


def _three(
    x: Tensor, product: Callable[[Tensor, Tensor], Tensor], *, token_ids: bool = False
) -> Tensor:
    """Chosen with rejected, with itself, rejected with itself: [3, pairs, tokens, tokens]."""
    chosen, rejected = (x[:, None] if token_ids else x).chunk(2)
    return torch.stack(
        [
            product(a, b if token_ids else b.transpose(1, 2))
            for a, b in ((chosen, rejected), (chosen, chosen), (rejected, rejected))
        ]
    )


def _dots(rows: Tensor) -> Tensor:
    """Of rows' gradients, [rows, parameters]: [3, pairs]."""
    chosen, rejected = rows.chunk(2)
    return torch.stack([(a * b).sum(1) for a, b in (
        (chosen, rejected), (chosen, chosen), (rejected, rejected),
    )])  # fmt: skip


def exact(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x if x.dtype == torch.float64 else x.float()


def _same(one: Tensor, other: Tensor) -> bool:
    return (
        one.data_ptr() == other.data_ptr()
        and one.shape == other.shape
        and one.stride() == other.stride()
        and one._version == other._version
    )


def _by_broadcast(part: Part) -> Tensor | None:
    """Rows' gradients of a module that multiplies features by its vectors, None for any other.

    Each row gets vectors of its own, [rows, 1, features], where the module takes that (norms do).
    """
    shape = (len(part.inputs), *[1] * (part.inputs.dim() - 2), part.inputs.shape[-1])
    vectors = dict(part.module.named_parameters(recurse=False))
    if part.inputs.dim() < 3 or any(p.shape != shape[-1:] for p in vectors.values()):
        return None
    if type(part.module) is nn.LayerNorm:  # its kernel takes one vector
        plain = nn.functional.layer_norm(exact(part.inputs), shape[-1:], eps=part.module.eps)
        grads, over = exact(part.grads), tuple(range(1, part.inputs.dim() - 1))
        found = {"weight": (grads * plain).sum(over), "bias": grads.sum(over)}
        return torch.cat([found[n] for n in vectors if n in part.trained], 1)
    own = {
        n: p.detach().expand(shape).requires_grad_(n in part.trained) for n, p in vectors.items()
    }
    with hooks_off(part.module), torch.enable_grad():
        try:
            out = functional_call(part.module, own, (part.inputs,))
        except RuntimeError:
            return None
        if out.shape != part.inputs.shape:
            return None
        wanted = [p for n, p in own.items() if n in part.trained]
        rows = torch.autograd.grad(out, wanted, part.grads.to(out))
    return torch.cat([exact(r).flatten(1) for r in rows], 1)


def _by_vmap(part: Part) -> Tensor:
    """Rows' gradients of any small module's parameters, [rows, parameters]."""
    vectors = {n: p.detach() for n, p in part.module.named_parameters(recurse=False)}
    own = {n: p for n, p in vectors.items() if n in part.trained}

    def row(one_input: Tensor, one_grad: Tensor) -> dict[str, Tensor]:
        def run(parameters: dict[str, Tensor]) -> Tensor:
            return functional_call(part.module, vectors | parameters, (one_input[None],))[0]  # type: ignore[no-any-return]

        return vjp(run, own)[1](one_grad)[0]  # type: ignore[no-any-return]

    with hooks_off(part.module):
        found = vmap(row)(part.inputs, part.grads)
    return torch.cat([exact(found[name].flatten(1)) for name in own], 1)


@contextmanager
def hooks_off(module: nn.Module) -> Iterator[None]:
    """The module is called again for its rows: its hooks must not see that."""
    hooks, module._forward_hooks = module._forward_hooks, type(module._forward_hooks)()
    try:
        yield
    finally:
        module._forward_hooks = hooks
