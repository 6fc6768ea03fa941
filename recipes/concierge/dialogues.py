"""Read the human dialogues and cut the values out of them, leaving numbered holes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .datafiles import raw_dialogues
from .values import RELATIVE_DATE, kind_of, pool_of, surface_forms

NAME_SLOTS = {
    "restaurant_name": "restaurant",
    "hotel_name": "hotel",
    "place_name": "hotel",
    "event_name": "event",
    "movie_name": "movie",
    "airlines": "flight",
    "car_name": "car",
    "stylist_name": "hair stylist",
    "dentist_name": "dentist",
    "doctor_name": "doctor",
    "attraction_name": "attraction",
    "therapist_name": "therapist",
    "title": "movie",
    "movie_title": "movie",
}
NAMELESS = {"Buses": "bus", "RideSharing": "ride", "Hotels_2": "house", "Trains": "train"}
TRAVEL = (
    "Restaurants",
    "Hotels",
    "Travel",
    "Flights",
    "Buses",
    "RentalCars",
    "RideSharing",
    "Events",
    "Movies",
    "Services",
    "Trains",
)
TITLED = re.compile(r"(?<=\d)(?:St|Nd|Rd|Th)\b|(?<=\w')[ST]\b")
STATED = {"INFORM", "OFFER", "CONFIRM"}
COUNT = "INFORM_COUNT"


@dataclass(slots=True)
class Turn:
    """One turn; ``text`` has holes like ``{3}``, and ``stated`` lists them.

    ``acts`` names the hole of each slot by dialogue act, ``asked`` the slots a user asks for;
    ``needs`` are the (slot, hole) parameters of the service call made before a system turn.
    """

    speaker: str
    text: str
    stated: list[int] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    usable: bool = True
    seeks: bool = False
    acts: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    noun: str = ""
    method: str = ""
    needs: list[tuple[str, int]] = field(default_factory=list)


@dataclass(slots=True)
class Value:
    """What stood in a hole; a ``fixed`` one is also written otherwise, so it must not change."""

    slot: str
    kind: str
    text: str
    fixed: bool = False


@dataclass(slots=True)
class Record:
    """One offer found by a search at ``turn``: fields are (slot, hole), flags (slot, yes or no)."""

    turn: int
    noun: str
    name: int | None
    fields: list[tuple[str, int]]
    flags: list[tuple[str, bool]]


@dataclass(slots=True)
class Dialogue:
    """A dialogue with its values cut out."""

    id: str
    services: list[str]
    turns: list[Turn]
    values: list[Value]
    records: list[Record]


def read_dialogues(folder: Path, split: str) -> Iterator[Dialogue]:
    """Yield the dialogues of a split that are all about travel, with their values cut out."""
    for raw in raw_dialogues(folder, split):
        if all(service.startswith(TRAVEL) for service in raw["services"]):
            yield cut_values(raw)


class _Cutter:
    """Gathers the values of one dialogue and replaces them in its texts by holes."""

    def __init__(self) -> None:
        self.values: list[Value] = []
        self._holes: dict[tuple[str, str], int] = {}

    def hole(self, slot: str, text: str) -> int:
        """Return the hole of a value, written as people do: 20th, not the data's 20Th."""
        text = TITLED.sub(lambda match: match.group().lower(), text)
        kind = kind_of(slot, text)
        key = (kind, text.lower())
        if key not in self._holes:
            self._holes[key] = len(self.values)
            self.values.append(Value(slot, kind, text))
        return self._holes[key]

    def cut(self, text: str, stated: list[int]) -> str:
        """Replace stated values in any of their forms, and names wherever they occur."""
        spans: list[tuple[int, int, int]] = []
        free = [True] * len(text)
        named = [
            i
            for i, v in enumerate(self.values)
            if v.kind in ("text", "address", "phone") and len(v.text) > 3
        ]
        order = sorted(set(stated) | set(named), key=lambda i: -len(self.values[i].text))
        for index in order:
            value = self.values[index]
            forms = [re.escape(form) for form in surface_forms(value.kind, value.text)]
            pattern = r"(?<![\w$])(?:" + "|".join(forms) + r")(?!\w|[:.]\d)"
            found = list(re.finditer(pattern, text, re.IGNORECASE))
            if not found and value.kind == "date" and index in stated:
                found = list(RELATIVE_DATE.finditer(text))[:1]
            kept = [m for m in found if all(free[m.start() : m.end()])]
            for match in kept:
                spans.append((match.start(), match.end(), index))
                free[match.start() : match.end()] = [False] * (match.end() - match.start())
            if not kept and index in stated:
                value.fixed = True
        for start, end, index in sorted(spans, reverse=True):
            text = f"{text[:start]}{{{index}}}{text[end:]}"
        return text


def _noun(slots: Iterable[str], services: list[str]) -> tuple[str | None, str | None]:
    """Return the slot that names a record and the noun for it; (None, None) where unknown."""
    name_slot = next((slot for slot in NAME_SLOTS if slot in slots), None)
    if name_slot is not None:
        return name_slot, NAME_SLOTS[name_slot]
    nameless = (n for s, n in NAMELESS.items() if any(x.startswith(s) for x in services))
    return None, next(nameless, None)


def _record(
    turn: int, result: dict[str, str], services: list[str], cutter: _Cutter
) -> Record | None:
    name_slot, noun = _noun(result, services)
    if noun is None:
        return None
    fields, flags = [], []
    for slot, value in result.items():
        if value in ("True", "False"):
            flags.append((slot, value == "True"))
        elif value and value != "dontcare" and slot not in (name_slot, "intent"):
            fields.append((slot, cutter.hole(slot, value)))
    name = cutter.hole(name_slot, result[name_slot]) if name_slot else None
    return Record(turn, noun, name, fields, flags)


def _read_acts(raw: dict[str, Any], turn: Turn, cutter: _Cutter) -> None:
    """Fill in what ``turn`` states, asks for and knows, from the annotation ``raw``."""
    for act, slot, values in raw["acts"]:
        if act == "REQUEST" and turn.speaker == "user":
            turn.asked.append(slot)
        if act not in STATED and act != COUNT:
            continue
        if values in (["True"], ["False"]):
            turn.flags.append(slot)
        elif values and slot != "intent" and values[0] != "dontcare":
            turn.acts.setdefault(act, []).append((slot, cutter.hole(slot, values[0])))
    call = raw.get("call") or {}
    turn.method = call.get("method", "")
    for slot, value in call.get("parameters", {}).items():
        if value not in ("True", "False", "dontcare", ""):
            turn.needs.append((slot, cutter.hole(slot, value)))
    turn.stated = [hole for pairs in turn.acts.values() for _, hole in pairs]
    turn.seeks = any(act in ("OFFER", "INFORM") for act, _, _ in raw["acts"])


def cut_values(raw: dict[str, Any]) -> Dialogue:
    """Turn a raw dialogue into texts with holes, a value table and the records that were found."""
    cutter = _Cutter()
    records: list[Record] = []
    turns: list[Turn] = []
    noun = ""
    for position, turn in enumerate(raw["turns"]):
        for result in turn.get("results", [])[:4]:
            record = _record(position, result, raw["services"], cutter)
            if record is not None:
                records.append(record)
                noun = record.noun
        turns.append(Turn(turn["speaker"], ""))
        _read_acts(turn, turns[-1], cutter)
        slots = [slot for pairs in turns[-1].acts.values() for slot, _ in pairs]
        turns[-1].noun = NAME_SLOTS.get(next((s for s in NAME_SLOTS if s in slots), ""), noun)
    for raw_turn, turn in zip(raw["turns"], turns, strict=True):
        holes = turn.stated
        plain = re.sub(r"\s+", " ", raw_turn["text"].replace("{", "(").replace("}", ")")).strip()
        turn.text = cutter.cut(plain, holes)
        present = {int(n) for n in re.findall(r"\{(\d+)\}", turn.text)}
        failed = any(act == "NOTIFY_FAILURE" for act, _, _ in raw_turn["acts"])
        # Facts do not tell why something failed.
        turn.usable = (
            not failed and len(plain.split()) <= 45 and set(holes) <= present and plain.isascii()
        )
        turn.stated = sorted(present)
    return Dialogue(raw["id"], raw["services"], turns, cutter.values, records)


def keep_required_needs(dialogues: Iterable[Dialogue]) -> None:
    """Leave in ``needs`` what every call of the same method had: what must be known for it."""
    dialogues = list(dialogues)
    common: dict[str, set[str]] = {}
    for turn in (turn for d in dialogues for turn in d.turns if turn.method):
        slots = {slot for slot, _ in turn.needs}
        common[turn.method] = common.get(turn.method, slots) & slots
    for turn in (turn for d in dialogues for turn in d.turns if turn.method):
        turn.needs = [(slot, hole) for slot, hole in turn.needs if slot in common[turn.method]]


def collect_pools(dialogues: list[Dialogue]) -> dict[str, list[str]]:
    """Return the sorted text values seen in each pool."""
    pools: dict[str, set[str]] = defaultdict(set)
    for dialogue in dialogues:
        for value in dialogue.values:
            if value.kind in ("text", "address") and len(value.text) < 40 and value.text.isascii():
                pool = pool_of(value.slot)
                rides = any(s.startswith("RideSharing") for s in dialogue.services)
                if pool == "city" and rides:
                    continue  # rides go to restaurants and halls as well
                if pool != "city" or re.fullmatch(r"[A-Za-z.']+(?: [A-Za-z.']+){0,2}", value.text):
                    pools[pool].add(value.text)
    return {name: sorted(texts) for name, texts in sorted(pools.items())}
