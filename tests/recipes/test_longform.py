"""Long conversations composed from templates."""

import random
import re
from collections import Counter

import pytest

from recipes.concierge.compose import fill_holes
from recipes.concierge.episodes import Episode, Limits
from recipes.concierge.longform import in_asked_order, long_episode, rough_tokens
from recipes.concierge.longform_phrases import EVERYTHING
from recipes.concierge.lookups import lookup_episode

from .made_up import POOLS, bank


def drawn(part: str, limits: Limits, count: int = 60) -> list[Episode]:
    rng = random.Random(f"{part}{limits.records}")
    return [long_episode(bank(part), POOLS, limits, rng) for _ in range(count)]


EPISODES = [(p, e) for p in ("train", "unseen") for r in (3, 5) for e in drawn(p, Limits(r, 6, 8))]


def facts(episode: Episode) -> dict[str, dict[str, str]]:
    """Read the records back from the system message."""
    told: dict[str, dict[str, str]] = {}
    for line in episode.messages[0].text.split("\n"):
        name = re.match(r"There is an? (.*?)\.|(.*?) is an? ", line)
        record = name.group(2) or f"the {name.group(1)}"
        parts = line.split(f" For {record} the ")[1:]
        told[record] = dict(part.rstrip(".").split(" is ", 1) for part in parts)
    return told


def test_every_required_value_is_in_the_facts_and_in_the_answer():
    for _, episode in EPISODES:
        told = facts(episode)
        for message in episode.messages[2::2]:
            marked = {message.text[a:b] for a, b in message.values}
            assert message.required
            for name, words, value in message.required:
                assert value == (told[name][words] if words else name)
                assert value in marked


def test_every_marked_value_is_in_the_facts_and_required():
    for _, episode in EPISODES:
        told = facts(episode)
        known = {v for fields in told.values() for v in fields.values()} | set(told)
        for message in episode.messages:
            wanted = {value for _, _, value in message.required}
            for start, end in message.values:
                assert message.text[start:end] in known & wanted


def test_requests_name_what_they_ask_for():
    for _, episode in EPISODES:
        for question, answer in zip(episode.messages[1::2], episode.messages[2::2], strict=True):
            asked = question.text.lower()
            everything = (
                "detail" in asked
                or "everything" in asked
                or any(form in asked for form in EVERYTHING)
            )
            for _, words, _ in answer.required:
                assert everything or not words or words in asked
            named = {name for name, words, _ in answer.required if not words}
            if answer.kind in ("compare", "itinerary", "recap"):
                assert all(name.lower() in asked for name in named)


def test_values_follow_the_record_they_belong_to():
    for _, episode in EPISODES:
        told = facts(episode)
        for message in episode.messages[2::2]:
            unsaid = {(n, v) for n, w, v in message.required if w}
            subject = None
            for place, end in sorted(message.values):
                text = message.text[place:end]
                nameless = [n for n in told if n[:4] == "the " and n in message.text[:end].lower()]
                if text in told:
                    subject = text
                elif (subject, text) in unsaid:
                    unsaid.discard((subject, text))
                else:  # records without a name are told apart by their noun
                    assert any(text in told[n].values() for n in nameless) or (subject, text) in {
                        (n, v) for n, _, v in message.required
                    }


@pytest.mark.parametrize("part", ["train", "unseen"])
def test_hard_conversations_have_distractors(part):
    for episode in drawn(part, Limits(5, 6, 8), 20):
        assert episode.records >= 4
        assert episode.family == "long"
    assert {len(e.messages) for e in drawn(part, Limits(5, 6, 8))} >= {3, 5, 7}


def test_all_kinds_occur_and_answers_are_long():
    messages = [m for _, e in EPISODES for m in e.messages if m.kind]
    assert {m.kind for m in messages} == {"options", "compare", "multi", "recap", "itinerary"}
    assert all(60 <= rough_tokens(m.text) <= 250 for m in messages)


def test_conversations_depend_on_the_seed_only():
    assert drawn("train", Limits(4, 6, 8), 10) == drawn("train", Limits(4, 6, 8), 10)


def test_articles_suit_the_values_after_them():
    assert fill_holes("It is a {cuisine} place.", {"cuisine": "Italian"})[0] == (
        "It is an Italian place."
    )
    assert fill_holes("An {rating} it is.", {"rating": "4.1"})[0] == "A 4.1 it is."
    assert fill_holes("a {price} ticket", {"price": "$80"})[0] == "An $80 ticket"


def test_composed_lookups_say_what_they_require():
    rng = random.Random(2)
    kinds = set()
    for _ in range(100):
        for message in lookup_episode(POOLS, Limits(3, 5, 8), 0.3, rng).messages:
            kinds.add(message.kind)
            assert all(value.lower() in message.text.lower() for _, _, value in message.required)
    assert {"value", "two", "reverse", "list", "recap", "compare"} <= kinds


def test_lists_often_name_their_records_first_and_in_the_order_of_the_facts():
    listed = {False: 0, True: 0}
    for _, episode in EPISODES:
        order = list(facts(episode))
        for message in episode.messages[2::2]:
            names = [n for n, w, _ in message.required if not w]
            if message.kind == "options" and len(names) > 1:
                first = message.text.split(". For ")[0]
                listed[all(name in first for name in names)] += 1
                assert names == [n for n in order if n in names]
    assert min(listed.values()) > 10


def test_going_through_all_records_leaves_none_out():
    rng, kinds = random.Random(0), Counter()
    for _ in range(150):
        episode = lookup_episode(POOLS, Limits(4, 4, 8), 0.8, rng)
        for message in episode.messages:
            kinds[message.kind] += 1
            if message.kind == "each":
                told = facts(episode)
                names = dict.fromkeys(n for n, w, _ in message.required if not w)
                assert list(names) == list(told)
                asked = {w for _, w, _ in message.required if w}
                for name in told:
                    assert {w for n, w, _ in message.required if n == name and w} == asked
    assert kinds["each"] > 50


def test_several_slots_are_told_in_the_order_in_which_they_are_asked():
    seen = 0
    for _, episode in EPISODES:
        for question, answer in zip(episode.messages[1::2], episode.messages[2::2], strict=True):
            if answer.kind == "multi":
                told = [w for _, w, _ in answer.required if w]
                assert told == in_asked_order(question.text, told)
                seen += 1
    assert seen > 10


def test_the_asked_order_tells_slots_apart_that_contain_each_other():
    question = "The origin airport, please. Then the price and the origin."
    asked = in_asked_order(question, ["origin", "price", "origin airport"])
    assert asked == ["origin airport", "price", "origin"]
