"""Model folders: round trips with transformers, and a named error for everything broken."""

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
from tenfold.models.checkpoint import Checkpoint, save_checkpoint
from tenfold.models.decoder import Decoder
from tenfold.models.loading import RandomTensors
from tenfold.models.reference import reference_logits, reference_scores
from tenfold.models.spec import DecoderSpec

from .conftest import CASES

Make = Callable[[str], tuple[Path, Any]]
IDS = torch.randint(3, 320, (40,), generator=torch.Generator().manual_seed(3))


def peer_logits(folder: Path, model_class: str) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers

        kind = getattr(transformers, model_class)
        model, report = kind.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32, output_loading_info=True
        )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    with torch.no_grad():
        return model(input_ids=IDS.unsqueeze(0)).logits[0]


@pytest.mark.parametrize("case", list(CASES))
def test_transformers_reads_what_we_write(case: str, hf_folder: Make, tmp_path: Path) -> None:
    folder, _ = hf_folder(case)
    checkpoint = Checkpoint(folder)
    spec = DecoderSpec.from_hf(checkpoint.config)
    save_checkpoint(spec, checkpoint, tmp_path)
    theirs = peer_logits(tmp_path, CASES[case][1])
    again = Checkpoint(tmp_path)
    assert DecoderSpec.from_hf(again.config) == spec
    again.check(spec)
    decoder = Decoder(spec, again)
    ours = reference_scores(decoder, IDS)[-1] if spec.num_labels else reference_logits(decoder, IDS)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_shards_and_types(dtype: torch.dtype, hf_folder: Make, tmp_path: Path) -> None:
    _, model = hf_folder("llama3")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        copy = type(model)(model.config).to(dtype)
        copy.load_state_dict(model.state_dict())
        copy.save_pretrained(tmp_path, max_shard_size="60KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    checkpoint = Checkpoint(tmp_path)
    checkpoint.check(DecoderSpec.from_hf(checkpoint.config))
    assert checkpoint.dtype() == dtype
    single = Checkpoint(hf_folder("llama3")[0])
    assert sorted(checkpoint) == sorted(single)
    assert all(torch.equal(checkpoint[n], single[n].to(dtype)) for n in single)
    victim = next(tmp_path.glob("*-00002-of-*"))
    victim.unlink()
    with pytest.raises(CheckpointError, match=r"1 of .* shards are missing: model-00002"):
        Checkpoint(tmp_path)


@pytest.fixture
def folder(hf_folder: Make, tmp_path: Path) -> Path:
    """A sound Llama checkpoint to break."""
    made, _ = hf_folder("llama2")
    return Path(shutil.copytree(made, tmp_path / "model"))


def change(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replace tensors, or drop them if None, by name with "__" for "."."""
    path = folder / "model.safetensors"
    tensors = {**load_file(path), **{k.replace("__", "."): v for k, v in changes.items()}}
    save_file({k: v for k, v in tensors.items() if v is not None}, path)


def load(folder: Path) -> Decoder:
    checkpoint = Checkpoint(folder)
    spec = DecoderSpec.from_hf(checkpoint.config)
    checkpoint.check(spec)
    return Decoder(spec, checkpoint)


def test_sound(folder: Path) -> None:
    assert load(folder).spec.layers == 3


def test_missing_tensors(folder: Path) -> None:
    change(folder, model__norm__weight=None, lm_head__weight=None)
    with pytest.raises(CheckpointError, match=r"2 tensors are missing: .*norm.*lm_head"):
        load(folder)


def test_extra_tensors(folder: Path) -> None:
    change(folder, **{f"model__layers__{i}__extra": torch.ones(2) for i in range(7)})
    with pytest.raises(CheckpointError, match=r"7 tensors do not belong.*and 2 more"):
        load(folder)


def test_wrong_shapes(folder: Path) -> None:
    change(folder, model__norm__weight=torch.ones(63))
    with pytest.raises(CheckpointError, match=r"norm\.weight is \[63\], expected \[64\]"):
        load(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_no_numbers(folder: Path, value: float) -> None:
    weight = torch.ones(64)
    weight[5] = value
    change(folder, model__norm__weight=weight)
    with pytest.raises(CheckpointError, match=r"norm\.weight' holds 1 NaN or infinite"):
        load(folder)


def test_large_but_finite_weights_pass(folder: Path) -> None:
    change(folder, model__norm__weight=torch.full((64,), 3e38))
    assert load(folder)


def test_tensors_ignored_on_purpose(folder: Path, hf_folder: Make) -> None:
    buffers = {
        "model__layers__0__self_attn__rotary_emb__inv_freq": torch.ones(8),
        "model__rotary_emb__inv_freq": torch.ones(8),
    }
    change(folder, **buffers)
    assert load(folder)
    tied = Path(shutil.copytree(hf_folder("qwen2")[0], folder.parent / "tied"))
    change(tied, lm_head__weight=torch.ones(320, 64))
    decoder = load(tied)
    assert torch.equal(
        reference_logits(decoder, IDS), reference_logits(load(hf_folder("qwen2")[0]), IDS)
    )


@pytest.mark.parametrize("kept", [0, 7, 500, 20_000])
def test_truncated_files(folder: Path, kept: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickles_are_refused_unopened(folder: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("the pickle was opened",))

    torch.save({"weight": torch.ones(2), "bomb": Bomb()}, folder / name)
    with pytest.raises(CheckpointError, match=rf"pickles.*{name}.*save_pretrained"):
        load(folder)


def test_missing_files(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="holds no weights"):
        load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        load(folder)
    with pytest.raises(CheckpointError, match="is not a folder"):
        load(folder / "nowhere")


@pytest.mark.parametrize(
    "text", ["{", "[1]", "\xff", "[" * 100_000, '{"vocab_size": ' + "1" * 5000 + "}"]
)
def test_broken_config(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load(folder)


def test_more_layers_than_tensors_are_refused_before_they_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenfold.models.checkpoint.expected_shapes", pytest.fail)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 60_000}))
    with pytest.raises(CheckpointError, match="num_hidden_layers is 60000, the weights hold only"):
        load(folder)


def test_a_broken_index(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}}))
    with pytest.raises(CheckpointError, match="shards are missing"):
        load(folder)
    index.write_text("{}")
    with pytest.raises(CheckpointError, match="no weight_map"):
        load(folder)


def test_packed_weights_are_refused(folder: Path) -> None:
    change(folder, model__norm__weight=torch.ones(64, dtype=torch.int8))
    with pytest.raises(CheckpointError, match="has type I8"):
        Checkpoint(folder).dtype()


def test_saving_checks_what_it_is_given(tmp_path: Path, hf_folder: Make) -> None:
    spec = DecoderSpec.from_hf(Checkpoint(hf_folder("llama2")[0]).config)
    tensors = dict(RandomTensors(spec))
    with pytest.raises(CheckpointError, match="do not fit the spec: strange"):
        save_checkpoint(spec, {**tensors, "strange": torch.ones(1)}, tmp_path)
    tensors.pop("model.norm.weight")
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight"):
        save_checkpoint(spec, tensors, tmp_path)
    assert not list(tmp_path.iterdir())
