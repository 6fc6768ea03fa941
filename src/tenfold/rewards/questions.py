"""What a question asks of the facts: (record, slot, value) triples, by rules over its words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from tenfold.rewards.lexing import keys, lex
from tenfold.rewards.phrases import PhraseTree
from tenfold.rewards.records import GUEST, Facts, Record, Requirement, facts_of, plural
from tenfold.types import Message


def _pattern(alternatives: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{alternatives})\b", re.IGNORECASE)


_EVERYTHING = _pattern(
    r"(?<!for )(?<!that's )(?<!be )(?<!is )everything|all (?:of )?the (?:details|information|facts)"
    r"|all details|every detail|(?:everything|all) (?:that )?you (?:know|have)"
    r"|(?:full|the) details|recap|summary|summari[sz]e|(?:tell me|know) (?:more |all )?"
    r"about|what do you know"
)
_RECAP = _pattern("recap|summary|summari[sz]e")
_COMPARE = _pattern("compare|comparison|differences? between|side by side")
_VERSUS = _pattern("versus|vs")
_ALL = _pattern(
    "each|every|list|options|choices|all (?:of )?(?:the|your|my|them|those)|them all|both"
)
_EACH_OF = _pattern("compare|comparison|each|both|of the two")
_EACH = _pattern("which|what")
_OTHER = _pattern("other|others|else|another|more")
_ANY_OF = _pattern("which|what|any|a|an")
_ASKING = _pattern(
    "what|what's|which|where|when|how|who|tell|give|show|list|name|say|need the|want the|like the"
    "|know|compare|please|can you|could you|and the|recap|confirm|options|choices"
    "|read|write|repeat|put|make"
)
_CLOSING = _pattern("thanks|thank you|bye|goodbye|that's (?:all|it|everything)|be all")
_YES_NO = re.compile(r"\s*(?:is|are|does|do|can|could|has|have|will)\b(?! you| i\b)", re.IGNORECASE)
# How people ask for a slot without its name: the first of the slots that the record has is meant.
_MEANT: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        r"how much|what .*\bcosts?\b|how expensive|\bprice\b",
        ("price", "total price", "price per night", "price per ticket", "price per day", "fare",
         "ride fare", "rent", "total"),
    ),
    (r"how (?:can|do|could) i (?:call|reach)|to call|what number", ("phone number",)),
    (r"where (?:is|are)|how do i find|located", ("address", "venue", "city", "pickup location")),
    (r"(?:which|what) city", ("city",)),
    (r"when .*\bstart|what time .*\bstart", ("time", "start time")),
    (r"(?:when|what time) .*\b(?:leave|depart)", ("departure time", "leaving time")),
    (r"(?:when|what time) .*\b(?:arrive|get there)", ("arrival time",)),
    (r"(?:when|what time) .*\bopen", ("opening time",)),
    (r"(?:what|which) day|on what date", ("date", "departure date")),
    (r"\brated\b|how good", ("rating", "star rating")),
    (r"(?:kind|type) of food", ("cuisine", "category")),
    (r"how many stops", ("number of stops",)),
)  # fmt: skip
_LOCATED = _pattern("where|located|location")
_MEANT_COMPILED = tuple((re.compile(p, re.IGNORECASE), slots) for p, slots in _MEANT)


class _Meaning(NamedTuple):
    kind: str  # record, slot, noun, nouns or value
    what: str


class _Question:
    """The last user message, with what of the facts it names."""

    def __init__(self, messages: Sequence[Message], facts: Facts, last: int) -> None:
        self.text = messages[last].content or ""
        self.facts = facts
        self.records = [r for r in facts.records if r.name != GUEST]
        self._tree = _tree_of(facts)
        named = self._meanings(self.text)
        self.named = self._records(named)
        self.slots = self._named_slots()
        self.nouns = [m.what for m in named if m.kind in ("noun", "nouns")]
        self.plural = any(m.kind == "nouns" for m in named)
        self.values = [m.what for m in named if m.kind == "value"]
        self._earlier = messages[:last]

    def _named_slots(self) -> list[str]:
        return [slot for _, _, slot in self._slot_places()]

    def _slot_places(self) -> list[tuple[int, int, str]]:
        """The slots named with their tokens, but neither "origin" in "the origin station" nor
        "venue" in "the venue's address"."""
        tokens = lex(self.text)
        found = [
            (f.start, f.end, m.what)
            for f in self._tree.find(tokens)
            for m in f.meanings
            if m.kind == "slot"
        ]
        heads = {key for r in self.facts.records for slot, _ in r.fields for key in keys(slot)[-1:]}
        heads |= {plural(head) for head in heads} | {"'s"}

        def whole(end: int) -> bool:
            if end == len(tokens) or tokens[end].key not in heads:
                return True
            return bool(self.text[tokens[end - 1].end : tokens[end].start].strip())  # "city, date"

        return [p for p in found if whole(p[1])]

    def pairs(self) -> list[tuple[str, str]] | None:
        """Each slot named with the record named next after it: "the city of Blue Door and the
        rating of Red House". None where they do not pair so, every one."""
        tokens = lex(self.text)
        places = [(start, end, "slot", slot) for start, end, slot in self._slot_places()]
        for f in self._tree.find(tokens):
            places += [(f.start, f.end, m.kind, m.what) for m in f.meanings if m.kind == "record"]
        places.sort()
        found: list[tuple[str, str]] = []
        open_slots: list[str] = []
        before = 0
        for start, end, kind, what in places:
            if open_slots:
                gap = self.text[tokens[before - 1].end : tokens[start].start]
                if set(gap) & set(".?!;:") or (kind == "record" and "," in gap):
                    return None
            before = end
            if kind == "slot":
                open_slots.append(what)
            elif not open_slots:
                return None
            else:
                found += [(what, slot) for slot in open_slots]
                open_slots = []
        return None if open_slots else found

    def conditions(self) -> list[tuple[str, str]]:
        """Slots with the value they must have: "the car type should be Standard"."""
        tokens = lex(self.text)
        values = [
            (f.start, m.what)
            for f in self._tree.find(tokens)
            for m in f.meanings
            if m.kind == "value"
        ]
        return [
            (slot, value)
            for _, end, slot in self._slot_places()
            for start, value in values
            if 0 <= start - end <= 3
            and not set(self.text[tokens[end - 1].end : tokens[start].start]) & set(".,?!;:")
            and any((slot, value) in r.fields for r in self.records)
        ]

    def is_asking(self) -> bool:
        """Whether anything is asked: not with "Thanks, that's all" or "The date is May 3rd"."""
        if "?" in self.text:
            return True
        return bool(_ASKING.search(self.text)) and not _CLOSING.search(self.text)

    def _meanings(self, text: str) -> list[_Meaning]:
        return [m for phrase in self._tree.find(lex(text)) for m in phrase.meanings]

    def _records(self, meanings: Sequence[_Meaning]) -> list[Record]:
        names = {m.what for m in meanings if m.kind == "record"}
        return [r for r in self.records if r.name in names]

    def subjects(self) -> list[Record]:
        """The records that are asked about: those named, the only one there can be, or those that
        an earlier message named last."""
        if self.named:
            return self.named
        of_noun = [r for r in self.records if r.noun in self.nouns]
        if len(of_noun or self.records) == 1:
            return of_noun or self.records
        for message in reversed(self._earlier):
            if message.role in ("user", "assistant"):
                named = self._records(self._meanings(message.content or ""))
                if named and (not of_noun or set(named) <= set(of_noun)):
                    return named if len(named) == 1 else []
        return []

    def kin(self) -> list[Record]:
        """Every record of the noun in question, or all where there is one noun only."""
        nouns = self.nouns or sorted(self.facts.nouns())
        return [r for r in self.records if r.noun == nouns[0]] if len(set(nouns)) == 1 else []

    def meant_slots(self, record: Record) -> list[str]:
        """The slots of a record that the question names or means."""
        own = [slot for slot, _ in record.fields]
        if set(self.slots) == {"venue"} and "address" in own and _LOCATED.search(self.text):
            return ["address"]
        if self.slots:
            return [slot for slot in own if slot in self.slots]
        for pattern, slots in _MEANT_COMPILED:
            if pattern.search(self.text) and (meant := [s for s in slots if s in own]):
                return meant[:1]
        return []


def requested(messages: Sequence[Message], facts: Facts | None = None) -> tuple[Requirement, ...]:
    """What the last user message asks for; nothing where no rule applies. `facts` are those of the
    messages, where they are read already."""
    last = max((i for i, m in enumerate(messages) if m.role == "user"), default=-1)
    facts = facts_of(messages) if facts is None else facts
    if last < 0 or not facts.records:
        return ()
    question = _Question(messages, facts, last)
    if not question.is_asking():
        return ()
    for rule in (_compared, _everything, _found_by_value, _listed, _single):
        found = rule(question)
        if found is not None:
            return tuple(dict.fromkeys(found))
    return ()


def _compared(question: _Question) -> list[Requirement] | None:
    several = len(question.named) > 1
    if not _COMPARE.search(question.text) and not (several and _VERSUS.search(question.text)):
        return None
    records = question.named if several else question.kin()
    if len(records) < 2:
        return None
    shared = set.intersection(*({slot for slot, _ in r.fields} for r in records))
    wanted = set(question.slots) or shared
    return [need for r in records for need in _fields(r, wanted)]


def _everything(question: _Question) -> list[Requirement] | None:
    if not _EVERYTHING.search(question.text) or question.slots:
        return None
    recap = _RECAP.search(question.text)
    records = question.subjects() or (question.records if recap else [])
    guests = [r for r in question.facts.records if r.name == GUEST] if recap else []
    return [need for r in (*records, *guests) for need in _fields(r, None)] or None


def _found_by_value(question: _Question) -> list[Requirement] | None:
    """ "Which restaurant has Porto as the city?" asks for the names of those in Porto."""
    if question.named or not question.nouns or not question.values or len(question.slots) != 1:
        return None
    if not _ANY_OF.search(question.text):
        return None
    wanted = {keys(value) for value in question.values}
    return [
        _name(r)
        for r in question.kin()
        if any(slot == question.slots[0] and keys(value) in wanted for slot, value in r.fields)
    ] or None


def _listed(question: _Question) -> list[Requirement] | None:
    text = question.text
    broad = _ALL.search(text) or (question.plural and _EACH.search(text))
    if question.named or not broad or _OTHER.search(text) or _single_of_many(question):
        return None
    conditions = question.conditions()
    fitting = [r for r in question.kin() if all(c in r.fields for c in conditions)]
    slots = set(question.slots) - {slot for slot, _ in conditions}
    if not slots:
        return [_name(r) for r in fitting if not r.name.startswith("the ")] or None
    return [need for r in fitting for need in _fields(r, slots)] or None


def _single_of_many(question: _Question) -> bool:
    """ "What are all the slots of the hotel?" is about one record, unless it says each."""
    return bool(question.slots) and len(question.subjects()) == 1 and not question.plural


def _single(question: _Question) -> list[Requirement] | None:
    if not question.slots and _YES_NO.match(question.text):
        return None
    if len(question.named) > 1 and len(set(question.slots)) > 1:
        pairs = question.pairs()
        if pairs is None and not _EACH_OF.search(question.text):
            return []
        if pairs is not None:
            return [
                need
                for record in question.named
                for need in _fields(record, {slot for name, slot in pairs if name == record.name})
            ]
    found = []
    for record in question.subjects():
        found += _fields(record, set(question.meant_slots(record)))
    return found or None


def _fields(record: Record, slots: set[str] | None) -> list[Requirement]:
    return [
        Requirement(record.name, slot, value)
        for slot, value in record.fields
        if slots is None or slot in slots
    ]


def _name(record: Record) -> Requirement:
    return Requirement(record.name, "", record.name)


def _tree_of(facts: Facts) -> PhraseTree[_Meaning]:
    tree: PhraseTree[_Meaning] = PhraseTree()
    for record in facts.records:
        if record.name != GUEST:
            tree.add(keys(record.name), _Meaning("record", record.name))
        for slot, value in record.fields:
            tree.add(keys(slot), _Meaning("slot", slot))
            tree.add(keys(plural(slot)), _Meaning("slot", slot))
            tree.add(keys(value), _Meaning("value", value))
    for noun in facts.nouns():
        tree.add(keys(noun), _Meaning("noun", noun))
        tree.add(keys(plural(noun)), _Meaning("nouns", noun))
    return tree
