"""Quantized model folders: compressed-tensors' `pack-quantized` with one tensor more.

A linear layer N is stored as `N.weight_packed` int32, `N.weight_scale` [out, in / group],
`N.weight_shape` int64 [2], and, where activations are mixed, `N.input_block_bits` uint8
[in / block], which other loaders ignore: for them it is a plain W4A8 (or W4A16, W8A8) checkpoint of
the same numbers. What they have no field for stands in config.json under `tenfold_quantization`.
A folder is written beside its place and renamed when complete, so that what is there loads.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tenfold.errors import CheckpointError, InvalidRequest
from tenfold.models.checkpoint import checked_finite, open_safetensors, weight_files
from tenfold.models.folders import read_json
from tenfold.models.layout import expected_shapes
from tenfold.models.spec import DecoderSpec
from tenfold.models.values import integer
from tenfold.quant.formats import QuantizedWeight, check_block_bits
from tenfold.quant.packing import pack, unpack
from tenfold.quant.quantize import QuantizedModel, linear_names
from tenfold.quant.scheme import QuantConfig, Scheme
from tenfold.quant.sites import Site, site_of, sites

OWN = "tenfold_quantization"
FORMAT = "pack-quantized"
_BESIDE: tuple[str, ...] = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_BESIDE += ("chat_template.jinja", "generation_config.json", "LICENSE")


def quantization_config(config: QuantConfig) -> dict[str, Any]:
    """config.json's `quantization_config`, as compressed-tensors defines it."""
    scheme = config.scheme
    weights = {
        "num_bits": scheme.weights,
        "type": "int",
        "symmetric": True,
        "strategy": "group",
        "group_size": config.block,
        "dynamic": False,
    }
    inputs = {
        "num_bits": 8,
        "type": "int",
        "symmetric": True,
        "strategy": "token",
        "dynamic": True,
    }
    group = {
        "targets": ["Linear"],
        "weights": weights,
        "input_activations": None if scheme.activations == 16 else inputs,
        "output_activations": None,
    }
    return {
        "quant_method": "compressed-tensors",
        "format": FORMAT,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head", "score"],
        "kv_cache_scheme": None,
    }


def packed_tensors(model: QuantizedModel) -> dict[str, Tensor]:
    """Every tensor of the checkpoint, by its name."""
    found = {name: tensor.contiguous() for name, tensor in model.rest.items()}
    for name, weight in model.weights.items():
        found[f"{name}.weight_packed"] = pack(weight.values, weight.bits)
        found[f"{name}.weight_scale"] = weight.scales.to(model.config.scale_dtype)
        found[f"{name}.weight_shape"] = torch.tensor(weight.values.shape)
        bits = model.block_bits[site_of(name)]
        if bits is not None and model.config.scheme.activations == 4:
            found[f"{name}.input_block_bits"] = bits.clone()
    return found


def save_quantized(
    model: QuantizedModel,
    folder: Path,
    source: Path | None = None,
    pages: Mapping[str, str] | None = None,
) -> None:
    """Writes a folder that appears whole or not at all; tokenizer and template come from `source`,
    `pages` are texts by file name.

    Raises InvalidRequest when the folder exists.
    """
    check_free(folder)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        save_file(
            packed_tensors(model), unfinished / "model.safetensors", metadata={"format": "pt"}
        )
        beside = [] if source is None else [source / name for name in _BESIDE]
        for file in beside:
            if file.is_file():
                shutil.copyfile(file, unfinished / file.name)
        for name, page in (pages or {}).items():
            (unfinished / name).write_text(page, encoding="utf-8")
        dtype = str(next(iter(model.rest.values())).dtype).removeprefix("torch.")
        config = {
            **model.spec.to_hf(dtype),
            "quantization_config": quantization_config(model.config),
            OWN: {"scheme": model.config.scheme.name, "block_size": model.config.block},
        }
        text = json.dumps(config, indent=2) + "\n"
        (unfinished / "config.json").write_text(text, encoding="utf-8")
        os.rename(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def check_free(folder: Path) -> None:
    """Raises InvalidRequest when there is something in a checkpoint's place already."""
    if folder.exists():
        raise InvalidRequest(
            f"{folder} exists", param="out", hint="choose another folder, or remove it"
        )


def is_quantized(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is a quantized model's."""
    return bool(config.get("quantization_config"))


def load_quantized(folder: Path) -> QuantizedModel:
    """Reads what `save_quantized` wrote, or a pack-quantized checkpoint of the same shape (int4 or
    int8 weights in symmetric groups) that others wrote.

    Raises CheckpointError for what is damaged or of another format.
    """
    config = read_json(folder / "config.json")
    spec = DecoderSpec.from_hf(config, quantized=True)
    try:
        chosen = _config(config)
        chosen.check(spec)
        tensors = _read(folder)
        weights = {n: _weight(tensors, n, spec, chosen) for n in linear_names(spec)}
        block_bits = {site: _block_bits(tensors, site, spec, chosen) for site in sites(spec)}
    except InvalidRequest as e:
        raise CheckpointError(f"{folder}: {e.message}", hint=e.hint) from None
    linear = {f"{n}.weight" for n in weights}
    rest = {}
    for name, shape in expected_shapes(spec).items():
        if name in linear:
            continue
        if name not in tensors or tuple(tensors[name].shape) != shape:
            raise CheckpointError(
                f"{folder}: tensor {name!r} is missing or of another shape than {list(shape)}",
                hint="config.json and the weights disagree, or the copy is incomplete",
            )
        rest[name] = tensors[name]
    return QuantizedModel(spec, chosen, weights, rest, block_bits)


def _read(folder: Path) -> dict[str, Tensor]:
    tensors = {}
    for path in weight_files(folder):
        handle = open_safetensors(path)
        for name in handle.keys():  # noqa: SIM118  (not a mapping)
            tensors[name] = checked_finite(name, handle.get_tensor(name))
    return tensors


def _config(config: Mapping[str, Any]) -> QuantConfig:
    """The scheme a config.json states; raises CheckpointError for one that is not read here."""
    method = config.get("quantization_config")
    if not isinstance(method, Mapping) or method.get("format") != FORMAT:
        found = method.get("format") if isinstance(method, Mapping) else method
        raise CheckpointError(
            f"quantization format {found!r} is not read", hint=f"supported: {FORMAT}"
        )
    groups = method.get("config_groups")
    if not isinstance(groups, Mapping) or len(groups) != 1:
        raise CheckpointError("config_groups does not hold one group", hint="all layers alike")
    group = next(iter(groups.values()))
    weights = group.get("weights") if isinstance(group, Mapping) else None
    if not isinstance(weights, Mapping) or not _is_group_wise(weights):
        raise CheckpointError(
            f"weights of kind {weights!r} are not read",
            hint="supported: int, symmetric, strategy group, without actorder",
        )
    activations = 8 if group.get("input_activations") else 16
    own = config.get(OWN)
    bits, block = _number(weights, "num_bits"), _number(weights, "group_size")
    scheme = Scheme(bits, activations)
    if isinstance(own, Mapping):
        scheme = Scheme.parse(str(own.get("scheme")))
        block = _number(own, "block_size")
        if scheme.weights != bits or block != _number(weights, "group_size"):
            raise CheckpointError(
                f"{OWN} and quantization_config disagree", hint="the file was changed by hand"
            )
    return QuantConfig(scheme, block)


def _number(found: Mapping[str, Any], key: str) -> int:
    return integer(found, key, 0, high=2**24)


def _is_group_wise(weights: Mapping[str, Any]) -> bool:
    return (
        weights.get("type") == "int"
        and weights.get("symmetric") is True
        and weights.get("strategy") == "group"
        and not weights.get("actorder")
    )


def _weight(
    tensors: Mapping[str, Tensor], name: str, spec: DecoderSpec, config: QuantConfig
) -> QuantizedWeight:
    shape = expected_shapes(spec)[f"{name}.weight"]
    packed, scale = (
        _needed(tensors, f"{name}.weight_packed"),
        _needed(tensors, f"{name}.weight_scale"),
    )
    stated = tensors.get(f"{name}.weight_shape")
    if stated is not None and tuple(stated.tolist()) != shape:
        raise CheckpointError(
            f"{name}: weight_shape is {stated.tolist()}, expected {list(shape)}",
            hint="config.json belongs to another model",
        )
    if packed.shape[0] != shape[0]:
        raise CheckpointError(
            f"{name}: {packed.shape[0]} packed rows for {shape[0]}", hint="the file is truncated"
        )
    bits = config.scheme.weights
    weight = QuantizedWeight(
        unpack(packed, bits, shape[1], f"{name}.weight_packed"), scale.float(), bits, config.block
    )
    weight.check(name)
    return weight


def _block_bits(
    tensors: Mapping[str, Tensor], site: Site, spec: DecoderSpec, config: QuantConfig
) -> Tensor | None:
    width, activations = site.width(spec), config.scheme.activations
    if activations == 16:
        return None
    if activations == 8:
        return torch.full((width // config.block,), 8, dtype=torch.uint8)
    found = [_needed(tensors, f"{n}.input_block_bits") for n in site.linears]
    for bits in found:
        check_block_bits(bits, width, config.block, site.name)
        if not torch.equal(bits, found[0]):
            raise CheckpointError(
                f"{site.name}: weights that read the same input state different block bits",
                hint="the file was changed by hand",
            )
    return found[0]


def _needed(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise CheckpointError(f"tensor {name!r} is missing", hint="the copy is incomplete")
    return tensors[name]
