"""Tokenizers trained on the spot: ids, bytes, and incremental text equal to whole decoding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from tenfold.errors import CheckpointError
from tenfold.models.detokenizer import Detokenizer
from tenfold.models.tokenizer import Tokenizer

CORPUS = [
    "The quick brown fox jumps over the lazy dog, twice.",
    "Grüße aus Köln: été, naïve, façade; 漢字かな交じり文 😀🎉 e\u0301",
    "def f(x):\n    return x + 1\n",
] * 4
SPECIAL = ["<unk>", "<s>", "</s>", "<|im end|>"]


def byte_level() -> Backend:
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_tokens(["plain added", "｜wide｜"])
    return backend


def sentencepiece(*, strip: bool = True) -> Backend:
    """As converted Llama 2 tokenizers are: "▁" for spaces, unknown characters as bytes."""
    trained = Backend(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(vocab_size=150, show_progress=False)
    ascii_only = [t.encode("ascii", "ignore").decode() for t in CORPUS]
    trained.train_from_iterator(ascii_only, trainer)
    model = json.loads(trained.to_str())["model"]
    names = [*SPECIAL, *(f"<0x{b:02X}>" for b in range(256))]
    names += sorted(model["vocab"], key=model["vocab"].__getitem__)
    backend = Backend(
        models.BPE(
            vocab={name: i for i, name in enumerate(names)},
            merges=[tuple(m) for m in model["merges"]],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if strip else steps)
    backend.add_special_tokens(SPECIAL)
    return backend


def word_piece() -> Backend:
    backend = Backend(models.WordPiece(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.WordPiece(cleanup=False)
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=SPECIAL, show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    return backend


def metaspace() -> Backend:
    backend = Backend(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend


TOKENIZERS = {
    "byte_level": Tokenizer(byte_level()),
    "sentencepiece": Tokenizer(sentencepiece()),
    "sentencepiece-unstripped": Tokenizer(sentencepiece(strip=False)),
    "word_piece": Tokenizer(word_piece()),
    "metaspace": Tokenizer(metaspace()),
}
EXACT = ["byte_level", "sentencepiece", "sentencepiece-unstripped"]
each = pytest.mark.parametrize("kind", list(TOKENIZERS))
exact = pytest.mark.parametrize("kind", EXACT)
texts = st.text(max_size=40) | st.lists(
    st.sampled_from(
        ["😀", "👩‍👩‍👧", "e\u0301", "漢字", " ", "  ", "▁", "<s>", "the", "\n", "\u200d", "ﷺ"]
    ),
    max_size=12,
).map("".join)


def stream(tokenizer: Tokenizer, ids: list[int], skip_special: bool = True) -> list[str]:
    """The text after each token and after the flush, checked to only ever grow."""
    detokenizer = Detokenizer(tokenizer, skip_special)
    return [*(detokenizer.push(i) for i in ids), detokenizer.flush()]


@each
@settings(max_examples=150, deadline=None)
@given(text=texts)
def test_streaming_a_text_equals_decoding_it(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    ids = tokenizer.encode(text)
    assert "".join(stream(tokenizer, ids)) == tokenizer.decode(ids)
    assert "".join(stream(tokenizer, ids, False)) == tokenizer.decode(ids, skip_special=False)


@exact
@settings(max_examples=250, deadline=None)
@given(data=st.data(), skip=st.booleans())
def test_streaming_any_ids_equals_decoding_them(kind: str, data: st.DataObject, skip: bool) -> None:
    tokenizer = TOKENIZERS[kind]
    some = st.integers(0, tokenizer.vocab_size + 3)
    low = st.integers(0, 260)  # bytes, mostly invalid together
    ids = data.draw(st.lists(low | some, max_size=25))
    whole = tokenizer.decode(ids, skip)
    shown = ""
    for piece in stream(tokenizer, ids, skip):
        shown += piece
        assert whole.startswith(shown)  # what was shown never changes
    assert shown == whole


@exact
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_copy_goes_its_own_way(kind: str, data: st.DataObject) -> None:
    tokenizer = TOKENIZERS[kind]
    ids = st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=10)
    begin, left, right = data.draw(ids), data.draw(ids), data.draw(ids)
    first = Detokenizer(tokenizer)
    text = "".join(first.push(i) for i in begin)
    second = first.copy()
    one = text + "".join(first.push(i) for i in left) + first.flush()
    two = text + "".join(second.push(i) for i in right) + second.flush()
    assert one == tokenizer.decode(begin + left)
    assert two == tokenizer.decode(begin + right)


def test_an_emoji_comes_out_whole() -> None:
    tokenizer = TOKENIZERS["byte_level"]
    ids = [i for b in "🫠!".encode() for i in range(400) if tokenizer.token_bytes(i) == bytes([b])]
    assert stream(tokenizer, ids) == ["", "", "", "🫠", "!", ""]
    assert stream(tokenizer, ids[:3]) == ["", "", "", "\ufffd"]


def test_a_prefix_keeps_the_space_of_the_first_word() -> None:
    tokenizer = TOKENIZERS["sentencepiece"]
    prompt, answer = tokenizer.encode("The quick"), tokenizer.encode("brown")
    assert "".join(stream(tokenizer, answer)) == "brown"
    detokenizer = Detokenizer(tokenizer, prefix=prompt)
    assert "".join(detokenizer.push(i) for i in answer) + detokenizer.flush() == " brown"


@exact
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_prefix_is_never_shown_again(kind: str, data: st.DataObject) -> None:
    tokenizer = TOKENIZERS[kind]
    prompt, answer = data.draw(texts), data.draw(texts)
    before, after = tokenizer.encode(prompt), tokenizer.encode(answer)
    detokenizer = Detokenizer(tokenizer, prefix=before)
    shown = "".join(detokenizer.push(i) for i in after) + detokenizer.flush()
    assert tokenizer.decode(before) + shown == tokenizer.decode(before + after)


def test_lone_surrogates_count_as_broken_characters() -> None:
    tokenizer = TOKENIZERS["byte_level"]
    assert tokenizer.encode("a\ud800b") == tokenizer.encode("a\ufffdb")
    assert tokenizer.encode("\ud83d\ude00") == tokenizer.encode("😀")


def test_kept_special_tokens_are_shown() -> None:
    tokenizer = TOKENIZERS["byte_level"]
    end = tokenizer.backend.token_to_id("<|im end|>")
    assert stream(tokenizer, [end]) == ["", ""]
    assert Detokenizer(tokenizer, keep=[end]).push(end) == "<|im end|>"


@exact
@settings(max_examples=100, deadline=None)
@given(text=texts)
def test_token_bytes_spell_the_text(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    ids = tokenizer.encode(text)
    spelled = b"".join(tokenizer.token_bytes(i) for i in ids)
    if kind == "sentencepiece":
        spelled = spelled.removeprefix(b" ")
    assert spelled.decode() == tokenizer.decode(ids, skip_special=False)


def test_bytes_of_odd_ids() -> None:
    tokenizer = TOKENIZERS["byte_level"]
    assert tokenizer.style == "byte_level"
    assert tokenizer.token_bytes(10**6) == b""
    assert len(tokenizer.all_token_bytes) == tokenizer.vocab_size
    wide = tokenizer.backend.token_to_id("｜wide｜")
    assert tokenizer.token_bytes(wide) == "｜wide｜".encode()
    assert TOKENIZERS["sentencepiece"].style == "pieces"
    assert TOKENIZERS["sentencepiece"].token_bytes(4 + 0x0A) == b"\n"
    assert TOKENIZERS["word_piece"].style == "other"


def write(folder: Path, backend: Backend, **files: object) -> Path:
    backend.save(str(folder / "tokenizer.json"))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_ids_come_from_the_configs(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        byte_level(),
        tokenizer_config={"bos_token": {"content": "<s>"}, "eos_token": "</s>"},
        generation_config={"eos_token_id": [2, 3]},
        config={"eos_token_id": 7},
    )
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer.bos_id == 1
    assert tokenizer.eos_ids == {2, 3, 7}
    assert tokenizer.special_ids == {0, 1, 2, 3}
    assert tokenizer.named_id("pad_token") is None
    assert tokenizer.encode("<s>x") == [1, *tokenizer.encode("x")]


def test_prompts_begin_as_the_config_says(tmp_path: Path) -> None:
    backend = byte_level()
    plain = Tokenizer(backend, config={"bos_token": "<s>"})
    assert plain.encode_prompt("hi") == plain.encode("hi")
    asked = Tokenizer(backend, config={"bos_token": "<s>", "add_bos_token": True})
    assert asked.encode_prompt("hi") == [1, *plain.encode("hi")]
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    processed = Tokenizer(backend, config={"bos_token": "<s>"})
    assert processed.encode_prompt("hi") == [1, *plain.encode("hi")]
    assert processed.encode_prompt("") == [1]
    refused = Tokenizer(backend, config={"bos_token": "<s>", "add_bos_token": False})
    assert refused.encode_prompt("hi") == plain.encode("hi")


def test_truncation_and_padding_in_the_file_are_off(tmp_path: Path) -> None:
    backend = byte_level()
    backend.enable_truncation(3)
    backend.enable_padding(length=50)
    tokenizer = Tokenizer.from_folder(write(tmp_path, backend))
    text = "The quick brown fox jumps over the lazy dog and 漢字"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"only tokenizer\.model.*save_pretrained"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match="cannot be read"):
        Tokenizer.from_folder(tmp_path)
    write(tmp_path, byte_level())
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json cannot be read"):
        Tokenizer.from_folder(tmp_path)
    with pytest.raises(CheckpointError, match="vocabulary ends at 99"):
        TOKENIZERS["byte_level"].check_fits(100)
