"""Composed episodes: questions about single values, recaps, lists of options, and general turns."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from .episodes import Episode, Limits, Message
from .facts import FLAG_WORDS, FactRecord, listed, slot_words, write_facts
from .phrases import (
    ANSWERS,
    EACH_QUESTIONS,
    GENERAL,
    GREETINGS,
    LIST_QUESTIONS,
    NAMED_BY,
    QUESTIONS,
    RECOMMEND_QUESTIONS,
    SCHEMAS,
    SLOT_ANSWERS,
    SLOT_QUESTIONS,
    THANKS,
)
from .values import fresh_value, pool_of

VALUE_HOLES = {"n", "v", "v1", "v2", *(f"n{i}" for i in range(8))}
ORDER_WORDS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")


def _compose(template: str, holes: Mapping[str, str]) -> tuple[str, list[tuple[int, int]]]:
    """Fill ``{name}`` holes; return the text and the places of those in VALUE_HOLES."""
    text, spans = "", []
    for part in template.replace("}", "{").split("{"):
        if part in holes:
            if part in VALUE_HOLES:
                spans.append((len(text), len(text) + len(holes[part])))
            text += holes[part]
        else:
            text += part
    return text[:1].upper() + text[1:], spans


def with_noun(template: str, noun: str) -> str:
    """Put the noun in, after "an" where it starts with a vowel."""
    if noun[0] in "aeiou":
        template = template.replace("a {noun}", "an {noun}")
    return template.replace("{noun}", noun)


class Answer:
    """Collects sentences of one assistant turn, the places of their values, what was required."""

    def __init__(self, kind: str = "") -> None:
        self.text = ""
        self.kind = kind
        self.values: list[tuple[int, int]] = []
        self.required: list[tuple[str, str, str]] = []

    def add(self, template: str, holes: Mapping[str, str]) -> None:
        """Append a sentence."""
        text, spans = _compose(template, holes)
        shift = len(self.text) + (1 if self.text else 0)
        self.text = f"{self.text} {text}" if self.text else text
        self.values += [(a + shift, b + shift) for a, b in spans]

    def message(self) -> Message:
        """Return the collected turn."""
        return Message("assistant", self.text, self.values, self.required, self.kind)

    def require(self, record: FactRecord, fields: Sequence[tuple[str, str]], name: bool) -> None:
        """Note that these fields of a record were asked for, and whether its name was."""
        self.required += [(record.name, "", record.name)] if name else []
        self.required += [(record.name, words, value) for words, value in fields]


def fresh_records(
    noun: str, count: int, fields: int, pools: Mapping[str, Sequence[str]], rng: random.Random
) -> list[FactRecord]:
    """Return ``count`` records of one noun with the same slots and values that differ."""
    slots = list(SCHEMAS[noun])
    rng.shuffle(slots)
    flags = [slot for slot in FLAG_WORDS if slot in NAMED_BY[noun][1] and rng.random() < 0.4]
    taken: set[str] = set()

    def draw(kind: str, slot: str, like: str) -> str:
        value = like
        for _ in range(8):
            value = fresh_value(kind, slot, like, pools, rng)
            if kind in ("text", "address") and value == like:
                value = rng.choice(list(pools.get(pool_of(slot)) or [like]))
            if value not in taken:
                break
        taken.add(value)
        return value

    records = []
    for _ in range(count):
        name = draw("text", NAMED_BY[noun][0], "")
        written = [(slot_words(s), draw(kind, s, like)) for s, kind, like in slots[:fields]]
        records.append(FactRecord(name, noun, written, [(f, rng.random() < 0.5) for f in flags]))
    return records


def _ask_value(
    record: FactRecord, others: int, recent: bool, rng: random.Random
) -> tuple[str, Message]:
    words, value = rng.choice(record.fields)
    alone = others == 0 or recent
    question = rng.choice(
        [q for q in QUESTIONS + SLOT_QUESTIONS.get(words, ()) if alone or "{n}" in q]
    )
    answer = Answer("value")
    answer.require(record, [(words, value)], False)
    forms, weights = list(ANSWERS), list(ANSWERS.values())
    special = SLOT_ANSWERS.get(words, ())
    forms += special
    weights += [1] * len(special)
    holes = {"n": record.name, "w": words, "v": value}
    answer.add(rng.choices(forms, weights)[0], holes)
    return _compose(question, {"n": record.name, "w": words})[0], answer.message()


def _ask_two(record: FactRecord, rng: random.Random) -> tuple[str, Message]:
    (w1, v1), (w2, v2) = rng.sample(record.fields, 2)
    question = rng.choice(
        ("What are the {a} and the {b} of {n}?", "Please give me the {a} and the {b} of {n}.")
    )
    answer = Answer("two")
    answer.require(record, [(w1, v1), (w2, v2)], False)
    answer.add(
        "For {n} the {a} is {v1} and the {b} is {v2}.",
        {"a": w1, "b": w2, "v1": v1, "v2": v2, "n": record.name},
    )
    return _compose(question, {"a": w1, "b": w2, "n": record.name})[0], answer.message()


def _ask_reverse(records: list[FactRecord], rng: random.Random) -> tuple[str, Message]:
    record = rng.choice(records)
    words, value = rng.choice(record.fields)
    answer = Answer("reverse")
    answer.require(record, [], True)
    answer.add(
        "The {noun} with the {w} {v} is {n}.",
        {"n": record.name, "noun": record.noun, "w": words, "v": value},
    )
    return f"Which {record.noun} has {value} as the {words}?", answer.message()


def _ask_flag(record: FactRecord, rng: random.Random) -> tuple[str, Message]:
    slot, yes = rng.choice(record.flags)
    answer = Answer("flag")
    answer.add("{n} " + FLAG_WORDS[slot][0 if yes else 1] + ".", {"n": record.name})
    return f"Does {record.name} {FLAG_WORDS[slot][2]}?", answer.message()


def _ask_missing(record: FactRecord, rng: random.Random) -> tuple[str, Message]:
    known = {words for words, _ in record.fields}
    missing = [slot_words(s) for s, _, _ in SCHEMAS[record.noun] if slot_words(s) not in known]
    if not missing:
        return _ask_value(record, 1, False, rng)
    words = rng.choice(missing)
    answer = Answer("missing")
    answer.add("I am sorry, I do not have the {w} of {n}.", {"w": words, "n": record.name})
    return f"What is the {words} of {record.name}?", answer.message()


def _list_options(records: list[FactRecord], rng: random.Random) -> tuple[str, Message]:
    noun = records[0].noun
    answer = Answer("list")
    single = len(records) == 1
    answer.add(
        "I have one {noun} for you." if single else "I have {k} {noun}s for you.",
        {"noun": noun, "k": str(len(records))},
    )
    opening = rng.choice(("The {o} one is {n}.", "There is {n}."))
    for position, record in enumerate(records):
        answer.require(record, [], True)
        answer.add(opening, {"n": record.name, "o": ORDER_WORDS[position]})
        _add_fields(answer, record, record.fields[:2])
    return with_noun(rng.choice(LIST_QUESTIONS), noun), answer.message()


def _say_each(records: list[FactRecord], rng: random.Random) -> tuple[str, Message]:
    """Go through all records in their order: names alone, or one to three slots of each."""
    chosen = rng.sample(
        range(len(records[0].fields)), min(len(records[0].fields), rng.randint(0, 3))
    )
    asked = [records[0].fields[i][0] for i in chosen]
    answer = Answer("each")
    if not asked or rng.random() < 0.5:
        names = {f"n{i}": record.name for i, record in enumerate(records)}
        answer.add(f"There are {listed([f'{{{n}}}' for n in names], '')}.", names)
    for record in records:
        answer.require(record, [record.fields[i] for i in chosen], True)
        _add_fields(answer, record, [record.fields[i] for i in chosen])
    question = with_noun(rng.choice(EACH_QUESTIONS), records[0].noun)
    return question.replace("{asked}", listed(asked) if asked else "the names"), answer.message()


def _add_fields(answer: Answer, record: FactRecord, fields: Sequence[tuple[str, str]]) -> None:
    """Append fields of a record as the facts have them."""
    for words, value in fields:
        holes = {"n": record.name, "w": words, "v": value}
        answer.add("For {n} the {w} is {v}.", holes)


def _recommend(records: list[FactRecord], rng: random.Random) -> tuple[str, Message]:
    answer = Answer("recommend")
    answer.add("How about {n}?", {"n": records[0].name})
    _add_fields(answer, records[0], records[0].fields[:1])
    question = with_noun(rng.choice(RECOMMEND_QUESTIONS), records[0].noun)
    return question, answer.message()


def _recap(record: FactRecord, rng: random.Random) -> tuple[str, Message]:
    answer = Answer("recap")
    answer.require(record, record.fields, True)
    answer.add("Here is what I know about {n}.", {"n": record.name})
    _add_fields(answer, record, record.fields)
    form = rng.choice(
        (
            "Tell me everything about {n}.",
            "What do you know about {n}?",
            "Give me the details of {n}.",
        )
    )
    return form.replace("{n}", record.name), answer.message()


def _compare(records: list[FactRecord], rng: random.Random) -> tuple[str, Message]:
    one, two = rng.sample(records, 2)
    answer = Answer("compare")
    answer.require(one, one.fields[:3], True)
    answer.require(two, two.fields[:3], True)
    for (words, first), (_, second) in list(zip(one.fields, two.fields, strict=True))[:3]:
        answer.add(
            "For {n1} the {w} is {v1} and for {n2} the {w} is {v2}.",
            {"w": words, "n1": one.name, "n2": two.name, "v1": first, "v2": second},
        )
    return f"Compare {one.name} and {two.name}.", answer.message()


Asked = tuple[str, Message, FactRecord | None]  # question, answer, record now talked about


def _ask_long(record: FactRecord, records: list[FactRecord], rng: random.Random) -> Asked:
    """Ask for all options, for everything about one record, or for a comparison."""
    draw = rng.random()
    if draw < 0.15:
        return *_recommend(records, rng), records[0]
    if draw < 0.35:
        return *_list_options(records, rng), None if len(records) > 1 else records[0]
    if draw < 0.65 and len(records) > 1:
        return *_say_each(records, rng), None
    if draw < 0.85 or len(records) == 1:
        return *_recap(record, rng), record
    return *_compare(records, rng), None


def _ask_short(
    draw: float, record: FactRecord, recent: bool, records: list[FactRecord], rng: random.Random
) -> Asked:
    """Ask for one value mostly, sometimes for two, a name, a property or what is not known."""
    if draw > 0.985:
        return *_ask_missing(record, rng), record
    if draw > 0.86 and record.flags:
        return *_ask_flag(record, rng), record
    if draw > 0.78:
        return *_ask_reverse(records, rng), None
    if draw > 0.71 and len(record.fields) > 1:
        return *_ask_two(record, rng), record
    return *_ask_value(record, len(records) - 1, recent, rng), record


def lookup_episode(
    pools: Mapping[str, Sequence[str]],
    limits: Limits,
    composed: float,
    rng: random.Random,
    exact: bool = False,
) -> Episode:
    """Ask several questions about fresh records; ``composed`` is the share of longer answers.

    With ``exact`` there are as many records and fields as ``limits`` allows, never fewer.
    """
    least = limits.fields if exact else 1
    noun = rng.choice([n for n in sorted(SCHEMAS) if len(SCHEMAS[n]) >= least])
    count = max(rng.randint(1, limits.records) for _ in range(2))  # several are harder than one
    count = limits.records if exact else count
    records = fresh_records(noun, count, rng.randint(least, limits.fields), pools, rng)
    messages = [Message("system", write_facts(records, []))]
    if rng.random() < 0.06:
        messages += _pair(*rng.choice(GREETINGS))
    current: FactRecord | None = None
    for _ in range(rng.randint(max(1, limits.turns // 2 - 2), limits.turns // 2 + 2)):
        recent = current is not None and rng.random() < 0.5
        record = current if recent and current is not None else rng.choice(records)
        draw = rng.random()
        if draw < composed:
            question, answer, current = _ask_long(record, records, rng)
        else:
            question, answer, current = _ask_short(draw, record, recent, records, rng)
        messages += [Message("user", question), answer]
    if rng.random() < 0.06:
        messages += _pair(*rng.choice(THANKS))
    return Episode(messages, "lookup", len(records), len(records[0].fields))


def _pair(user: str, assistant: str) -> list[Message]:
    return [Message("user", user), Message("assistant", assistant)]


def general_episode(pools: Mapping[str, Sequence[str]], rng: random.Random) -> Episode:
    """A conversation without facts: greet, ask for what is missing, say goodbye."""
    noun = rng.choice(sorted(SCHEMAS))
    holes = {
        "noun": noun,
        "n": rng.choice(pools[NAMED_BY[noun][0]]),
        "city": rng.choice(pools["city"]),
        "w": slot_words(rng.choice(SCHEMAS[noun])[0]),
    }
    messages = _pair(*rng.choice(GREETINGS)) if rng.random() < 0.5 else []
    if rng.random() < 0.8 or not messages:
        messages += _pair(*(_compose(with_noun(t, noun), holes)[0] for t in rng.choice(GENERAL)))
    if rng.random() < 0.5:
        messages += _pair(*rng.choice(THANKS))
    return Episode(messages, "general", 0, 0)
