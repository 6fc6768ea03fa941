"""Read the human dialogues and cut the values out of them, leaving numbered holes."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
STATED = {"INFORM", "OFFER", "CONFIRM"}


class DataError(Exception):
    """The data folder is not set or not complete."""


@dataclass(slots=True)
class Turn:
    """One turn; ``text`` has holes like ``{3}``, and ``stated`` lists them."""

    speaker: str
    text: str
    stated: list[int] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    usable: bool = True
    seeks: bool = False


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


def data_folder() -> Path:
    """Return the folder named by TENFOLD_DATA, or raise DataError saying what is missing."""
    named = os.environ.get("TENFOLD_DATA")
    if not named:
        raise DataError("TENFOLD_DATA is not set: point it at the folder that holds dialogue/")
    folder = Path(named)
    missing = [s for s in ("train", "dev", "test") if not sgd_path(folder, s).is_file()]
    if missing:
        raise DataError(
            f"{folder} lacks " + ", ".join(f"dialogue/sgd-{s}.jsonl.gz" for s in missing)
        )
    return folder


def sgd_path(folder: Path, split: str) -> Path:
    """Return the path of one split of the Schema-Guided Dialogue data."""
    return folder / "dialogue" / f"sgd-{split}.jsonl.gz"


def read_dialogues(folder: Path, split: str) -> Iterator[Dialogue]:
    """Yield the dialogues of a split that are all about travel, with their values cut out."""
    with gzip.open(sgd_path(folder, split), "rt", encoding="utf-8") as lines:
        for line in lines:
            raw = json.loads(line)
            if all(service.startswith(TRAVEL) for service in raw["services"]):
                yield cut_values(raw)


class _Cutter:
    """Gathers the values of one dialogue and replaces them in its texts by holes."""

    def __init__(self) -> None:
        self.values: list[Value] = []
        self._holes: dict[tuple[str, str], int] = {}

    def hole(self, slot: str, text: str) -> int:
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


def _record(
    turn: int, result: dict[str, str], services: list[str], cutter: _Cutter
) -> Record | None:
    name_slot = next((slot for slot in NAME_SLOTS if slot in result), None)
    noun = NAME_SLOTS.get(name_slot or "")
    if noun is None:
        noun = next(
            (n for s, n in NAMELESS.items() if any(x.startswith(s) for x in services)), None
        )
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


def cut_values(raw: dict[str, Any]) -> Dialogue:
    """Turn a raw dialogue into texts with holes, a value table and the records that were found."""
    cutter = _Cutter()
    records: list[Record] = []
    stated: list[list[int]] = []
    flags: list[list[str]] = []
    for position, turn in enumerate(raw["turns"]):
        for result in turn.get("results", [])[:4]:
            record = _record(position, result, raw["services"], cutter)
            if record is not None:
                records.append(record)
        holes, asked = [], []
        for act, slot, values in turn["acts"]:
            if act not in STATED and act != "INFORM_COUNT":
                continue
            if values in (["True"], ["False"]):
                asked.append(slot)
            elif values and slot != "intent" and values[0] != "dontcare":
                holes.append(cutter.hole(slot, values[0]))
        stated.append(holes)
        flags.append(asked)
    turns = []
    for turn, holes, asked in zip(raw["turns"], stated, flags, strict=True):
        plain = re.sub(r"\s+", " ", turn["text"].replace("{", "(").replace("}", ")")).strip()
        text = cutter.cut(plain, holes)
        present = {int(n) for n in re.findall(r"\{(\d+)\}", text)}
        failed = any(act == "NOTIFY_FAILURE" for act, _, _ in turn["acts"])  # facts do not tell why
        fit = not failed and len(plain.split()) <= 45 and set(holes) <= present and plain.isascii()
        seeks = any(a in ("OFFER", "INFORM") for a, _, _ in turn["acts"])
        turns.append(Turn(turn["speaker"], text, sorted(present), asked, fit, seeks))
    return Dialogue(raw["id"], raw["services"], turns, cutter.values, records)


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
