"""The tokenizer and the chat template that are written beside a model."""

import json
import random

import jinja2
import pytest

from recipes.concierge.batches import encode
from recipes.concierge.episodes import Limits
from recipes.concierge.lookups import lookup_episode
from recipes.concierge.tokenizer import write_tokenizer

from .made_up import POOLS, small_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(small_tokenizer(), folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


@pytest.mark.parametrize(
    "text",
    ["Call 408-971-8523 now!", "Café Über 🙂", "  two  spaces\nand a line", "$1250.75 at 7:05 pm"],
)
def test_tokenizer_round_trip(tokenizer, text):
    encoding = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(encoding.ids) == text
    assert all(
        len(piece.lstrip("Ġ")) == 1 for piece in encoding.tokens if any(c.isdigit() for c in piece)
    )


def test_the_same_texts_give_the_same_tokenizer():
    assert small_tokenizer().to_str() == small_tokenizer().to_str()


def test_written_folder_is_complete(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config["eos_token"] == "<|end|>"
    assert (folder / "chat_template.jinja").read_text() == config["chat_template"]


def test_chat_template_renders_what_models_are_trained_on(folder, tokenizer):
    template = jinja2.Environment(autoescape=False).from_string(
        (folder / "chat_template.jinja").read_text()
    )
    episode = lookup_episode(POOLS, Limits(2, 3, 6), 0.0, random.Random(1))
    whole = template.render(messages=episode.chat(), bos_token="<|bos|>", tools=[{"type": "x"}])
    ids = tokenizer.encode(whole, add_special_tokens=False).ids
    assert ids == encode(tokenizer, episode).tokens
    asked = template.render(
        messages=episode.chat()[:2], bos_token="<|bos|>", add_generation_prompt=True
    )
    assert whole.startswith(asked)
    assert asked.endswith("<|end|><|assistant|>")


def test_transformers_reads_the_folder(folder):
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(folder)
    chat = [{"role": "user", "content": "Hello"}]
    assert loaded.eos_token == "<|end|>"
    assert (
        loaded.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        == "<|bos|><|user|>Hello<|end|><|assistant|>"
    )
