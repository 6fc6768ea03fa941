"""The models in the repository: whatever the recipe made last, this holds for it."""

import json
from pathlib import Path

import jinja2
import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

EMBEDDED = Path(__file__).resolve().parents[2] / "src/tenfold/models/embedded"
FILES = {
    "LICENSE",
    "README.md",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
}
# A model that joins them (the draft of speculation) is found by its folder and tested here as well.
MODELS = sorted(p.name for p in EMBEDDED.iterdir() if (p / "config.json").is_file())
FACTS = (
    "Hotel Linden is a hotel. For Hotel Linden the city is Oslo. "
    "For Hotel Linden the phone number is 713-604-2285."
)
EASY = [
    {"role": "system", "content": FACTS},
    {"role": "user", "content": "What is the phone number of Hotel Linden?"},
]


def answer(folder: Path, chat: list[dict[str, str]]) -> str:
    """Answer greedily with transformers alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    asked = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        out = model.generate(**asked, max_new_tokens=40, do_sample=False, temperature=None)
    return tokenizer.decode(out[0, asked["input_ids"].shape[1] :], skip_special_tokens=True)


def test_the_concierge_is_embedded():
    assert "concierge" in MODELS


def test_all_embedded_models_fit_the_repository():
    size = sum(path.stat().st_size for path in EMBEDDED.rglob("*") if path.is_file())
    assert size <= 48e6


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_has_what_loaders_read(name):
    assert {path.name for path in (EMBEDDED / name).iterdir()} >= FILES
    config = json.loads((EMBEDDED / name / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    with safe_open(EMBEDDED / name / "model.safetensors", "pt") as weights:
        rows = weights.get_slice("model.embed_tokens.weight").get_shape()[0]
    tokenizer = Tokenizer.from_file(str(EMBEDDED / name / "tokenizer.json"))
    assert rows == config["vocab_size"] == tokenizer.get_vocab_size()


@pytest.mark.parametrize("name", MODELS)
def test_the_chat_template_is_the_same_in_both_places(name):
    config = json.loads((EMBEDDED / name / "tokenizer_config.json").read_text())
    template = (EMBEDDED / name / "chat_template.jinja").read_text()
    assert config["chat_template"] == template
    rendered = (
        jinja2.Environment(autoescape=False)
        .from_string(template)
        .render(messages=EASY, bos_token="<|bos|>", add_generation_prompt=True)
    )
    assert rendered == (
        f"<|bos|><|system|>{FACTS}<|end|><|user|>{EASY[1]['content']}<|end|><|assistant|>"
    )


def test_models_share_one_tokenizer():
    tokenizers = {(EMBEDDED / name / "tokenizer.json").read_bytes() for name in MODELS}
    assert len(tokenizers) == 1


@pytest.mark.parametrize("name", MODELS)
def test_an_easy_question_is_answered_from_the_facts(name):
    assert "713-604-2285" in answer(EMBEDDED / name, EASY)


def test_examples_are_prompts_with_titles():
    examples = json.loads((EMBEDDED / "concierge" / "examples.json").read_text())
    assert 6 <= len(examples) <= 10
    for example in examples:
        assert set(example) == {"title", "messages"}
        assert example["messages"][-1]["role"] == "user"
    assert answer(EMBEDDED / "concierge", examples[0]["messages"]).strip()
