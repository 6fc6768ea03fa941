"""From names to models: embedded, folders, adapters, the hub; dtype rules and what must fit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tenfold.errors import CheckpointError, TemplateError, UnknownName
from tenfold.models import folders, loading
from tenfold.models.checkpoint import save_checkpoint
from tenfold.models.loading import RandomTensors, load_model, load_tokenizer, random_model
from tenfold.models.reference import reference_logits
from tenfold.models.spec import DecoderSpec
from tests.tiny_checkpoint import save_tiny_checkpoint

from .test_lora import train
from .test_tokenizer import byte_level

SPEC = DecoderSpec("llama", 420, 64, 96, 3, 4, 2, 16, 128, tied_embeddings=True)
IDS = torch.arange(3, 33)


def write(folder: Path, dtype: torch.dtype = torch.float32, spec: DecoderSpec = SPEC) -> Path:
    tensors = {n: t.to(dtype) for n, t in RandomTensors(spec, 1).items()}
    save_checkpoint(spec, tensors, folder)
    byte_level().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    generation = {"eos_token_id": [2, 3], "temperature": 0.6, "top_k": 20, "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


def test_a_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "small")
    model = load_model(folder)
    assert (model.name, model.folder) == ("small", folder)
    assert model.spec == SPEC
    assert model.generation == {"temperature": 0.6, "top_k": 20}
    assert model.tokenizer.eos_ids == {2, 3}
    assert model.chat_template is None
    with pytest.raises(TemplateError, match="has no chat template"):
        model.require_chat_template()
    expected = reference_logits(random_model(SPEC, 1), IDS)
    assert torch.equal(reference_logits(model.decoder, IDS), expected)
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    template = load_model(str(folder)).chat_template
    assert template is not None
    assert template.source.startswith("{{")
    assert load_tokenizer(folder).vocab_size == model.tokenizer.vocab_size


def test_dtypes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full, brain, half = (
        write(tmp_path / n, d)
        for n, d in (("a", torch.float32), ("b", torch.bfloat16), ("c", torch.float16))
    )
    assert load_model(full).decoder.dtype == torch.float32
    assert load_model(half).decoder.dtype == torch.float32
    assert load_model(full, dtype="bfloat16").decoder.dtype == torch.bfloat16
    assert load_model(brain, dtype=torch.float32).decoder.dtype == torch.float32
    for fast, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(loading, "fast_bfloat16", lambda _, fast=fast: fast)
        assert load_model(brain).decoder.dtype == expected
    with pytest.raises(CheckpointError, match="unknown dtype 'int3'"):
        load_model(full, dtype="int3")  # type: ignore[arg-type]


def test_embedded_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "embedded_root", lambda: tmp_path / "embedded")
    assert folders.embedded_names() == []
    write(tmp_path / "embedded" / "tiny")
    (tmp_path / "embedded" / "notes").mkdir()
    assert folders.embedded_names() == ["tiny"]
    assert load_model("tiny").name == "tiny"
    with pytest.raises(UnknownName, match=r"unknown model 'tinny' \(did you mean 'tiny'\?"):
        load_model("tinny")


def test_an_adapter_folder_names_its_base(tmp_path: Path) -> None:
    base = write(tmp_path / "base", spec=DecoderSpec("llama", 320, 64, 96, 3, 4, 2, 16, 128))
    with pytest.raises(CheckpointError, match="ids up to"):
        load_model(base)  # a tokenizer of another model
    base = write(tmp_path / "base", spec=DecoderSpec("llama", 420, 64, 96, 3, 4, 2, 16, 128))
    adapter = tmp_path / "reward"
    train("llama-classifier", adapter, task_type="SEQ_CLS")
    path = adapter / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "base_model_name_or_path": "../base"}))
    model = load_model(adapter)
    assert (model.name, model.spec.num_labels) == ("reward", 3)
    assert load_model(base, adapters=[adapter]).spec == model.spec
    assert load_tokenizer(adapter).vocab_size == model.tokenizer.vocab_size
    path.write_text(json.dumps({**config, "base_model_name_or_path": "."}))
    with pytest.raises(CheckpointError, match="its own base"):
        load_model(adapter)
    path.write_text(json.dumps({**config, "base_model_name_or_path": None}))
    with pytest.raises(CheckpointError, match="does not name its base"):
        load_model(adapter)


def test_names_that_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownName) as caught:
        load_model("no-such-model")
    assert caught.value.param == "model"
    file = tmp_path / "model.pt"
    file.write_bytes(b"x")
    with pytest.raises(CheckpointError, match="is a file, not a model folder"):
        load_model(file)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        CheckpointError, match=r"not in the local cache.*hf download nobody/nothing"
    ):
        load_model("hf:nobody/nothing")
    with pytest.raises(CheckpointError, match="not a hub repository"):
        load_model("hf:a/b/c")


def test_random_models_repeat() -> None:
    one, two, other = (random_model(SPEC, seed) for seed in (0, 0, 1))
    logits = [reference_logits(m, IDS) for m in (one, two, other)]
    assert torch.equal(logits[0], logits[1])
    assert not torch.allclose(logits[0], logits[2])
    assert 0.3 < float(logits[0].std()) < 3.0
    assert random_model(SPEC, 0, torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "module", ["tokenizer", "detokenizer", "tool_calls", "spec", "folders", "chat_template"]
)
def test_light_modules_import_no_torch(module: str) -> None:
    code = f"import sys, tenfold.models.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("settings", "temperature"),
    [({}, 1.0), ({"temperature": 0.6}, 0.6), ({"do_sample": False, "temperature": 0.6}, 0.0)],
)
def test_a_checkpoint_that_says_greedy_is_sampled_greedily(
    tmp_path: Path, settings: dict[str, Any], temperature: float
) -> None:
    folder = save_tiny_checkpoint(tmp_path)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 1, **settings}))
    assert load_model(folder).default_params().temperature == temperature


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eos_token_id": "a"}, r"generation_config\.json: eos_token_id is 'a'"),
        ({"eos_token_id": [1, "b"]}, "eos_token_id is .1, 'b'"),
        ({"eos_token_id": [10**9]}, "eos_token_id 1000000000 is outside the vocabulary"),
        ({"temperature": "x"}, r"generation_config\.json: temperature is 'x'"),
        ({"temperature": -4}, "temperature must be between 0 and 2"),
        ({"top_k": 2.5}, r"top_k is 2\.5"),
        ({"repetition_penalty": 0}, "repetition_penalty must be between"),
    ],
)
def test_generation_settings_that_cannot_be_meant(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    folder = save_tiny_checkpoint(tmp_path)
    (folder / "generation_config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(folder)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for", r"chat_template\.jinja cannot be read: line 1: "),
        ("a\n{{ messages | }}", "line 2: "),
        ("{{ " + "(" * 100_000, "nests too deeply"),
        ("{{ " + "1" * 5000 + " }}", "digits"),
        (" " * (2**20 + 1), "1048576 at most"),
    ],
)
def test_a_template_that_is_none_is_refused_at_load(
    tmp_path: Path, source: str, message: str
) -> None:
    folder = save_tiny_checkpoint(tmp_path)
    (folder / "chat_template.jinja").write_text(source)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(folder)
    assert caught.value.hint


def test_checking_a_template_computes_nothing_of_it(tmp_path: Path) -> None:
    folder = save_tiny_checkpoint(tmp_path)
    (folder / "chat_template.jinja").write_text("{{ 'a' * 10**12 }}{{ 10 ** 10 ** 10 }}")
    assert load_model(folder).chat_template is not None
