"""Exact products of per-pair gradients from the backward pass that training does anyway.

The gradient of a linear layer's weight for one row is D^T A (A its inputs, D the gradient of its
outputs, [tokens, features] each), so the product of two rows' gradients is the sum of
(A A'^T) * (D D'^T): no gradient of a single row is ever formed. Rows never meet in a decoder, so
the rows of the training batch give all of them at once. Modules of another kind (norms) are small
and their rows' gradients are formed. Parameters shared by two modules (tied embeddings) get the
cross terms.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from tenfold.align.entanglement import PairStats, unscaled
from tenfold.errors import InvalidRequest, TenfoldError

_ahead: GhostProducts | None = None  # whose own backward pass is running
OTHER = "take the split back end, or freeze it"


@dataclass(slots=True)
class _Record:
    """One module's part in a pass: inputs [rows, tokens, ...] and the gradient of its outputs."""

    module: nn.Module
    name: str
    inputs: Tensor
    edge: torch.autograd.graph.GradientEdge | None  # of its outputs
    _grads: Tensor | None = None

    @property
    def grads(self) -> Tensor:
        assert self._grads is not None, self.name
        return self._grads


class GhostProducts:
    """Watches a model's modules through one forward and backward pass over `pairs` pairs.

    The batch holds the chosen answers' rows, then the rejected ones', [2 * pairs, tokens]. Use it
    once: forward and `backward()` inside `with`, then `stats`. Raises InvalidRequest for modules
    whose gradient it cannot take apart.
    """

    def __init__(self, model: nn.Module, pairs: int) -> None:
        self.pairs = pairs
        self.layers: dict[
            str, Tensor
        ] = {}  # module -> products [pairs, 3] of the training gradient
        self._watched = dict(_trainable(model))
        self._shared = _shared(self._watched.values())
        self._open: dict[str, _Record] = {}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._read: set[str] = set()  # modules that readout() told of
        self._known = False
        self._model = model

    def __enter__(self) -> GhostProducts:
        for name, module in self._watched.items():
            if isinstance(module, nn.Embedding):
                self._handles.append(module.register_forward_pre_hook(self._every_row))
            self._handles.append(module.register_forward_hook(self._seen(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def readout(self, weight: Tensor, inputs: Tensor, grads: Callable[[list[int]], Tensor]) -> None:
        """Adds a linear layer whose weight a fused kernel reads past its module; after backward.

        `inputs` are its inputs, [2 * pairs, tokens, features]; `grads(rows)` gives the gradient of
        its outputs for a pair's two rows, [2, tokens, outputs], so that the outputs of the batch
        are never held at once. A weight that is not trained adds nothing.
        """
        name = next(
            (n for n, m in self._watched.items() if _is_linear(m) and m.weight is weight), None
        )
        if name is None or name in self._open:
            return
        module = self._watched[name]
        sharers = [r for r in self._open.values() if getattr(r.module, "weight", None) is weight]
        found: dict[str, list[Tensor]] = defaultdict(list)
        for pair in range(self.pairs):
            rows = [pair, pair + self.pairs]
            own = _Record(module, name, inputs[rows], None, grads(rows))
            found[name].append(_own(own, 1))
            for r in sharers:
                other = _Record(r.module, r.name, r.inputs[rows], None, r.grads[rows])
                found[f"{name} x {r.name}"].append(_across(own, other, 1))
        self.layers |= {n: torch.cat(products) for n, products in found.items()}
        self._read.add(name)

    def stats(self, d_w: Tensor, d_l: Tensor, *, share: float | Tensor = 1.0) -> PairStats:
        """The products over all trainable parameters; call after the backward pass.

        `d_w`, `d_l` [pairs] are the loss's weights and `share` what each pair's loss counts in
        what was differentiated (1 / pairs for a mean, times what accumulation and scaling do).
        Raises TenfoldError where a trainable parameter has a gradient that no module showed.
        """
        self._finish()
        total = torch.stack(list(self.layers.values())).sum(0)
        return self._stats(total, d_w, d_l, share)

    def ahead(self, chosen: Tensor, rejected: Tensor) -> PairStats:
        """The products before the backward pass that trains, which is then not looked at: [pairs].

        Differentiates the log-probs, [pairs] each, down to the modules' outputs only and keeps the
        graph; other watchers do not see this pass. The weights of what comes back are 1.
        """
        global _ahead
        total, hidden = chosen.sum() - rejected.sum(), self._hidden()
        edges = [r.edge for r in self._open.values() if r.edge is not None]
        _ahead = self
        try:
            wanted: list[Any] = [*edges, *hidden.values()]
            found = torch.autograd.grad(total, wanted, retain_graph=True, allow_unused=True)
        finally:
            _ahead = None
        self._known = True
        self._refuse([n for n, g in zip(hidden, found[len(edges) :], strict=True) if g is not None])
        one = torch.ones(self.pairs, dtype=torch.float64)
        return self.stats(one, one)

    def layer_stats(
        self, d_w: Tensor, d_l: Tensor, *, share: float | Tensor = 1.0
    ) -> dict[str, PairStats]:
        """The same by module; after `stats`."""
        return {
            name: self._stats(products, d_w, d_l, share) for name, products in self.layers.items()
        }

    @staticmethod
    def _stats(products: Tensor, d_w: Tensor, d_l: Tensor, share: float | Tensor) -> PairStats:
        d_w, d_l = d_w.detach().double().cpu(), d_l.detach().double().cpu()
        share = share.detach().double().cpu() if isinstance(share, Tensor) else share
        inner, chosen, rejected = unscaled(products, d_w * share, d_l * share).unbind(1)
        return PairStats(inner, chosen, rejected, d_w, d_l)

    def _every_row(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """Positions that all rows share are looked up once a row, so that each has its gradient."""
        if len(args[0]) != 1:
            return None
        return (args[0].expand(2 * self.pairs, *args[0].shape[1:]), *args[1:])

    def _seen(self, name: str):  # type: ignore[no-untyped-def]
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            if not isinstance(output, Tensor) or not output.requires_grad:
                return
            if name in self._open:
                if _in_backward():  # a checkpointed block is computed again: it is known already
                    return
                raise InvalidRequest(f"{name} is called twice in one pass", hint=OTHER)
            inputs = args[0].detach()
            if len(inputs) != 2 * self.pairs:
                raise InvalidRequest(
                    f"{name} sees {len(inputs)} rows and the batch has {2 * self.pairs}",
                    hint=f"its rows cannot be told apart: {OTHER}",
                )
            edge = torch.autograd.graph.get_gradient_edge(output)
            record = self._open[name] = _Record(module, name, inputs, edge)
            output.register_hook(  # type: ignore[no-untyped-call]
                lambda grads: self._done(record, grads.detach())
            )

        return hook

    def _done(self, record: _Record, grads: Tensor) -> None:
        if self._known or (_ahead is not None and _ahead is not self):
            return
        record._grads = grads
        self.layers[record.name] = _own(record, self.pairs)
        if id(record.module) not in self._shared:
            record.inputs = record._grads = torch.empty(0)  # only shared weights are needed later

    def _finish(self) -> None:
        if not self.layers:
            raise TenfoldError("nothing was measured: run the forward and backward pass inside it")
        for one, other in self._pairs_of_sharers():
            self.layers[f"{one.name} x {other.name}"] = _across(one, other, self.pairs)
        if not self._known:
            self._refuse([n for n, p in self._hidden().items() if p.grad is not None])
        self._open.clear()

    def _hidden(self) -> dict[str, nn.Parameter]:
        """Trainable parameters of modules that nothing is known of: not called, not told of."""
        return {
            f"{name}.{parameter}": p
            for name, module in self._watched.items()
            if name not in self._open and name not in self._read
            for parameter, p in module.named_parameters(recurse=False)
            if p.requires_grad
        }

    @staticmethod
    def _refuse(missed: list[str]) -> None:
        if missed:
            raise TenfoldError(
                f"{missed[0]} has a gradient that no module showed ({len(missed)} such parameters)",
                hint="a fused kernel reads the weight past its module: switch that off",
            )

    def _pairs_of_sharers(self) -> Iterator[tuple[_Record, _Record]]:
        records = [r for r in self._open.values() if id(r.module) in self._shared]
        for place, one in enumerate(records):
            for other in records[place + 1 :]:
                if one.module.weight is other.module.weight:
                    yield one, other


def _in_backward() -> bool:
    return int(torch._C._current_graph_task_id()) != -1


def _trainable(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules with trainable parameters of their own, by name."""
    for name, module in model.named_modules():
        if not any(p.requires_grad for p in module.parameters(recurse=False)):
            continue
        if any(True for _ in module.children()):
            raise InvalidRequest(
                f"{name or 'the model'} has parameters beside its submodules",
                hint=f"its gradient cannot be taken apart: {OTHER}",
            )
        yield name, module


def _shared(modules: Iterable[nn.Module]) -> set[int]:
    """Ids of modules whose weight another one has too."""
    owners: dict[int, list[nn.Module]] = {}
    for module in modules:
        for p in module.parameters(recurse=False):
            owners.setdefault(id(p), []).append(module)
    return {id(m) for group in owners.values() if len(group) > 1 for m in group}


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _own(record: _Record, pairs: int) -> Tensor:
    """The three products of one module's parameters, [pairs, 3]."""
    module, grads = record.module, record.grads
    chosen, rejected = slice(0, pairs), slice(pairs, 2 * pairs)
    combinations = ((chosen, rejected), (chosen, chosen), (rejected, rejected))
    if _is_linear(module):
        return _linear(record, combinations)
    if isinstance(module, nn.Embedding):
        products = [_looked_up(record, record, a, b) for a, b in combinations]
        return torch.stack(products, 1).double().cpu()
    rows = _row_gradients(module, record.inputs, grads)
    return torch.stack([(rows[a] * rows[b]).sum(1) for a, b in combinations], 1).double().cpu()


def _linear(record: _Record, combinations: tuple[tuple[slice, slice], ...]) -> Tensor:
    module, inputs, grads = record.module, record.inputs.float(), record.grads
    grads = grads.float()
    if inputs.dim() == 2:
        inputs, grads = inputs[:, None], grads[:, None]
    weight, bias = module.weight, getattr(module, "bias", None)
    total = torch.zeros(len(combinations), len(inputs) // 2, device=inputs.device)
    if weight.requires_grad:
        tokens, features = inputs.shape[1], inputs.shape[2] + grads.shape[2]
        if 3 * tokens * features < 2 * inputs.shape[2] * grads.shape[2]:
            for place, (a, b) in enumerate(combinations):
                alike = inputs[a] @ inputs[b].transpose(1, 2)
                total[place] += (alike * (grads[a] @ grads[b].transpose(1, 2))).sum((1, 2))
        else:  # long rows in narrow layers: the rows' gradients are smaller than their Grams
            rows = grads.transpose(1, 2) @ inputs
            for place, (a, b) in enumerate(combinations):
                total[place] += (rows[a] * rows[b]).sum((1, 2))
    if bias is not None and bias.requires_grad:
        sums = grads.sum(1)
        for place, (a, b) in enumerate(combinations):
            total[place] += (sums[a] * sums[b]).sum(1)
    return total.T.double().cpu()


def _looked_up(one: _Record, other: _Record, a: slice, b: slice) -> Tensor:
    """<., .> of two embeddings' gradients: tokens meet only their like, [pairs]."""
    same = one.inputs[a][:, :, None] == other.inputs[b][:, None, :]
    products = one.grads[a].float() @ other.grads[b].float().transpose(1, 2)
    return (products * same).sum((1, 2))


def _mixed(linear: _Record, table: _Record, a: slice, b: slice) -> Tensor:
    """<., .> of the gradients of a readout and of the embedding it shares its weight with."""
    ids = table.inputs[b]
    scores = (
        linear.grads[a].float().gather(2, ids[:, None, :].expand(-1, linear.grads.shape[1], -1))
    )
    return (scores * (linear.inputs[a].float() @ table.grads[b].float().transpose(1, 2))).sum(
        (1, 2)
    )


def _across(one: _Record, other: _Record, pairs: int) -> Tensor:
    """What two modules' shared weight adds to the three products, [pairs, 3]."""
    chosen, rejected = slice(0, pairs), slice(pairs, 2 * pairs)

    def product(a: slice, b: slice) -> Tensor:  # of `one` for rows a with `other` for rows b
        if _is_linear(one.module) and isinstance(other.module, nn.Embedding):
            return _mixed(one, other, a, b)
        if isinstance(one.module, nn.Embedding) and _is_linear(other.module):
            return _mixed(other, one, b, a)
        if isinstance(one.module, nn.Embedding):
            return _looked_up(one, other, a, b)
        alike = one.inputs[a].float() @ other.inputs[b].float().transpose(1, 2)
        return (alike * (one.grads[a].float() @ other.grads[b].float().transpose(1, 2))).sum((1, 2))

    return (
        torch.stack(
            [
                product(chosen, rejected) + product(rejected, chosen),
                2 * product(chosen, chosen),
                2 * product(rejected, rejected),
            ],
            1,
        )
        .double()
        .cpu()
    )


def _row_gradients(module: nn.Module, inputs: Tensor, grads: Tensor) -> Tensor:
    """The gradient of a small module's parameters for each row, [rows, parameters]."""
    own = {n: p.detach() for n, p in module.named_parameters(recurse=False) if p.requires_grad}

    def row(one_input: Tensor, one_grad: Tensor) -> dict[str, Tensor]:
        def run(parameters: dict[str, Tensor]) -> Tensor:
            return functional_call(module, parameters, (one_input[None],))[0]  # type: ignore[no-any-return]

        back = vjp(run, own)[1]
        return back(one_grad)[0]  # type: ignore[no-any-return]

    with _hooks_off(module):
        found = vmap(row)(inputs, grads)
    return torch.cat([found[name].flatten(1).float() for name in own], 1)


@contextmanager
def _hooks_off(module: nn.Module) -> Iterator[None]:
    """The module is called again for its rows: its hooks must not see that."""
    hooks, module._forward_hooks = module._forward_hooks, type(module._forward_hooks)()
    try:
        yield
    finally:
        module._forward_hooks = hooks
