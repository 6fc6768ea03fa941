"""Episodes: drawn by seed alone, with every value to be found in the facts."""

import dataclasses
import random
import re

import pytest

from recipes.concierge.data import (
    CORPUS,
    SETS,
    TEMPLATES,
    Lesson,
    draw_episode,
    held_out_episodes,
    load_corpus,
    save_corpus,
)
from recipes.concierge.dialogues import cut_values
from recipes.concierge.episodes import Episode, Limits, human_episode
from recipes.concierge.lookups import lookup_episode
from recipes.concierge.schemas import alternatives
from recipes.concierge.templates import Mined, save_templates

from .made_up import POOLS, RAW, RESULTS, raw, small_corpus, turn


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
        return [draw_episode(corpus, Lesson.at(1.0), rng) for _ in range(50)]

    assert drawn(4) == drawn(4)
    assert drawn(4) != drawn(5)


def test_the_curriculum_teaches_look_up_first():
    corpus, rng = small_corpus(), random.Random(0)

    def families(progress: float) -> set[str]:
        lesson = Lesson.at(progress)
        return {draw_episode(corpus, lesson, rng).family for _ in range(150)}

    assert families(0.0) == {"lookup"}
    assert families(1.0) == {"lookup", "human", "long", "general"}
    assert Lesson.at(0.0).limits.records < Lesson.at(1.0).limits.records


@pytest.mark.parametrize("name", SETS)
def test_held_out_episodes_do_not_change(name):
    corpus = small_corpus()
    one, two = (held_out_episodes(corpus, name, 5, random.Random(1)) for _ in range(2))
    assert one == two
    assert len(one) == 5
    assert all(any(m.values for m in e.messages) for e in one)


def test_the_look_up_set_has_three_records_of_four_slots():
    for episode in held_out_episodes(small_corpus(), "lookup", 20, random.Random(1)):
        assert (episode.records, episode.slots) == (3, 4)


def test_corpus_survives_saving(tmp_path):
    corpus = small_corpus()
    save_corpus(corpus, tmp_path / CORPUS)
    save_templates(Mined(), tmp_path / TEMPLATES)
    loaded = load_corpus(tmp_path)
    assert set(loaded.banks) == {"train", "held", "unseen"}
    for field in dataclasses.fields(corpus):
        if field.name != "banks":
            assert getattr(loaded, field.name) == getattr(corpus, field.name)


def test_values_of_made_up_answers_are_in_the_facts():
    rng = random.Random(0)
    for _ in range(200):
        assert_answers_can_be_looked_up(lookup_episode(POOLS, Limits(3, 5, 8), 0.3, rng))
        episode = human_episode(cut_values(RAW), POOLS, Limits(3, 5, 8), rng)
        assert episode is not None
        assert_answers_can_be_looked_up(episode)


CALL = {"method": "Reserve", "parameters": {"party_size": "2", "time": "19:30"}}
BOOKING = raw(
    turn(
        "user",
        "I want a table for 2 at 7:30 pm.",
        ("INFORM", "party_size", "2"),
        ("INFORM", "time", "19:30"),
    ),
    turn("system", "Where?", ("REQUEST", "city", None)),
    turn("user", "In Porto.", ("INFORM", "city", "Porto")),
    turn("system", "Blue Door?", ("OFFER", "restaurant_name", "Blue Door"), results=RESULTS),
    turn("user", "Yes.", ("AFFIRM", "", None)),
    turn("system", "Done for March 1st.", ("INFORM", "date", "2019-03-01"), call=CALL),
)


def test_facts_tell_of_the_guest_what_calls_and_answers_need():
    rng = random.Random(0)
    for _ in range(30):
        episode = human_episode(cut_values(BOOKING), POOLS, Limits(3, 5, 8), rng)
        assert episode is not None
        facts, last = episode.messages[0].text, episode.messages[-1]
        [(start, end)] = last.values  # nobody said the date and no record has it
        assert f"For the guest the date is {last.text[start:end]}." in facts
        said = "table" in episode.messages[1].text  # the call needs it, but here the guest says it
        for wish in ("number of people", "time"):
            assert (f"For the guest the {wish} is " in facts) != said


def test_what_a_record_holds_is_not_told_of_the_guest():
    rng = random.Random(0)
    for _ in range(30):
        episode = human_episode(cut_values(BOOKING), POOLS, Limits(3, 5, 8), rng)
        assert episode is not None
        assert "For the guest the restaurant" not in episode.messages[0].text


def test_a_guest_with_too_many_wishes_makes_no_episode():
    said = [("INFORM", f"wish_{i}", f"20:{i:02d}") for i in range(9)]
    text = "So: " + ", ".join(f"8:{i:02d} pm" for i in range(9))
    dialogue = cut_values(raw(turn("user", "Well?"), turn("system", text, *said)))
    assert dialogue.turns[1].usable
    assert human_episode(dialogue, POOLS, Limits(3, 5, 8), random.Random(0)) is None


def told_of_the_guest(episode: Episode) -> dict[str, str]:
    return dict(
        re.findall(r"For the guest the ([a-z ]+) is (.+?)\.(?: |$)", episode.messages[0].text)
    )


TAKEN = raw(
    turn("user", "Something in Porto?", ("INFORM", "city", "Porto")),
    turn("system", "Old Oak?", ("OFFER", "restaurant_name", "Old Oak"), results=RESULTS),
    turn("user", "Good. Their number?", ("REQUEST", "phone_number", None)),
    turn("system", "It is 555-555-0142.", ("INFORM", "phone_number", "555-555-0142")),
)


def test_the_facts_tell_what_was_chosen_before_the_conversation_starts():
    rng, starts = random.Random(0), set[str]()
    for _ in range(40):
        episode = human_episode(cut_values(TAKEN), POOLS, Limits(3, 5, 8), rng)
        assert episode is not None
        first = episode.messages[1].text
        starts.add(first)
        named = [r for m in episode.messages for r in m.required if m.kind == "inform"]
        chosen = told_of_the_guest(episode).get("restaurant")
        assert chosen == (named[0][0] if first.startswith("Good") else None)
    assert len(starts) > 1


def test_a_conversation_ends_before_an_offer_that_is_not_in_the_facts():
    rng = random.Random(0)
    later = {**RESULTS[0], "restaurant_name": "Late Bar", "city": "Lyon"}
    dialogue = raw(
        *TAKEN["turns"],
        turn("user", "Another one?", ("REQUEST_ALTS", "", None)),
        turn("system", "Try Far Inn.", ("OFFER", "restaurant_name", "Far Inn"), results=[later]),
    )
    for _ in range(40):
        episode = human_episode(cut_values(dialogue), POOLS, Limits(3, 5, 8), rng)
        assert episode is None or not any("Try" in m.text for m in episode.messages)


def test_small_categories_change_within_their_kind():
    assert "SUV" in alternatives("Sedan")
    assert "Dermatologist" not in alternatives("Full-size")
    assert alternatives("Lisbon") == ()
    assert alternatives("4") == ()
    assert "Pool" not in alternatives("regular")  # a kind of show
    assert "Pool" in alternatives("Regular")  # a kind of ride
