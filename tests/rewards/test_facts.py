"""Facts are read as the concierge's recipe writes them, and questions by their words."""

from __future__ import annotations

import time

import pytest

from recipes.concierge.facts import FactRecord, write_facts
from tenfold.rewards.facts import Facts, Record, Requirement, parse_facts, requested
from tenfold.types import Message

TEXT = """\
Blue Door is a restaurant. For Blue Door the city is Porto. For Blue Door the phone number is \
408-971-8523. For Blue Door the rating is 4.5. Blue Door has live music.
Dr. Ada Stone is a restaurant. For Dr. Ada Stone the city is Lisbon. For Dr. Ada Stone the phone \
number is 510-222-1111. For Dr. Ada Stone the rating is 3.2.
There is a bus. For the bus the fare is $725. For the bus the departure time is 5:30 p.m.
For the guest the number of people is 4. For the guest the date is March 3rd.
When you suggest a restaurant, say the city and the rating.
"""


def test_records_are_read() -> None:
    facts = parse_facts(TEXT)
    assert [(r.name, r.noun) for r in facts.records] == [
        ("Blue Door", "restaurant"),
        ("Dr. Ada Stone", "restaurant"),
        ("the bus", "bus"),
        ("the guest", "guest"),
    ]
    assert facts.records[0] == Record(
        "Blue Door",
        "restaurant",
        (("city", "Porto"), ("phone number", "408-971-8523"), ("rating", "4.5")),
        ("has live music",),
    )
    assert facts.records[3].fields == (("number of people", "4"), ("date", "March 3rd"))
    assert facts.instructions == ("When you suggest a restaurant, say the city and the rating.",)


@pytest.mark.parametrize(
    "name", ["Dr. Ada Stone", "P.F. Chang's", "Bed & Breakfast, No. 7", "Over the Moon", "3-2-1"]
)
@pytest.mark.parametrize(
    "value", ["12 St. Mary's Rd., #4", "5:30 p.m.", "1,200 sq. ft.", "For All"]
)
def test_names_and_values_may_hold_anything(name: str, value: str) -> None:
    written = [
        FactRecord(name, "hotel", [("note", value), ("city", "Porto")], [("has_wifi", True)])
    ]
    facts = parse_facts(write_facts(written, [("date", "May 3rd")]))
    assert facts.records[0] == Record(
        name, "hotel", (("note", value), ("city", "Porto")), ("has wifi",)
    )


def test_records_on_one_line_are_told_apart() -> None:
    facts = parse_facts(" ".join(TEXT.splitlines()[:2]))
    assert facts.records == parse_facts(TEXT).records[:2]


def test_text_without_facts_is_instructions() -> None:
    text = "You are kind.\nAnswer the guest."
    assert parse_facts(text) == Facts((), ("You are kind.", "Answer the guest."))
    assert parse_facts("") == Facts(())


@pytest.mark.parametrize("line", ["For x" + " the" * 8000, "x is a " * 5000, ". A is a b" * 3000])
def test_hostile_lines_are_read_fast(line: str) -> None:
    start = time.process_time()
    parse_facts(line)
    assert time.process_time() - start < 0.5


BOTH = ("Blue Door", "Dr. Ada Stone")


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the rating of Dr. Ada Stone?", {("Dr. Ada Stone", "rating")}),
        ("I need the city and phone number of blue door.",
         {("Blue Door", "city"), ("Blue Door", "phone number")}),
        ("Tell me everything about Blue Door.",
         {("Blue Door", s) for s in ("city", "phone number", "rating")}),
        ("Give me the details of Blue Door",
         {("Blue Door", s) for s in ("city", "phone number", "rating")}),
        ("Which restaurants do you have?", {(n, "") for n in BOTH}),
        ("Please list the restaurants.", {(n, "") for n in BOTH}),
        ("List the city of each restaurant.", {(n, "city") for n in BOTH}),
        ("Compare Blue Door and Dr. Ada Stone.",
         {(n, s) for n in BOTH for s in ("city", "phone number", "rating")}),
        ("Compare the ratings of Blue Door and Dr. Ada Stone.", {(n, "rating") for n in BOTH}),
        ("Which restaurant has Porto as the city?", {("Blue Door", "")}),
        ("When does the bus leave?", {("the bus", "departure time")}),
        ("How much is the bus?", {("the bus", "fare")}),
        ("How can I call Blue Door?", {("Blue Door", "phone number")}),
        ("Does Blue Door have live music?", set()),
        ("What is the city of Blue Door, and the rating of Dr. Ada Stone?",
         {("Blue Door", "city"), ("Dr. Ada Stone", "rating")}),
        ("What is the city and rating of Blue Door and the phone number of Dr. Ada Stone?",
         {("Blue Door", "city"), ("Blue Door", "rating"), ("Dr. Ada Stone", "phone number")}),
        ("What are the city and rating of Blue Door and Dr. Ada Stone?", set()),
        ("What are the city and rating of both Blue Door and Dr. Ada Stone?",
         {(n, s) for n in BOTH for s in ("city", "rating")}),
        ("What is the rating of Blue Door and Dr. Ada Stone?", {(n, "rating") for n in BOTH}),
        ("For Blue Door, the city, and for Dr. Ada Stone the rating, please?", set()),
        ("I need the city, rating and phone number of Blue Door.",
         {("Blue Door", s) for s in ("city", "phone number", "rating")}),
        ("I want a restaurant. The rating should be 4.5. Show me the city of all of those.",
         {("Blue Door", "city")}),
        ("Put Blue Door and Dr. Ada Stone side by side.",
         {(n, s) for n in BOTH for s in ("city", "phone number", "rating")}),
        ("Write down everything you know about Blue Door.",
         {("Blue Door", s) for s in ("city", "phone number", "rating")}),
        ("Hello there", set()),
        ("Thanks, that's everything.", set()),
        ("Are there any other restaurants?", set()),
        ("The date is March 3rd.", set()),
    ],
)  # fmt: skip
def test_what_is_asked(question: str, expected: set[tuple[str, str]]) -> None:
    found = requested([Message("system", TEXT), Message("user", question)])
    assert {(need.record, need.slot) for need in found} == expected


def test_the_record_may_come_from_an_earlier_turn() -> None:
    chat = [
        Message("system", TEXT),
        Message("user", "Do you know a place in Lisbon?"),
        Message("assistant", "Dr. Ada Stone is in Lisbon."),
        Message("user", "What is the phone number?"),
    ]
    assert requested(chat) == (Requirement("Dr. Ada Stone", "phone number", "510-222-1111"),)


def test_nothing_is_asked_without_facts_or_question() -> None:
    assert requested([Message("user", "Tell me everything about Blue Door.")]) == ()
    assert requested([Message("system", TEXT)]) == ()


def test_a_recap_holds_what_the_guest_said() -> None:
    found = requested([Message("system", TEXT), Message("user", "A recap of Blue Door, please.")])
    assert Requirement("the guest", "date", "March 3rd") in found
    assert Requirement("Blue Door", "city", "Porto") in found
