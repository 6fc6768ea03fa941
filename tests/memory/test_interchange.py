"""Export and import: nothing is doubled, what answers what is kept, errors name the line."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from tenfold.errors import InvalidRequest
from tenfold.memory.events import SHARED, Kind, NewEvent, Scope, new_id
from tenfold.memory.memory import Memory
from tenfold.memory.store import Selection


class House:
    """Memories in folders of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._open = folder, []

    def __call__(self, place: str, member: str) -> Memory:
        memory = Memory.open(self._folder / place, member=member, embedder="none")
        self._open.append(memory)
        return memory

    def close(self) -> None:
        for memory in self._open:
            memory.close()


@pytest.fixture
def house(tmp_path: Path):
    house = House(tmp_path)
    yield house
    house.close()


def exported(memory: Memory) -> list[str]:
    out = io.StringIO()
    memory.export(out)
    return out.getvalue().splitlines()


def texts(memory: Memory) -> list[str]:
    return [e.text for e in memory.history()]


def test_sources_and_feedback_name_the_events_as_they_are_called_here(house: House) -> None:
    ada = house("a", "ada")
    asked = ada.add("when is tea?")
    told = ada.add("at four", role="assistant", sources=(asked.id,))
    ada.recall("tea", 400, lambda text: len(text.split()))
    ada.feedback("tea time", [told.id, asked.id], [told.id])
    bob = house("b", "bob")
    lines = exported(ada)
    loaded = bob.load(lines)
    assert [e.text for e in loaded] == ["when is tea?", "at four", "tea time"]
    question, answer, given = loaded
    assert answer.sources == (question.id,)
    assert given.sources == (answer.id, question.id)
    assert given.kind is Kind.FEEDBACK
    assert given.provenance == {"author": "ada", answer.id: "useful"}
    assert bob.load(lines) == loaded == list(bob.history())


def test_a_memory_that_is_loaded_into_itself_stays_as_it_is(house: House) -> None:
    ada = house("a", "ada")
    ada.add("no key")
    ada.add("a key", key="k")
    shared = ada.of("bob").add("bob's", key="k", scope=SHARED)
    before = list(ada.history())
    assert ada.load(exported(ada)) == before == list(ada.history())
    there = house("b", "cleo")
    there.load(exported(ada))
    assert ada.load(exported(there)) == before  # and round another memory
    assert list(ada.history()) == before
    assert shared in before


def test_two_authors_with_one_key_are_two_events(house: House) -> None:
    ada = house("a", "ada")
    ada.add("mine", key="k", scope=SHARED)
    ada.of("bob").add("his", key="k", scope=SHARED)
    cleo = house("b", "cleo")
    for _ in range(2):
        loaded = cleo.load(exported(ada))
    assert [e.text for e in loaded] == texts(cleo) == ["mine", "his"]
    assert [e.provenance["author"] for e in loaded] == ["ada", "bob"]


def test_ones_own_keys_stay_and_add_nothing_again(house: House) -> None:
    ada = house("a", "ada")
    ada.add("tea at four", key="k")
    moved = house("b", "ada")
    moved.load(exported(ada))
    assert moved.add("tea at four", key="k") == next(moved.history())
    assert texts(moved) == ["tea at four"]


def test_a_key_of_an_erased_event_is_free_and_erased_sources_are_left_out(house: House) -> None:
    ada = house("a", "ada")
    first = ada.add("tea", key="k")
    ada.add("answer", sources=(first.id,))
    lines = exported(ada)
    ada.erase(Selection(ids=(first.id,)))
    answer = next(ada.history())
    assert ada.load(lines[1:]) == [answer]
    assert answer.sources == ()
    ada.add("coffee", key="k")
    with pytest.raises(InvalidRequest, match=r"line 1: .* with another text") as caught:
        ada.load(lines)
    assert caught.value.param == "key"
    there = house("b", "bob")
    (alone,) = there.load(lines[1:])  # its source is in neither place
    assert alone.sources == ()
    both = there.load(lines)
    assert [e.text for e in both] == ["tea", "answer"]
    there.erase(Selection(ids=(both[0].id,)))
    assert [e.text for e in there.load(lines)] == ["tea", "answer"]  # an old export brings it back
    assert sorted(texts(there)) == ["answer", "tea"]


def test_feedback_on_nothing_that_is_there_is_left_out(house: House) -> None:
    ada = house("a", "ada")
    shown = ada.add("tea")
    ada.feedback("what?", [shown.id], [shown.id])
    assert house("b", "bob").load(exported(ada)[1:]) == []


def line(text: str, **more: object) -> str:
    return json.dumps({"text": text, **more})


@pytest.mark.parametrize(
    ("second", "param"),
    [
        (line("x", scope="team:red"), "scope"),
        (line("another", key="k"), "key"),
        (line("another", id="ID"), "id"),
        (line("x", sources=["nobody"]), "sources"),
        (line("x", valid_at="noon"), "valid_at"),
        (line("x", valid_at=5), "valid_at"),
        (line("x", valid_at="0001-01-01T00:00:00+14:00"), "valid_at"),
        (line("x", valid_at="9999-12-31T23:00:00-10:00"), "valid_at"),
        (line("x", valid_at="2026-05-01T12:00:00"), "valid_at"),
        (line("x", valid_at="2999-01-01T00:00:00Z"), "valid_at"),
        ("[" * 100_000, "lines"),
        (line("x", provenance=3), "lines"),
    ],
)
def test_what_cannot_be_loaded_is_named_by_its_line_and_nothing_is(
    house: House, second: str, param: str
) -> None:
    ada = house("a", "ada")
    there = ada.add("there already", key="k")
    with pytest.raises(InvalidRequest, match="line 2") as caught:
        ada.load([line("fine"), second.replace("ID", there.id)])
    assert caught.value.param == param
    assert texts(ada) == ["there already"]


def test_one_key_for_two_texts_in_a_file_is_named(house: House) -> None:
    with pytest.raises(InvalidRequest, match="line 2: key 'k' is that of line 1"):
        house("a", "ada").load([line("one", key="k"), line("two", key="k")])


def test_events_of_a_team_go_to_its_members(house: House) -> None:
    ada = house("a", "ada")
    ada.tenant.grant("ada", "red")
    ada.add("for red", scope=Scope("team:red"))
    bob = house("b", "bob")
    with pytest.raises(InvalidRequest, match="line 1: 'bob' is not in team 'red'"):
        bob.load(exported(ada))
    bob.tenant.grant("bob", "red")
    assert [e.scope.team for e in bob.load(exported(ada))] == ["red"]


def test_a_line_that_comes_twice_is_one_event(house: House) -> None:
    one = line("tea", id=new_id())
    loaded = house("a", "ada").load([one, one])
    assert len({e.id for e in loaded}) == 1
    assert len(loaded) == 2


def test_the_order_of_the_file_is_that_of_the_log(house: House) -> None:
    ada = house("a", "ada")
    first = ada.add_all([NewEvent(f"turn {n}", conversation="c") for n in range(5)])
    for n in range(5):
        ada.add(f"answer {n}", conversation="c", sources=(first[n].id,))
    bob = house("b", "bob")
    bob.load(exported(ada))
    assert texts(bob) == texts(ada)
