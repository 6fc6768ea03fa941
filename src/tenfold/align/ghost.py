"""Exact products of per-pair gradients from the backward pass that training does anyway.

Rows never meet in a decoder, so a module's inputs and the gradients of its outputs, row by row,
hold what each row has to do with its weights: hooks pick both up, `grams` makes products of them.
Parameters that two modules share (tied embeddings) get the cross terms.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tenfold.align.entanglement import PairStats, unscaled
from tenfold.align.grams import Grams, Part, across, is_linear, own
from tenfold.errors import InvalidRequest, TenfoldError

_ahead: GhostProducts | None = None  # whose own backward pass is running
Only = Callable[[str], bool]
OTHER = "take the split back end, or freeze it"
PLAIN = (nn.Linear, nn.Embedding)  # derived classes may scale what they give (Gemma's embedding)


class GhostProducts:
    """Watches a model's modules through one forward and backward pass over `pairs` pairs.

    The batch holds the chosen answers' rows, then the rejected ones', [2 * pairs, tokens]. Use it
    once: forward and `backward()` inside `with`, then `stats`. `only` says by name which of the
    trainable parameters count, all of them without it. Raises InvalidRequest for modules whose
    gradient it cannot take apart.
    """

    def __init__(self, model: nn.Module, pairs: int, only: Only | None = None) -> None:
        self.pairs = pairs
        self.layers: dict[
            str, Tensor
        ] = {}  # module -> products [pairs, 3] of the training gradient
        found = list(_trainable(model, only))
        self._watched = {name: module for name, module, _ in found}
        self._trained = {name: trained for name, _, trained in found}
        self._grams, self._readers = Grams(), Counter[tuple[int, torch.Size]]()
        self._shared = _shared(self._watched.values())
        self._open: dict[str, Part] = {}
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
            (n for n, m in self._watched.items() if is_linear(m) and m.weight is weight), None
        )
        if name is None or name in self._open:
            return
        found: dict[str, list[Tensor]] = defaultdict(list)
        for pair in range(self.pairs):
            rows = [pair, pair + self.pairs]
            part = Part(self._watched[name], name, inputs[rows], self._trained[name])
            part.outputs = grads(rows)
            for key, products in self._told(part, rows).items():
                found[key].append(products)
        self.layers |= {n: torch.cat(products) for n, products in found.items()}
        self._read.add(name)

    def _told(self, part: Part, rows: list[int]) -> dict[str, Tensor]:
        """What readout() adds for one pair's rows: products [1, 3] by name."""
        found, weight = {part.name: own(part, Grams())}, part.module.weight
        for r in self._open.values():
            if getattr(r.module, "weight", None) is weight:
                other = Part(r.module, r.name, r.inputs[rows], r.trained, outputs=r.grads[rows])
                found[f"{part.name} x {r.name}"] = across(part, other)
        return found

    def stats(self, d_w: Tensor, d_l: Tensor, *, share: float | Tensor = 1.0) -> PairStats:
        """The products over all trainable parameters; call after the backward pass.

        `d_w`, `d_l` [pairs] are the loss's weights and `share` what each pair's loss counts in
        what was differentiated (1 / pairs for a mean, times what accumulation and scaling do).
        Raises TenfoldError where a trainable parameter has a gradient that no module showed.
        """
        self._finish()
        total = torch.stack([p.double() for p in self.layers.values()]).sum(0).cpu()
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
        inner, chosen, rejected = unscaled(
            products.double().cpu(), d_w * share, d_l * share
        ).unbind(1)
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
            part = self._open[name] = Part(module, name, inputs, self._trained[name], edge=edge)
            reads = inputs.data_ptr(), inputs.shape
            self._readers[reads] += 1
            output.register_hook(  # type: ignore[no-untyped-call]
                lambda grads: self._done(part, grads.detach(), self._readers[reads])
            )

        return hook

    def _done(self, part: Part, grads: Tensor, readers: int) -> None:
        if self._known or (_ahead is not None and _ahead is not self):
            return
        part.outputs, part.readers = grads, readers
        part.crop()
        self._take(part)

    def _take(self, part: Part) -> None:
        """Makes products of what a module showed."""
        self.layers[part.name] = own(part, self._grams)
        if id(part.module) not in self._shared:
            part.inputs = part.outputs = torch.empty(0)  # only shared weights are needed later

    def _close(self) -> None:
        """After the backward pass: what could not be known before."""
        for one, other in self._pairs_of_sharers():
            self.layers[f"{one.name} x {other.name}"] = across(one, other)

    def _finish(self) -> None:
        self._close()
        if not self.layers:
            raise TenfoldError("nothing was measured: run the forward and backward pass inside it")
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
            if parameter in self._trained[name]
        }

    @staticmethod
    def _refuse(missed: list[str]) -> None:
        if missed:
            raise TenfoldError(
                f"{missed[0]} has a gradient that no module showed ({len(missed)} such parameters)",
                hint="a fused kernel reads the weight past its module: switch that off",
            )

    def _pairs_of_sharers(self) -> Iterator[tuple[Part, Part]]:
        records = [r for r in self._open.values() if id(r.module) in self._shared]
        for place, one in enumerate(records):
            for other in records[place + 1 :]:
                if one.module.weight is other.module.weight:
                    yield one, other


def _in_backward() -> bool:
    return int(torch._C._current_graph_task_id()) != -1


def _trainable(
    model: nn.Module, only: Only | None
) -> Iterator[tuple[str, nn.Module, frozenset[str]]]:
    """Modules with trainable parameters of their own that count: name, module, parameters."""
    for name, module in model.named_modules():
        trained = frozenset(
            n
            for n, p in module.named_parameters(recurse=False)
            if p.requires_grad and (only is None or only(f"{name}.{n}" if name else n))
        )
        if not trained:
            continue
        if any(True for _ in module.children()):
            raise InvalidRequest(
                f"{name or 'the model'} has parameters beside its submodules",
                hint=f"its gradient cannot be taken apart: {OTHER}",
            )
        if getattr(module, "scale_grad_by_freq", False) or getattr(module, "max_norm", None):
            raise InvalidRequest(f"{name} scales its own gradient", hint=OTHER)
        if any(isinstance(module, k) and type(module).forward is not k.forward for k in PLAIN):
            raise InvalidRequest(
                f"{name} is a {type(module).__name__}, which computes in its own way",
                hint=f"its gradient cannot be taken apart: {OTHER}",
            )
        yield name, module, trained


def _shared(modules: Iterable[nn.Module]) -> set[int]:
    """Ids of modules whose weight another one has too."""
    owners: dict[int, list[nn.Module]] = {}
    for module in modules:
        for p in module.parameters(recurse=False):
            owners.setdefault(id(p), []).append(module)
    return {id(m) for group in owners.values() if len(group) > 1 for m in group}
