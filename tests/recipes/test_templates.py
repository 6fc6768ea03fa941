"""Mining templates from human turns."""

import os
import random

import pytest

from recipes.concierge.data import keep_templates_out
from recipes.concierge.datafiles import DataError
from recipes.concierge.dialogues import cut_values
from recipes.concierge.template_rules import cut_template, repair, trim
from recipes.concierge.templates import (
    Bank,
    Key,
    Mined,
    held_turns,
    is_held,
    load_templates,
    mine,
    read_splits,
    read_turn,
    save_templates,
)
from recipes.concierge.values import hash_bucket

from .made_up import raw, turn


def offer(text: str, **stated: str) -> dict:
    acts = [["OFFER", slot, [value]] for slot, value in stated.items()]
    return {"speaker": "system", "text": text, "acts": acts}


def template(text: str, **stated: str) -> str:
    return read_turn("restaurant", "restaurant_name", offer(text, **stated), set())[2]


def dialogue(service: str, *turns: dict) -> dict:
    return {"id": "made-up", "services": [service], "turns": list(turns)}


def test_values_become_holes_in_any_of_their_forms():
    assert (
        template(
            "sure,how about Blue Door in Porto at half price?",
            restaurant_name="Blue Door",
            city="Porto",
        )
        == ""
    )
    assert (
        template("sure, how about Blue Door in Porto", restaurant_name="Blue Door", city="Porto")
        == "How about {name} in {city}?"
    )
    assert cut_template("it costs 90 dollars", [("price", "money", "90.00")], set()) == (
        "it costs {price}"
    )
    assert cut_template("It is rated 4.2 .", [("rating", "rate", "4.20")], set()) == (
        "It is rated {rating} ."
    )


@pytest.mark.parametrize(
    "text",
    [
        "How about Blue Door, the best one?",
        "How about Blue Door on Friday?",
        "How about Blue Door near Turin?",
        "How about Blue Door, number 7?",
        "How about that one?",
        "There is another restaurant, Blue Door.",
    ],
)
def test_turns_that_say_more_than_the_facts_are_refused(text):
    assert template(text, restaurant_name="Blue Door") == ""


def test_turns_are_repaired():
    assert repair("its located in {city} .i like it") == "It's located in {city}. I like it."
    assert trim("address is {address}", "inform") == "The address is {address}."
    assert trim("The {name} is in {city}. Do you like it?", "offer") == "{name} is in {city}."
    assert trim("It is {time}", "inform") is None


def test_requests_name_all_their_slots():
    turn = {
        "speaker": "user",
        "text": "What is the phone number and where is it?",
        "acts": [["REQUEST", "phone_number", []], ["REQUEST", "street_address", []]],
    }
    assert read_turn("restaurant", "restaurant_name", turn, set())[1] is None
    turn["text"] = "What is the phone number and the address?"
    key = read_turn("restaurant", "restaurant_name", turn, set())[1]
    assert key == Key("restaurant", "request", ("address", "phone number"))


def mined() -> Mined:
    turn = offer("How about Blue Door in Porto?", restaurant_name="Blue Door", city="Porto")
    inform = {
        "speaker": "system",
        "text": "The phone number is 555-555-0199.",
        "acts": [["INFORM", "phone_number", ["555-555-0199"]]],
    }
    return mine(
        {
            "train": [dialogue("Restaurants_1", turn, inform)] * 3,
            "dev": [dialogue("Restaurants_1", turn), *[dialogue("Restaurants_2", turn)] * 2],
        }
    )


def test_services_of_training_and_others_are_kept_apart():
    found = mined()
    key = Key("restaurant", "offer", ("city", "name"))
    assert found.train[key] == {"How about {name} in {city}?": 3}
    assert found.unseen[key] == {"How about {name} in {city}?": 2}
    assert Key("", "inform", ("phone number",)) in found.train


def test_templates_survive_saving(tmp_path):
    found = mined()
    save_templates(found, tmp_path / "templates.json.gz")
    loaded = load_templates(tmp_path / "templates.json.gz")
    assert (loaded.train, loaded.unseen) == (found.train, found.unseen)
    with pytest.raises(DataError, match="run python -m recipes"):
        load_templates(tmp_path / "none.json.gz")


def test_held_out_templates_are_never_in_training():
    found = Mined()
    for index in range(200):
        found.train[Key("hotel", "offer", ("name",))][
            f"Form {chr(97 + index % 26) * index} of it."
        ] = 1
    train, held = Bank(found, "train").texts(), Bank(found, "held").texts()
    assert held
    assert not train & held
    assert all(hash_bucket(text) == 0 for text in held)


def test_drawing_prefers_what_people_say_often():
    found = Mined()
    key = Key("hotel", "offer", ("name",))
    texts = [t for t in ("Try {name}.", "I see {name}.", "I like {name}.") if hash_bucket(t)][:2]
    found.train[key].update({texts[0]: 10_000, texts[1]: 1})
    rng = random.Random(0)
    drawn = [Bank(found, "train").pick("hotel", "offer", lambda _: True, rng) for _ in range(50)]
    assert sum(t.text == texts[0] for t in drawn) > 40


def test_human_dialogues_give_templates():
    if not os.environ.get("TENFOLD_DATA"):
        pytest.skip("TENFOLD_DATA is not set: the human dialogues are not part of the repository")
    found = mine(read_splits(limit=300))
    assert sum(map(len, found.train.values())) > 100
    assert all(text.isascii() for texts in found.train.values() for text in texts)


def address(text: str) -> dict:
    return turn("system", text, ("INFORM", "street_address", "10 Mill Lane"))


def test_training_leaves_out_answers_that_are_held_out_templates():
    said = [address("The restaurant is at 10 Mill Lane."), address("It is at 10 Mill Lane.")]
    assert [is_held(read_turn("restaurant", "", s, set())[2]) for s in said] == [True, False]
    asked = turn("user", "Where?", ("REQUEST", "street_address", None))
    raw_one = raw(asked, said[0], asked, said[1])
    assert held_turns(raw_one, {}) == {1}
    made = cut_values(raw_one)
    keep_templates_out([made], {"train": [raw_one]})
    assert [t.usable for t in made.turns if t.speaker == "system"] == [False, True]
