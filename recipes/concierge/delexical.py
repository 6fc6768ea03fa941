"""Conversations without their values: what stands where, so that another one's can be put there.

A value is named by a ``Place``: the slot's words, and which record it is of, counted in the order
in which the request asks for them. That order is read off the conversation, never off the answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from tenfold.rewards.records import GUEST, Facts, Record, facts_of
from tenfold.types import Message as ChatMessage
from tenfold.types import as_messages

_KINDS = {
    "clock": r"\b\d{1,2}(?::\d\d)? ?[ap]\.?m\b\.?",
    "date": r"\b(?:Jan|Febr)uary \w+|\b(?:March|April|May|June|July|August) \d+\w*"
    r"|\b(?:Septem|Octo|Novem|Decem)ber \d+\w*",
    "money": r"\$\d+",
    "phone": r"\b\d{3}-\d{3}-\d{4}\b",
    "rate": r"\b\d\.\d\b",
    "number": r"(?<![\w$:.-])\d{1,2}(?![\w:.-])"
    r"|\b(?:one|two|three|four|five|six|seven|eight|nine)\b",
}
_NAMES = r"(?<![.?!] )(?<!^)\b[A-Z][\w'&.-]*(?: (?:of |the |and )?[A-Z][\w'&.-]*)*"
WANTED = -1  # the record of what the guest wants


class Place(NamedTuple):
    """Where a value comes from: which record, which slot ("" for its name), and its kind."""

    record: int
    slot: str
    kind: str


Part = str | Place


def kind_of_value(value: str) -> str:
    """Return the kind of a written value: clock, date, money, phone, rate, number or text."""
    return next((k for k, form in _KINDS.items() if re.fullmatch(form, value)), "text")


@dataclass(frozen=True)
class Prompt:
    """A conversation up to an answer, read as a fresh reader would."""

    messages: tuple[ChatMessage, ...]

    @classmethod
    def of(cls, chat: Sequence[Mapping[str, str]]) -> Prompt:
        return cls(tuple(as_messages(list(chat))))

    @cached_property
    def facts(self) -> Facts:
        return facts_of(self.messages)

    @property
    def request(self) -> str:
        return self.messages[-1].content or ""

    @cached_property
    def guest(self) -> dict[str, str]:
        """What the facts tell of the guest."""
        return {s: v for r in self.facts.records if r.name == GUEST for s, v in r.fields}

    @cached_property
    def records(self) -> list[Record]:
        """The records but the guest: those named in the request, those of whom it names a value,
        those spoken of last, and the others as the facts have them."""
        found = [r for r in self.facts.records if r.name != GUEST]
        asked = self.request.lower()
        earlier = "\n".join(m.content or "" for m in self.messages[1:-1]).lower()

        def order(record: Record) -> tuple[int, int]:
            name = record.name.lower()
            if name in asked:
                return 0, asked.index(name)
            if any(_stands(v.lower(), asked) for _, v in record.fields):
                return 1, 0
            return (2, -earlier.rindex(name)) if name in earlier else (3, 0)

        return sorted(found, key=order)

    @cached_property
    def asked_records(self) -> int:
        """How many records the request names, itself or by a value; all of them when none."""
        asked = self.request.lower()
        named = [r for r in self.records if r.name.lower() in asked]
        fitting = [r for r in self.records if any(_stands(v.lower(), asked) for _, v in r.fields)]
        return len(named) or len(fitting) or len(self.records)

    @cached_property
    def said(self) -> list[str]:
        """What the user said, the latest first."""
        return [m.content or "" for m in reversed(self.messages) if m.role == "user"]

    def value(self, place: Place) -> str | None:
        """Return what stands at a place; None where nothing does."""
        if place.record == WANTED:
            return self._wanted(place)
        if place.record >= len(self.records):
            return None
        record = self.records[place.record]
        if place.slot == "":
            return record.name
        fields = dict(record.fields)
        if place.slot in fields:
            return fields[place.slot]
        alike = [v for v in fields.values() if kind_of_value(v) == place.kind != "text"]
        return alike[0] if len(alike) == 1 else None

    def holds(self, place: Place) -> bool:
        """Tell whether something stands at a place without taking another slot of its kind."""
        if place.record == WANTED:
            return self._wanted(place) is not None
        if place.record >= len(self.records):
            return False
        return not place.slot or place.slot in dict(self.records[place.record].fields)

    def _wanted(self, place: Place) -> str | None:
        """Return what the guest wants: as the facts tell it, a value of the slot or else of the
        kind in what the user said last, or a record's value."""
        if place.slot in self.guest:
            return self.guest[place.slot]
        held = [v for r in self.records for s, v in r.fields if s == place.slot]
        form = _KINDS.get(place.kind, _NAMES)
        for text in self.said:
            for value in held:
                if value.lower() in text.lower():
                    return value
            found = re.findall(form, text)
            if found:
                return str(found[-1])
        return held[0] if held else None


def _stands(value: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text) is not None


def delexicalise(
    text: str,
    spans: Sequence[tuple[int, int]],
    required: Sequence[tuple[str, str, str]],
    prompt: Prompt,
) -> list[Part]:
    """Return an answer with places instead of the values in ``spans``."""
    parts: list[Part] = []
    last = 0
    needs = list(required)
    for start, end in sorted(spans):
        value = text[start:end]
        need = next((r for r in needs if r[2].lower() == value.lower()), None)
        if need is not None:
            needs.remove(need)  # of two slots with one value each is meant once
        parts += [text[last:start], _place(value, need, prompt)]
        last = end
    return [part for part in [*parts, text[last:]] if part]


def _place(value: str, need: tuple[str, str, str] | None, prompt: Prompt) -> Place:
    kind = kind_of_value(value)
    names = [r.name for r in prompt.records]
    if need is not None:
        owner, slot, _ = need
        return Place(names.index(owner) if owner in names else WANTED, slot, kind)
    for at, record in enumerate(prompt.records):
        if record.name.lower() == value.lower():
            return Place(at, "", kind)
        for slot, held in record.fields:
            if held.lower() == value.lower():
                return Place(at, slot, kind)
    slot = next((s for s, v in prompt.guest.items() if v.lower() == value.lower()), "")
    return Place(WANTED, slot, kind)


def sentences(parts: Sequence[Part]) -> list[list[Part]]:
    """Split an answer at the ends of its sentences."""
    found: list[list[Part]] = [[]]
    for part in parts:
        if isinstance(part, Place):
            found[-1].append(part)
            continue
        first, *others = re.split(r"(?<=[.?!])\s+", part)
        found[-1].append(first)
        found += [[other] for other in others]
    return [one for one in found if any(one)]


def fill(parts: Sequence[Part], prompt: Prompt) -> tuple[str, int]:
    """Fill an answer with another conversation's values; sentences where one is missing are left
    out. Return the text and how many values were missing."""
    texts, missing = [], 0
    for sentence in sentences(parts):
        written = [prompt.value(p) if isinstance(p, Place) else p for p in sentence]
        missing += written.count(None)
        if None not in written:
            text = "".join(filter(None, written)).strip()
            texts.append(text[:1].upper() + text[1:])
    return " ".join(texts), missing
