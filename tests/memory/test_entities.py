"""Names, dates, amounts and addresses in text; dates against days worked out by hand."""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.memory.derive.dates import days_of, find_dates
from tenfold.memory.derive.entities import derive_entities, entities
from tenfold.memory.derive.sentences import sentence_spans
from tenfold.memory.events import PRIVATE, SHARED, Event, Kind

from .made_up import events_at


def on(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(hour=15, tzinfo=UTC)


event = events_at(lambda _: on("2024-03-15"), scope=SHARED)


def found(text: str, kind: str, said: str = "2024-03-15", known: tuple[str, ...] = ()) -> list[str]:
    return [e.value for e in entities(text, on(said), known) if e.type == kind]


# The day it was said, what was said, what it means; looked up in a calendar.
TOLD = [
    ("2024-03-01", "I saw her yesterday", "2024-02-29"),  # a leap year
    ("2023-03-01", "I saw her yesterday", "2023-02-28"),
    ("2024-01-01", "It rained last night.", "2023-12-31"),
    ("2023-12-31", "We leave tomorrow morning", "2024-01-01"),
    ("2024-01-01", "the day before yesterday", "2023-12-30"),
    ("2023-12-30", "The day after tomorrow is a holiday", "2024-01-01"),
    ("2024-05-06", "Not today", "2024-05-06"),
    ("2024-01-03", "last Friday we met", "2023-12-29"),  # a Wednesday
    ("2024-01-05", "last Friday we met", "2023-12-29"),  # a Friday
    ("2024-01-06", "last Friday we met", "2024-01-05"),  # a Saturday
    ("2023-12-28", "see you next Monday", "2024-01-01"),  # a Thursday
    ("2024-01-01", "see you next monday", "2024-01-08"),  # a Monday
    ("2023-12-28", "this Sunday I rest", "2023-12-31"),
    ("2024-01-10", "two weeks ago", "2023-12-27"),
    ("2024-03-07", "I left a week ago", "2024-02-29"),
    ("2024-01-02", "3 days ago it broke", "2023-12-30"),
    ("2024-02-28", "ten days from now", "2024-03-09"),
    ("2024-01-15", "a month ago", "2023-12"),
    ("2024-02-15", "three months ago", "2023-11"),
    ("2024-02-29", "two years ago", "2022"),
    ("2024-01-15", "last month I was ill", "2023-12"),
    ("2023-12-15", "next month I travel", "2024-01"),
    ("2024-01-02", "last year was hard", "2023"),
    ("2023-12-15", "next year I retire", "2024"),
    ("2021-01-04", "last week", "2020-W53"),  # 2020 had 53 weeks
    ("2021-01-03", "this week", "2020-W53"),  # a Sunday
    ("2024-12-30", "this week", "2025-W01"),  # a Monday of the first week of 2025
    ("2024-01-02", "last weekend", "2023-12-30/2023-12-31"),
    ("2024-01-07", "last weekend", "2023-12-30/2023-12-31"),  # a Sunday
    ("2024-01-07", "this weekend", "2024-01-06/2024-01-07"),
    ("2024-03-15", "Last May we married", "2023-05"),
    ("2024-06-15", "Last May we married", "2024-05"),
    ("2024-06-15", "next May we marry", "2025-05"),
]
WRITTEN = [
    ("It was in May 2023.", "2023-05"),
    ("on 2023-05-07 at noon", "2023-05-07"),
    ("2023-05-07T10:00:00Z", "2023-05-07"),
    ("May 7, 2023", "2023-05-07"),
    ("7 May 2023", "2023-05-07"),
    ("the 7th of May, 2023", "2023-05-07"),
    ("on March 3rd", "--03-03"),
    ("since January", "--01"),
    ("in 2019", "2019"),
    ("25/12/2022", "2022-12-25"),
    ("12/25/2022", "2022-12-25"),
    ("07.05.2023", "2023-05-07"),
    ("29 February 2024", "2024-02-29"),
    ("Sept. 5, 2021", "2021-09-05"),
]
NO_DATE = [
    "5/7/2023 can be read in two ways", "29 February 2023 never was", "on 2023-13-01", "2023-02-30",
    "I may go, and they march on", "the last week of school", "over the last year of it",
    "in 2000 steps", "version 1.2.2024.7", "room 2019", "9999 years ago", "march 99",
    "I will march in line",
]  # fmt: skip


@pytest.mark.parametrize(("said", "text", "value"), TOLD)
def test_relative_dates_are_right_across_ends_of_months_and_years(
    said: str, text: str, value: str
) -> None:
    (told,) = find_dates(text, on(said))
    assert told.value == value
    assert told.relative


@pytest.mark.parametrize(("text", "value"), WRITTEN)
def test_written_dates_do_not_depend_on_when_they_are_said(text: str, value: str) -> None:
    for day in ("1999-12-31", "2024-02-29"):
        (told,) = find_dates(text, on(day))
        assert told.value == value
        assert not told.relative


@pytest.mark.parametrize("text", NO_DATE)
def test_what_is_no_date_or_two_is_left_alone(text: str) -> None:
    assert find_dates(text, on("2024-03-15")) == []


@given(st.dates(date(1900, 1, 1), date(2100, 12, 31)), st.integers(0, 6))
@settings(deadline=None)
def test_last_and_next_weekday_are_the_nearest_ones(day: date, weekday: int) -> None:
    name = calendar.day_name[weekday]
    said = datetime(day.year, day.month, day.day, tzinfo=UTC)
    week = [timedelta(days=n) for n in range(1, 8)]
    before = next(day - d for d in week if (day - d).weekday() == weekday)
    after = next(day + d for d in week if (day + d).weekday() == weekday)
    assert [d.value for d in find_dates(f"last {name} and next {name}", said)] == [
        before.isoformat(),
        after.isoformat(),
    ]


@given(st.dates(date(1900, 1, 10), date(2100, 12, 20)))
@settings(deadline=None)
def test_weeks_and_months_cover_the_days_a_calendar_gives_them(day: date) -> None:
    said = datetime(day.year, day.month, day.day, tzinfo=UTC)
    (week,) = find_dates("this week", said)
    monday = day - timedelta(days=day.weekday())
    assert days_of(week.value) == (monday, monday + timedelta(days=6))
    (month,) = find_dates("this month", said)
    last = calendar.monthrange(day.year, day.month)[1]
    assert days_of(month.value) == (day.replace(day=1), day.replace(day=last))
    assert days_of("--05-07") is None


@given(st.text(max_size=200), st.datetimes(timezones=st.just(UTC)))
@settings(deadline=None)
def test_any_text_has_entities_within_it_that_do_not_overlap(text: str, said: datetime) -> None:
    last = 0
    for entity in entities(text, said):
        assert last <= entity.start < entity.end <= len(text)
        assert text[entity.start : entity.end] == entity.surface
        last = entity.end


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Yesterday Anna Smith met Dr. Jones in New York.", ["anna smith", "jones", "new york"]),
        ("Hey Anna! How are you?", ["anna"]),
        ("We stayed at Lake of Constance with Anna's dog.", ["lake of constance", "anna"]),
        ("Great weather. Nobody came. Thanks for all.", []),
        ("I think I may go on Monday in May.", []),
        ("WE ARE ALL SHOUTING HERE NOW", []),
        ('He said "Nice to meet you" and left', []),
        ("the meeting with J. R. Miller and with Zoë Müller", ["j. r. miller", "zoë müller"]),
        ("- Buy milk\n- Call Tom", ["tom"]),
    ],
)
def test_names_are_capitalised_words_within_sentences(text: str, names: list[str]) -> None:
    assert found(text, "name") == names


def test_a_known_name_is_one_at_the_start_of_a_sentence_too() -> None:
    assert found("Melanie likes it.", "name") == []
    assert found("Melanie likes it.", "name", known=("melanie",)) == ["melanie"]
    assert found("MELANIE LIKES IT A LOT", "name", known=("melanie",)) == ["melanie"]


@pytest.mark.parametrize(
    ("text", "kind", "values"),
    [
        ("It costs $1,200.50, €20, 15 euros", "amount", ["1200.5 USD", "20 EUR", "15 EUR"]),
        ("$5k and £2m", "amount", ["5000 USD", "2000000 GBP"]),
        ("3 kg of rice, 5km away, 12.50%", "amount", ["3 kg", "5 km", "12.5 %"]),
        ("two hours and twelve minutes", "amount", ["2 h", "12 min"]),
        ("order 12345678 has two dogs", "number", ["12345678", "2"]),
        ("write to Ada.L@Example.ORG.", "email", ["ada.l@example.org"]),
        ("user@localhost is none", "email", []),
        ("see https://a.b/c?d=1&e=2.", "url", ["https://a.b/c?d=1&e=2"]),
        ("(www.example.org)", "url", ["www.example.org"]),
        ("+351 912 345 678", "phone", ["+351912345678"]),
        ("(555) 123-4567 or 555-123-4567", "phone", ["5551234567", "5551234567"]),
        ("order 4155550123 and ISBN 978-3-16-148410-0", "phone", []),
        ("on 2023-05-07 at 10.30", "phone", []),
        ("at 7:30 pm, 19:30, 7 a.m., noon, 12 am", "time",
         ["19:30", "19:30", "07:00", "12:00", "00:00"]),
        ("see you Friday", "weekday", ["friday"]),
        ("5 o'clock", "time", []),
    ],
)  # fmt: skip
def test_amounts_times_and_addresses_have_one_spelling(
    text: str, kind: str, values: list[str]
) -> None:
    assert found(text, kind) == values


def rows(events: list[Event]) -> list[tuple[object, tuple[str, ...]]]:
    return [(r.value["value"], r.events) for r in derive_entities(events)]


def test_an_entity_that_another_event_taught_comes_from_both() -> None:
    first, second = event("I met Zelda in town", 1), event("Zelda is kind", 2)
    assert rows([second, first]) == [
        ("zelda", (first.id,)),
        ("zelda", (second.id, first.id)),
    ]
    assert rows([second]) == []  # as after the first was erased


def test_authors_and_subjects_are_known_names() -> None:
    first, second = event("hello", 1, author="Zelda"), event("Zelda is kind", 2)
    assert rows([first, second]) == [("zelda", (second.id, first.id))]


def test_a_private_event_teaches_a_shared_one_nothing() -> None:
    private = event("I met Zelda in town", 1, scope=PRIVATE)
    assert rows([private, event("Zelda is kind", 2)]) == [("zelda", (private.id,))]


def test_recalls_have_no_entities_and_teach_none() -> None:
    recalled = event("I met Zelda in town", 1, kind=Kind.RECALL)
    assert rows([recalled, event("Zelda is kind", 2)]) == []


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("I met Dr. Smith. He is 3.5 m tall!", ["I met Dr. Smith.", "He is 3.5 m tall!"]),
        ("So did I. And you?", ["So did I.", "And you?"]),
        ("One\n\nTwo…  \n ... \n", ["One", "Two…"]),
        ("no end", ["no end"]),
        ('"Stop!" he said.', ['"Stop!"', "he said."]),
    ],
)
def test_sentences_end_at_their_stops_and_not_within_numbers_or_titles(
    text: str, pieces: list[str]
) -> None:
    assert [text[a:b] for a, b in sentence_spans(text)] == pieces
