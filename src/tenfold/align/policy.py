"""The model that is trained, by transformers and PEFT: loading it, its adapters, writing it out.

What is written loads in tenfold's engine and in PEFT or transformers: an adapter folder that names
its base, or a whole model folder.
"""

from __future__ import annotations

import inspect
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tenfold.align.config import LoraOptions
from tenfold.errors import BackendUnavailable, CheckpointError, InvalidRequest
from tenfold.models.folders import embedded_names, locate
from tenfold.models.lora import Adapter, is_adapter

_BESIDE = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
)  # fmt: skip
_NEEDS = 'pip install "tenfold[train]"'


def load_policy(name: str, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """A causal language model by name, folder or `hf:owner/name`, without dropout.

    An adapter's folder is merged into its base. Raises BackendUnavailable where transformers is
    missing, CheckpointError for a folder that it cannot read.
    """
    try:
        from transformers import AutoModelForCausalLM
    except ImportError:
        raise BackendUnavailable("transformers is not installed", hint=_NEEDS) from None
    folder = locate(name)
    if is_adapter(folder):
        base = load_policy(str(Adapter.base_of(folder)), dtype, device)
        try:
            from peft import PeftModel
        except ImportError:
            raise BackendUnavailable("peft is not installed", hint=_NEEDS) from None
        with _old_names():
            merged: nn.Module = PeftModel.from_pretrained(base, str(folder)).merge_and_unload()
        return merged.eval()
    try:
        model: nn.Module = AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=dtype, use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError) as e:
        raise CheckpointError(f"{name}: transformers cannot load it: {e}") from None
    return model.to(device).eval()


def adapt(model: nn.Module, options: LoraOptions | None, base: str) -> nn.Module:
    """What is trained: the model with fresh adapters that name `base`, or all of its weights.

    Raises InvalidRequest for targets that the model does not have.
    """
    if options is None:
        return model.requires_grad_(True)
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise BackendUnavailable("peft is not installed", hint=_NEEDS) from None
    targets = list(options.targets)
    config = LoraConfig(
        r=options.r,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=targets[0] if targets == ["all-linear"] else targets,
        task_type="CAUSAL_LM",
    )
    try:
        with _old_names():
            adapted: nn.Module = get_peft_model(model, config)
    except ValueError as e:
        names = {n.rsplit(".", 1)[-1] for n, m in model.named_modules() if isinstance(m, nn.Linear)}
        raise InvalidRequest(
            f"lora.targets are {targets}: {e}",
            param="lora.targets",
            hint=f"this model has {', '.join(sorted(names))}; all-linear takes all but the head",
        ) from None
    adapted.peft_config["default"].base_model_name_or_path = _address(base)  # type: ignore[union-attr,index]
    return adapted.eval()


@contextmanager
def dropping(model: nn.Module) -> Iterator[None]:
    """Only adapters drop anything while they are trained: the model's own dropout stays off, so
    that policy and reference are the same function at the start."""
    dropped = [m for n, m in model.named_modules() if ".lora_dropout" in n]
    for module in dropped:
        module.train()
    try:
        yield
    finally:
        for module in dropped:
            module.eval()


def save_policy(model: nn.Module, folder: Path, source: str) -> None:
    """Writes the adapter, or the whole model with the tokenizer of `source`, into `folder`."""
    part = folder / ".part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    adapters: Any = getattr(model, "peft_config", None)
    if adapters is not None:
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        found = get_peft_model_state_dict(model, save_embedding_layers=False)
        weights = {n: t.contiguous().cpu() for n, t in found.items()}
        save_file(weights, part / "adapter_model.safetensors", metadata={"format": "pt"})
        adapters["default"].inference_mode = True
        adapters["default"].save_pretrained(str(part))
    else:
        model.save_pretrained(str(part))  # type: ignore[operator]
        home = locate(source)
        while is_adapter(home):
            home = Adapter.base_of(home)
        for name in _BESIDE:
            if (home / name).is_file():
                shutil.copyfile(home / name, part / name)
    # The file that makes the folder a model comes last: half a model is none.
    for path in sorted(
        part.iterdir(), key=lambda p: p.name in ("config.json", "adapter_config.json")
    ):
        os.replace(path, folder / path.name)
    part.rmdir()


@contextmanager
def _old_names() -> Iterator[None]:
    """transformers warns of names of its own that PEFT still uses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _address(base: str) -> str:
    """How an adapter names its base: an embedded name, the hub's, or a path."""
    if base in embedded_names():
        return base
    return base.removeprefix("hf:") if base.startswith("hf:") else str(Path(base).resolve())


def keeps_logits(model: nn.Module) -> bool:
    """Whether its forward pass can leave out the logits of the prompts."""
    bare = model.get_base_model() if hasattr(model, "peft_config") else model  # type: ignore[operator]
    return "logits_to_keep" in inspect.signature(bare.forward).parameters


def device_of(name: str) -> torch.device:
    """A device by name, `auto` is the best there is. Raises InvalidRequest."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as e:
        raise InvalidRequest(
            f"device {name} cannot be used: {str(e).splitlines()[0]}",
            param="device",
            hint="auto, cpu or cuda",
        ) from None
