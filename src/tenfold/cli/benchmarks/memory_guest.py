"""Does a guest's memory help the engine to answer? The concierge with it, without, with another's.

Guests tell what they want in earlier conversations: a seeded generator says it in sentences of
everyday, with values that the concierge's training never saw, some of them changed later on. Each
guest is a member of a real store. Then comes a new conversation that states none of it and asks to
book ("Before you book a hotel, confirm the check in date ...") or what was said. What the guest's
memory believes is put into the prompt, the model answers greedily, and the exact verifier counts.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from tenfold.agents import remembering
from tenfold.agents.remembering import MemoryUse
from tenfold.cli.benchmarks import Report
from tenfold.cli.held_out import HeldOutFile
from tenfold.memory.events import NewEvent
from tenfold.memory.memory import Memory
from tenfold.rewards.facts import GUEST, Record, Requirement, facts_of
from tenfold.rewards.verifier import FactsVerifier
from tenfold.search.llm import AsyncLLM
from tenfold.search.options import DecodeOptions
from tenfold.search.sample import Sample
from tenfold.types import Message, SamplingParams

MODEL = "concierge"  # whose held-out questions the values come from
ARMS = ("on", "off", "other")
ANSWER = 160  # tokens, at most
AT_ONCE = 32  # questions that the engine is given together
CHANGED, ASKING = 0.3, 0.4  # shares of guests: who change a value, who only ask what they said
WEEK, MINUTE = timedelta(weeks=1), timedelta(minutes=1)
_RULE = re.compile(r"Before you book (?:an? )?([a-z ]+?), confirm ([^.]+)\.")
_SETTING = re.compile(
    r"number of \w+|(?:\w+ ){0,2}(?:date|time|length|city|destination|origin|location|station)"
    r"|(?:\w+ )?(?:type|class|cuisine|genre|category)"
)
_TELLING = (
    "My {slot} is {value}.",
    "I'd like the {slot} to be {value}.",
    "I want my {slot} to be {value}, please.",
    "For me the {slot} is {value}.",
    "Make my {slot} {value}.",
)
_CHANGING = ("Actually, my {slot} is {value}.", "Change my {slot} to {value}.")
_BEGINNING = ("Hello there.", "I am planning something.", "Good morning!", "I need your help.")
_ANSWERING = ("Sure.", "I have made a note of that.", "All right, what else?", "Of course.")
_BOOKING = (
    "I would like to book {what}.",
    "Please book {what} for me.",
    "Can you book {what}? You know what I want.",
)
_ASKING = ("What is the {slot}?", "What is my {slot}?", "Can you tell me the {slot} again?")


@dataclass(frozen=True, slots=True)
class Guest:
    """What a guest said before, what is asked now, and what the answer must state."""

    name: str
    said: tuple[tuple[tuple[str, str], ...], ...]  # conversations of (role, text)
    wants: tuple[tuple[str, str], ...]  # slot and value, as it stands after all was said
    now: tuple[Message, ...]
    required: tuple[Requirement, ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """Slot error rates by arm, and of how many values and guests."""

    rates: Mapping[str, float]
    exact: Mapping[str, float]  # share of answers without an error
    kinds: Mapping[str, Mapping[str, float]]  # the rates of guests who book, and who ask
    required: int
    guests: int
    recalled: float  # share of the required values of the guest that the prompt was given


def guests_of(asked: HeldOutFile, count: int, seed: int = 0) -> list[Guest]:
    """So many guests, with values and house rules of held-out questions."""
    rng = np.random.default_rng(seed)
    pools, rules = _pools(asked), _rules(asked)
    return [_guest(f"guest-{i}", pools, rules[i % len(rules)], rng) for i in range(count)]


def _pools(asked: HeldOutFile) -> dict[tuple[str, str], list[str]]:
    """The values of each noun's slots, in the order of the file; of "" those of all nouns."""
    pools: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for question in asked.questions:
        facts = facts_of(question.messages)
        booked = _RULE.findall("\n".join(facts.instructions))
        told = [(r.noun, slot, value) for r in facts.records for slot, value in r.fields]
        for one in question.required:
            if one.record == GUEST:
                told.append((booked[0][0] if len(booked) == 1 else "", one.slot, one.value))
        for noun, slot, value in told:
            pools[noun, slot][value] = pools["", slot][value] = None
    return {key: list(values) for key, values in pools.items()}


def _rules(asked: HeldOutFile) -> list[tuple[str, list[str], tuple[Record, ...]]]:
    """The different house rules on booking: noun, what to confirm, records of that noun."""
    found: dict[tuple[str, str], tuple[str, list[str], tuple[Record, ...]]] = {}
    for question in asked.questions:
        facts = facts_of(question.messages)
        for noun, listed in _RULE.findall("\n".join(facts.instructions)):
            slots = [s.removeprefix("the ") for s in re.split(r", | and ", listed)]
            records = tuple(r for r in facts.records if r.noun == noun and r.name)[:2]
            told = [s for s in slots if s != noun]
            known = noun not in slots or any(not r.name.startswith("the ") for r in records)
            if known and len(told) > 1 and all(_SETTING.fullmatch(s) for s in told):
                found.setdefault((noun, listed), (noun, slots, records))
    return list(found.values())


def _guest(
    name: str,
    pools: Mapping[tuple[str, str], Sequence[str]],
    rule: tuple[str, list[str], tuple[Record, ...]],
    rng: np.random.Generator,
) -> Guest:
    noun, confirmed, records = rule
    slots = [s for s in confirmed if s != noun]

    def draw(options: Sequence[str]) -> str:
        return options[int(rng.integers(len(options)))]

    def value(slot: str) -> str:
        return draw(pools.get((noun, slot)) or pools["", slot])

    wants = {slot: value(slot) for slot in slots}
    old = {slot: value(slot) for slot in slots if rng.random() < CHANGED / len(slots)}
    order = [slots[i] for i in rng.permutation(len(slots))]
    half = (len(order) + 1) // 2
    first = [draw(_TELLING).format(slot=s, value=old.get(s, wants[s])) for s in order[:half]]
    second = [draw(_TELLING).format(slot=s, value=old.get(s, wants[s])) for s in order[half:]]
    changes = [draw(_CHANGING).format(slot=s, value=wants[s]) for s in old]
    said = []
    for texts in (first, [*second, *changes]):
        turns = [("user", draw(_BEGINNING)), ("assistant", "How can I help you?")]
        for text in texts:
            turns += [("user", text), ("assistant", draw(_ANSWERING))]
        said.append(tuple(turns))
    named = noun in confirmed
    record = next((r for r in records if not r.name.startswith("the ")), None)
    if rng.random() < ASKING:
        slot = draw(slots)
        text, required = draw(_ASKING).format(slot=slot), [Requirement(GUEST, slot, wants[slot])]
    else:
        article = "an" if noun[0] in "aeiou" else "a"
        what = record.name if named and record else f"{article} {noun}"
        text = draw(_BOOKING).format(what="it" if noun == "something" else what)
        required = [Requirement(GUEST, s, wants[s]) for s in slots]
        if named and record:
            required.insert(0, Requirement(record.name, "", record.name))
    lines = [_written(r, slots) for r in records if not r.name.startswith("the ")]
    listed = [f"the {s}" for s in confirmed]
    a_noun = noun if noun == "something" else f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
    lines.append(f"Before you book {a_noun}, confirm {', '.join(listed[:-1])} and {listed[-1]}.")
    now = (Message("system", "\n".join(lines)), Message("user", text))
    return Guest(name, tuple(said), tuple(wants.items()), now, tuple(required))


def _written(record: Record, without: Sequence[str]) -> str:
    """A record as facts, without the slots that the guest has a say in."""
    article = "an" if record.noun[:1] in "aeiou" else "a"
    told = [f"For {record.name} the {s} is {v}." for s, v in record.fields if s not in without]
    return " ".join([f"{record.name} is {article} {record.noun}.", *told])


def judge(asked: HeldOutFile, guest: Guest) -> FactsVerifier:
    """Counts an answer's errors; it knows what the guest wants, whatever the prompt says."""
    wishes = " ".join(f"For {GUEST} the {slot} is {value}." for slot, value in guest.wants)
    system = Message("system", f"{wishes}\n{guest.now[0].content}")
    return FactsVerifier([system, *guest.now[1:]], guest.required, asked.lexicon)


def tell(memory: Memory, guest: Guest) -> None:
    """Remembers what a guest said, as that member: conversations a week apart, ending today."""
    mine = memory.of(guest.name)
    for number, turns in enumerate(guest.said):
        began = datetime.now(UTC) - WEEK * (len(guest.said) - number)
        mine.add_all(
            [
                NewEvent(
                    text, role=role, conversation=f"visit {number}", valid_at=began + MINUTE * i
                )
                for i, (role, text) in enumerate(turns)
            ]
        )


def prompts(
    memory: Memory, guests: Sequence[Guest], arm: str, llm: AsyncLLM
) -> list[list[Message]]:
    """What the model is given: the guest's memory, none, or the memory of the guest before."""
    if arm == "off":
        return [list(guest.now) for guest in guests]
    told = []
    for number, guest in enumerate(guests):
        owner = guest if arm == "on" else guests[number - 1]
        use = MemoryUse(form="facts")
        tokenizer = llm.model.tokenizer
        found = remembering.recalled(
            memory.of(owner.name), guest.now, use, remembering.BUDGET, tokenizer
        )
        told.append(remembering.informed(guest.now, found))
    return told


def measured(
    folder: Path, asked: HeldOutFile, model: str, count: int, report: Report, seed: int = 0
) -> Answered:
    """Answers of all arms, judged; the store is made in `folder`."""
    guests = guests_of(asked, count, seed)
    memory = Memory.open(folder, tenant="hotel", member="desk", embedder="words")
    try:
        for number, guest in enumerate(guests):
            tell(memory, guest)
            report("guests tell what they want", (number + 1) / len(guests))
        memory.derive()
        return asyncio.run(_answered(memory, asked, guests, model, report))
    finally:
        memory.close()


async def _answered(
    memory: Memory, asked: HeldOutFile, guests: Sequence[Guest], model: str, report: Report
) -> Answered:
    llm = AsyncLLM.load(model)
    try:
        told = {arm: prompts(memory, guests, arm, llm) for arm in ARMS}
        errors, required, exact = {}, np.array([len(g.required) for g in guests]), {}
        for number, arm in enumerate(ARMS):
            texts = await _texts(llm, told[arm])
            found = [judge(asked, g).check(t) for g, t in zip(guests, texts, strict=True)]
            errors[arm] = np.array([v.slot_errors for v in found])
            exact[arm] = float((errors[arm] == 0).mean())
            report("the concierge answers guests", (number + 1) / len(ARMS))
    finally:
        await llm.close()
    books = np.array([len(g.required) > 1 for g in guests])
    return Answered(
        {arm: float(e.sum() / required.sum()) for arm, e in errors.items()},
        exact,
        {
            name: {a: float(e[k].sum() / max(1, required[k].sum())) for a, e in errors.items()}
            for name, k in (("book", books), ("ask", ~books))
        },
        int(required.sum()),
        len(guests),
        _recalled(guests, told["on"]),
    )


async def _texts(llm: AsyncLLM, chats: Sequence[Sequence[Message]]) -> list[str]:
    gate = asyncio.Semaphore(AT_ONCE)
    params = SamplingParams(temperature=0.0, max_tokens=ANSWER)

    async def one(messages: Sequence[Message]) -> str:
        async with gate:
            request = llm.chat_request(messages, params)
            result = await llm.generate(request, DecodeOptions(Sample()))
            return result.completions[0].text

    return list(await asyncio.gather(*(one(messages) for messages in chats)))


def _recalled(guests: Sequence[Guest], told: Sequence[Sequence[Message]]) -> float:
    """How many of the guest's required values stand in the prompts, of all."""
    values = [
        f"For {GUEST} the {r.slot} is {r.value}." in (messages[0].content or "")
        for guest, messages in zip(guests, told, strict=True)
        for r in guest.required
        if r.record == GUEST
    ]
    return float(np.mean(values))
