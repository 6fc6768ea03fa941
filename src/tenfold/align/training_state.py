"""What a training keeps on disk, so that a kill at any moment costs nothing but time.

`run.json` says which run a folder holds; `checkpoint.safetensors` is the last whole state, replaced
in one move; `reference-<key>.safetensors` holds the reference's log-probs. No pickle anywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tenfold.align.encoding import EncodedPair
from tenfold.errors import CheckpointError, InvalidRequest

_RUN = "run.json"
_CHECKPOINT = "checkpoint.safetensors"
_FREE = ("output", "device")  # keys of the configuration that may change


def data_key(encoded: Sequence[EncodedPair]) -> str:
    """Another one wherever a row, a token or the order differs."""
    return hashlib.sha256(json.dumps(encoded).encode()).hexdigest()


def weights_key(model: nn.Module) -> str:
    """Of all weights, bit by bit."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(raw.numpy().data)
    return digest.hexdigest()


class RunFolder:
    """The folder of one run. `begun` says whether it holds the same run already.

    Raises InvalidRequest for a folder with something else in it: another configuration (the keys
    are named) or files of other origin.
    """

    def __init__(self, path: str | Path, config: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self._config = {k: v for k, v in config.items() if k not in _FREE}
        self.begun = (self.path / _RUN).is_file()
        if not self.begun:
            if self.path.exists() and not self.path.is_dir():
                raise InvalidRequest(f"{path} is a file", param="output", hint="name a folder")
            if self.path.is_dir() and any(self.path.iterdir()):
                raise InvalidRequest(
                    f"{path} holds files and no training",
                    param="output",
                    hint="name a folder that is empty or not there",
                )
            return
        self._run = json.loads((self.path / _RUN).read_text(encoding="utf-8"))
        then = self._run["config"]
        changed = [k for k in self._config | then if self._config.get(k) != then.get(k)]
        if changed:
            shown = ", ".join(f"{k} {then.get(k)!r}, now {config.get(k)!r}" for k in changed)
            raise InvalidRequest(
                f"{path} holds another run: {shown}",
                param="output",
                hint="name another output, or remove this one",
            )

    def claim(self, keys: Mapping[str, str]) -> None:
        """Writes what the run is made of, or raises InvalidRequest where that has changed since."""
        if not self.begun:
            self.path.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"config": self._config, "keys": dict(keys)}, indent=1)
            _replace(self.path / _RUN, lambda part: part.write_text(text, encoding="utf-8"))
            self._run, self.begun = json.loads(text), True
            return
        changed = [k for k, v in keys.items() if self._run["keys"].get(k) != v]
        if changed:
            raise InvalidRequest(
                f"{', '.join(changed)} changed since the run in {self.path} began",
                param=changed[0],
                hint="put it back as it was to go on, or name another output to begin anew",
            )

    def file(self, name: str) -> Path:
        """A file of the run."""
        return self.path / name

    def save(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        step: int,
        more: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> None:
        """The whole state after `step` optimizer steps, and `more` by name. Raises CheckpointError
        on a full disk; the state before it is then still there."""
        tensors = dict(_state(model, optimizer)) | {f"more {k}": t for k, t in more.items()}
        save_tensors(self.path / _CHECKPOINT, tensors, {"step": str(step)})

    def restore(
        self, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[int, dict[str, Tensor]]:
        """Puts the last saved state back and gives the steps done, 0 where there is none, and what
        was saved beside it."""
        if not (self.path / _CHECKPOINT).is_file():
            return 0, {}
        tensors, about = load_tensors(self.path / _CHECKPOINT)
        more = {k.removeprefix("more "): t for k, t in tensors.items() if k.startswith("more ")}
        with torch.no_grad():
            for name, p in _trained(model):
                p.copy_(tensors.pop(f"weight {name}"))
                kept = [k for k in tensors if k.endswith(f" {name}")]
                # torch keeps the count of steps on the CPU
                optimizer.state[p] = {
                    k.split(" ", 1)[0]: t if (t := tensors.pop(k)).dim() == 0 else t.to(p.device)
                    for k in kept
                }
        return int(about["step"]), more


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Writes a safetensors file in one move: the old one stays until the new one is whole."""
    whole = {k: t.detach().cpu().contiguous() for k, t in tensors.items()}
    _replace(path, lambda part: save_file(whole, part, metadata=dict(about)))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and what was said about them. Raises CheckpointError for a file that is damaged."""
    try:
        with safe_open(path, framework="pt") as found:
            return {k: found.get_tensor(k) for k in found.keys()}, found.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as e:
        raise CheckpointError(f"{path} cannot be read: {e}", hint="remove it") from None


def _state(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[tuple[str, Tensor]]:
    found = []
    for name, p in _trained(model):
        found.append((f"weight {name}", p.detach()))
        found += [(f"{key} {name}", value) for key, value in optimizer.state[p].items()]
    return found


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(n, p) for n, p in model.named_parameters() if p.requires_grad]


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    part = path.with_name(path.name + ".part")
    try:
        write(part)
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(part, path)
    except (OSError, SafetensorError) as e:
        part.unlink(missing_ok=True)
        raise CheckpointError(
            f"{path} cannot be written: {e}",
            hint="make room and run the same command again: it goes on from the last checkpoint",
        ) from None
