"""The forward pass against transformers, for every family and switch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tenfold.models.checkpoint import Checkpoint
from tenfold.models.decoder import Decoder
from tenfold.models.reference import DenseCache, reference_logits, reference_scores
from tenfold.models.spec import DecoderSpec

from .conftest import CASES

Make = Callable[[str], tuple[Path, Any]]
IDS = torch.randint(3, 320, (50,), generator=torch.Generator().manual_seed(7))
LANGUAGE = [c for c in CASES if c != "llama-classifier"]


def read(folder: Path) -> Decoder:
    checkpoint = Checkpoint(folder)
    spec = DecoderSpec.from_hf(checkpoint.config)
    checkpoint.check(spec)
    return Decoder(spec, checkpoint)


@torch.no_grad()
def expected(model: Any) -> torch.Tensor:
    return model(input_ids=IDS.unsqueeze(0), use_cache=False).logits[0]


@pytest.mark.parametrize("case", LANGUAGE)
def test_prefill_logits_equal_transformers(case: str, hf_folder: Make) -> None:
    folder, model = hf_folder(case)
    torch.testing.assert_close(
        reference_logits(read(folder), IDS), expected(model), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("case", LANGUAGE)
def test_incremental_logits_equal_transformers(case: str, hf_folder: Make) -> None:
    folder, model = hf_folder(case)
    decoder = read(folder)
    cache, rows, start = DenseCache(decoder.spec), [], 0
    for size in (11, 1, 1, 6, *([1] * 31)):
        rows.append(reference_logits(decoder, IDS[start : start + size], cache))
        start += size
    assert cache.length == start == 50
    torch.testing.assert_close(torch.cat(rows), expected(model), atol=1e-4, rtol=0)


def test_classifier_scores_equal_transformers(hf_folder: Make) -> None:
    folder, model = hf_folder("llama-classifier")
    decoder = read(folder)
    assert (decoder.spec.num_labels, decoder.spec.language_head) == (3, False)
    scores = reference_scores(decoder, IDS)
    for length in (1, 20, 50):
        with torch.no_grad():
            pooled = model(input_ids=IDS[:length].unsqueeze(0)).logits[0]
        torch.testing.assert_close(scores[length - 1], pooled, atol=1e-4, rtol=0)


def test_a_ragged_batch_equals_its_sequences_alone(hf_folder: Make) -> None:
    folder, _ = hf_folder("mistral")
    decoder = read(folder)
    lengths = [13, 1, 20]
    parts = list(IDS[:34].split(lengths))
    alone = torch.cat([reference_logits(decoder, p) for p in parts])
    caches = [DenseCache(decoder.spec) for _ in parts]

    def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        pieces = zip(caches, q.split(lengths), k.split(lengths), v.split(lengths), strict=True)
        return torch.cat([cache(layer, *piece) for cache, *piece in pieces])

    positions = torch.cat([torch.arange(n) for n in lengths])
    together = decoder.logits(decoder.forward(IDS[:34], positions, attend))
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", ["qwen2-window", "granite", "qwen3"])
def test_bfloat16_stays_near_float32(case: str, hf_folder: Make) -> None:
    folder, _ = hf_folder(case)
    checkpoint = Checkpoint(folder)
    spec = DecoderSpec.from_hf(checkpoint.config)
    exact = reference_logits(Decoder(spec, checkpoint), IDS)
    rough = reference_logits(Decoder(spec, checkpoint, torch.bfloat16), IDS)
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().mean() < 0.03 * exact.std()


@pytest.mark.parametrize("case", list(CASES))
def test_tensors_give_back_what_was_loaded(case: str, hf_folder: Make) -> None:
    folder, _ = hf_folder(case)
    checkpoint = Checkpoint(folder)
    spec = DecoderSpec.from_hf(checkpoint.config)
    for dtype in (torch.float32, torch.bfloat16):
        found = dict(Decoder(spec, checkpoint, dtype).tensors())
        assert sorted(found) == sorted(checkpoint)
        for name, tensor in found.items():
            assert torch.equal(tensor, checkpoint[name].to(dtype)), name
