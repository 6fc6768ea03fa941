"""Turn a human dialogue with holes into a training episode: facts, then turns with fresh values."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .dialogues import Dialogue, Record, Turn
from .facts import FLAG_WORDS, FactRecord, slot_words, write_facts
from .rules import HouseRules, kind_of_turn, read_rules, required_values
from .schemas import alternatives
from .values import fresh_value, surface_forms

Required = tuple[str, str, str]  # record, slot words ("" for its name), value


@dataclass(slots=True)
class Message:
    """One chat message; ``values`` are the (start, end) characters of values to look up.

    ``required`` says what the conversation so far determines that the answer must state, and
    ``kind`` what sort of answer it is ("" where nothing is determined).
    """

    role: str
    text: str
    values: list[tuple[int, int]] = field(default_factory=list)
    required: list[Required] = field(default_factory=list)
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
                text = rng.choice(alternatives(text) or (text,))
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


def known_turns(turns: Sequence[Turn], looked_up: set[int], slots: set[str]) -> int:
    """Return how many turns come before an assistant speaks of a record that is not in the facts.

    That is an offer, or a piece of information about one of ``slots``, that no record holds; what
    else nobody said is told as facts of the guest.
    """
    said: set[int] = set()
    for position, turn in enumerate(turns):
        if turn.speaker == "system":
            told = [(slot, hole) for slot, hole in turn.acts.get("INFORM", ()) if slot in slots]
            told += turn.acts.get("OFFER", ())
            if any(hole not in looked_up | said for _, hole in told):
                return position - 1
        said |= set(turn.stated)
    return len(turns)


def choices_before(
    turns: Sequence[Turn], records: Sequence[Record], before: Sequence[Turn] = ()
) -> list[Record]:
    """Return the named records that ``turns`` speak of as chosen without naming them first.

    Their names were said in ``before``, so the facts have to tell them. Values can be those of
    several records ("1 room"): meant is the one that has most of them, and was named last.
    """
    chosen: list[Record] = []
    named: set[int | None] = set()
    last = {hole: place for place, turn in enumerate(before) for hole in turn.stated}

    def meant(record: Record, told: set[int]) -> tuple[int, int]:
        own = {record.name, *(hole for _, hole in record.fields)}
        return len(told & own), -1 if record.name is None else last.get(record.name, -1)

    for turn in turns:
        offered = {hole for _, hole in turn.acts.get("OFFER", ())}
        if turn.speaker == "system":
            told = {h for act in ("INFORM", "CONFIRM") for _, h in turn.acts.get(act, ())}
            owners = [r for r in records if told & {r.name, *(hole for _, hole in r.fields)}]
            if owners and not any(r.name is None or r.name in named | offered for r in owners):
                chosen.append(max(owners, key=lambda r: meant(r, told)))
                named.add(chosen[-1].name)
        named |= set(turn.stated)
    return chosen


def _guest_facts(
    dialogue: Dialogue, span: tuple[int, int], looked_up: set[int], names: set[int | None]
) -> dict[int, str]:
    """Return what the facts must tell of the guest: slot words by hole.

    That is what a call needs and the guest told before the span, also where a record holds it (but
    not a record's name), and what an answer states although nobody said it and no record holds it
    (a default, a number of matches).
    """
    guest: dict[int, str] = {}
    said: set[int] = set()
    for turn in dialogue.turns[span[0] : span[1]]:
        if turn.speaker == "system":
            stated = [pair for acts in turn.acts.values() for pair in acts]
            untold = [p for p in turn.needs if p[1] not in said | names]
            untold += [p for p in stated if p[1] not in said | looked_up]
            for slot, hole in untold:
                guest.setdefault(hole, slot_words(slot))
        said |= set(turn.stated)
    return guest


def _facts(
    dialogue: Dialogue,
    chosen: list[Record],
    shown: set[str],
    asked: set[str],
    written: Mapping[int, str],
    rng: random.Random,
) -> list[FactRecord]:
    """Write the chosen records with the slots of ``shown`` and the flags of ``asked``."""
    facts = []
    for record in chosen:
        flags = [
            (slot, yes)
            for slot, yes in record.flags
            if slot in FLAG_WORDS and (slot in asked or rng.random() < 0.2)
        ]
        name = written[record.name] if record.name is not None else f"the {record.noun}"
        fields = [(slot_words(s), written[h]) for s, h in record.fields if s in shown]
        facts.append(FactRecord(name, record.noun, fields, flags))
    return facts


def human_episode(
    dialogue: Dialogue, pools: Mapping[str, Sequence[str]], limits: Limits, rng: random.Random
) -> Episode | None:
    """Return an episode cut from ``dialogue``, or None where no part of it fits ``limits``."""
    span = choose_span(dialogue, limits.turns, rng)
    if span is None:
        return None
    rules, kept = read_rules(dialogue.turns[span[0] : span[1]])
    span = (span[0], span[0] + kept)
    turns = dialogue.turns[span[0] : span[1]]
    written = _written_values(dialogue, pools, rng)
    answers = [t for t in turns if t.speaker == "system"]
    needed = {hole for t in answers for hole in t.stated}
    asked = {slot for t in answers for slot in t.flags}
    candidates = _merged_records([r for r in dialogue.records if r.turn < span[1]])
    chosen = _choose_records(candidates, needed, needed, limits.records, rng)
    if not answers or len(chosen) > limits.records:
        return None
    chosen.sort(key=lambda r: first_mention(turns, r.name))
    wanted_slots = {slot for r in chosen for slot, hole in r.fields if hole in needed}
    pool = sorted({slot for r in chosen for slot, _ in r.fields} - wanted_slots)
    rng.shuffle(pool)
    shown = wanted_slots | set(pool[: max(0, limits.fields - len(wanted_slots))])
    facts = _facts(dialogue, chosen, shown, asked, written, rng)
    looked_up = {hole for r in chosen for slot, hole in r.fields if slot in shown}
    looked_up |= {r.name for r in chosen if r.name is not None}
    slots = {slot for r in chosen for slot, _ in r.fields}
    span = (span[0], span[0] + known_turns(turns, looked_up, slots))
    turns = dialogue.turns[span[0] : span[1]]
    guest = _guest_facts(dialogue, span, looked_up, {r.name for r in chosen})
    changed = len(set(guest.values())) < len(guest)  # two wishes for one slot: which one counts?
    if changed or len(guest) > 8 or len(turns) < 2:
        return None
    before = choices_before(turns, chosen, dialogue.turns[: span[0]])
    known = [(r.noun, written[r.name]) for r in before if r.name is not None]
    known += [(words, written[hole]) for hole, words in guest.items()]
    system = "\n".join(filter(None, [write_facts(facts, known), *rules.lines()]))
    messages = [Message("system", system)] if system else []
    messages += _said(dialogue, span, rules, chosen, written)
    fields_count = max((len(f.fields) for f in facts), default=0)
    return Episode(messages, "human", len(facts), fields_count)


def _owners(records: list[Record], written: Mapping[int, str]) -> dict[int, str]:
    """Return whose value each hole is; the last of ``records`` comes first."""
    return {
        hole: f"the {record.noun}" if record.name is None else written[record.name]
        for record in records
        for _, hole in record.fields
    }


def _said(
    dialogue: Dialogue,
    span: tuple[int, int],
    rules: HouseRules,
    chosen: list[Record],
    written: Mapping[int, str],
) -> list[Message]:
    """Return the turns of ``span`` as messages, with what each answer must state."""
    messages = []
    current: Record | None = None
    for position, turn in enumerate(dialogue.turns[: span[1]]):
        for record in chosen:
            if record.name in turn.stated or (record.name is None and turn.noun == record.noun):
                current = record
        if position < span[0]:
            continue
        assistant = turn.speaker == "system"
        text, spans = fill(turn.text, written, set(turn.stated) if assistant else set())
        message = Message("assistant" if assistant else "user", text, spans)
        if assistant:
            message.kind = kind_of_turn(turn, dialogue.turns[position - 1], rules)
            owners = _owners([*chosen, *([current] if current else [])], written)
            message.required = required_values(turn, message.kind, owners, written)
        messages.append(message)
    return messages
