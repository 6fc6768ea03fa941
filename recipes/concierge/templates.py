"""Mine templates from the human turns of the dialogues: the values cut out, the words kept.

A template is a turn with a hole ``{slot words}``
for every value it states and ``{name}`` for the record it is about. Turns that say anything that
the facts would not tell (other values, dates, superlatives) are left out.
"""

from __future__ import annotations

import itertools
import logging
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .datafiles import SPLITS, data_folder, raw_dialogues, read_prepared, write_prepared
from .schemas import SERVICES, template_words
from .template_rules import HOLE, cut_template, is_neutral, trim
from .values import hash_bucket, kind_of

log = logging.getLogger(__name__)

NAME = "name"
COMMON_PAIR = 3
ANY_NOUN = ""  # templates that suit records of every noun
SYSTEM_ROLES = {
    ("OFFER",): "offer",
    ("INFORM",): "inform",
    ("CONFIRM",): "confirm",
    ("NOTIFY_SUCCESS",): "inform",
    ("INFORM", "NOTIFY_SUCCESS"): "inform",
    ("REQ_MORE",): "more",
}
USER_ROLES = {("INFORM_INTENT",): "open", ("REQUEST",): "request", ("INFORM",): "state"}
SEARCHES = re.compile(r"Find|Search|GetCars|LookupMusic")


@dataclass(frozen=True, slots=True)
class Key:
    """What a template is about: the noun, its role in a conversation, and its sorted slot words."""

    noun: str
    role: str
    slots: tuple[str, ...]


Counts = dict[Key, Counter[str]]


@dataclass(slots=True)
class Mined:
    """Templates of the training dialogues and of services that training never saw."""

    train: Counts = field(default_factory=lambda: defaultdict(Counter))
    unseen: Counts = field(default_factory=lambda: defaultdict(Counter))
    turns: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)


def _stated(noun: str, name_slot: str, turn: dict[str, Any]) -> list[tuple[str, str, str]] | None:
    """Return (words, kind, value) of what the acts state, or None where it cannot be cut out."""
    stated = []
    for act, slot, values in turn["acts"]:
        if act in ("INFORM_INTENT", "REQUEST") or not values:
            continue
        if len(values) != 1 or values[0] in ("True", "False", "dontcare", "0", "1") or not slot:
            return None
        words = NAME if slot == name_slot else template_words(noun, slot)
        stated.append((words, kind_of(slot, values[0]), values[0]))
    return stated


def read_turn(
    noun: str, name_slot: str, turn: dict[str, Any], others: set[str]
) -> tuple[str, Key | None, str]:
    """Return the role of a turn (or ""), and its key and template where it makes one."""
    acts = tuple(sorted({act for act, _, _ in turn["acts"]}))
    user = turn["speaker"] == "user"
    role = (USER_ROLES if user else SYSTEM_ROLES).get(acts, "")
    if not role:
        return "", None, ""
    if role == "open" and not SEARCHES.match(turn["acts"][0][2][0]):
        return "", None, ""
    stated = _stated(noun, name_slot, turn)
    if stated is None or (role == "state" and len(stated) != 1):
        return role, None, ""
    if role in ("offer", "inform", "confirm") and not stated:
        return role, None, ""
    cut = cut_template(turn["text"], stated, others)
    template = trim(cut, role, noun) if cut else None
    if template is None:
        return role, None, ""
    slots = {words for words, _, _ in stated}
    if role == "request":
        slots = {template_words(noun, slot) for _, slot, _ in turn["acts"]}
        if not all(words in template.lower() for words in slots):
            return role, None, ""
    elif set(HOLE.findall(template)) != slots:
        return role, None, ""
    return role, Key(noun, role, tuple(sorted(slots))), template


def _turns(
    raw: dict[str, Any], intents: dict[str, set[str]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each turn with the service it is about, as the user's last intent tells it."""
    service = raw["services"][0] if len(raw["services"]) == 1 else ""
    for turn in raw["turns"]:
        if turn["speaker"] == "user":
            meant = [s for i in turn.get("intents", []) for s in raw["services"] if s in intents[i]]
            service = meant[0] if meant else service
        yield service, turn


def _values(raw: dict[str, Any]) -> set[str]:
    """Return every text value of a dialogue, in lower case."""
    values = {
        v for turn in raw["turns"] for _, slot, vs in turn["acts"] if slot != "intent" for v in vs
    }
    values |= {v for t in raw["turns"] for r in t.get("results", []) for v in r.values()}
    return {v.lower() for v in values if len(v) > 2 and not v.isdigit()} - {"true", "false"}


def intents_of(splits: dict[str, list[dict[str, Any]]]) -> dict[str, set[str]]:
    """Return the services that each intent belongs to, as dialogues of one service show."""
    intents: dict[str, set[str]] = defaultdict(set)
    for raws in splits.values():
        for raw in raws:
            if len(raw["services"]) == 1:
                for turn in raw["turns"]:
                    for intent in turn.get("intents", []):
                        intents[intent].add(raw["services"][0])
    return intents


def _mine_turn(
    service: str, turn: dict[str, Any], others: set[str], mined: Mined, into: Counts
) -> None:
    noun, name_slot = SERVICES[service]
    role, key, template = read_turn(noun, name_slot, turn, others)
    mined.turns[role] += bool(role)
    if key is None:
        return
    mined.kept[role] += 1
    into[key][template] += 1
    alone = role == "inform" and len(key.slots) == 1 and key.slots != (NAME,)
    if alone and is_neutral(template, noun, key.slots[0]):
        into[Key(ANY_NOUN, role, key.slots)][template] += 1


def is_held(template: str) -> bool:
    """Tell whether a template is one of the tenth that is kept for evaluation."""
    return hash_bucket(template) == 0


def held_turns(raw: dict[str, Any], intents: dict[str, set[str]]) -> set[int]:
    """Return which turns of a raw dialogue are said as a template that is kept for evaluation."""
    others, held = _values(raw), set[int]()
    for position, (service, turn) in enumerate(_turns(raw, intents)):
        if service in SERVICES:
            _, key, template = read_turn(*SERVICES[service], turn, others)
            if key is not None and is_held(template):
                held.add(position)
    return held


def _pairs(template: str) -> set[tuple[str, str]]:
    words = ["^", *re.findall(r"[a-z']+|[_.?!,]", HOLE.sub("_", template).lower())]
    return set(itertools.pairwise(words))


def _drop_odd(parts: list[Counts]) -> None:
    """Drop what few people would say: templates with a pair of words that is in hardly any other.

    Slips of the keyboard and broken grammar make such pairs: "the even starts", "for you looking".
    """
    seen: Counter[tuple[str, str]] = Counter()
    for texts in (texts for counts in parts for texts in counts.values()):
        for text, count in texts.items():
            seen.update({pair: min(count, 2) for pair in _pairs(text)})
    for counts in parts:
        for key, texts in list(counts.items()):
            for text in list(texts):
                if any(seen[pair] < COMMON_PAIR for pair in _pairs(text)):
                    del texts[text]
            if not texts:
                del counts[key]


def mine(splits: dict[str, list[dict[str, Any]]]) -> Mined:
    """Mine raw dialogues: of ``train`` all services, of the others only those not in train."""
    known = {service for raw in splits["train"] for service in raw["services"]}
    intents = intents_of(splits)
    mined = Mined()
    for split, raws in splits.items():
        into = mined.train if split == "train" else mined.unseen
        for raw in raws:
            others = _values(raw)
            for service, turn in _turns(raw, intents):
                if service in SERVICES and (split == "train" or service not in known):
                    _mine_turn(service, turn, others, mined, into)
    _drop_odd([mined.train, mined.unseen])
    return mined


def read_splits(limit: int | None = None) -> dict[str, list[dict[str, Any]]]:
    """Read the raw dialogues of all splits, or the first ``limit`` of each."""
    folder = data_folder()
    splits = {}
    for split in SPLITS:
        splits[split] = list(itertools.islice(raw_dialogues(folder, split), limit))
    return splits


def save_templates(mined: Mined, path: Path) -> None:
    """Write the templates as gzipped JSON, the same bytes for the same templates."""
    written = {
        part: [
            [key.noun, key.role, list(key.slots), dict(sorted(texts.items()))]
            for key, texts in sorted(counts.items(), key=lambda item: str(item[0]))
        ]
        for part, counts in (("train", mined.train), ("unseen", mined.unseen))
    }
    write_prepared(written, path)


def load_templates(path: Path) -> Mined:
    """Read what ``save_templates`` wrote; raise DataError where there is none."""
    raw = read_prepared(path)
    parts = {
        part: {Key(n, r, tuple(slots)): Counter(texts) for n, r, slots, texts in raw[part]}
        for part in ("train", "unseen")
    }
    return Mined(parts["train"], parts["unseen"])


@dataclass(frozen=True, slots=True)
class Template:
    """A text with holes, and the slot words of its holes in their order."""

    text: str
    holes: tuple[str, ...]
    slots: frozenset[str]


class Bank:
    """Templates to draw from: ``train``, the ``held`` tenth of them, or ``unseen`` services."""

    def __init__(self, mined: Mined, part: str) -> None:
        self.unseen = part == "unseen"
        self._groups: dict[tuple[str, str], list[tuple[Template, float]]] = defaultdict(list)
        for key, texts in (mined.unseen if self.unseen else mined.train).items():
            for text, count in texts.items():
                if self.unseen or is_held(text) == (part == "held"):
                    holes = tuple(dict.fromkeys(HOLE.findall(text)))
                    template = Template(text, holes, frozenset(key.slots))
                    self._groups[key.noun, key.role].append((template, count**0.5))

    def texts(self) -> set[str]:
        """Return the texts of all templates."""
        return {t.text for group in self._groups.values() for t, _ in group}

    def pick(
        self, noun: str, role: str, fits: Callable[[Template], bool], rng: random.Random
    ) -> Template | None:
        """Draw a template that fits; those with more slots, and those said more often, first."""
        found = [
            (t, w * (1 + len(t.slots)))
            for group in (
                self._groups.get((noun, role), ()),
                self._groups.get((ANY_NOUN, role), ()),
            )
            for t, w in group
            if fits(t)
        ]
        if not found:
            return None
        return rng.choices([t for t, _ in found], [w for _, w in found])[0]


def report(mined: Mined) -> None:
    """Log how many turns were seen and kept, and how many templates there are."""
    for role in sorted(filter(None, mined.turns)):
        log.info("%-8s turns %6d kept %6d", role, mined.turns[role], mined.kept[role])
    for part, counts in (("train", mined.train), ("unseen", mined.unseen)):
        unique: dict[str, Counter[str]] = defaultdict(Counter)
        for key, texts in counts.items():
            unique[key.noun or "any noun"][key.role] += len(texts)
        log.info("%s: %d keys", part, len(counts))
        for noun, roles in sorted(unique.items()):
            log.info("  %-12s %s", noun, "  ".join(f"{r} {n}" for r, n in sorted(roles.items())))
