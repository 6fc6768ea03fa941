"""The checker of answers: each rule by hand, then every kind of damage to random answers."""

from __future__ import annotations

import random

import pytest

from tenfold.errors import InvalidRequest
from tenfold.rewards.base import REWARDS, Answer, RewardPrompt
from tenfold.rewards.facts import Facts, Record, Requirement, parse_facts
from tenfold.rewards.verifier import FactsVerifier, Verdict
from tenfold.types import Message

TEXT = """\
Blue Door is a restaurant. For Blue Door the city is Porto. For Blue Door the phone number is \
408-971-8523. For Blue Door the rating is 4.5. For Blue Door the price is $50. \
Blue Door has live music.
Red House is a restaurant. For Red House the city is Lisbon. For Red House the phone number is \
510-222-1111. For Red House the rating is 3.2. For Red House the price is $1,200. \
Red House has no live music.
There is a bus. For the bus the fare is $725. For the bus the departure time is 7:30 pm. For the \
bus the number of stops is 2. For the bus the departure date is March 3rd.
For the guest the number of people is 4.
"""


def chat(question: str, text: str = TEXT) -> list[Message]:
    return [Message("system", text), Message("user", question)]


def check(answer: str, question: str = "Compare Blue Door and Red House.") -> Verdict:
    return FactsVerifier(chat(question)).check(answer)


def need(record: str, slot: str, value: str) -> Requirement:
    return Requirement(record, slot, value)


def test_an_empty_answer_states_nothing() -> None:
    verdict = check("")
    assert (verdict.required, verdict.right, verdict.score) == (8, 0, 0.0)
    assert len(verdict.missing) == verdict.slot_errors == 8


def test_what_is_said_of_an_invented_name_is_not_blamed_on_another_record() -> None:
    verdict = check("For Blue Door the rating is 4.5, and for Rad Hose the rating is 3.2.")
    assert verdict.invented == ("Rad Hose",)
    assert verdict.wrong == ()
    assert "4.5 (Red House)" in check("For Blue Door the city is Porto. Red House has 4.5.").wrong


def test_a_noun_is_not_read_as_the_slot_that_the_guest_chose_it_by() -> None:
    text = (
        "Corolla is a car. For Corolla the type is Compact. For Corolla the pickup date is May 3rd."
        "\nFor the guest the car is Corolla."
    )
    told = FactsVerifier(
        chat("When?", text),
        [need("Corolla", "pickup date", "May 3rd"), need("Corolla", "", "Corolla")],
    ).check("Corolla, a Compact car May 3rd.")
    assert told.slot_errors == 0


def test_messages_without_facts_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="hold no facts") as error:
        FactsVerifier([Message("user", "Hello")])
    assert error.value.param == "messages"
    assert error.value.hint is not None
    assert "For Blue Door the city is Porto" in error.value.hint


@pytest.mark.parametrize(
    ("slot", "value", "forms"),
    [
        ("time", "7:30 pm", ["7:30pm", "7:30 p.m.", "19:30", "7:30 PM", "7:30"]),
        ("time", "7 am", ["7:00 am", "07:00", "7 a.m."]),
        ("price", "$50", ["50 dollars", "$50.00", "$ 50", "50 USD", "50"]),
        ("price", "$20", ["twenty dollars", "twenty"]),
        ("price", "$25", ["twenty-five dollars"]),
        ("number of rooms", "12", ["twelve"]),
        ("price", "$1200", ["$1,200", "1,200 dollars", "1200"]),
        ("date", "March 3rd",
         ["the 3rd of March", "March 3", "3rd March", "3 March", "Mar 3", "march 3rd", "the 3rd"]),
        ("number of stops", "2", ["two"]),
        ("address", "12 Main St., #4", ["12 main st #4"]),
        ("city", "San Jose", ["san jose", "SAN JOSE"]),
        ("phone number", "408-971-8523",
         ["(408) 971-8523", "408 971 8523", "+1 408-971-8523", "4089718523"]),
    ],
)  # fmt: skip
def test_a_value_may_be_written_in_several_ways(slot: str, value: str, forms: list[str]) -> None:
    text = f"Blue Door is a hotel. For Blue Door the {slot} is {value}."
    verifier = FactsVerifier(chat("Tell me everything about Blue Door.", text))
    for form in [value, *forms]:
        verdict = verifier.check(f"For Blue Door the {slot} is {form}.")
        assert (verdict.right, verdict.slot_errors) == (1, 0), (form, verdict)


@pytest.mark.parametrize(
    "answer",
    [
        "It leaves at 7:31 pm.",
        "It leaves at 7:30 am.",
        "The fare is $726.",
        "The fare is $72.",
        "It leaves on March 4th.",
        "The bus has 9 stops.",
        "The bus has five stops.",
        "Call 408-971-8524.",
        "Take the Methique Salon.",
        "Methique Salon is near.",
        "It goes to Faro.",
    ],
)
def test_what_stands_nowhere_is_invented(answer: str) -> None:
    verdict = check(answer, "Tell me everything about the bus.")
    assert len(verdict.invented) == 1, verdict
    assert verdict.score < check("", "Tell me everything about the bus.").score


@pytest.mark.parametrize(
    "answer",
    [
        "I'm glad to help. OK, the second one is better, I think. Is Tuesday fine?",
        "Here are two options: Blue Door and Red House.",
        "It takes twenty-five minutes. There are 2 restaurants. The first one is Blue Door.",
        "Blue Door's rating is 4.5 out of 5.",
        "A table for 4 people at Blue Door, in Porto!",
        "Sure! Would you like the Blue Door or Red House restaurant?",
    ],
)
def test_ordinary_talk_is_no_error(answer: str) -> None:
    verdict = check(answer)
    assert (verdict.wrong, verdict.invented) == ((), ()), verdict


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Blue Door is in Porto. Red House is in Lisbon.", 2),
        ("408-971-8523 is the number of Blue Door.", 1),
        ("Blue Door is in Porto. 510-222-1111 is the number of Red House.", 2),
        ("Blue Door is a restaurant. It is in Porto. It costs $50.", 2),
        ("In Porto there is Blue Door, and in Lisbon there is Red House.", 2),
        ("The ratings of Blue Door and Red House are 4.5 and 3.2.", 2),
        ("Blue Door has live music and Red House has no live music.", 0),
        ("Blue Door is in Porto. Blue Door is in Porto.", 1),
        ("Blue Door is cheaper than Red House at $50.", 1),
        ("Red House has a lower rating than Blue Door, at 3.2.", 1),
        ("Blue Door is cheaper than Red House. It is in Porto.", 1),
        ("Blue Door has a higher rating than Red House's 3.2.", 1),
    ],
)
def test_values_belong_to_the_record_named(answer: str, right: int) -> None:
    verdict = check(answer)
    assert (verdict.right, verdict.wrong, verdict.invented) == (right, (), ()), verdict


@pytest.mark.parametrize(
    ("answer", "right", "wrong"),
    [
        ("Blue Door is not in Porto, its rating isn't 4.5.", 0, 0),
        ("Blue Door isn’t located in the city of Porto.", 0, 0),
        ("Porto is not the city of Blue Door.", 0, 0),
        ("I do not think Blue Door is in Porto.", 0, 0),
        ("Blue Door is in Porto, not Lisbon.", 1, 0),
        ("Blue Door is not in Lisbon but in Porto.", 1, 0),
        ("Blue Door is not only in Porto, its rating is 4.5.", 2, 0),
        ("Don't miss Blue Door in Porto.", 1, 0),
        ("Not sure? Blue Door is in Porto.", 1, 0),
        ("No, Blue Door is in Porto.", 1, 0),
        ("Isn't Blue Door in Porto?", 1, 0),
        ("Blue Door at $50 isn't dear.", 1, 0),
        ("Blue Door does not take cards, and it is in Lisbon.", 0, 1),
    ],
)
def test_what_a_value_is_not_counts_nothing(answer: str, right: int, wrong: int) -> None:
    verdict = check(answer)
    assert (verdict.right, len(verdict.wrong), verdict.invented) == (right, wrong, ()), verdict


PHONES = "408-971-8523, 510-222-1111"
NEITHER = "Lisbon, Porto, 3.2, 4.5, $1,200, $50, 510-222-1111, 408-971-8523"


@pytest.mark.parametrize(
    ("answer", "right", "wrong"),
    [
        (f"Porto, Lisbon, 4.5, 3.2, $50, $1,200, {PHONES}.", 0, 0),
        (f"Blue Door and Red House: Porto, Lisbon, 4.5, 3.2, $50, $1,200, {PHONES}.", 8, 0),
        (f"Blue Door and Red House: {NEITHER}.", 0, 8),
        (f"Here are Blue Door and Red House.\n{NEITHER}.", 0, 8),
        (f"Red House and Blue Door: {NEITHER}.", 8, 0),
        ("Blue Door and Red House: Lisbon, 3.2, Porto, 4.5.", 0, 0),
        ("Blue Door and Red House: Porto, 4.5, Lisbon, 3.2.", 4, 0),
        ("The ratings of Blue Door and Red House are 3.2 and 4.5.", 0, 2),
        ("Blue Door and Red House are in Lisbon and Porto and rated 4.5 and 3.2.", 2, 2),
        ("Blue Door is in Porto, and Red House is in Lisbon, rated 3.2.", 3, 0),
        ("It is in Porto, and rated 4.5.", 0, 0),
        ("It is in Porto, and rated 4.5. I mean Blue Door.", 2, 0),
        ("It is in Porto, and rated 4.5. I mean Red House.", 0, 0),
    ],
)
def test_listed_values_come_in_the_order_of_the_names(answer: str, right: int, wrong: int) -> None:
    verdict = check(answer)
    assert (verdict.right, len(verdict.wrong), verdict.invented) == (right, wrong, ()), verdict


@pytest.mark.parametrize(
    ("answer", "right", "wrong"),
    [
        ("One, Two Inn and Old Mill are in Porto, Faro and Porto.", 3, 0),
        ("Old Mill, Two Inn and One are in Porto, Faro and Porto.", 3, 0),
        ("Two Inn, One and Old Mill are in Porto, Faro and Porto.", 1, 2),
        ("Two Inn, Sun Inn and Old Mill are rated 4.5.", 3, 0),
        ("Sun Inn, Two Inn and Old Mill are in Porto, Faro and Porto, rated 4.5.", 6, 0),
    ],
)
def test_lists_of_three(answer: str, right: int, wrong: int) -> None:
    cities = {"Sun Inn": "Porto", "Two Inn": "Faro", "Old Mill": "Porto"}
    text = "\n".join(
        f"{name} is a hotel. For {name} the city is {city}. For {name} the rating is 4.5."
        for name, city in cities.items()
    )
    verifier = FactsVerifier(chat("Compare Sun Inn, Two Inn and Old Mill.", text))
    verdict = verifier.check(answer.replace("One", "Sun Inn"))
    assert (verdict.right, len(verdict.wrong), verdict.invented) == (right, wrong, ()), verdict


def test_what_the_guest_wants_needs_no_name() -> None:
    required = [
        need("the guest", "number of people", "4"),
        need("Blue Door", "city", "Porto"),
        need("Red House", "city", "Lisbon"),
    ]
    assert FactsVerifier(chat("Hello"), required).check("For 4, in Porto.").right == 1


@pytest.mark.parametrize(
    ("answer", "count"),
    [
        ("Blue Door is in Lisbon.", 1),
        ("Blue Door is in Lisbon and its rating is 3.2.", 2),
        ("510-222-1111 is the number of Blue Door.", 1),
        ("Red House is nice. Its phone number is 408-971-8523.", 1),
        ("The phone number of Blue Door is Porto.", 1),
        ("The rating of Blue Door is $50.", 1),
        ("For Blue Door, Porto is the phone number.", 1),
        ("Blue Door has no live music.", 1),
        ("Red House has live music.", 1),
        ("Blue Door doesn't have live music.", 1),
        ("Blue Door is in Lisbon. Blue Door is in Lisbon.", 1),
    ],
)
def test_values_of_others_are_wrong(answer: str, count: int) -> None:
    verdict = check(answer)
    assert (len(verdict.wrong), verdict.invented) == (count, ()), verdict


def test_true_values_that_were_not_asked_for_count_nothing() -> None:
    verdict = check("The rating of Blue Door is 4.5 and it is in Porto.", "How is Blue Door rated?")
    assert verdict == Verdict(1, 1, (), (), ())
    verdict = check("It is in Porto.", "How is Blue Door rated?")
    assert (verdict.right, verdict.wrong, verdict.score) == (0, (), 0.0)


def test_what_the_user_said_is_fine() -> None:
    messages = [*chat("We are 7, and want the Golden Suite."), Message("assistant", "Fine.")]
    messages.append(Message("user", "What is the city of Blue Door?"))
    verdict = FactsVerifier(messages).check("For 7 in the Golden Suite: the city is Porto.")
    assert verdict == Verdict(1, 1, (), (), ())


def test_names_may_be_required() -> None:
    verdict = check("We have Blue Door.", "Which restaurants do you have?")
    assert verdict.right == 1
    assert verdict.missing == (need("Red House", "", "Red House"),)


def test_requirements_may_be_given() -> None:
    required = [need("the guest", "number of people", "4"), need("Blue Door", "city", "Porto")]
    verifier = FactsVerifier(chat("Hello"), required)
    assert verifier.check("A table for four people at Blue Door in Porto.").right == 1 + 1
    assert verifier.check("A table at Blue Door in Porto.").missing == (required[0],)


def test_a_value_of_two_slots_must_be_said_twice() -> None:
    text = "X Line is a flight. For X Line the origin is Porto. For X Line the city is Porto."
    verifier = FactsVerifier(chat("Tell me everything about X Line.", text))
    assert verifier.check("The origin is Porto and the city is Porto.").right == 2
    assert verifier.check("The origin is Porto.").missing == (need("X Line", "city", "Porto"),)


def test_a_lexicon_doubts_lower_case_words() -> None:
    lexicon = {"the", "rating", "of", "is", "lovely"}
    verifier = FactsVerifier(chat("How is Blue Door rated?"), lexicon=lexicon)
    assert verifier.check("The lovely rating of Blue Door is 4.5.").slot_errors == 0
    assert verifier.check("The lovly rating of Blue Door is 4.5.").invented == ("lovly",)
    assert verifier.check("Lovely Blue Door is 4.5.").invented == ()
    assert verifier.check("Lovly Blue Door is 4.5.").invented == ("Lovly",)


@pytest.mark.parametrize(
    ("prefix", "right"),
    [
        ("For Blue Door the city is Por", 0),
        ("For Blue Door the city is Porto", 0),
        ("For Blue Door the city is Porto and", 1),
        ("For Blue Door the phone number is 408-971-85", 0),
        ("For Blue Door the price is $5", 0),
        ("For Blue Door the price is $50 ", 0),
        ("For Blue Door the price is $50 per", 1),
        ("For Blue Door the rating is 4.", 0),
        ("Blue", 0),
    ],
)
def test_what_is_still_being_written_is_left_out(prefix: str, right: int) -> None:
    verdict = FactsVerifier(chat("Compare Blue Door and Red House.")).check(prefix, finished=False)
    assert (verdict.right, verdict.wrong, verdict.invented) == (right, (), ())
    assert len(verdict.missing) == 8 - right


async def test_the_reward_is_the_score() -> None:
    reward = REWARDS.get("facts")
    assert (reward.name, reward.partial_ok) == ("facts", True)
    session = reward.open(RewardPrompt((1,), tuple(chat("What is the city of Blue Door?"))))
    answers = [Answer("It is in Porto."), Answer("It is in Lisbon."), Answer("")]
    assert await session.score(answers) == [1.0, -1.0, 0.0]
    assert await session.score([Answer("It is in Lisb", finished=False)]) == [0.0]
    await session.close()
    with pytest.raises(InvalidRequest, match="no facts"):
        reward.open(RewardPrompt((1,)))


# Random facts, correct answers in several styles, and every kind of damage.

NAMES = ["Blue Door", "Dr. Ada Stone", "P.F. Chang's", "Bed & Breakfast", "The Old Mill", "Kiku 21"]
CITIES = ["Porto", "San Jose", "Lisbon", "New York", "Santa Rosa", "Faro"]
STYLES = [
    "For {n} the {w} is {v}.",
    "The {w} of {n} is {v}.",
    "{v} is the {w} of {n}.",
    "{n} has {v} as the {w}.",
]


class Case:
    """Two records of the same slots, and one sentence per value."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        rng = self.rng
        names, cities = rng.sample(NAMES, 2), rng.sample(CITIES, 2)
        days, hours = rng.sample(range(1, 28), 2), rng.sample(range(1, 12), 2)
        prices, numbers = rng.sample(range(100, 999), 2), rng.sample(range(1000, 9999), 2)
        self.records = tuple(
            Record(
                names[i],
                "hotel",
                (
                    ("city", cities[i]),
                    ("phone number", f"408-971-{numbers[i]}"),
                    ("price per night", f"${prices[i]}"),
                    ("opening time", f"{hours[i]}:30 {rng.choice(('am', 'pm'))}"),
                    ("date", f"March {days[i]}th"),
                ),
            )
            for i in range(2)
        )
        facts = "\n".join(
            f"{r.name} is a {r.noun}. "
            + " ".join(f"For {r.name} the {slot} is {value}." for slot, value in r.fields)
            for r in self.records
        )
        assert parse_facts(facts) == Facts(self.records)
        self.verifier = FactsVerifier(chat(f"Compare {names[0]} and {names[1]}.", facts))
        self.said = [(r.name, slot, value) for r in self.records for slot, value in r.fields]
        self.styles = [rng.choice(STYLES) for _ in self.said]

    def answer(self, said: list[tuple[str, str, str]] | None = None) -> str:
        sentences = []
        for style, (n, w, v) in zip(self.styles, said or self.said, strict=False):
            text = style.format(n=n, w=w, v=v)
            sentences.append(text[0].upper() + text[1:])
        return " ".join(sentences)

    def swapped(self, i: int, j: int) -> str:
        said = list(self.said)
        said[i], said[j] = (*said[i][:2], said[j][2]), (*said[j][:2], said[i][2])
        return self.answer(said)

    def with_value(self, i: int, value: str) -> str:
        said = list(self.said)
        said[i] = (*said[i][:2], value)
        return self.answer(said)


SEEDS = range(40)


@pytest.mark.parametrize("seed", SEEDS)
def test_correct_answers_score_one(seed: int) -> None:
    case = Case(seed)
    verdict = case.verifier.check(case.answer())
    assert verdict == Verdict(10, 10, (), (), ()), case.answer()
    assert verdict.score == 1.0
    assert case.verifier.check(f"{case.answer()} {case.answer()}") == verdict


@pytest.mark.parametrize("seed", SEEDS)
def test_no_prefix_of_a_correct_answer_is_blamed(seed: int) -> None:
    case = Case(seed)
    answer, before = case.answer(), 0
    for end in range(len(answer) + 1):
        verdict = case.verifier.check(answer[:end], finished=False)
        assert (verdict.wrong, verdict.invented) == ((), ()), answer[:end]
        assert verdict.right >= before, answer[:end]
        before = verdict.right
    assert before >= 9


@pytest.mark.parametrize("seed", SEEDS)
def test_every_damage_is_noticed(seed: int) -> None:
    case = Case(seed)
    rng, said = case.rng, case.said
    i = rng.randrange(len(said))
    name, slot, value = said[i]

    dropped = case.verifier.check(case.answer([s for s in said if s != said[i]]))
    assert dropped.missing == (Requirement(name, slot, value),)
    assert dropped.right == 9

    k = i % 5  # two records exchange their values
    exchanged = case.verifier.check(case.swapped(k, k + 5))
    assert len(exchanged.wrong) == 2, case.swapped(k, k + 5)
    assert exchanged.right == 8

    j = rng.choice([j for j in range(5) if j != k])  # two slots of a record exchange theirs
    exchanged = case.verifier.check(case.swapped(k, j))
    assert len(exchanged.wrong) == 2, case.swapped(k, j)
    assert exchanged.right == 8

    phone = said[1][2]  # a digit is wrong
    at = rng.choice([p for p, c in enumerate(phone) if c.isdigit()])
    other = phone[:at] + str((int(phone[at]) + rng.randint(1, 9)) % 10) + phone[at + 1 :]
    changed = case.verifier.check(case.with_value(1, other))
    assert changed.slot_errors == 2, other  # the right one is missing, and this one is not it
    assert changed.right == 9

    price = case.verifier.check(f"{case.answer()} There is also a fee of $99.")
    assert (price.invented, price.right) == (("$99",), 10)

    misspelt = case.verifier.check(
        f"{case.answer()} {case.answer([('Olive Grlil', *said[i][1:])])}"
    )
    assert misspelt.slot_errors >= 1, misspelt

    cut = case.verifier.check(case.answer()[: len(case.answer()) // 2])
    assert 3 <= len(cut.missing) <= 7


@pytest.mark.parametrize("letter", range(1, 8))
def test_a_misspelt_name_is_invented(letter: int) -> None:
    name = "Bluedoor"[:letter] + "x" + "Bluedoor"[letter + 1 :]
    text = "Bluedoor Salon is a salon. For Bluedoor Salon the city is Porto."
    verifier = FactsVerifier(chat("What is the city of Bluedoor Salon?", text))
    assert verifier.check("The city of Bluedoor Salon is Porto.").score == 1.0
    assert verifier.check(f"The city of {name} Salon is Porto.").invented
    assert verifier.check(f"{name} Salon is in Porto.").invented


def test_the_address_of_the_venue_is_an_address() -> None:
    text = (
        "Night Choir is an event. For Night Choir the venue is Town Hall. "
        "For Night Choir the address is 3 Park Street.\n"
        "For the guest the number of tickets is 5."
    )
    messages = chat("Where is it?", text)
    verifier = FactsVerifier(messages, [need("Night Choir", "address", "3 Park Street")])
    assert verifier.check("The address of the venue is 3 Park Street.").score == 1
    assert verifier.check("The venue of the event is 3 Park Street.").wrong


def test_what_the_guest_wants_may_be_repeated_with_any_record() -> None:
    wanted = [need("the guest", "number of people", "4"), need("the guest", "city", "Porto")]
    verifier = FactsVerifier(chat("A table for four in Porto, please."), wanted)
    answer = "Shall I book Blue Door in Porto for 4 people?"
    assert verifier.check(answer).missing == ()
    assert verifier.check("Shall I book Blue Door?").missing == tuple(wanted)
