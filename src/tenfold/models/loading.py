"""From a name to a model ready to run: the door every other room comes through.

On the main path: `load_model` finds the folder, reads spec, weights, adapters, tokenizer, chat
template and sampling defaults, and checks that they belong together before anything runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from tenfold.errors import CheckpointError, InvalidRequest, TemplateError
from tenfold.models.chat_template import ChatTemplate
from tenfold.models.checkpoint import Checkpoint
from tenfold.models.decoder import Decoder
from tenfold.models.folders import embedded_names, locate, read_json
from tenfold.models.layout import expected_shapes
from tenfold.models.lora import Adapter, is_adapter
from tenfold.models.spec import DecoderSpec
from tenfold.models.template_worker import syntax_error
from tenfold.models.tokenizer import Tokenizer
from tenfold.models.values import is_number
from tenfold.types import SamplingParams

__all__ = ["LoadedModel", "embedded_names", "load_model", "load_tokenizer", "random_model"]

DtypeName = Literal["auto", "float32", "bfloat16", "float16"]
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model with everything needed to talk to it.

    `generation` holds the sampling defaults generation_config.json states, under SamplingParams'
    names.
    """

    name: str
    spec: DecoderSpec
    decoder: Decoder
    tokenizer: Tokenizer
    chat_template: ChatTemplate | None  # None: the model completes text but has no chat format
    generation: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    def default_params(self) -> SamplingParams:
        """Sampling as the checkpoint's author recommends it."""
        return SamplingParams(**self.generation)

    def require_chat_template(self) -> ChatTemplate:
        """The chat template. Raises TemplateError if the model came without one."""
        if self.chat_template is None:
            raise TemplateError(
                f"model {self.name!r} has no chat template",
                hint="ask it for completions, or put a chat_template.jinja into its folder",
            )
        return self.chat_template


def load_model(
    name_or_path: str | Path,
    *,
    dtype: DtypeName | torch.dtype = "auto",
    device: torch.device | str = "cpu",
    adapters: Sequence[str | Path] = (),
) -> LoadedModel:
    """Load an embedded model by name, a folder by path, or `hf:owner/name`.

    A folder may also be a LoRA adapter that names its base; `adapters` are merged on top, in order.
    dtype "auto" is the checkpoint's own, except on a CPU: float32 for float16 checkpoints, and for
    bfloat16 ones unless the processor has bfloat16 instructions. Raises UnknownName if nothing goes
    by that name, CheckpointError if the folder cannot be loaded as it stands.
    """
    folder = locate(name_or_path)
    chain = [locate(a) for a in adapters]
    base = folder
    while is_adapter(base):
        if base in chain:
            raise CheckpointError(f"adapter {base} is its own base", hint="see adapter_config.json")
        chain.insert(0, base)
        base = Adapter.base_of(base)
    checkpoint = Checkpoint(base)
    spec = DecoderSpec.from_hf(checkpoint.config)
    checkpoint.check(spec)
    chosen = _dtype(dtype, checkpoint.dtype(), torch.device(device))
    tensors: Mapping[str, Tensor] = checkpoint
    for path in chain:
        adapter = Adapter.read(path)
        spec, tensors = adapter.merge(spec, tensors)
    beside = [p for p in (folder, base) if (p / "tokenizer.json").is_file()]
    home = beside[0] if beside else base
    tokenizer = Tokenizer.from_folder(home)
    tokenizer.check_fits(spec.vocab_size)
    generation = _generation_defaults(base)
    template = _checked_template(home)
    return LoadedModel(
        name=_display_name(name_or_path),
        spec=spec,
        decoder=Decoder(spec, tensors, chosen, device),
        tokenizer=tokenizer,
        chat_template=template,
        generation=generation,
        folder=base,
    )


def load_tokenizer(name_or_path: str | Path) -> Tokenizer:
    """The tokenizer of a model, without its weights. Raises as `load_model`."""
    folder = locate(name_or_path)
    while is_adapter(folder) and not (folder / "tokenizer.json").is_file():
        folder = Adapter.base_of(folder)
    return Tokenizer.from_folder(folder)


def fast_bfloat16(device: torch.device) -> bool:
    """Does this device compute in bfloat16 at least as fast as in float32?"""
    if device.type != "cpu":
        return True
    for probe in ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported"):
        if getattr(torch.cpu, probe, bool)():
            return True
    return False


def _dtype(
    asked: DtypeName | torch.dtype, stored: torch.dtype, device: torch.device
) -> torch.dtype:
    if isinstance(asked, torch.dtype):
        return asked
    if asked != "auto":
        named = {
            "float32": torch.float32,
            "bfloat16": torch.bfloat16,
            "float16": torch.float16,
        }
        if asked not in named:
            raise CheckpointError(
                f"unknown dtype {asked!r}", hint=f"one of auto, {', '.join(named)}"
            )
        return named[asked]
    if device.type == "cpu" and stored == torch.float16:
        return torch.float32
    if stored == torch.bfloat16 and not fast_bfloat16(device):
        return torch.float32
    return stored


def _display_name(name_or_path: str | Path) -> str:
    text = str(name_or_path)
    if text.startswith("hf:"):
        return text.removeprefix("hf:")
    return text if text in embedded_names() else Path(text).resolve().name


def _generation_defaults(folder: Path) -> dict[str, Any]:
    path = folder / "generation_config.json"
    if not path.is_file():
        return {}
    found = read_json(path)
    defaults = {key: found[key] for key in _SAMPLING if found.get(key) is not None}
    if found.get("max_new_tokens") is not None:
        defaults["max_tokens"] = found["max_new_tokens"]
    for key, value in defaults.items():
        whole = key in ("top_k", "max_tokens")
        if not is_number(value) or (whole and value != int(value)):
            raise CheckpointError(
                f"{path}: {key} is {value!r}",
                hint=f"a {'whole ' if whole else ''}number is due; or take the key out",
            )
        defaults[key] = int(value) if whole else float(value)
    if found.get("do_sample") is False:  # said, not merely left out: greedy
        defaults["temperature"] = 0.0
    try:
        SamplingParams(**defaults)
    except InvalidRequest as e:
        raise CheckpointError(
            f"{path}: {e.message}", hint="correct the value, or take the key out"
        ) from None
    return defaults


def _checked_template(folder: Path) -> ChatTemplate | None:
    """The chat template, if any. Raises CheckpointError when it is not one: said now, not at the
    first request."""
    template = ChatTemplate.from_folder(folder)
    if template is None:
        return None
    wrong = syntax_error(template.source)
    if wrong is not None:
        own = folder / "chat_template.jinja"
        where = f"{own}" if own.is_file() else f"{folder / 'tokenizer_config.json'}: chat_template"
        raise CheckpointError(
            f"{where} cannot be read: {wrong}", hint="correct the jinja text, or copy it again"
        )
    return template


class RandomTensors(Mapping[str, Tensor]):
    """Random weights for a spec, made when asked for; the same seed gives the same weights.

    Matrices are normal with deviation columns ** -0.5, so that activations keep their size; norms
    are 1.
    """

    def __init__(self, spec: DecoderSpec, seed: int = 0) -> None:
        self._shapes = expected_shapes(spec)
        self._order = {name: i for i, name in enumerate(self._shapes)}
        self._seed = seed

    def __getitem__(self, name: str) -> Tensor:
        shape = self._shapes[name]
        if name.endswith("norm.weight"):
            return torch.ones(shape)
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._order[name])
        deviation = float(shape[-1] ** -0.5) if len(shape) > 1 else 0.02
        return torch.randn(shape, generator=generator) * deviation

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def random_model(
    spec: DecoderSpec,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Decoder:
    """A decoder with `RandomTensors`, for benchmarks and tests that need no checkpoint."""
    return Decoder(spec, RandomTensors(spec, seed), dtype, device)
