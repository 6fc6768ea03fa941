"""The guests of the memory benchmark: what they said is needed, found again, and nobody else's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenfold.cli.benchmarks import memory_guest as guests_bench
from tenfold.cli.benchmarks.memory_guest import Guest, guests_of, judge, prompts, tell
from tenfold.cli.held_out import HeldOutFile, read_held_out, shipped
from tenfold.memory.memory import Memory
from tenfold.rewards.facts import GUEST
from tenfold.search.llm import AsyncLLM

COUNT = 40


@pytest.fixture(scope="module")
def asked() -> HeldOutFile:
    return read_held_out(shipped("concierge"))


@pytest.fixture(scope="module")
def guests(asked: HeldOutFile) -> list[Guest]:
    return guests_of(asked, COUNT)


@pytest.fixture(scope="module")
def memory(guests: list[Guest], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    memory = Memory.open(tmp_path_factory.mktemp("guests"), member="desk", embedder="words")
    for guest in guests:
        tell(memory, guest)
    yield memory
    memory.close()


def test_guests_are_the_same_for_a_seed_and_others_for_another(
    asked: HeldOutFile, guests: list[Guest]
) -> None:
    assert guests_of(asked, COUNT) == guests
    assert guests_of(asked, COUNT, seed=1) != guests


def test_the_new_conversation_states_none_of_what_has_to_be_remembered(
    guests: list[Guest],
) -> None:
    for guest in guests:
        now = "\n".join(m.content or "" for m in guest.now)
        for one in guest.required:
            if one.record == GUEST:
                assert f"the {one.slot} is {one.value}" not in now
                assert not re.search(rf"{one.slot}[^.]*\b{re.escape(one.value)}", now)
                assert any(one.value in text for talk in guest.said for _, text in talk)


def test_the_judge_finds_an_answer_that_states_everything_free_of_errors(
    asked: HeldOutFile, guests: list[Guest]
) -> None:
    wrong = 0
    for guest in guests:
        told = [f"For {GUEST} the {r.slot} is {r.value}." for r in guest.required if r.slot]
        names = [f"It is {r.value}." for r in guest.required if not r.slot]
        wrong += judge(asked, guest).check(" ".join([*names, *told])).slot_errors
        nothing = judge(asked, guest).check("Hello.")
        assert len(nothing.missing) == len(guest.required)
    assert wrong == 0


def test_a_guest_s_memory_holds_what_stands_after_all_that_was_said(
    memory: Memory, guests: list[Guest]
) -> None:
    changed = 0
    for guest in guests:
        known = {f.predicate: f.object for f in memory.of(guest.name).facts(guest.name)}
        assert known == dict(guest.wants)
        changed += sum(len(talk) for talk in guest.said) > 4 + 2 * len(guest.wants)
    assert changed > 3  # some change their mind, and it is the later value that stands


async def test_with_memory_the_prompt_has_the_guest_s_own_values_and_never_another_s(
    memory: Memory, guests: list[Guest]
) -> None:
    llm = AsyncLLM.load("concierge")
    try:
        told = {arm: prompts(memory, guests, arm, llm) for arm in guests_bench.ARMS}
    finally:
        await llm.close()

    def lines(guest: Guest) -> set[str]:
        return {f"For {GUEST} the {slot} is {value}." for slot, value in guest.wants}

    for number, guest in enumerate(guests):
        own, other = lines(guest), lines(guests[number - 1])
        on, off, others = (told[arm][number][0].content or "" for arm in guests_bench.ARMS)
        assert all(line in on for line in own)
        assert not any(line in off for line in own | other)
        assert not any(line in others for line in own - other)
        assert [m.content for m in told["on"][number][1:]] == [m.content for m in guest.now[1:]]


def test_a_few_guests_are_answered_and_counted(asked: HeldOutFile, tmp_path: Path) -> None:
    answered = guests_bench.measured(tmp_path, asked, "concierge-draft", 4, lambda *_: None)
    assert answered.guests == 4
    assert answered.recalled == 1.0
    assert set(answered.rates) == set(guests_bench.ARMS)
    assert answered.rates["off"] > 0.5  # without memory nobody can know
