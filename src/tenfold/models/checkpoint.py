"""Model folders in Hugging Face layout: opening, checking, streaming and writing them.

On the main path: `loading.load_model` opens a `Checkpoint`, checks it against the spec, and the
decoder pulls its tensors one at a time, so that peak memory is the model plus one layer. Only
safetensors are read: a pickle can run code, so it is refused with the way to convert it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tenfold.errors import CheckpointError
from tenfold.models.folders import read_json
from tenfold.models.layout import expected_shapes, ignored
from tenfold.models.spec import DecoderSpec

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_LISTED = 5  # how many tensors an error names


class Checkpoint(Mapping[str, Tensor]):
    """The tensors of a model folder, read when asked for. Maps a tensor's name to the tensor.

    Reading raises CheckpointError on NaN or infinite weights. `config` is config.json.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise CheckpointError(
                f"{folder} is not a folder", hint="expected a model folder in Hugging Face layout"
            )
        self.folder = folder
        self.config = read_json(folder / "config.json")
        self._home = {}
        self._open = {}
        for path in weight_files(folder):
            handle = open_safetensors(path)
            for name in handle.keys():  # noqa: SIM118  (not a mapping)
                self._home[name] = path.name
            self._open[path.name] = handle

    _home: dict[str, str]  # tensor name -> file name
    _open: dict[str, Any]  # file name -> safetensors handle (memory-mapped)

    def __getitem__(self, name: str) -> Tensor:
        handle = self._open[self._home[name]]
        return checked_finite(name, handle.get_tensor(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._home)

    def __len__(self) -> int:
        return len(self._home)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, from the file's header."""
        return tuple(self._open[self._home[name]].get_slice(name).get_shape())

    def dtype(self) -> torch.dtype:
        """The widest type among the weights: float32, else bfloat16, else float16.

        Raises CheckpointError on types that are not plain weights (packed or 8-bit).
        """
        found = set()
        for name, file in self._home.items():
            kind = self._open[file].get_slice(name).get_dtype()
            if kind not in _DTYPES:
                raise CheckpointError(
                    f"tensor {name!r} has type {kind}",
                    hint=f"plain checkpoints hold {', '.join(_DTYPES)}; this one looks quantized",
                )
            found.add(_DTYPES[kind])
        for dtype in (torch.float32, torch.bfloat16):
            if dtype in found:
                return dtype
        return torch.float16

    def check(self, spec: DecoderSpec) -> None:
        """Raise CheckpointError when tensors are missing, left over or of the wrong shape."""
        if spec.layers > len(self):  # before a name is made for every tensor of every layer
            raise CheckpointError(
                f"config.json: num_hidden_layers is {spec.layers}, "
                f"the weights hold only {len(self)} tensors",
                hint="config.json belongs to another model",
            )
        expected = expected_shapes(spec)
        missing = [n for n in expected if n not in self._home]
        if missing:
            raise CheckpointError(
                f"{len(missing)} tensors are missing: {_some(missing)}",
                hint=f"the folder holds {len(self)} tensors, {spec.family} needs {len(expected)}",
            )
        extra = [n for n in self._home if n not in expected and not ignored(n, spec)]
        if extra:
            raise CheckpointError(
                f"{len(extra)} tensors do not belong to a {spec.family} model: {_some(extra)}",
                hint="config.json and the weights disagree about the architecture",
            )
        wrong = [
            f"{name} is {list(self.shape(name))}, expected {list(shape)}"
            for name, shape in expected.items()
            if self.shape(name) != shape
        ]
        if wrong:
            raise CheckpointError(
                f"{len(wrong)} tensors have the wrong shape: {_some(wrong)}",
                hint="config.json and the weights disagree about sizes",
            )


def _some(items: list[str]) -> str:
    rest = len(items) - _LISTED
    return ", ".join(items[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model: one, or the shards its index names.

    Raises CheckpointError when there are none, a shard is absent, or only pickles are there.
    """
    if (folder / _SINGLE).is_file():
        return [folder / _SINGLE]
    if (folder / _INDEX).is_file():
        shards = read_json(folder / _INDEX).get("weight_map")
        if not isinstance(shards, dict):
            raise CheckpointError(f"{folder / _INDEX} has no weight_map", hint="copy it again")
        names = sorted({str(n) for n in shards.values()})
        absent = [n for n in names if Path(n).name != n or not (folder / n).is_file()]
        if absent:
            raise CheckpointError(
                f"{len(absent)} of {len(names)} shards are missing: {_some(absent)}",
                hint="the download is incomplete",
            )
        return [folder / n for n in names]
    refuse_pickle(folder)
    raise CheckpointError(
        f"{folder} holds no weights",
        hint=f"expected {_SINGLE} or {_INDEX} with its shards; a hub repository that has only "
        "pickles must be converted first",
    )


def refuse_pickle(folder: Path) -> None:
    """Raise CheckpointError if the folder's weights are pickles."""
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLES)
    if pickles:
        raise CheckpointError(
            f"weights are pickles, which can run code when opened: {_some(pickles)}",
            hint="convert them where you trust them: load the model with transformers and call "
            "save_pretrained(folder), which writes model.safetensors",
        )


def open_safetensors(path: Path) -> Any:
    """A memory-mapped safetensors file. Raises CheckpointError if it is truncated or foreign."""
    try:
        return safe_open(path, framework="pt", device="cpu")
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist", hint="is the folder complete?") from None
    except (SafetensorError, OSError) as e:
        raise CheckpointError(
            f"{path} is not a whole safetensors file: {e}",
            hint="the file is truncated or damaged; download or export it again",
        ) from None


def checked_finite(name: str, tensor: Tensor) -> Tensor:
    """The tensor itself. Raises CheckpointError if it holds NaN or infinity."""
    if tensor.is_floating_point() and not torch.isfinite(tensor.sum(dtype=torch.float32)):
        bad = int((~torch.isfinite(tensor)).sum())  # the sum alone may have overflowed
        if bad:
            raise CheckpointError(
                f"tensor {name!r} holds {bad} NaN or infinite values",
                hint="the checkpoint is damaged or its training diverged",
            )
    return tensor


def save_checkpoint(spec: DecoderSpec, tensors: Mapping[str, Tensor], folder: Path | str) -> None:
    """Write config.json and model.safetensors so that transformers and tenfold can load them.

    `tensors` holds the layout's names (a tied language head may be left in; it is not written) in
    one dtype. Raises CheckpointError on missing, foreign or wrongly shaped tensors.
    """
    folder = Path(folder)
    expected = expected_shapes(spec)
    wrong = [n for n, s in expected.items() if n not in tensors or tuple(tensors[n].shape) != s]
    foreign = [n for n in tensors if n not in expected and not ignored(n, spec)]
    if wrong or foreign:
        raise CheckpointError(
            f"tensors do not fit the spec: {_some(wrong + foreign)}",
            hint="missing, of another shape, or unknown to the layout",
        )
    dtype = str(tensors[next(iter(expected))].dtype).removeprefix("torch.")
    folder.mkdir(parents=True, exist_ok=True)
    config = json.dumps(spec.to_hf(dtype), indent=2)
    (folder / "config.json").write_text(config + "\n", encoding="utf-8")
    # Copies, because safetensors refuses tensors that share memory (views of fused weights do).
    whole = {n: tensors[n].detach().to("cpu", copy=True).contiguous() for n in expected}
    save_file(whole, folder / _SINGLE, metadata={"format": "pt"})
