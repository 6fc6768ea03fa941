"""Facts: records with values, written in a system message as short sentences, one record a line.

    Blue Door is a restaurant. For Blue Door the city is Porto. Blue Door has live music.
    There is a bus. For the bus the fare is $25.
    For the guest the number of people is 4.
    When you suggest a restaurant, say the city and the rating.

The last line is an instruction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tenfold.types import Message

GUEST = "the guest"
# Names have up to 120 characters, nouns 40 and slots 60: without bounds hostile lines read slowly.
_NOUN = r"(?P<noun>[a-z][a-z -]{0,39})"
_OPENING = re.compile(rf"(?P<name>\S.{{0,119}}?) is an? {_NOUN}\.(?=\s|$)")
_NAMELESS = re.compile(rf"There is an? {_NOUN}\.(?=\s|$)")
_BARE = re.compile(r"For (?P<name>the guest|\S.{0,119}?) the [^.]{1,60}? is ")
# Records written on one line: an opening that is followed by a field of the same name.
_NEXT_RECORD = re.compile(
    r"(?<=\.)\s+(?=(?P<name>[^\s.](?:[^.]|(?<=Dr)\.|(?<=Mrs)\.|(?<=St)\.){0,119}?) is an? "
    r"[a-z][a-z -]{0,39}\.\s+(?:For )?(?P=name) |There is an? [a-z][a-z -]{0,39}\. For the )"
)


@dataclass(frozen=True, slots=True)
class Record:
    """One record: name "Blue Door", "the bus" or "the guest", noun "restaurant", "bus" or "guest",
    (slot, value) fields, and yes-or-no properties as they are written ("has live music")."""

    name: str
    noun: str
    fields: tuple[tuple[str, str], ...]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """Records, and lines that are no facts."""

    records: tuple[Record, ...]
    instructions: tuple[str, ...] = ()

    def nouns(self) -> dict[str, list[Record]]:
        """Records by noun; the guest is none of them."""
        found: dict[str, list[Record]] = {}
        for record in self.records:
            if record.noun and record.name != GUEST:
                found.setdefault(record.noun, []).append(record)
        return found


@dataclass(frozen=True, slots=True)
class Requirement:
    """What an answer must state. Without a slot it is the record's name; the record of what the
    guest said is "the guest"."""

    record: str
    slot: str
    value: str


def facts_of(messages: Iterable[Message]) -> Facts:
    """The facts in the system messages of a chat."""
    texts = [m.content or "" for m in messages if m.role in ("system", "developer")]
    return parse_facts("\n".join(texts))


def parse_facts(text: str) -> Facts:
    """Reads facts. Lines that are none are kept as instructions."""
    records: list[Record] = []
    instructions: list[str] = []
    for line in text.splitlines():
        for part in _NEXT_RECORD.sub("\n", line.strip()).splitlines():
            record, others = _read_record(part)
            if record is not None:
                records.append(record)
            instructions += others
    return Facts(tuple(records), tuple(instructions))


def _read_record(line: str) -> tuple[Record | None, list[str]]:
    """The record of a line, and what else the line holds."""
    nameless, named = _NAMELESS.match(line), _OPENING.match(line)
    if nameless:
        name, noun, rest = f"the {nameless['noun']}", nameless["noun"], line[nameless.end() :]
    elif named:
        name, noun, rest = named["name"], named["noun"], line[named.end() :]
    elif bare := _BARE.match(line):
        name, rest = bare["name"], line
        noun = name.removeprefix("the ") if name.startswith("the ") else ""
    else:
        return None, [line] if line else []
    field = f"For {name} the "
    subject = f"{name[0].upper()}{name[1:]} "
    fields: list[tuple[str, str]] = []
    flags: list[str] = []
    others: list[str] = []
    # A value may hold dots: it ends where the next sentence about this record begins.
    for sentence in re.split(
        rf"\.\s+(?={re.escape(field)}|{re.escape(subject)})|\.\s*$", rest.strip()
    ):
        slot, is_, value = sentence.removeprefix(field).partition(" is ")
        if sentence.startswith(field) and is_:
            fields.append((slot, value.strip()))
        elif sentence.startswith(subject):
            flags.append(sentence.removeprefix(subject))
        elif sentence:
            others.append(sentence)
    if not named and not nameless and not fields:
        return None, [line]
    return Record(name, noun, tuple(fields), tuple(flags)), others


def plural(noun: str) -> str:
    """The plural of a noun: buses, cities, hotels."""
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"
