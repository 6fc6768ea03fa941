"""Chats that remember, from Python: what fits, what is told, what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.agents.remembering import (
    Form,
    MemoryUse,
    Recalled,
    chat,
    informed,
    remember,
    room,
    turns,
)
from tenfold.errors import InvalidRequest, TenfoldError
from tenfold.memory.events import SHARED, Kind
from tenfold.memory.memory import Memory, recall_of
from tenfold.memory.store import Selection
from tenfold.search.llm import LLM
from tenfold.types import Message, SamplingParams

GREEDY = SamplingParams(temperature=0.0, max_tokens=40)


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM("concierge-draft") as llm:
        yield llm


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    memory = Memory.open(tmp_path, member="ada", embedder="words")
    yield memory
    memory.close()


@given(
    context=st.integers(1, 5000),
    prompt=st.integers(0, 5000),
    answer=st.none() | st.integers(1, 5000),
    budget=st.integers(1, 5000),
)
def test_what_is_recalled_leaves_room_for_an_answer(
    context: int, prompt: int, answer: int | None, budget: int
) -> None:
    most = room(context, prompt, answer, MemoryUse(budget=budget))
    assert 0 <= most <= budget
    if most:
        left = context - prompt - most
        assert left >= min(answer or 256, (context - prompt - 16) // 2)


def test_a_chat_is_told_what_was_said_before_and_keeps_what_is_said_now(
    llm: LLM, memory: Memory
) -> None:
    use = MemoryUse(conversation="monday")
    first = chat(
        llm, memory, [{"role": "user", "content": "My city is Porto."}], use, params=GREEDY
    )
    assert first.recalled.text == ""
    asked = [{"role": "user", "content": "What is my city?"}]
    second = chat(llm, memory, asked, MemoryUse(form="facts", remember=False), params=GREEDY)
    assert second.recalled.text == "For the guest the city is Porto."
    assert second.recalled.events == first.remembered[:1]
    assert second.remembered == ()
    prompt = [Message("system", second.recalled.text), Message("user", "What is my city?")]
    assert second.answer.text == llm.chat(prompt, GREEDY).text
    kept = [(e.role, e.text) for e in memory.history() if e.kind is not Kind.RECALL]
    assert kept == [("user", "My city is Porto."), ("assistant", first.answer.text)]


def test_of_facts_the_newest_value_is_told_and_denied_or_general_ones_are_not(
    llm: LLM, memory: Memory
) -> None:
    for text in (
        "My city is Porto.",
        "I live in Faro.",
        "My destination is not Rome.",
        "My city is Lisbon now.",
    ):
        memory.add(text)
    asked = [{"role": "user", "content": "What is my city?"}]
    told = chat(llm, memory, asked, MemoryUse(form="facts"), params=GREEDY)
    assert told.recalled.text == "For the guest the city is Lisbon."


def test_what_others_claim_about_a_name_is_neither_told_nor_disputes_its_own(
    llm: LLM, memory: Memory
) -> None:
    memory.add("My city is Porto.")
    bob, namesake = memory.of("bob"), memory.of("Ada")
    bob.add("My city is Berlin.", subject="ada", scope=SHARED)
    bob.add("My pickup time is 4 am.", subject="ada", scope=SHARED)
    bob.add("No, my city is not Porto.", subject="ada", scope=SHARED)
    namesake.add("My number of rooms is 9.", scope=SHARED)
    assert {f.object for f in memory.facts("ada")} > {"Berlin", "9"}  # others' words are readable
    asked = [{"role": "user", "content": "What is my city?"}]
    told = chat(llm, memory, asked, MemoryUse(form="facts", remember=False), params=GREEDY)
    assert told.recalled.text == "For the guest the city is Porto."


@pytest.mark.parametrize("form", ["turns", "facts"])
def test_erasing_what_was_said_erases_the_recall_that_repeats_it(
    llm: LLM, memory: Memory, form: Form
) -> None:
    told = memory.add("My city is Porto.")
    asked = [{"role": "user", "content": "What is my city?"}]
    chat(llm, memory, asked, MemoryUse(form=form), params=GREEDY)
    [recall] = [e for e in memory.history() if e.kind is Kind.RECALL]
    assert "Porto" in recall.text
    assert recall.sources == (told.id,)
    memory.erase(Selection(ids=(told.id,)))
    assert recall.id not in [e.id for e in memory.history()]


@pytest.mark.parametrize("form", ["turns", "facts"])
def test_a_chat_that_is_not_remembered_or_fails_writes_nothing(
    llm: LLM, memory: Memory, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise TenfoldError("no answer")

    memory.add("My city is Porto.")
    asked = [{"role": "user", "content": "What is my city?"}]
    told = chat(llm, memory, asked, MemoryUse(form=form, remember=False), params=GREEDY)
    assert "Porto" in told.recalled.text
    monkeypatch.setattr(llm, "chat", fails)
    with pytest.raises(TenfoldError):
        chat(llm, memory, asked, MemoryUse(form=form), GREEDY)
    assert [e.text for e in memory.history()] == ["My city is Porto."]


def test_what_is_erased_while_the_answer_is_made_is_not_written_again(memory: Memory) -> None:
    told = memory.add("My city is Porto.")
    found = Recalled("Porto", (told.id,), 1, recall_of("Porto", [told.id]))
    use = MemoryUse()
    new = turns([Message("user", "What is my city?")], use)
    memory.erase(Selection(ids=(told.id,)))
    remember(memory, new, "I do not say.", use, found)
    assert [e.text for e in memory.history()] == ["What is my city?", "I do not say."]


def test_a_request_sent_again_with_its_key_is_remembered_once_whatever_it_was_told(
    memory: Memory,
) -> None:
    told = memory.add("My city is Porto.")
    use = MemoryUse(key="r1")
    new = turns([Message("user", "What is my city?")], use)
    kept = []
    for text in ("Porto", "Porto, and more"):
        found = Recalled(text, (told.id,), 1, recall_of(text, [told.id]))
        kept.append([e.text for e in remember(memory, new, "Porto it is.", use, found)])
    assert kept[0] == kept[1] == ["What is my city?", "Porto it is."]
    assert len(list(memory.history())) == 4


def test_what_is_recalled_goes_into_the_system_message_that_is_there() -> None:
    found = Recalled("FOUND", ("x",), 1)
    asked = Message("user", "Hi")
    assert informed([asked], found) == [Message("system", "FOUND"), asked]
    told = informed([Message("system", "Be brief."), asked], found)
    assert told == [Message("system", "Be brief.\n\nFOUND"), asked]
    assert informed([asked], Recalled()) == [asked]


def test_a_turn_that_memory_would_refuse_is_refused_by_its_place() -> None:
    with pytest.raises(InvalidRequest) as refused:
        turns([Message("user", "Hi"), Message("user", "x" * 40_000)], MemoryUse())
    assert refused.value.param == "messages.1.content"


@pytest.mark.parametrize(("field", "value"), [("budget", 0), ("form", "poem"), ("key", "k" * 201)])
def test_what_cannot_be_used_is_refused(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        MemoryUse(**{field: value})  # type: ignore[arg-type]
    assert refused.value.param == field
