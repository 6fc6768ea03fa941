"""All that the facts let an answer say: phrases for names, values, slots, nouns and properties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from tenfold.rewards.lexing import keys, other_keys
from tenfold.rewards.phrases import PhraseTree
from tenfold.rewards.records import GUEST, Facts, Requirement, plural

Kind = Literal["name", "value", "slot", "noun", "flag"]
_NEGATIONS = {"no", "not", "a", "an"}
_MONEY = ("price", "fare", "rent", "cost", "total")


class Meaning(NamedTuple):
    """What a phrase stands for. Records are numbers; `slot` is a flag's words where it is one.

    A `shy` value looks like an ordinary word ("moderate", "3rd"): said of the wrong record it is
    an error only where the text names its slot.
    """

    kind: Kind
    record: int = -1
    slot: str = ""
    shy: bool = False
    yes: bool = True


class Catalogue:
    """The facts and the requirements of one prompt, ready to be found in answers."""

    def __init__(self, facts: Facts, required: Sequence[Requirement]) -> None:
        self.names: list[str] = []
        self.fields: list[dict[str, set[tuple[str, ...]]]] = []
        self.tree: PhraseTree[Meaning] = PhraseTree()
        self.flags: list[dict[str, bool]] = []
        self._numbers: dict[str, int] = {}
        self.nouns: dict[str, list[int]] = {}
        self._kinds = {r.noun for r in facts.records if r.noun and r.name != GUEST}
        for record in facts.records:
            number = self._number(record.name)
            if record.noun and record.name != GUEST:
                self._add_noun(number, record.noun)
            for slot, value in record.fields:
                self._add_value(number, slot, value)
            for flag in record.flags:
                self._add_flag(number, flag)
        self.guest = self._number(GUEST)
        self.required: dict[tuple[int, str], Requirement] = {}
        for need in required:
            number = self._number(need.record)
            if need.slot:
                self._add_value(number, need.slot, need.value)
            self.required[number, need.slot] = need
        self.subjects = sorted({r for r, _ in self.required if r != self.guest})
        self.others = [i for i in range(len(self.names)) if i != self.guest]

    def only_subject(self) -> tuple[int, ...]:
        """The record an answer is about that names none, where there is one only."""
        if len(self.others) == 1:
            return tuple(self.others)
        return tuple(self.subjects) if len(self.subjects) == 1 else ()

    def _number(self, name: str) -> int:
        key = " ".join(keys(name))
        if key not in self._numbers:
            self._numbers[key] = len(self.names)
            self.names.append(name)
            self.fields.append({})
            self.flags.append({})
            if name != GUEST:
                self.tree.add(keys(name.removeprefix("the ")), Meaning("name", self._numbers[key]))
        return self._numbers[key]

    def _add_noun(self, record: int, noun: str) -> None:
        owners = self.nouns.setdefault(noun, [])
        owners.append(record)
        self.tree.add(keys(noun), Meaning("noun", slot=noun))
        self.tree.add(keys(plural(noun)), Meaning("noun", slot=noun, yes=False))

    def _add_value(self, record: int, slot: str, value: str) -> None:
        written = keys(value)
        self.fields[record].setdefault(slot, set()).add(written)
        if slot not in self._kinds:  # "a Compact car November 15th": the noun, not the guest's car
            self.tree.add(keys(slot), Meaning("slot", slot=slot))
            self.tree.add(keys(plural(slot)), Meaning("slot", slot=slot))
        plain = len(written) == 1 and value.isalpha() and value.islower()
        self.tree.add(written, Meaning("value", record, slot, plain))
        if len(written) == 1:
            for key in other_keys(written[0]):
                vague = key[:2] == "#o"
                self.tree.add((key,), Meaning("value", record, slot, vague))
            if written[0][:2] == "#n" and any(word in slot for word in _MONEY):
                self.tree.add((f"#p{written[0][2:]}",), Meaning("value", record, slot))
        if written == ("#n1",) and slot.startswith("number of "):
            counted = keys(slot)[-1].removesuffix("s")
            self.tree.add(("a", counted), Meaning("value", record, slot))

    def _add_flag(self, record: int, flag: str) -> None:
        words = keys(flag)
        # "has no wifi", "does not welcome pets": what follows the verb is what the text will say.
        rest = words[3:] if words[:2] == ("does", "not") else words[1:]
        yes = "no" not in words and "not" not in words
        while rest and rest[0] in _NEGATIONS:
            rest = rest[1:]
        self.flags[record][" ".join(rest)] = yes
        self.tree.add(rest, Meaning("flag", record, " ".join(rest), yes=yes))
