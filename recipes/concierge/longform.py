"""Long conversations over one block of facts: options, comparisons, recaps and itineraries.

Every request says which slots of which records it asks for, so that answers can be checked exactly.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial

from . import longform_phrases as phrases
from .compose import Composer, fill_holes, lead_order
from .episodes import Episode, Limits, Message
from .facts import FactRecord, listed, write_facts
from .lookups import with_noun
from .schemas import LONG_SCHEMAS, UNSEEN_SCHEMAS, Schema, Slot, draw_records
from .templates import Bank, Template

SHORTEST, LONGEST, SHORTEST_MULTI = 80, 250, 60  # tokens, as ``rough_tokens`` counts them
HARD_RECORDS = 4  # from this limit on there are always five records
STAGES = ("options", "compare", "multi", "recap")
Asked = tuple[str, Message]


def rough_tokens(text: str) -> int:
    """Estimate the tokens of an answer: digits and marks are single, words a little more."""
    marks = sum(not (c.isalpha() or c.isspace()) for c in text)
    words = "".join(c if c.isalpha() else " " for c in text).split()
    return marks + sum(1 + (len(word) > 7) for word in words)


def asked_slots(words: Sequence[str], rng: random.Random) -> str:
    """Write the slots of a request, with the article once or before each."""
    if rng.random() < 0.75:
        return listed(words)
    return "the " + listed(words, "")


def in_asked_order(question: str, words: Sequence[str]) -> list[str]:
    """Return slot words in the order in which a question names them, all of which it does."""
    left, places = question.lower(), dict[str, int]()
    for word in sorted(words, key=len, reverse=True):  # "origin airport" before "origin"
        places[word] = left.index(word)
        left = left.replace(word, " " * len(word), 1)
    return sorted(words, key=places.__getitem__)


class _Talk:
    """One conversation: its facts, templates, and what was talked about last."""

    def __init__(
        self, bank: Bank, limits: Limits, records: list[FactRecord], small: set[str],
        rng: random.Random,
    ) -> None:  # fmt: skip
        self.bank, self.limits, self.rng = bank, limits, rng
        self.records, self.small = records, small
        self.current: FactRecord | None = None
        self.liked: list[FactRecord] = []

    def composer(self, kind: str) -> Composer:
        return Composer(self.bank, kind, self.rng)

    def slots(self, record: FactRecord, low: int, high: int) -> list[str]:
        """Choose slots to ask for, in an order that human templates have."""
        words = [w for w, _ in record.fields]
        chosen = self.rng.sample(words, min(len(words), self.rng.randint(low, high)))
        return lead_order(self.bank, record, chosen, "offer", self.rng)

    def say_asked(self, words: Sequence[str], record: FactRecord) -> tuple[str, list[str]]:
        """Write the asked slots, or "everything" (then in the order of the facts)."""
        if self.rng.random() < 0.3:
            return self.rng.choice(phrases.EVERYTHING), [w for w, _ in record.fields]
        return asked_slots(words, self.rng), list(words)

    def options(self) -> Asked:
        """Ask for slots of every record, or of every one that meets a condition."""
        rng, record = self.rng, self.records[0]
        fitting, condition = self._condition()
        known = [w for w, _ in record.fields if w != condition]
        most = 2 if len(fitting) > 4 else 3 if len(fitting) > 2 else 5
        wanted = rng.sample(known, min(len(known), rng.randint(2, most)))
        wanted = lead_order(self.bank, record, wanted, "offer", rng)
        opener = self.bank.pick(record.noun, "open", lambda _: True, rng)
        question = [
            opener.text
            if opener and rng.random() < 0.7
            else with_noun(rng.choice(phrases.OPENERS), record.noun)
        ]
        if condition:
            question.append(self._state(condition, dict(fitting[0].fields)[condition]))
        each = phrases.EACH_FITTING if condition else phrases.EACH
        question.append(rng.choice(each).replace("{asked}", asked_slots(wanted, rng)))
        answer = self.composer("options")
        answer.open(phrases.FOUND)
        answer.name_all(fitting)
        for one in fitting:
            answer.cover(one, wanted, "offer")
        answer.close(record.noun)
        self.liked = fitting
        return " ".join(question), answer.message()

    def _condition(self) -> tuple[list[FactRecord], str]:
        groups: dict[tuple[str, str], list[FactRecord]] = defaultdict(list)
        for record in self.records:
            for words, value in record.fields:
                if words in self.small:
                    groups[words, value].append(record)
        groups = {k: g for k, g in groups.items() if 1 < len(g) < len(self.records)}
        if groups and self.rng.random() < 0.7:
            (words, _), group = self.rng.choice(list(groups.items()))
            return group, words
        return list(self.records), ""

    def _state(self, words: str, value: str) -> str:
        template = self.bank.pick(
            self.records[0].noun, "state", lambda t: t.holes == (words,), self.rng
        )
        if template and self.rng.random() < 0.75:
            return fill_holes(template.text, {words: value})[0]
        form = self.rng.choice(phrases.CONDITIONS)
        return form.replace("{w}", words).replace("{v}", value)

    def compare(self) -> Asked:
        """Ask for the same slots of two records."""
        rng = self.rng
        pool = self.liked if len(self.liked) > 1 else self.records
        one, two = rng.sample(pool, 2)
        asked, wanted = self.say_asked(self.slots(one, 3, 5), one)
        question = _named(rng.choice(phrases.COMPARE), one, two, asked)
        answer = self.composer("compare")
        answer.open(phrases.COMPARING)
        if rng.random() < 0.5:
            for words in wanted:
                answer.both(one, two, words)
        else:
            answer.cover(one, wanted, "offer")
            answer.cover(two, wanted, "offer")
        answer.close(one.noun)
        self.liked = [one, two]
        return question, answer.message()

    def multi(self) -> Asked:
        """Ask for several slots of one record, in own words or in those of people."""
        rng = self.rng
        same = self.current is not None and rng.random() < 0.3
        record = self.current if same and self.current else rng.choice(self.liked or self.records)
        wanted = self.slots(record, 4, 7)
        question = self._human_request(record, wanted) if rng.random() < 0.5 else None
        if question is None:
            forms = phrases.MULTI_SAME if same else phrases.MULTI
            question = rng.choice(forms).replace("{asked}", asked_slots(wanted, rng))
        else:
            wanted = in_asked_order(question, wanted)  # to go through a request leaves none out
            if not same:
                question = f"{rng.choice(phrases.FOCUS)} {question}"
        answer = self.composer("multi")
        answer.open(phrases.TELLING)
        answer.cover(record, wanted, "offer")
        answer.close(record.noun)
        self.current, self.liked = record, [record]
        return question.replace("{n}", record.name), answer.message()

    def _human_request(self, record: FactRecord, wanted: list[str]) -> str | None:
        """Join human requests until they name all wanted slots; None where there are none."""
        left, parts = list(wanted), list[str]()
        while left:
            template = None
            if len(parts) < 2:
                template = self.bank.pick(
                    record.noun, "request", partial(_asks_only, frozenset(left)), self.rng
                )
            if template is None:
                if not parts:
                    return None
                parts.append(f"I also need {asked_slots(left, self.rng)}.")
                break
            parts.append(template.text)
            left = [w for w in left if w not in template.slots]
        return " ".join(parts)

    def recap(self) -> Asked:
        """Ask for all slots of one record."""
        rng = self.rng
        record = rng.choice(self.liked or self.records)
        wanted = [w for w, _ in record.fields]
        if rng.random() < 0.6:
            question = rng.choice(phrases.RECAP_ALL)
        else:
            question = rng.choice(phrases.RECAP).replace("{asked}", asked_slots(wanted, rng))
        answer = self.composer("recap")
        answer.open(phrases.TELLING)
        answer.cover(record, wanted, "confirm" if rng.random() < 0.5 else "offer")
        answer.close(record.noun)
        self.current, self.liked = record, [record]
        return question.replace("{n}", record.name), answer.message()

    def itinerary(self, others: list[FactRecord]) -> Asked:
        """Ask for the details of two records of different nouns."""
        rng = self.rng
        one, two = rng.choice(self.liked or self.records), rng.choice(others)
        if rng.random() < 0.5:
            one, two = two, one
        kept = {r.name: [w for w, _ in r.fields] for r in (one, two)}
        asked = rng.choice(phrases.EVERYTHING)
        common = [w for w in kept[one.name] if w in kept[two.name]]
        if len(common) > 2 and rng.random() < 0.5:
            asked, kept = asked_slots(common, rng), {one.name: common, two.name: common}
        question = _named(rng.choice(phrases.ITINERARY), one, two, asked)
        answer = self.composer("itinerary")
        answer.open(phrases.PLANNING)
        for record in (one, two):
            answer.cover(record, kept[record.name], "confirm" if rng.random() < 0.6 else "offer")
        answer.close(two.noun)
        self.current, self.liked = None, []
        return question, answer.message()


def _asks_only(words: frozenset[str], template: Template) -> bool:
    return template.slots <= words


def _named(form: str, one: FactRecord, two: FactRecord, asked: str) -> str:
    text = form.replace("{a}", one.name).replace("{b}", two.name).replace("{asked}", asked)
    return text[0].upper() + text[1:]


def _long_enough(message: Message) -> bool:
    shortest = SHORTEST_MULTI if message.kind == "multi" else SHORTEST
    return shortest <= rough_tokens(message.text) <= LONGEST


def _stages(limits: Limits, rng: random.Random) -> list[str]:
    """Choose what is asked, in the order in which a conversation comes to it."""
    turns = rng.randint(1, max(1, min(4, limits.turns // 2)))
    if turns == 1 or (turns == 2 and rng.random() < 0.5):
        return rng.choices(STAGES, (0.45, 0.3, 0.1, 0.15))[:1] if turns == 1 else list(STAGES[:2])
    return sorted(rng.sample(STAGES, turns), key=STAGES.index)


def _draw(
    noun: str, schema: Schema, count: int, limits: Limits, pools: Mapping[str, Sequence[str]],
    bank: Bank, rng: random.Random,
) -> tuple[list[FactRecord], set[str]]:  # fmt: skip
    """Draw records whose slots stand in an order that human templates have."""
    fields = min(
        len(schema.slots), rng.randint(min(5, limits.fields), max(4, min(8, limits.fields)))
    )
    slots: list[Slot] = rng.sample(schema.slots, fields)
    sketch = FactRecord("", noun, [(slot.words, "") for slot in slots])
    role = rng.choice(("offer", "confirm"))
    order = lead_order(bank, sketch, [slot.words for slot in slots], role, rng)
    slots.sort(key=lambda slot: order.index(slot.words))
    records = draw_records(noun, schema, slots, count, pools, rng)
    small = {slot.words for slot in slots if len(slot.choices) > 1}
    if small and len(records) > 2 and rng.random() < 0.6:  # several that meet one condition
        words = rng.choice(sorted(small))
        place = next(i for i, slot in enumerate(slots) if slot.words == words)
        for record in rng.sample(records, rng.randint(2, len(records) - 1)):
            record.fields[place] = (words, records[0].fields[place][1])
    return records, small


def long_episode(
    bank: Bank, pools: Mapping[str, Sequence[str]], limits: Limits, rng: random.Random
) -> Episode:
    """Return a conversation of one to four long answers over one block of facts."""
    schemas = UNSEEN_SCHEMAS if bank.unseen else LONG_SCHEMAS
    named = sorted(noun for noun, schema in schemas.items() if schema.names)
    noun = rng.choice(named)
    hard = limits.records >= HARD_RECORDS
    plan = rng.random() < 0.25
    count = (4 if plan else 5) if hard else rng.randint(2, max(2, limits.records))
    records, small = _draw(noun, schemas[noun], count, limits, pools, bank, rng)
    others: list[FactRecord] = []
    if plan:
        other = rng.choice(sorted(set(schemas) - {noun}))
        others, _ = _draw(other, schemas[other], 1 if count < 3 else 2, limits, pools, bank, rng)
    blocks = [records, others] if rng.random() < 0.5 else [others, records]
    messages = [Message("system", write_facts([r for block in blocks for r in block], []))]
    talk = _Talk(bank, limits, records, small, rng)
    stages = _stages(limits, rng)
    if plan:
        stages = [*stages[: rng.randint(0, len(stages) - 1)], "itinerary"]
    for stage in stages:
        before = (talk.current, talk.liked)
        for _ in range(12):
            talk.current, talk.liked = before
            asked = talk.itinerary(others) if stage == "itinerary" else getattr(talk, stage)()
            if _long_enough(asked[1]):
                question = re.sub(r"(?<=[.!])\.", "", asked[0])  # after a name such as "Ada, M.D."
                messages += [Message("user", question), asked[1]]
                break
        else:
            talk.current, talk.liked = before
    if len(messages) == 1:
        return long_episode(bank, pools, limits, rng)
    fields = max(len(r.fields) for r in (*records, *others))
    return Episode(messages, "long", len(records) + len(others), fields)
