"""House rules: what determines the values of a human answer, read from what people said."""

import random

from recipes.concierge.dialogues import cut_values
from recipes.concierge.episodes import Limits, human_episode
from recipes.concierge.rules import HouseRules, kind_of_turn, read_rules, required_values

from .made_up import POOLS, raw, restaurant, turn

FOUND = [
    restaurant("Blue Door", "Porto", "555-555-0199"),
    restaurant("Old Oak", "Porto", "555-555-0142"),
]
ASKED = turn("user", "I want to eat in Porto.", ("INFORM", "city", "Porto"))
OFFER = turn(
    "system",
    "How about Blue Door in Porto?",
    ("OFFER", "restaurant_name", "Blue Door"),
    ("OFFER", "city", "Porto"),
    call={"method": "FindRestaurants", "parameters": {"city": "Porto"}},
    results=FOUND,
)
MORE = turn("user", "What is their number?", ("REQUEST", "phone_number", None))
INFORM = turn("system", "It is 555-555-0199.", ("INFORM", "phone_number", "555-555-0199"))
ANOTHER = turn("user", "Another one?", ("REQUEST_ALTS", "", None))
SAME_SLOTS = turn(
    "system",
    "In Porto there is Old Oak.",
    ("OFFER", "city", "Porto"),
    ("OFFER", "restaurant_name", "Old Oak"),
)
OTHER_SLOTS = turn("system", "Try Old Oak.", ("OFFER", "restaurant_name", "Old Oak"))
BOOK = turn("user", "At 7:30 pm.", ("INFORM", "time", "19:30"), ("SELECT", "", None))
CONFIRM = turn(
    "system",
    "Blue Door at 7:30 pm on March 1st?",
    ("CONFIRM", "restaurant_name", "Blue Door"),
    ("CONFIRM", "time", "19:30"),
    ("CONFIRM", "date", "2019-03-01"),
)


def test_rules_say_what_was_asked_said_and_confirmed():
    dialogue = cut_values(raw(ASKED, OFFER, MORE, INFORM, BOOK, CONFIRM))
    rules, kept = read_rules(dialogue.turns)
    assert kept == 6
    assert rules.lines() == [
        "Before you suggest a restaurant, ask for the city. "
        "When you suggest a restaurant, say the city. "
        "Before you book a restaurant, confirm the restaurant, the time and the date."
    ]


def test_rules_name_slots_in_the_order_in_which_they_are_said():
    otherwise = {**CONFIRM, "text": "March 1st at 7:30 pm, March 1st, at Blue Door?"}
    rules, _ = read_rules(cut_values(raw(ASKED, OFFER, BOOK, otherwise)).turns)
    assert rules.confirm == {"restaurant": ("date", "time", "restaurant")}
    assert kinds(ASKED, OFFER, BOOK, otherwise, BOOK, CONFIRM) == ["offer", "confirm", "confirm"]


def test_turns_are_kept_up_to_the_first_that_suggests_other_slots():
    same = cut_values(raw(ASKED, OFFER, ANOTHER, SAME_SLOTS, BOOK, CONFIRM))
    other = cut_values(raw(ASKED, OFFER, ANOTHER, OTHER_SLOTS, BOOK, CONFIRM))
    assert read_rules(same.turns)[1] == 6
    rules, kept = read_rules(other.turns)
    assert kept == 2
    assert rules.say == {"restaurant": ("city",)}
    assert rules.confirm == {}  # what comes after the cut makes no rule


def kinds(*turns: dict) -> list[str]:
    dialogue = cut_values(raw(*turns))
    rules, _ = read_rules(dialogue.turns)
    return [
        kind_of_turn(t, dialogue.turns[i - 1], rules)
        for i, t in enumerate(dialogue.turns)
        if t.speaker == "system"
    ]


def test_offers_confirmations_and_answers_are_determined():
    assert kinds(ASKED, OFFER, MORE, INFORM, BOOK, CONFIRM) == ["offer", "inform", "confirm"]


def test_what_nobody_asked_for_is_not_determined():
    assert kinds(ASKED, INFORM) == [""]
    asked_more = turn("user", "Number and address?", *(("REQUEST", s, None) for s in "ab"))
    assert kinds(asked_more, INFORM) == [""]
    both = {**OTHER_SLOTS, "text": "Try Old Oak, 555-555-0142."}
    both["acts"] = [*OTHER_SLOTS["acts"], ["INFORM", "phone_number", ["555-555-0142"]]]
    assert kinds(ASKED, both) == [""]  # an offer with an answer beside it


def test_a_confirmation_unlike_the_first_is_not_determined():
    less = turn("system", "At 7:30 pm?", ("CONFIRM", "time", "19:30"))
    assert kinds(ASKED, OFFER, BOOK, CONFIRM, BOOK, less) == ["offer", "confirm", ""]


def test_a_count_of_matches_changes_no_kind_and_is_not_required():
    counted = {**OFFER, "text": "I found 2. How about Blue Door in Porto?"}
    counted["acts"] = [*OFFER["acts"], ["INFORM_COUNT", "count", ["2"]]]
    assert kinds(ASKED, counted) == ["offer"]
    dialogue = cut_values(raw(ASKED, counted))
    written = {i: v.text for i, v in enumerate(dialogue.values)}
    required = required_values(dialogue.turns[1], "offer", {}, written)
    assert [value for _, _, value in required] == ["Blue Door", "Porto"]


def test_required_values_name_the_record_the_slot_and_the_value():
    dialogue = cut_values(raw(ASKED, OFFER, MORE, INFORM, BOOK, CONFIRM))
    turns, written = dialogue.turns, {i: v.text for i, v in enumerate(dialogue.values)}
    owners = {hole: "Blue Door" for _, hole in dialogue.records[0].fields}
    assert required_values(turns[1], "offer", owners, written) == [
        ("Blue Door", "", "Blue Door"),
        ("Blue Door", "city", "Porto"),
    ]
    assert required_values(turns[3], "inform", owners, written) == [
        ("Blue Door", "phone number", "555-555-0199")
    ]
    assert required_values(turns[5], "confirm", owners, written) == [
        ("Blue Door", "", "Blue Door"),
        ("the guest", "time", "19:30"),
        ("the guest", "date", "2019-03-01"),
    ]
    assert required_values(turns[1], "", owners, written) == []


def test_rules_without_slots_are_not_written():
    assert HouseRules(say={"hotel": ()}, ask={"hotel": ()}).lines() == []


def test_episodes_state_the_rules_and_what_they_require():
    dialogue = cut_values(raw(ASKED, OFFER, BOOK, CONFIRM))
    rng = random.Random(1)
    made = [human_episode(dialogue, POOLS, Limits(3, 5, 8), rng) for _ in range(20)]
    whole = [e for e in made if e and len(e.messages) == 5]
    assert whole
    for episode in whole:
        system, _, offer, _, confirm = episode.messages
        assert "When you suggest a restaurant, say the city." in system.text
        assert (offer.kind, confirm.kind) == ("offer", "confirm")
        for message in (offer, confirm):
            for _, _, value in message.required:
                assert value.lower() in message.text.lower()
