"""Turn a human dialogue with holes into a training episode: facts, then turns with fresh values."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .dialogues import Dialogue, Record, Turn
from .facts import FLAG_WORDS, FactRecord, slot_words, write_facts
from .values import fresh_value, surface_forms


@dataclass(slots=True)
class Message:
    """One chat message; ``values`` are the (start, end) characters of values to look up.

    ``required`` lists the (record name, slot words, value) that the request asks for, with slot
    words "" where the record itself must be named; ``kind`` says what sort of answer this is.
    """

    role: str
    text: str
    values: list[tuple[int, int]] = field(default_factory=list)
    required: list[tuple[str, str, str]] = field(default_factory=list)
    kind: str = ""


@dataclass(slots=True)
class Episode:
    """A conversation to learn from, with how hard its look-ups are."""

    messages: list[Message]
    family: str
    records: int
    slots: int

    def chat(self) -> list[dict[str, str]]:
        """Return the messages as a chat template takes them."""
        return [{"role": m.role, "content": m.text} for m in self.messages]


@dataclass(frozen=True, slots=True)
class Limits:
    """How many records, fields per record and turns an episode may have."""

    records: int = 3
    fields: int = 5
    turns: int = 8


def fill(
    template: str, written: Mapping[int, str], keep: set[int]
) -> tuple[str, list[tuple[int, int]]]:
    """Fill the holes of ``template``; return the text and where the values of ``keep`` stand."""
    text, spans, last = "", [], 0
    for match in re.finditer(r"\{(\d+)\}", template):
        text += template[last : match.start()]
        hole = int(match.group(1))
        if hole in keep:
            spans.append((len(text), len(text) + len(written[hole])))
        text += written[hole]
        last = match.end()
    text += template[last:]
    return text[:1].upper() + text[1:], spans


def choose_span(dialogue: Dialogue, limit: int, rng: random.Random) -> tuple[int, int] | None:
    """Choose turns from a user to an assistant turn, preferring to start where a value is told."""
    turns = dialogue.turns
    starts, weights = [], []
    for i in range(len(turns) - 1):
        if turns[i].speaker == "user" and turns[i + 1].speaker == "system" and turns[i + 1].usable:
            starts.append(i)
            weights.append(4 if turns[i + 1].seeks else 1)
    if not starts:
        return None
    start = rng.choices(starts, weights)[0]
    end = start + 2
    while end + 1 < len(turns) and end - start < limit and turns[end + 1].usable:
        end += 2
    return start, end


def _written_values(
    dialogue: Dialogue, pools: Mapping[str, Sequence[str]], rng: random.Random
) -> dict[int, str]:
    """Draw a fresh value for every hole, no two alike where that can be helped."""
    written: dict[int, str] = {}
    taken: set[str] = set()
    for index, value in enumerate(dialogue.values):
        text = surface_forms(value.kind, value.text)[0]
        if not value.fixed:
            for _ in range(6):
                text = fresh_value(value.kind, value.slot, value.text, pools, rng)
                if text not in taken:
                    break
        written[index] = text
        taken.add(text)
    return written


def _merged_records(records: list[Record]) -> list[Record]:
    """Join records of the same name, the latest search first; keep one record without a name."""
    merged: dict[int | None, Record] = {}
    for record in sorted(records, key=lambda r: -r.turn):
        known = merged.get(record.name)
        if known is None:
            merged[record.name] = Record(
                record.turn, record.noun, record.name, list(record.fields), list(record.flags)
            )
        elif record.name is not None:
            slots = {slot for slot, _ in known.fields}
            known.fields += [f for f in record.fields if f[0] not in slots]
            flags = {slot for slot, _ in known.flags}
            known.flags += [f for f in record.flags if f[0] not in flags]
    return list(merged.values())


def _choose_records(
    candidates: list[Record], named: set[int], needed: set[int], limit: int, rng: random.Random
) -> list[Record]:
    chosen = [r for r in candidates if r.name in named]
    covered = {hole for r in chosen for _, hole in r.fields}
    for record in candidates:
        gained = {hole for _, hole in record.fields} & (needed - covered)
        if record not in chosen and gained and (record.name is None or not chosen):
            chosen.append(record)
            covered |= gained
    others = [r for r in candidates if r not in chosen and r.name is not None]
    rng.shuffle(others)
    return chosen + others[: max(0, limit - len(chosen))]


def first_mention(turns: list[Turn], name: int | None) -> int:
    """Return the turn that names a record first; records never named come last, in their order."""
    return next((i for i, turn in enumerate(turns) if name in turn.stated), len(turns))


def human_episode(
    dialogue: Dialogue, pools: Mapping[str, Sequence[str]], limits: Limits, rng: random.Random
) -> Episode | None:
    """Return an episode cut from ``dialogue``, or None where no part of it fits ``limits``."""
    span = choose_span(dialogue, limits.turns, rng)
    if span is None:
        return None
    turns = dialogue.turns[span[0] : span[1]]
    written = _written_values(dialogue, pools, rng)
    answers = [t for t in turns if t.speaker == "system"]
    needed = {hole for t in answers for hole in t.stated}
    asked = {slot for t in answers for slot in t.flags}
    candidates = _merged_records([r for r in dialogue.records if r.turn < span[1]])
    chosen = _choose_records(candidates, needed, needed, limits.records, rng)
    if len(chosen) > limits.records:
        return None
    chosen.sort(key=lambda r: first_mention(turns, r.name))
    facts = []
    looked_up: set[int] = set()
    wanted_slots = {slot for r in chosen for slot, hole in r.fields if hole in needed}
    pool = sorted({slot for r in chosen for slot, _ in r.fields} - wanted_slots)
    rng.shuffle(pool)
    shown = wanted_slots | set(pool[: max(0, limits.fields - len(wanted_slots))])
    for record in chosen:
        fields = [(slot, hole) for slot, hole in record.fields if slot in shown]
        looked_up |= {hole for _, hole in fields} | (
            {record.name} if record.name is not None else set()
        )
        flags = [
            (s, y)
            for s, y in record.flags
            if s in FLAG_WORDS and (s in asked or rng.random() < 0.2)
        ]
        name = written[record.name] if record.name is not None else f"the {record.noun}"
        facts.append(
            FactRecord(name, record.noun, [(slot_words(s), written[h]) for s, h in fields], flags)
        )
    guest: dict[int, str] = {}
    said: set[int] = set()
    for turn in turns:
        if turn.speaker == "system":
            for hole in turn.stated:
                if hole not in said | looked_up:
                    guest[hole] = slot_words(dialogue.values[hole].slot)
        said |= set(turn.stated)
    if len(guest) > 6:
        return None
    system = write_facts(facts, [(words, written[hole]) for hole, words in guest.items()])
    messages = [Message("system", system)] if system else []
    for turn in turns:
        assistant = turn.speaker == "system"
        text, spans = fill(turn.text, written, set(turn.stated) if assistant else set())
        messages.append(Message("assistant" if assistant else "user", text, spans))
    fields_count = max((len(f.fields) for f in facts), default=0)
    return Episode(messages, "human", len(facts), fields_count)
