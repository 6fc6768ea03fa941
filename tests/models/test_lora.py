"""Adapters: merged outputs equal PEFT's unmerged ones; features that are not merged are refused."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tenfold.errors import CheckpointError
from tenfold.models.checkpoint import Checkpoint
from tenfold.models.decoder import Decoder
from tenfold.models.lora import Adapter, is_adapter
from tenfold.models.reference import reference_logits, reference_scores
from tenfold.models.spec import DecoderSpec

from .conftest import build

Make = Callable[[str], tuple[Path, Any]]
IDS = torch.randint(3, 320, (30,), generator=torch.Generator().manual_seed(5))
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def train(case: str, folder: Path, **settings: Any) -> torch.Tensor:
    """Save a random PEFT adapter on a case's model; returns the unmerged model's logits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import peft

        options = {"r": 4, "lora_alpha": 16, "target_modules": TARGETS, **settings}
        model = peft.get_peft_model(build(case), peft.LoraConfig(**options)).eval()
        generator = torch.Generator().manual_seed(11)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_" in name or "modules_to_save" in name:
                    weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)
        model.save_pretrained(folder)
        with torch.no_grad():
            logits: torch.Tensor = model(input_ids=IDS.unsqueeze(0)).logits[0]
    return logits


def merged(base: Path, *folders: Path) -> Decoder:
    checkpoint = Checkpoint(base)
    spec, tensors = DecoderSpec.from_hf(checkpoint.config), checkpoint
    for folder in folders:
        spec, tensors = Adapter.read(folder).merge(spec, tensors)
    return Decoder(spec, tensors)


@pytest.mark.parametrize(
    ("case", "settings"),
    [
        ("llama2", {}),
        ("qwen2", {"use_rslora": True, "r": 9}),
        ("granite", {"target_modules": ["q_proj", "down_proj"]}),
        ("llama2", {"target_modules": ["v_proj", "lm_head"]}),
        ("llama2", {"modules_to_save": ["lm_head"], "init_lora_weights": "gaussian"}),
    ],
)
def test_merged_equals_peft(
    case: str, settings: dict[str, Any], hf_folder: Make, tmp_path: Path
) -> None:
    expected = train(case, tmp_path, **settings)
    base, model = hf_folder(case)
    with torch.no_grad():
        plain = model(input_ids=IDS.unsqueeze(0)).logits[0]
    assert (plain - expected).abs().max() > 0.05  # the adapter does something
    assert is_adapter(tmp_path)
    assert not is_adapter(base)
    logits = reference_logits(merged(base, tmp_path), IDS)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def test_a_classifier_s_head_is_replaced(hf_folder: Make, tmp_path: Path) -> None:
    expected = train("llama-classifier", tmp_path, task_type="SEQ_CLS")
    decoder = merged(hf_folder("llama-classifier")[0], tmp_path)
    torch.testing.assert_close(reference_scores(decoder, IDS)[-1], expected, atol=1e-4, rtol=0)


def test_an_adapter_can_turn_a_language_model_into_a_classifier(
    hf_folder: Make, tmp_path: Path
) -> None:
    train("llama-classifier", tmp_path, task_type="SEQ_CLS")
    decoder = merged(hf_folder("llama2")[0], tmp_path)
    assert (decoder.spec.num_labels, decoder.spec.language_head) == (3, True)
    assert reference_scores(decoder, IDS).shape == (30, 3)
    assert reference_logits(decoder, IDS).shape == (30, 320)


def test_two_adapters_add_up(hf_folder: Make, tmp_path: Path) -> None:
    train("llama2", tmp_path / "a")
    base = hf_folder("llama2")[0]
    once = dict(merged(base, tmp_path / "a").tensors())
    twice = dict(merged(base, tmp_path / "a", tmp_path / "a").tensors())
    plain = dict(merged(base).tensors())
    name = "model.layers.1.mlp.up_proj.weight"
    torch.testing.assert_close(twice[name] - once[name], once[name] - plain[name])
    assert torch.equal(once["model.norm.weight"], plain["model.norm.weight"])


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    train("llama2", folder)
    return folder


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"use_dora": True}, "not merge: use_dora"),
    ({"fan_in_fan_out": True}, "fan_in_fan_out"),
    ({"bias": "all"}, "biases"),
    ({"peft_type": "IA3"}, "'IA3'"),
    (
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 2}},
        "alpha_pattern, rank_pattern",
    ),
    ({"layer_replication": [[0, 2]]}, "layer_replication"),
    ({"trainable_token_indices": [1]}, "trainable_token_indices"),
    ({"some_future_thing": 1}, "some_future_thing"),
    ({"init_lora_weights": "pissa"}, "pissa"),
    ({"r": 0}, "rank is 0"),
    ({"r": 5}, "has rank 4 x 4, adapter_config.json says 5"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_refused_features(
    changes: dict[str, Any], message: str, sound: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "adapter"))
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(CheckpointError, match=message) as caught:
        Adapter.read(folder)
    assert caught.value.hint


PREFIX = "base_model.model."
LAYER = PREFIX + "model.layers.0.self_attn.q_proj."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({LAYER + "lora_magnitude_vector": torch.ones(4)}, "lora_magnitude_vector.*not supported"),
        ({LAYER + "lora_A.weight": None}, "only one factor"),
        ({LAYER + "lora_A.weight": torch.full((4, 64), float("nan"))}, "NaN"),
        (
            {LAYER + "lora_A.weight": torch.ones(4, 63)},
            r"q_proj.weight is \[64, 63\], not \[64, 64\]",
        ),
        ({"elsewhere": torch.ones(1)}, "unknown layout"),
        ({PREFIX + "model.layers.9.mlp.up_proj.weight": torch.ones(1)}, "no such weight"),
    ],
)
def test_broken_tensors(
    changes: dict[str, torch.Tensor | None],
    message: str,
    sound: Path,
    hf_folder: Make,
    tmp_path: Path,
) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "adapter"))
    path = folder / "adapter_model.safetensors"
    tensors = {**load_file(path), **changes}
    save_file({k: v for k, v in tensors.items() if v is not None}, path)
    with pytest.raises(CheckpointError, match=message):
        merged(hf_folder("llama2")[0], folder)


def test_files_missing_or_pickled(sound: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "adapter"))
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no adapter_model\.safetensors"):
        Adapter.read(folder)
    (folder / "adapter_model.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="pickles"):
        Adapter.read(folder)


def test_a_tied_head_is_not_changed_alone(sound: Path, hf_folder: Make, tmp_path: Path) -> None:
    train("llama2", tmp_path, target_modules=["lm_head"])
    with pytest.raises(CheckpointError, match="embeddings are tied"):
        merged(hf_folder("llama3")[0], tmp_path)
