"""Make right answers wrong in one known way: a wrong value, one left out, one from nowhere.

Every change is checked by the verifier: one that leaves as few errors as before is not used.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tenfold.rewards.facts import GUEST, Facts, Record, Requirement
from tenfold.rewards.verifier import FactsVerifier

CHANGES = ("wrong_record", "wrong_slot", "invented", "missing", "other_request")
Values = Mapping[str, Sequence[str]]  # of a slot, anywhere in a part


@dataclass(frozen=True, slots=True)
class Place:
    """Where an answer states a required value."""

    start: int
    end: int
    need: Requirement


def places(text: str, required: Iterable[Requirement]) -> list[Place]:
    """All places where values of slots stand in an answer as the facts write them."""
    return [
        Place(m.start(), m.end(), need)
        for need in required
        if need.slot
        for m in re.finditer(rf"(?<!\w){re.escape(need.value)}(?!\w)", text)
    ]


def values_by_slot(facts: Iterable[Facts]) -> Values:
    """The values that slots have in many prompts: where invented ones are taken from."""
    found: dict[str, set[str]] = defaultdict(set)
    for one in facts:
        for record in one.records:
            for slot, value in record.fields:
                found[slot].add(value)
    return {slot: sorted(values) for slot, values in found.items()}


def _shape(value: str) -> str:
    """What a value looks like: "7:30 pm" and "9:15 am" alike, "$25" otherwise."""
    return re.sub(r"[A-Za-z]+", "a", re.sub(r"\d+", "9", value))


class Changer:
    """Changes answers to one prompt. `others` are right answers to other prompts."""

    def __init__(
        self, facts: Facts, required: Sequence[Requirement], verifier: FactsVerifier,
        values: Values, said: str, earlier: Sequence[str], others: Sequence[str],
    ) -> None:  # fmt: skip
        self._records = {r.name: r for r in facts.records}
        self._required, self._verifier, self._values = required, verifier, values
        self._said = said.lower()  # the whole conversation
        self._earlier, self._others = list(earlier), list(others)

    def change(self, text: str, kind: str, rng: random.Random) -> str | None:
        """The answer with one error of a kind of CHANGES; None where none was found."""
        before = self._verifier.check(text)
        for _ in range(4):
            changed = getattr(self, f"_{kind}")(text, rng)
            if changed is None or changed == text:
                continue
            after = self._verifier.check(changed)
            if after.slot_errors > before.slot_errors and after.score < before.score:
                return str(changed)
        return None

    def _replace(self, text: str, rng: random.Random, choose: str) -> str | None:
        found = places(text, self._required)
        if not found:
            return None
        place = rng.choice(found)
        options = getattr(self, choose)(place.need)
        options = [v for v in options if v.lower() != place.need.value.lower()]
        alike = [v for v in options if _shape(v) == _shape(place.need.value)]
        if not options:
            return None
        value = rng.choice(alike if alike and rng.random() < 0.75 else options)
        return text[: place.start] + value + text[place.end :]

    def _own(self, need: Requirement) -> Record | None:
        return self._records.get(need.record)

    def _of_other_records(self, need: Requirement) -> list[str]:
        return [
            value
            for record in self._records.values()
            if record.name not in (need.record, GUEST)
            for slot, value in record.fields
            if slot == need.slot
        ]

    def _of_other_slots(self, need: Requirement) -> list[str]:
        own = self._own(need)
        return [v for slot, v in own.fields if slot != need.slot] if own else []

    def _from_nowhere(self, need: Requirement) -> list[str]:
        known = [v for v in self._values.get(need.slot, ()) if v.lower() not in self._said]
        return known

    def _wrong_record(self, text: str, rng: random.Random) -> str | None:
        return self._replace(text, rng, "_of_other_records")

    def _wrong_slot(self, text: str, rng: random.Random) -> str | None:
        return self._replace(text, rng, "_of_other_slots")

    def _invented(self, text: str, rng: random.Random) -> str | None:
        found = places(text, self._required)
        digits = [p for p in found if re.search(r"\d", p.need.value)]
        if not digits or rng.random() < 0.5:
            return self._replace(text, rng, "_from_nowhere")
        place = rng.choice(digits)  # one digit of a number, the likeliest slip of a small model
        spots = [i for i in range(place.start, place.end) if text[i].isdigit()]
        at = rng.choice(spots)
        return text[:at] + rng.choice("0123456789") + text[at + 1 :]

    def _missing(self, text: str, rng: random.Random) -> str | None:
        sentences = re.split(r"(?<=[.!?])\s+", text)
        if len(sentences) < 2:
            return None
        if rng.random() < 0.3:  # it ends too early
            return " ".join(sentences[: rng.randint(1, len(sentences) - 1)])
        gone = rng.randrange(len(sentences))
        return " ".join(s for i, s in enumerate(sentences) if i != gone)

    def _other_request(self, text: str, rng: random.Random) -> str | None:
        draw = rng.random()
        if draw < 0.5:
            swapped = self._of_another(text, rng)
            if swapped is not None:
                return swapped
        if self._earlier and draw < 0.85:
            return rng.choice(self._earlier)
        return rng.choice(self._others) if self._others else None

    def _of_another(self, text: str, rng: random.Random) -> str | None:
        """The same answer about another record of the same noun, all of it true of that one."""
        names = {n.record for n in self._required} - {GUEST}
        if len(names) != 1:
            return None
        own = self._records.get(names.pop())
        if own is None:
            return None
        others = [r for r in self._records.values() if r.noun == own.noun and r.name != own.name]
        if not others:
            return None
        other = rng.choice(others)
        known = dict(other.fields)
        swaps = {own.name: other.name}
        swaps |= {value: known[slot] for slot, value in own.fields if slot in known}
        longest = sorted(swaps, key=len, reverse=True)
        pattern = "|".join(map(re.escape, longest))
        return re.sub(rf"(?<!\w)(?:{pattern})(?!\w)", lambda m: swaps[m[0]], text)
