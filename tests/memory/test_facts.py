"""Statements read from sentences judged by hand, and facts in two times."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.memory.derive import DERIVERS, Deriver
from tenfold.memory.derive.duplicates import duplicates
from tenfold.memory.derive.entities import derive_entities
from tenfold.memory.derive.facts import Claim, Fact, as_of, claim_of, claims, derive_claims, facts
from tenfold.memory.derive.statements import Polarity, find_statements
from tenfold.memory.derive.summaries import derive_summaries
from tenfold.memory.events import PRIVATE, Event, Kind, new_id

START = datetime(2024, 1, 1, tzinfo=UTC)


def day(n: float) -> datetime:
    return START + timedelta(days=n)


def event(text: str, n: float = 0, **other: object) -> Event:
    plain = Event(
        id=new_id(int(n * 1000) + 1),
        author="ada",
        role="user",
        text=text,
        subject="",
        to="",
        conversation="",
        sequence=int(n) + 1,
        kind=Kind.OBSERVATION,
        scope=PRIVATE,
        valid_at=day(n),
        recorded_at=day(n),
    )
    return replace(plain, **other)  # type: ignore[arg-type]


# A sentence, and all it states about whom: "-" denies, "~" says that it is over.
JUDGED: list[tuple[str, list[str]]] = [
    ("I live in Porto.", ["ada lives in Porto"]),
    ("i'm based in New York these days", ["ada lives in New York"]),
    ("I moved to Lisbon last year with my wife.", ["ada lives in Lisbon"]),
    ("I've recently moved from Rome to Cape Town.", ["ada lives in Cape Town"]),
    ("I no longer live in Porto.", ["~ada lives in Porto"]),
    ("I used to live in Porto, but that was long ago.", ["~ada lives in Porto"]),
    ("I don't live in Porto but in Lisbon.", ["ada lives in Lisbon", "-ada lives in Porto"]),
    ("I live in Lisbon, not in Porto.", ["ada lives in Lisbon", "-ada lives in Porto"]),
    ("I have lived in Berlin since 2019.", ["ada lives in Berlin"]),
    ("I live in fear of the dentist.", []),
    ("She lives in Porto.", []),
    ("If I lived in Paris, I would eat croissants.", []),
    ("Maybe I live in Porto.", []),
    ("Do I live in Porto?", []),
    ("I would live in Porto if I could.", []),
    ("My check in date is January 22nd, and my number of rooms is 1.",
     ["ada check in date January 22nd", "ada number of rooms 1"]),
    ("I'd like the pickup time to be 6:44 pm, please.", ["ada pickup time 6:44 pm"]),
    ("I prefer the seating class to be Economy and the destination to be San Jose.",
     ["ada seating class Economy"]),
    ("Make my cuisine Thai.", ["ada cuisine Thai"]),
    ("For me the departure date is the 5th of May.", ["ada departure date the 5th of May"]),
    ("Actually, my city is Washington D.C. now.", ["ada city Washington D.C"]),
    ("My destination is not Porto but Lisbon.",
     ["ada destination Lisbon", "-ada destination Porto"]),
    ("My time is limited.", []),
    ("My city is beautiful in the spring.", []),
    ("If my city is Porto, tell me.", []),
    ("What is my check in date?", []),
    ("My budget is too small.", []),
    ("I work at Google as an engineer.", ["ada works at Google"]),
    ("I work for a small bakery in town.", ["ada works at small bakery"]),
    ("I quit my job at Siemens in March.", ["~ada works at Siemens"]),
    ("I work at night.", []),
    ("I work as a nurse.", ["ada works as nurse"]),
    ("I'm allergic to peanuts and shellfish.",
     ["ada allergic to peanuts", "ada allergic to shellfish"]),
    ("I am not allergic to cats.", ["-ada allergic to cats"]),
    ("I'm allergic to animals with fur.", []),
    ("My name is Ada Lovelace.", ["ada name Ada Lovelace"]),
    ("Hi, I'm Anna and I love tea.", ["ada name Anna", "ada likes tea"]),
    ("I'm German.", ["ada is German"]),
    ("I'm fine.", []),
    ("I am a nurse.", ["ada is nurse"]),
    ("I'm a bit tired.", []),
    ("I am 34 years old.", ["ada age 34"]),
    ("I am 5 minutes late.", []),
    ("I'm vegan now.", ["ada is vegan"]),
    ("I like tea, coffee and cake.", ["ada likes tea", "ada likes coffee", "ada likes cake"]),
    ("I like it when it rains.", []),
    ("I'd like a coffee.", []),
    ("I like stories that end well.", []),
    ("I love going to museums and parks.", ["ada likes going to museums"]),
    ("I love the colour.", []),
    ("I love you.", []),
    ("I hate mushrooms.", ["-ada likes mushrooms"]),
    ("I don't hate mushrooms.", []),
    ("Honestly, I can't stand olives!", ["-ada likes olives"]),
    ("I don't eat meat anymore.", ["~ada eats meat"]),
    ("I stopped drinking coffee.", ["~ada drinks coffee"]),
    ("I eat breakfast at 8.", ["ada eats breakfast"]),
    ("I eat a lot.", []),
    ("I prefer tea to coffee.", ["ada prefers tea"]),
    ("I have two dogs and a cat.", ["ada has two dogs", "ada has cat"]),
    ("I have no children.", ["-ada has children"]),
    ("I have a question about that.", []),
    ("I have to go now.", []),
    ("I have been there.", []),
    ("I have a sister named Eva who lives in Rome.", ["ada has sister named Eva"]),
    ("My favourite colour is dark green.", ["ada favourite colour dark green"]),
    ("My favorite food is not sushi but ramen.",
     ["ada favourite food ramen", "-ada favourite food sushi"]),
    ("My e-mail address is ada@example.org.", ["ada email ada@example.org"]),
    ("My mobile number is +351 912 345 678.", ["ada phone +351 912 345 678"]),
    ("My birthday is May 7, 1990.", ["ada birthday May 7, 1990"]),
    ("My birthday is soon.", []),
    ("My wife is Anna.", ["ada wife Anna"]),
    ("My wife is a doctor.", []),
    ("My boss is American.", []),
    ("My dog's name is Rex.", ["ada dog Rex"]),
    ("I was born in Madrid.", ["ada born in Madrid"]),
    ("I was born on 3 May 1990.", ["ada born on 3 May 1990"]),
    ("I speak German and French.", ["ada speaks German", "ada speaks French"]),
    ("I play the piano and work at Google.", ["ada plays piano", "ada works at Google"]),
    ("I play with the kids.", []),
    ("I'm married to Tom.", ["ada married to Tom"]),
    ("Anna likes jazz, and Ben hates it.", ["Anna likes jazz"]),
    ("Anna Smith doesn't eat fish.", ["-Anna Smith eats fish"]),
    ("Tom is from Leeds.", ["Tom is from Leeds"]),
    ("Nobody likes tea.", []),
    ("Networking plays a big role.", []),
    ("Tom said I like tea.", []),
    ('"I love tea," said Anna.', []),
    ("I wish I had a dog.", []),
    ("I thought I was a nurse.", []),
    ("The weather is nice and I like tea.", ["ada likes tea"]),
    ("I love to.", []),
]  # fmt: skip
_MARK = {Polarity.ASSERTED: "", Polarity.DENIED: "-", Polarity.ENDED: "~"}


def stated(text: str, **other: object) -> list[str]:
    return [
        f"{_MARK[s.polarity]}{s.subject} {s.predicate} {s.object}"
        for s in find_statements(event(text, **other))  # type: ignore[arg-type]
    ]


def test_of_sentences_judged_by_hand_nothing_wrong_is_read_and_little_missed() -> None:
    assert len(JUDGED) >= 60
    read = right = wanted = 0
    wrong = []
    for text, expected in JUDGED:
        found = stated(text)
        read += len(found)
        wanted += len(expected)
        right += len(set(found) & set(expected))
        wrong += [(text, f) for f in found if f not in expected]
    assert wrong == []
    assert right / read >= 0.98
    assert right / wanted >= 0.95


def test_whom_i_means_depends_on_who_speaks() -> None:
    assert stated("I like tea", author="npc", subject="guest 7") == ["guest 7 likes tea"]
    assert stated("I like tea", role="assistant") == []
    assert stated("The guest likes tea", role="assistant", subject="guest 7") == [
        "guest 7 likes tea"
    ]
    assert stated("The guest likes tea", role="assistant") == []


def test_a_date_tells_since_when() -> None:
    (moved,) = find_statements(event("I moved to Lisbon two weeks ago", 20))
    assert moved.valid_from == day(6)
    (since,) = find_statements(event("I have lived in Berlin since 2019"))
    assert since.valid_from == datetime(2019, 1, 1, tzinfo=UTC)
    (like,) = find_statements(event("I like jazz since the concert of last week", 20))
    assert like.valid_from == day(20)


def known(*events: Event) -> list[Fact]:
    return facts(claims(events))


def held(found: list[Fact]) -> set[tuple[str, bool]]:
    return {(f.object, f.denied) for f in found}


def test_a_newer_value_ends_the_older_one_of_a_predicate_of_one_value() -> None:
    found = known(event("I live in Porto", 0), event("I live in Lisbon", 10))
    assert held(as_of(found, valid=day(9.9))) == {("Porto", False)}
    assert held(as_of(found, valid=day(10))) == {("Lisbon", False)}
    # On day 5 nobody knew that Porto would end.
    believed = as_of(found, valid=day(20), recorded=day(5))
    assert held(believed) == {("Porto", False)}
    assert believed[0].valid_to is None
    assert as_of(found, valid=day(-1)) == []
    assert as_of(found, valid=day(20), recorded=day(-1)) == []


def test_values_of_a_predicate_of_many_accumulate_until_denied() -> None:
    found = known(
        event("I like tea and jazz", 0), event("I like cake", 1), event("I don't like tea", 5)
    )
    assert held(as_of(found, valid=day(2))) == {("tea", False), ("jazz", False), ("cake", False)}
    assert held(as_of(found, valid=day(6))) == {("tea", True), ("jazz", False), ("cake", False)}


def test_a_correction_was_never_true_and_is_believed_no_more() -> None:
    found = known(event("I live in Porto", 0), event("Sorry, I meant I live in Lisbon", 10))
    assert held(as_of(found, valid=day(1))) == {("Lisbon", False)}
    assert held(as_of(found, valid=day(1), recorded=day(5))) == {("Porto", False)}


def test_now_is_a_change_and_no_correction() -> None:
    found = known(event("I live in Porto", 0), event("Actually, I live in Lisbon now", 10))
    assert held(as_of(found, valid=day(1))) == {("Porto", False)}


def test_what_is_no_longer_so_was_so_before() -> None:
    found = known(event("I no longer live in Porto", 5))
    assert held(as_of(found, valid=day(6))) == {("Porto", True)}
    (past,) = [f for f in found if not f.denied]
    assert (past.valid_from, past.valid_to) == (None, day(5))


def test_a_late_word_on_an_earlier_move_ends_what_was_said_in_between_only_from_then() -> None:
    found = known(
        event("I live in Porto", 170),
        event("I moved to Lisbon this year", 200),  # some day after the last word of Porto
    )
    assert held(as_of(found, valid=day(169))) == set()
    assert held(as_of(found, valid=day(170), recorded=day(180))) == {("Porto", False)}
    assert held(as_of(found, valid=day(201))) == {("Lisbon", False)}


def test_opposites_of_the_same_moment_are_both_kept_and_marked() -> None:
    found = known(event("I like tea", 0), event("I don't like tea", 0, id=new_id(2), sequence=2))
    assert held(as_of(found, valid=day(1))) == {("tea", False), ("tea", True)}
    assert all(f.disputed for f in found if f.recorded_to is None)


def test_what_two_people_say_of_a_third_is_disputed() -> None:
    found = known(event("Eva lives in Porto", 0), event("Eva lives in Rome", 5, author="bob"))
    assert held(as_of(found, valid=day(6))) == {("Rome", False)}
    assert all(f.disputed for f in as_of(found))


def test_a_fact_names_the_events_that_made_and_ended_it() -> None:
    first, again, moved = (
        event("I live in Porto", 0), event("I live in Porto", 3), event("I live in Rome", 9)
    )  # fmt: skip
    porto, rome = sorted(as_of(known(first, again, moved)), key=lambda f: f.object)
    assert porto.events == (first.id, again.id, moved.id)
    assert rome.events == (moved.id,)


def test_rows_read_back_are_the_claims() -> None:
    events = [event(text, n) for n, (text, _) in enumerate(JUDGED)]
    assert [claim_of(row) for row in derive_claims(events)] == claims(events)
    assert all(len(row.events) == 1 for row in DERIVERS["facts"](events))


def test_recalls_state_nothing() -> None:
    assert claims([event("I live in Porto", kind=Kind.RECALL)]) == []


def made(objects: list[tuple[int, int, int, int, bool, bool]]) -> list[Claim]:
    return [
        Claim(
            subject="ada",
            predicate="lives in" if single else "likes",
            object="abc"[o],
            polarity=list(Polarity)[p],
            single=single,
            correction=correction,
            valid_from=day(said - back),
            said=day(said),
            recorded_at=day(100 + i),
            by="ada",
            event=new_id(i + 1),
        )
        for i, (said, o, p, back, single, correction) in enumerate(objects)
    ]


CLAIMS = st.lists(
    st.tuples(
        st.integers(0, 6), st.integers(0, 2), st.integers(0, 2), st.integers(0, 2), st.booleans(),
        st.booleans(),
    ),
    max_size=9,
).map(made)  # fmt: skip


def now(found: list[Fact]) -> set[Fact]:
    """What is believed in the end, whenever it came to be."""
    return {replace(f, recorded_from=START) for f in as_of(found)}


@given(CLAIMS, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_arrival_does_not_matter_in_the_end(
    given_claims: list[Claim], rng: random.Random
) -> None:
    moments = [c.recorded_at for c in given_claims]
    rng.shuffle(moments)
    late = [replace(c, recorded_at=m) for c, m in zip(given_claims, moments, strict=True)]
    rng.shuffle(late)
    assert now(facts(late)) == now(facts(given_claims))


@given(CLAIMS, st.integers(-1, 8), st.integers(98, 112))
@settings(deadline=None)
def test_what_was_believed_then_is_what_the_claims_of_then_add_up_to(
    given_claims: list[Claim], valid: int, recorded: int
) -> None:
    then = [c for c in given_claims if c.recorded_at <= day(recorded)]
    believed = as_of(facts(given_claims), day(valid), day(recorded))
    bare = {replace(f, recorded_from=START, recorded_to=None) for f in believed}
    expected = {replace(f, recorded_from=START) for f in as_of(facts(then), day(valid))}
    assert bare == expected


@given(CLAIMS)
@settings(deadline=None)
def test_a_predicate_of_one_value_has_one_at_a_time_unless_disputed(
    given_claims: list[Claim],
) -> None:
    found = facts([c for c in given_claims if c.single])
    for n in range(-3, 8):
        values = [f for f in as_of(found, valid=day(n + 0.5)) if not f.denied]
        assert len(values) <= 1 or all(f.disputed for f in values)


@pytest.mark.parametrize(
    "deriver", [*DERIVERS.values(), derive_entities, derive_summaries, duplicates]
)
def test_derivers_are_pure_and_do_not_depend_on_the_order_they_are_given(deriver: Deriver) -> None:
    events = [event(text, n, conversation="c") for n, (text, _) in enumerate(JUDGED)]
    shuffled = random.Random(1).sample(events, len(events))
    assert deriver(events) == deriver(events) == deriver(shuffled)
    ids = {e.id for e in events}
    for row in deriver(events):
        assert re.fullmatch(r"[a-z]+/[0-9]+", row.deriver)
        assert set(row.events) <= ids
