"""Near duplicates against all pairs compared by brute force."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.memory.derive.duplicates import (
    ALIKE,
    Clusters,
    clusters_of,
    duplicates,
    grams,
    says_the_same,
    similarity,
    wording_of,
)
from tenfold.memory.derive.windows import turn_text, window_text
from tenfold.memory.events import SHARED, Event, Kind

from .made_up import events_at

NOON = datetime(2024, 3, 15, 12, tzinfo=UTC)


event = events_at(lambda _: NOON)


def log(*texts: str, **other: object) -> list[Event]:
    return [event(text, i, **other) for i, text in enumerate(texts, 1)]


SAME = [
    ("I like green tea.", "i LIKE   green tea!!"),
    ("I like green tea.", "Well, you know, I really like green tea."),
    ("I don't eat meat.", "I do not eat meat"),
    ("The total is 1,000.50 euros", "the total is 1000.5 euros."),
    (
        "We met at the old lighthouse near the harbour",
        "We met at the old lighhouse near the harbour",
    ),
    ("Please remember that the door code is 4711", "The door code is 4711."),
    ("My sister's name is Eva", "MY SISTER'S NAME IS EVA"),
    ("is the shop open", "Is the shop open?"),
    ("The café in Zürich is lovely", "the cafe\u0301 in Zu\u0308rich is lovely"),
]
DIFFERENT = [
    ("I eat meat and I have done so all my life",
     "I do not eat meat and I have done so all my life"),
    ("He will never come to the summer party again", "He will come to the summer party again"),
    ("She no longer works in the big office in town", "She works in the big office in town"),
    ("The invoice of the kitchen company is 1200 euros",
     "The invoice of the kitchen company is 1300 euros"),
    ("The meeting about the new website is at 10:30",
     "The meeting about the new website is at 11:30"),
    ("I talked to Marta about the plans for our garden",
     "I talked to Maria about the plans for our garden"),
    ("We flew from Berlin to Porto to see the family",
     "We flew from Porto to Berlin to see the family"),
    ("The request for the new laptop was accepted",
     "The request for the new laptop was rejected"),
    ("I always take the early train to the city",
     "I would always take the early train to the city"),
    ("I went to the concert with all my old friends",
     "I went to the concert with all my old friends and Ben"),
    ("You like tea.", "You like tea?"),
    ("I walked the long way home through the park today",
     "I used to walk the long way home through the park today"),
    ("I will be there before the doors are opened", "I will be there after the doors are opened"),
    ("The temperature outside was -5 degrees this morning",
     "The temperature outside was 5 degrees this morning"),
    ("great 👍", "great 👎"),
    ("She arrived with the others at the station", "She arrive with the others at the station"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second"), SAME)
def test_a_restatement_joins_the_cluster(first: str, second: str) -> None:
    assert len(clusters_of(log(first, second))) == 1
    assert len(clusters_of(log(second, first))) == 1


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_what_says_something_else_founds_another_cluster(first: str, second: str) -> None:
    assert len(clusters_of(log(first, second))) == 2
    assert len(clusters_of(log(second, first))) == 2


def test_the_guards_are_needed_for_texts_that_look_alike() -> None:
    alike = [
        similarity(grams(wording_of(event(a)).text), grams(wording_of(event(b)).text)) >= ALIKE
        for a, b in DIFFERENT
    ]
    assert sum(alike) >= 6  # these would have been merged by their letters alone


def by_brute_force(events: list[Event]) -> dict[str, list[str]]:
    """Each event against all leaders: the most alike one that the guards let pass."""
    leaders: list[Event] = []
    members: dict[str, list[str]] = {}
    for e in events:
        own = wording_of(e)
        best, leader = 0.0, None
        for other in leaders:
            if (e.author, e.subject or e.author, e.scope) != (
                other.author,
                other.subject or other.author,
                other.scope,
            ):
                continue
            theirs = wording_of(other)
            a, b = grams(own.text), grams(theirs.text)
            alike = len(a & b) / len(a | b)
            if alike >= ALIKE and alike > best and says_the_same(own, theirs):
                best, leader = alike, other
        if leader is None:
            leaders.append(e)
            members[e.id] = [e.id]
        else:
            members[leader.id].append(e.id)
    return members


WORDS = [
    "i", "you", "not", "never", "tea", "coffee", "the", "a", "garden", "3", "4", "Anna", "Ben",
    "Porto", "really", "well", "recieve", "receive", "arrived", "arrive", "wonderful", "wonderfull",
    "because", "yesterday", "with", "and", "in", "to",
]  # fmt: skip


@given(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=7), max_size=25))
@settings(deadline=None, max_examples=80)
def test_few_candidates_find_what_all_pairs_find_in_random_words(texts: list[list[str]]) -> None:
    events = log(*(" ".join(text) for text in texts))
    assert clusters_of(events) == by_brute_force(events)


def test_few_candidates_find_what_all_pairs_find_in_edited_sentences() -> None:
    random.seed(3)
    vocabulary = [
        "".join(random.choices("etaoinshrdlu", k=random.randint(2, 9))) for _ in range(60)
    ]
    texts = []
    for _ in range(25):
        words = random.choices(vocabulary, k=random.randint(3, 30))
        for _ in range(4):
            edited = list(words)
            for _ in range(random.randint(0, 3)):
                edited.insert(random.randrange(len(edited) + 1), random.choice(vocabulary))
            texts.append(" ".join(edited))
    random.shuffle(texts)
    events = log(*texts)
    found = clusters_of(events)
    assert found == by_brute_force(events)
    assert 25 <= len(found) < len(events)  # some merged, some not


def restated(text: str, rng: random.Random) -> str:
    """The same said with other case, punctuation, white space and filler words."""
    words = text.rstrip(".").split()
    for _ in range(rng.randint(0, 2)):
        words.insert(rng.randrange(len(words)), rng.choice(["well,", "you know,", "really", "um"]))
    joined = rng.choice(["  ", " ", "\n", " \t"]).join(words)
    cased = rng.choice([str, str.lower, str.upper])(joined)
    opening = rng.choice(["", "Please note that ", "Again: ", "By the way, ", "FYI "])
    return f"{opening}{cased}{rng.choice(['', '.', '!', '...', ' !!'])}"


FACTS = [
    "I am allergic to peanuts.", "My sister Eva lives in Porto.", "I don't like olives.",
    "The wifi password of the cabin is on the fridge.", "I was born on 3 May 1990.",
    "My budget for the trip is 1,200 euros.", "Tom works at the harbour as a carpenter.",
    "I no longer drink coffee.", "I drink coffee.", "We meet on Friday at 10:30.",
    "We meet on Monday at 10:30.", "The dog of our neighbours is called Rex.",
]  # fmt: skip


def test_restating_everything_twenty_times_grows_the_memory_by_five_percent_at_most() -> None:
    rng = random.Random(7)
    once = clusters_of(log(*FACTS))
    assert len(once) == len(FACTS)
    texts = [*FACTS, *(restated(text, rng) for _ in range(20) for text in FACTS)]
    junk_growth = len(clusters_of(log(*texts))) / len(once)
    assert junk_growth <= 1.05


def test_a_contradiction_among_restatements_is_kept_apart() -> None:
    found = clusters_of(log("I eat meat", "I do not eat meat", "i eat meat!", "I don't eat meat."))
    assert sorted(len(members) for members in found.values()) == [2, 2]


def test_the_same_words_of_other_people_or_scopes_are_no_duplicates() -> None:
    mine, theirs = event("I like tea", 1), event("I like tea", 2, author="bob")
    about_eva = event("I like tea", 3, subject="eva")
    shared = event("I like tea", 4, scope=SHARED)
    assert duplicates([mine, theirs, about_eva, shared]) == []


def test_yesterday_said_on_another_day_is_another_day() -> None:
    first = event("I ran ten kilometres yesterday", 1)
    same_day = event("I ran ten kilometres yesterday!", 2, valid_at=NOON + timedelta(hours=2))
    later = event("I ran ten kilometres yesterday", 3, valid_at=NOON + timedelta(days=1))
    assert clusters_of([first, same_day, later]) == {
        first.id: [first.id, same_day.id],
        later.id: [later.id],
    }


def test_a_cluster_does_not_drift_along_its_members() -> None:
    base = [f"word{chr(97 + i)}" for i in range(20)]
    chain = [" ".join(base + [f"more{chr(97 + j)}" for j in range(n)]) for n in range(0, 20, 2)]
    events = log(*chain)
    for leader, members in clusters_of(events).items():
        texts = {e.id: grams(wording_of(e).text) for e in events}
        assert all(similarity(texts[leader], texts[m]) >= ALIKE for m in members)


def test_a_row_comes_from_the_event_and_its_leader() -> None:
    first, second = log("I like green tea", "I like green tea!")
    (row,) = duplicates([second, first])
    assert row.events == (second.id, first.id)
    assert row.value == {"leader": first.id, "similarity": 1.0}


def test_recalls_and_feedback_are_not_derived_from() -> None:
    events = log("I like tea", "I like tea", kind=Kind.RECALL) + log(
        "I like tea", kind=Kind.FEEDBACK
    )
    assert clusters_of(events) == {}


def test_adding_one_by_one_is_the_same_as_all_at_once() -> None:
    events = log(*(text for pair in SAME + DIFFERENT for text in pair))
    clusters = Clusters()
    rows = [row for e in events if (row := clusters.add(e))]
    assert rows == duplicates(events)
    assert len(clusters) == len(clusters_of(events))


def test_a_window_has_the_turn_before_with_the_speakers() -> None:
    asked = event("How many?", 1, author="eva", conversation="c", scope=SHARED)
    answered = event("Two of them", 3, conversation="c", scope=SHARED)
    assert window_text(None, asked) == "eva: How many?"
    assert window_text(asked, answered) == "eva: How many?\nada: Two of them"


def test_who_is_named_by_the_text_itself_is_not_named_twice() -> None:
    assert turn_text(event("Ada: I sold the boat.")) == "Ada: I sold the boat."
    assert turn_text(event("ADA : fine")) == "ADA : fine"
    told = event("Ada: I sold it.", provenance={"speaker": "Eva"})
    assert turn_text(told) == "Eva: Ada: I sold it."  # Eva quotes Ada
    assert turn_text(event("Adam: hello")) == "ada: Adam: hello"
    assert turn_text(event("No colon")) == "ada: No colon"
