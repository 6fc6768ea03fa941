"""Simpler methods that the model is compared with."""

import random

from recipes.concierge.baselines import ORDER, Baselines, draw_examples, examples_of, tokens_of
from recipes.concierge.data import held_out_episodes
from recipes.concierge.delexical import WANTED, Place, Prompt, delexicalise, fill
from recipes.concierge.episodes import Episode, Message

from . import made_up_corpus as made_up

FACTS = (
    "Blue Door is a bar. For Blue Door the city is Porto. For Blue Door the price is $20.\n"
    "Ox is a bar. For Ox the city is Turin. For Ox the price is $35.\n"
    "For the guest the number of people is 4."
)
OTHER = "Elm is an inn. For Elm the city is Bath. For Elm the phone number is 555-555-0101."


def prompt(request: str, facts: str = FACTS) -> Prompt:
    return Prompt.of([{"role": "system", "content": facts}, {"role": "user", "content": request}])


def test_records_stand_in_the_order_of_the_request() -> None:
    assert [r.name for r in prompt("Compare Ox and Blue Door.").records] == ["Ox", "Blue Door"]
    assert [r.name for r in prompt("Which bar is in Turin?").records] == ["Ox", "Blue Door"]
    assert prompt("Compare Ox and Blue Door.").asked_records == 2
    assert prompt("Which bar is in Turin?").asked_records == 1


def test_values_become_places_and_places_values() -> None:
    asked = prompt("What does Ox cost?")
    text = "For Ox the price is $35, for 4 people."
    spans = [(text.index(v), text.index(v) + len(v)) for v in ("Ox", "$35", "4")]
    parts = delexicalise(text, spans, [("Ox", "price", "$35")], asked)
    assert [p for p in parts if isinstance(p, Place)] == [
        Place(0, "", "text"),
        Place(0, "price", "money"),
        Place(WANTED, "number of people", "number"),
    ]
    assert fill(parts, asked) == (text, 0)
    assert (
        fill(parts, prompt("And Blue Door?"))[0] == "For Blue Door the price is $20, for 4 people."
    )


def test_a_sentence_without_its_value_is_left_out() -> None:
    parts = ["It is in ", Place(0, "city", "text"), ". It costs ", Place(0, "price", "money"), "."]
    assert fill(parts, prompt("Where is Elm?", OTHER)) == ("It is in Bath.", 1)


def test_what_the_guest_wants_is_taken_from_what_was_said() -> None:
    asked = prompt("A table at 7:30 pm on March 3rd, please.", OTHER)
    assert asked.value(Place(WANTED, "time", "clock")) == "7:30 pm"
    assert asked.value(Place(WANTED, "date", "date")) == "March 3rd"
    assert asked.value(Place(WANTED, "price", "money")) is None


def lesson(name: str, city: str) -> Episode:
    answer = Message("assistant", f"It is in {city}.", [(9, 9 + len(city))])
    answer.kind, answer.required = "value", [(name, "city", city)]
    facts = f"{name} is a bar. For {name} the city is {city}."
    return Episode(
        [Message("system", facts), Message("user", f"Where is {name}?"), answer], "x", 1, 1
    )


def test_both_methods_answer_with_the_values_of_the_question() -> None:
    made = Baselines(examples_of([lesson("Red Lion", "Oslo"), lesson("Swan", "Graz")]))
    chat = [{"role": "system", "content": FACTS}, {"role": "user", "content": "Where is Ox?"}]
    assert made.answers(chat) == {"nearest": "It is in Turin.", "ngram": "It is in Turin."}


def test_answers_end_and_depend_on_the_seed_only() -> None:
    corpus = made_up.corpus()
    made = [Baselines(draw_examples(corpus, 5, 60)) for _ in range(2)]
    episodes = held_out_episodes(corpus, "long_seen", 6, random.Random(2))
    chats = [e.chat()[:2] for e in episodes]
    first, second = ([b.answers(chat) for chat in chats] for b in made)
    assert first == second
    for answers in first:
        tokens = [str(token) for token in tokens_of([answers["ngram"]])]
        assert len(tokens) < 1000
        assert answers["nearest"]
        runs = [tuple(tokens[i : i + 3 * ORDER]) for i in range(len(tokens) - 3 * ORDER)]
        assert len(runs) == len(set(runs))
