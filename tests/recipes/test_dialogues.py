"""Reading human dialogues: values are cut out, needs are kept, pools are split."""

import itertools
import os
import random

import pytest

from recipes.concierge.datafiles import data_folder
from recipes.concierge.dialogues import (
    collect_pools,
    cut_values,
    keep_required_needs,
    read_dialogues,
)
from recipes.concierge.episodes import Limits, human_episode
from recipes.concierge.values import split_pool

from .made_up import RAW, raw, turn
from .test_episodes import assert_answers_can_be_looked_up


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


def test_a_turn_that_states_a_value_in_other_words_is_not_used():
    dialogue = cut_values(
        raw(turn("system", "It is quite cheap.", ("INFORM", "price_range", "inexpensive")))
    )
    assert not dialogue.turns[0].usable


def test_failures_are_not_used():
    said = turn("system", "That failed, sorry.", ("NOTIFY_FAILURE", "", None))
    assert not cut_values(raw(said)).turns[0].usable


def call(method: str, **parameters: str) -> dict:
    return turn("system", "Done.", call={"method": method, "parameters": parameters})


def test_needs_are_what_every_call_of_a_method_had():
    one = cut_values(raw(call("Find", city="Porto", cuisine="Thai"), call("Book", time="19:30")))
    two = cut_values(raw(call("Find", city="Oslo", price_range="cheap")))
    keep_required_needs([one, two])
    needs = [[slot for slot, _ in t.needs] for d in (one, two) for t in d.turns]
    assert needs == [["city"], ["time"], ["city"]]
    assert [two.values[hole].text for _, hole in two.turns[0].needs] == ["Oslo"]


def test_training_and_held_out_pools_share_no_value():
    pool = [f"Place {i}" for i in range(200)]
    train, held = split_pool(pool, held_out=False), split_pool(pool, held_out=True)
    assert not set(train) & set(held)
    assert sorted(train + held) == sorted(pool)
    assert held


def test_values_of_human_answers_are_in_the_facts_or_said_before():
    if not os.environ.get("TENFOLD_DATA"):
        pytest.skip("TENFOLD_DATA is not set: the human dialogues are not part of the repository")
    dialogues = list(itertools.islice(read_dialogues(data_folder(), "dev"), 150))
    pools = collect_pools(dialogues)
    rng = random.Random(0)
    made = [human_episode(d, pools, Limits(3, 5, 8), rng) for d in dialogues]
    assert sum(episode is not None for episode in made) > 100
    for episode in made:
        if episode is not None:
            assert_answers_can_be_looked_up(episode)
