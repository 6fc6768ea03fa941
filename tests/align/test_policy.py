from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch

from tenfold.align.policy import load_policy
from tenfold.errors import BackendUnavailable, CheckpointError, UnknownName
from tenfold.models.loading import load_model
from tenfold.models.reference import dense_attend
from tests.align.runs import config, model_folder, train

pytest.importorskip("peft")

CPU = torch.device("cpu")
IDS = torch.tensor([5, 20, 31, 77, 100, 9])


def by_engine(folder: Path, *adapters: Path) -> torch.Tensor:
    """Logits of the engine's decoder."""
    model = load_model(folder, adapters=adapters, dtype="float32")
    hidden = model.decoder.forward(IDS, torch.arange(len(IDS)), dense_attend(model.spec))
    return model.decoder.logits(hidden)


@torch.no_grad()
def by_transformers(folder: Path) -> torch.Tensor:
    return load_policy(str(folder), torch.float32, CPU)(IDS[None]).logits[0]


def test_an_adapter_loads_in_the_engine_by_itself_and_over_its_base(tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM

    train(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "run").eval()
    with torch.no_grad():
        expected = model(IDS[None]).logits[0]
    assert torch.allclose(by_engine(tmp_path / "run"), expected, atol=1e-4)
    assert torch.allclose(by_engine(tmp_path / "model", tmp_path / "run"), expected, atol=1e-4)
    assert not torch.allclose(by_engine(tmp_path / "model"), expected, atol=1e-2)


def test_a_whole_model_loads_in_the_engine_with_its_tokenizer_and_template(tmp_path: Path) -> None:
    train(tmp_path, lora=None, learning_rate=1e-3)
    assert torch.allclose(by_engine(tmp_path / "run"), by_transformers(tmp_path / "run"), atol=1e-4)
    loaded = load_model(tmp_path / "run")
    assert loaded.chat_template is not None
    assert loaded.tokenizer.eos_ids == {2}


def test_training_goes_on_from_an_adapter_and_the_engine_stacks_both(tmp_path: Path) -> None:
    train(tmp_path)
    second = tmp_path / "second"
    train(tmp_path, model=str(tmp_path / "run"), output=str(second))
    assert json.loads((second / "adapter_config.json").read_text())[
        "base_model_name_or_path"
    ] == str(tmp_path / "run")
    assert torch.allclose(by_engine(second), by_transformers(second), atol=1e-4)
    assert not torch.allclose(by_engine(second), by_engine(tmp_path / "run"), atol=1e-3)


def test_an_adapter_of_an_embedded_model_names_it() -> None:
    from tenfold.align.policy import _address

    assert _address("concierge") == "concierge"
    assert _address("hf:owner/name") == "owner/name"


def test_the_base_that_is_trained_drops_nothing(tmp_path: Path) -> None:
    model = load_policy(str(model_folder(tmp_path / "m")), torch.float32, CPU)
    assert not any(m.training for m in model.modules())


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="transformers cannot load it"):
        load_policy(str(tmp_path / "m"), torch.float32, CPU)
    with pytest.raises(UnknownName, match="conciergge"):
        load_policy("conciergge", torch.float32, CPU)


def test_a_library_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = config(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(BackendUnavailable, match=r'pip install "tenfold\[train\]"'):
        load_policy(chosen.model, torch.float32, CPU)
