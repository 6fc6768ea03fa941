"""The recipe of the embedded concierge, and the model it made."""

import dataclasses
import gzip
import itertools
import json
import os
import random
from pathlib import Path

import jinja2
import pytest
import torch

from recipes.concierge.batches import START_WEIGHT, EpisodeStream, encode
from recipes.concierge.data import (
    Corpus,
    draw_episode,
    held_out_episodes,
    lesson_at,
    load_corpus,
    save_corpus,
)
from recipes.concierge.dialogues import (
    DataError,
    collect_pools,
    cut_values,
    data_folder,
    read_dialogues,
)
from recipes.concierge.episodes import Episode, Limits, human_episode
from recipes.concierge.evaluate import Asked, greedy_answers, render, slot_errors, states
from recipes.concierge.lookups import lookup_episode
from recipes.concierge.tokenizer import train_tokenizer, write_tokenizer
from recipes.concierge.train import Run, Settings
from recipes.concierge.values import split_pool

SHIPPED = Path(__file__).resolve().parents[2] / "src/tenfold/models/embedded/concierge"
POOLS = {
    "restaurant_name": ["Blue Door", "The Copper Pot", "Nine Lanterns"],
    "hotel_name": ["Harbour House", "Hotel Linden"],
    "attraction_name": ["Glass Museum", "Old Mill"],
    "event_name": ["Night Choir", "River Run"],
    "airlines": ["North Air", "Blue Wings"],
    "car_name": ["Fiat Panda", "Volvo Amazon"],
    "doctor_name": ["Dr. Ada Stone"],
    "dentist_name": ["Bright Smile"],
    "stylist_name": ["Curl Up"],
    "city": ["Oslo", "Porto", "Turin"],
    "street_address": ["12 Mill Lane", "7 Station Road"],
    "venue_address": ["3 Park Street"],
    "venue": ["Town Hall"],
    "cuisine": ["Thai", "Greek"],
    "price_range": ["moderate", "expensive"],
    "car_type": ["Compact"],
    "pickup_location": ["Central Station"],
}
RAW = {
    "id": "made-up",
    "services": ["Restaurants_1"],
    "turns": [
        {
            "speaker": "user",
            "text": "I want to eat in Porto at 7:30 pm.",
            "acts": [["INFORM", "city", ["Porto"]], ["INFORM", "time", ["19:30"]]],
        },
        {
            "speaker": "system",
            "text": "How about Blue Door in Porto? Their number is 555-555-0199.",
            "acts": [
                ["OFFER", "restaurant_name", ["Blue Door"]],
                ["OFFER", "city", ["Porto"]],
                ["INFORM", "phone_number", ["555-555-0199"]],
            ],
            "results": [
                {"restaurant_name": "Blue Door", "city": "Porto", "phone_number": "555-555-0199"},
                {"restaurant_name": "Old Oak", "city": "Porto", "phone_number": "555-555-0142"},
            ],
        },
        {"speaker": "user", "text": "Book it.", "acts": [["SELECT", "", []]]},
        {
            "speaker": "system",
            "text": "A table at Blue Door at 7:30 pm on March 1st, is that right?",
            "acts": [
                ["CONFIRM", "restaurant_name", ["Blue Door"]],
                ["CONFIRM", "time", ["19:30"]],
                ["CONFIRM", "date", ["2019-03-01"]],
            ],
        },
    ],
}


def small_corpus() -> Corpus:
    dialogues = [cut_values(RAW)]
    return Corpus(dialogues, dialogues, dialogues, POOLS, POOLS)


def real_dialogues(count: int) -> list:
    if not os.environ.get("TENFOLD_DATA"):
        pytest.skip("TENFOLD_DATA is not set: the human dialogues are not part of the repository")
    return list(itertools.islice(read_dialogues(data_folder(), "dev"), count))


def assert_answers_can_be_looked_up(episode: Episode) -> None:
    before = ""
    for message in episode.messages:
        for start, end in message.values:
            assert message.text[start:end].lower() in before.lower()
        before += "\n" + message.text


def test_episodes_depend_on_the_seed_only():
    corpus = small_corpus()

    def drawn(seed: int) -> list[Episode]:
        rng = random.Random(seed)
        return [draw_episode(corpus, lesson_at(1.0), rng) for _ in range(50)]

    assert drawn(4) == drawn(4)
    assert drawn(4) != drawn(5)


def test_held_out_episodes_do_not_change():
    corpus = small_corpus()
    for family in ("lookup", "seen", "unseen"):
        assert held_out_episodes(corpus, family, 5, 1) == held_out_episodes(corpus, family, 5, 1)


def test_corpus_survives_saving(tmp_path):
    corpus = small_corpus()
    save_corpus(corpus, tmp_path / "corpus.json.gz")
    assert dataclasses.asdict(load_corpus(tmp_path / "corpus.json.gz")) == dataclasses.asdict(
        corpus
    )


def test_cutting_leaves_holes_where_values_stood():
    dialogue = cut_values(RAW)
    offer = dialogue.turns[1]
    assert not any(word in offer.text for word in ("Blue Door", "Porto", "0199"))
    assert {dialogue.values[hole].text for hole in offer.stated} == {
        "Blue Door",
        "Porto",
        "555-555-0199",
    }
    assert [dialogue.values[r.name].text for r in dialogue.records] == ["Blue Door", "Old Oak"]


def test_values_of_made_up_answers_are_in_the_facts():
    rng = random.Random(0)
    for _ in range(200):
        assert_answers_can_be_looked_up(lookup_episode(POOLS, Limits(3, 5, 8), 0.3, rng))
        episode = human_episode(cut_values(RAW), POOLS, Limits(3, 5, 8), rng)
        assert episode is not None
        assert_answers_can_be_looked_up(episode)


def test_values_of_human_answers_are_in_the_facts_or_said_before():
    dialogues = real_dialogues(150)
    pools = collect_pools(dialogues)
    rng = random.Random(0)
    made = [human_episode(d, pools, Limits(3, 5, 8), rng) for d in dialogues]
    assert sum(episode is not None for episode in made) > 100
    for episode in made:
        if episode is not None:
            assert_answers_can_be_looked_up(episode)


def test_training_and_held_out_pools_share_no_value():
    pool = [f"Place {i}" for i in range(200)]
    train, held = split_pool(pool, held_out=False), split_pool(pool, held_out=True)
    assert not set(train) & set(held)
    assert sorted(train + held) == sorted(pool)
    assert held


def test_missing_data_is_said_clearly(monkeypatch, tmp_path):
    monkeypatch.delenv("TENFOLD_DATA", raising=False)
    with pytest.raises(DataError, match="TENFOLD_DATA is not set"):
        data_folder()
    (tmp_path / "dialogue").mkdir()
    with gzip.open(tmp_path / "dialogue" / "sgd-train.jsonl.gz", "wt") as out:
        out.write("")
    monkeypatch.setenv("TENFOLD_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"lacks dialogue/sgd-dev\.jsonl\.gz, dialogue/sgd-test"):
        data_folder()


@pytest.fixture(scope="module")
def shipped_tokenizer():
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(SHIPPED / "tokenizer.json"))


@pytest.mark.parametrize(
    "text",
    ["Call 408-971-8523 now!", "Café Über 🙂", "  two  spaces\nand a line", "$1250.75 at 7:05 pm"],
)
def test_tokenizer_round_trip(shipped_tokenizer, text):
    encoding = shipped_tokenizer.encode(text, add_special_tokens=False)
    assert shipped_tokenizer.decode(encoding.ids) == text
    assert all(
        len(piece.lstrip("Ġ")) == 1 for piece in encoding.tokens if any(c.isdigit() for c in piece)
    )


def test_chat_template_renders_what_the_model_was_trained_on(shipped_tokenizer):
    config = json.loads((SHIPPED / "tokenizer_config.json").read_text())
    template = jinja2.Environment(autoescape=False).from_string(config["chat_template"])
    assert (SHIPPED / "chat_template.jinja").read_text() == config["chat_template"]
    episode = lookup_episode(POOLS, Limits(2, 3, 6), 0.0, random.Random(1))
    whole = template.render(messages=episode.chat(), bos_token="<|bos|>", tools=[{"type": "x"}])
    assert (
        shipped_tokenizer.encode(whole, add_special_tokens=False).ids
        == encode(shipped_tokenizer, episode).tokens
    )
    asked = episode.chat()[:2]
    prompt = template.render(messages=asked, bos_token="<|bos|>", add_generation_prompt=True)
    assert prompt == render(asked)


def test_transformers_applies_the_chat_template():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SHIPPED)
    chat = [{"role": "user", "content": "Hello"}]
    assert tokenizer.eos_token == "<|end|>"
    assert tokenizer.apply_chat_template(
        chat, tokenize=False, add_generation_prompt=True
    ) == render(chat)


def test_rows_mark_answers_and_the_first_token_of_values():
    episode = lookup_episode(POOLS, Limits(1, 3, 4), 0.0, random.Random(3))
    tokenizer = train_tokenizer([m.text for m in episode.messages] * 3, 400)
    row = encode(tokenizer, episode)
    assert len(row.starts) == sum(len(m.values) for m in episode.messages)
    assert all(row.answer[place] for place in row.starts)
    assert len(row.tokens) == len(row.answer)


def small_run(folder: Path) -> Run:
    corpus = small_corpus()
    rng = random.Random(0)
    texts = [lookup_episode(POOLS, Limits(), 0.2, rng).messages[0].text for _ in range(50)]
    settings = Settings(
        tokens=30_000, hidden=32, layers=1, heads=2, inner=64, batch_tokens=1024, compile=0
    )
    return Run(settings, corpus, train_tokenizer(texts, 500), folder)


def test_resumed_training_equals_uninterrupted_training(tmp_path):
    whole = small_run(tmp_path / "whole")
    losses = [whole.step() for _ in range(6)]
    first = small_run(tmp_path / "parts")
    parts = [first.step() for _ in range(3)]
    first.save()
    second = small_run(tmp_path / "parts")
    assert second.restore()
    parts += [second.step() for _ in range(3)]
    assert parts == losses
    for one, two in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_stream_follows_the_curriculum(tmp_path):
    corpus = small_corpus()
    tokenizer = train_tokenizer(["a few words"], 300)
    stream = EpisodeStream(corpus, tokenizer, 1, 2048, 512)
    assert {row.family for row in stream.next(0.0, 0.2).rows} <= {"lookup", "repeat"}
    late = EpisodeStream(corpus, tokenizer, 1, 100_000_000, 2048).next(1.0, 0.2)
    assert {row.family for row in late.rows} == {"lookup", "human", "general", "repeat"}
    assert late.weights.max() == START_WEIGHT


def test_slot_errors_count_missing_and_invented_values():
    chat = [{"role": "system", "content": "For Blue Door the phone number is 555-555-0199."}]
    asked = Asked("lookup", 1, chat, "", ["555-555-0199"])
    assert slot_errors(asked, "The phone number is 555-555-0199.") == (0, 0)
    assert slot_errors(asked, "The phone number is 555-555-0142.") == (1, 1)
    assert slot_errors(asked, "I do not know.") == (1, 0)
    assert not states("at 7:30 pm", "7")


def test_written_tokenizer_folder_is_complete(tmp_path):
    write_tokenizer(train_tokenizer(["some words"], 300), tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["eos_token"] == "<|end|>"


@pytest.fixture(scope="module")
def shipped_model():
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(SHIPPED, dtype=torch.float32).eval()


def test_shipped_model_answers_from_the_facts(shipped_model, shipped_tokenizer):
    chat = [
        {
            "role": "system",
            "content": "Hotel Linden is a hotel. For Hotel Linden the city is Oslo. For Hotel "
            "Linden the phone number is 713-604-2285.",
        },
        {"role": "user", "content": "What is the phone number of Hotel Linden?"},
    ]
    [answer] = greedy_answers(shipped_model, shipped_tokenizer, [chat])
    assert "713-604-2285" in answer


def test_shipped_examples_are_answered(shipped_model, shipped_tokenizer):
    examples = json.loads((SHIPPED / "examples.json").read_text())
    assert 6 <= len(examples) <= 10
    answers = greedy_answers(
        shipped_model, shipped_tokenizer, [example["messages"] for example in examples]
    )
    for example, answer in zip(examples, answers, strict=True):
        assert set(example) == {"title", "messages"}
        assert answer.strip()
