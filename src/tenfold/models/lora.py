"""Low-rank adapters in PEFT's layout, merged into the weights while they are read.

On the main path: `loading.load_model` lays `Adapter.merge` over the checkpoint's tensors, so a
merged model costs no more at run time than its base. W' = W + (alpha / r) B A, LoRA 2106.09685
§4.1; with `use_rslora` alpha / sqrt(r), 2312.03732 §3. Sums are taken in float32.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tenfold.errors import CheckpointError
from tenfold.models.checkpoint import (
    checked_finite,
    open_safetensors,
    refuse_pickle,
)
from tenfold.models.folders import embedded_names, locate, read_json
from tenfold.models.layout import CLASSIFIER, LANGUAGE_HEAD, expected_shapes
from tenfold.models.spec import DecoderSpec

_CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."

# Settings that say how the adapter was trained or found; they do not change what it computes.
_HARMLESS = {
    *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path"),
    *("revision", "inference_mode", "r", "target_modules", "exclude_modules", "lora_alpha"),
    *("lora_dropout", "use_rslora", "modules_to_save", "layers_to_transform", "layers_pattern"),
    *("megatron_core", "qalora_group_size", "loftq_config", "ensure_weight_tying"),
}
_PLAIN_INIT = (None, True, False, "gaussian", "orthogonal", "eva")  # these leave the base as it is


@dataclass(frozen=True, slots=True)
class Adapter:
    """One adapter: pairs of low-rank factors by the weight they change, and weights it replaces."""

    name: str
    scale: float  # what B A is multiplied by
    factors: Mapping[str, tuple[Tensor, Tensor]]  # weight name -> A [r, in], B [out, r]
    replaced: Mapping[str, Tensor]  # weight name -> weight to use in place of the base's

    @classmethod
    def read(cls, folder: Path | str) -> Adapter:
        """Read an adapter folder. Raises CheckpointError naming a feature that is not merged."""
        folder = Path(folder)
        config = read_json(folder / _CONFIG)
        rank = _check_config(config)
        if not (folder / _WEIGHTS).is_file():
            refuse_pickle(folder)
            raise CheckpointError(f"{folder} has no {_WEIGHTS}", hint="is the adapter complete?")
        handle = open_safetensors(folder / _WEIGHTS)
        tensors = {
            name: checked_finite(name, handle.get_tensor(name))
            for name in handle.keys()  # noqa: SIM118  (not a mapping)
        }
        factors, replaced = _sort(tensors)
        for name, (a, b) in factors.items():
            if a.shape[0] != rank or b.shape[1] != rank:
                raise CheckpointError(
                    f"adapter {folder.name}: {name} has rank {a.shape[0]} x {b.shape[1]}, "
                    f"{_CONFIG} says {rank}",
                    hint="the two files belong to different adapters",
                )
        alpha = float(config.get("lora_alpha", 8))
        scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
        return cls(folder.name, scale, factors, replaced)

    @staticmethod
    def base_of(folder: Path) -> Path:
        """The folder of the model an adapter was trained on, as its config names it.

        An embedded name, a path (also relative to the adapter) or a hub repository. Raises
        CheckpointError if nothing is named, UnknownName if it is not found.
        """
        base = read_json(folder / _CONFIG).get("base_model_name_or_path")
        if not isinstance(base, str) or not base:
            raise CheckpointError(
                f"adapter {folder} does not name its base model",
                hint="load the base and pass this folder as an adapter",
            )
        beside = folder / base
        if base not in embedded_names() and beside.is_dir():
            return beside
        local = base.startswith((".", "/", "~")) or Path(base).exists()
        hub = base.count("/") == 1 and not local
        return locate(f"hf:{base}" if hub else base)

    def merge(
        self, spec: DecoderSpec, tensors: Mapping[str, Tensor]
    ) -> tuple[DecoderSpec, Mapping[str, Tensor]]:
        """The spec and the tensors with this adapter in them; tensors are merged when asked for.

        An adapter that brings `score.weight` turns the model into a classifier (the language head
        stays). Raises CheckpointError when it does not fit the model.
        """
        score = self.replaced.get(CLASSIFIER)
        if score is not None:
            spec = dataclasses.replace(spec, num_labels=score.shape[0])
        expected = expected_shapes(spec)
        for name in (*self.factors, *self.replaced):
            if name not in expected:
                tied = name == LANGUAGE_HEAD and spec.tied_embeddings
                why = "the model's embeddings are tied" if tied else "the model has no such weight"
                raise CheckpointError(
                    f"adapter {self.name} changes {name!r}: {why}",
                    hint="it was trained on another base",
                )
        shapes: dict[str, tuple[int, ...]] = {n: tuple(t.shape) for n, t in self.replaced.items()}
        shapes |= {n: (b.shape[0], a.shape[1]) for n, (a, b) in self.factors.items()}
        for name, shape in shapes.items():
            if shape != expected[name]:
                raise CheckpointError(
                    f"adapter {self.name}: {name} is {list(shape)}, not {list(expected[name])}",
                    hint="it was trained on a base of another size",
                )
        return spec, _Merged(tensors, self)


class _Merged(Mapping[str, Tensor]):
    """A checkpoint's tensors with one adapter added, computed on access."""

    def __init__(self, base: Mapping[str, Tensor], adapter: Adapter) -> None:
        self._base = base
        self._adapter = adapter

    def __getitem__(self, name: str) -> Tensor:
        replaced = self._adapter.replaced.get(name)
        weight = self._base[name] if replaced is None else replaced
        pair = self._adapter.factors.get(name)
        if pair is None:
            return weight
        a, b = pair
        return weight.float() + self._adapter.scale * (b.float() @ a.float())

    def __iter__(self) -> Iterator[str]:
        yield from self._base
        yield from (n for n in self._adapter.replaced if n not in self._base)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def is_adapter(folder: Path) -> bool:
    """Does the folder hold an adapter rather than a whole model?"""
    return (folder / _CONFIG).is_file() and not (folder / "config.json").is_file()


def _check_config(config: Mapping[str, Any]) -> int:
    """The rank. Raises CheckpointError on whatever would change the result and is not computed."""
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise CheckpointError(f"adapter type {kind!r} is not supported", hint="supported: LORA")
    if config.get("fan_in_fan_out"):
        raise CheckpointError(
            "adapter has fan_in_fan_out set", hint="it was trained on transposed (Conv1D) weights"
        )
    if config.get("bias", "none") != "none":
        raise CheckpointError(
            f"adapter trains biases ({config['bias']!r})", hint="supported: bias none"
        )
    init = config.get("init_lora_weights")
    if init not in _PLAIN_INIT:
        raise CheckpointError(
            f"adapter was initialised by {init!r}, which also changes the base weights",
            hint="save it as a plain adapter (PEFT: path_initial_model_for_weight_conversion)",
        )
    judged = {"fan_in_fan_out", "bias", "init_lora_weights"}
    unknown = sorted(k for k, v in config.items() if v and k not in _HARMLESS | judged)
    if unknown:
        raise CheckpointError(
            f"adapter uses features that tenfold does not merge: {', '.join(unknown)}",
            hint="merge it with PEFT's merge_and_unload and save the whole model",
        )
    rank = config.get("r")
    if not isinstance(rank, int) or rank < 1:
        raise CheckpointError(f"adapter rank is {rank!r}", hint="r must be a positive number")
    return rank


def _sort(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, Tensor]]:
    """(low-rank factors, replaced weights) by the layout's names."""
    halves: dict[str, dict[str, Tensor]] = {}
    replaced: dict[str, Tensor] = {}
    for full, tensor in tensors.items():
        if not full.startswith(_PREFIX):
            raise CheckpointError(
                f"adapter tensor {full!r} is of an unknown layout", hint=f"expected {_PREFIX}..."
            )
        # Whole weights lie under these two: trained ones, and the one beside an lm_head's pair.
        name = full.removeprefix(_PREFIX)
        name = name.replace(".modules_to_save.", ".").replace(".base_layer.", ".")
        module, _, half = name.removesuffix(".weight").rpartition(".")
        if half in ("lora_A", "lora_B"):
            halves.setdefault(f"{module}.weight", {})[half] = tensor
        elif "lora_" in name:
            raise CheckpointError(
                f"adapter tensor {full!r} is not supported", hint="supported: lora_A and lora_B"
            )
        else:
            replaced[name] = tensor
    alone = [n for n, pair in halves.items() if len(pair) != 2]
    if alone:
        raise CheckpointError(
            f"adapter has only one factor for {alone[0]!r}", hint="the file is incomplete"
        )
    return {n: (pair["lora_A"], pair["lora_B"]) for n, pair in halves.items()}, replaced
