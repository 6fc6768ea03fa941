"""Put a long answer together from human templates, and note where its values stand."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

from . import longform_phrases as phrases
from .episodes import Message
from .facts import FactRecord, listed
from .template_rules import HOLE
from .templates import NAME, Bank, Template

PLAIN_ANSWERS = 0.35  # whole answers in the words of the facts: one steady way of saying it
PLAIN_SHARE = 0.08  # of sentences elsewhere; those for want of a template come on top
GENERIC_SHARE = 0.1
NAMED_FIRST_SHARE = 0.5  # of lists that are not plain
EXTRA_SHARE = 0.3  # openers, and half as many closers
ORDERED_SHARE = 0.92
_VOWEL = re.compile(r"\W*(?:8|11\b|18\b|[aeio]|u(?!ni|s[aeiou]))", re.IGNORECASE)


def fill_holes(text: str, values: Mapping[str, str]) -> tuple[str, list[tuple[int, int]]]:
    """Fill the holes, with the right article before them; return the places of the values."""
    filled, spans, last = "", [], 0
    for match in HOLE.finditer(text):
        filled += text[last : match.start()]
        value = values[match.group(1)]
        article = re.search(r"\b[Aa](?:n? )$", filled)
        if article is not None:
            right = "an " if _VOWEL.match(value) else "a "
            filled = filled[: article.start() + 1] + right[1:]
        spans.append((len(filled), len(filled) + len(value)))
        filled += value
        last = match.end()
        if value[-1] in ".!?" and text[last : last + 1] == ".":
            last += 1
    filled += text[last:]
    return filled[:1].upper() + filled[1:], spans


def lead_order(
    bank: Bank, record: FactRecord, words: Sequence[str], role: str, rng: random.Random
) -> list[str]:
    """Order slots as some human template names them, so that it can be said in that order."""
    known = set(words)
    template = bank.pick(
        record.noun,
        role,
        lambda t: bool(t.slots - {NAME}) and t.slots - {NAME} <= known and _leads(t),
        rng,
    )
    first = [w for w in template.holes if w != NAME] if template else []
    return first + [w for w in words if w not in first]


def _leads(template: Template) -> bool:
    """Say whether a template names the record before it tells anything of it."""
    return NAME not in template.slots or template.holes[0] == NAME


class Composer:
    """Collects the sentences of one answer, the places of its values and what was required."""

    def __init__(self, bank: Bank, kind: str, rng: random.Random) -> None:
        self.bank, self.kind, self.rng = bank, kind, rng
        self.plain = rng.random() < PLAIN_ANSWERS
        self.ordered = self.plain or rng.random() < ORDERED_SHARE
        self.text = ""
        self.values: list[tuple[int, int]] = []
        self.required: list[tuple[str, str, str]] = []

    def message(self) -> Message:
        """Return the collected answer."""
        return Message("assistant", self.text, self.values, self.required, self.kind)

    def say(self, template: str, values: Mapping[str, str]) -> None:
        """Append a sentence."""
        text, spans = fill_holes(template, values)
        shift = len(self.text) + (1 if self.text else 0)
        self.text = f"{self.text} {text}" if self.text else text
        self.values += [
            (a + shift, b + shift)
            for a, b in spans
            if not text[a:b].lower().startswith("the ") or text[a:b][:1].isupper()
        ]

    def open(self, forms: Sequence[str]) -> None:
        """Now and then say something first."""
        if self.rng.random() < EXTRA_SHARE:
            self.say(self.rng.choice(forms), {})

    def name_all(self, records: Sequence[FactRecord]) -> None:
        """Mostly name several records together first: each then follows from the one before."""
        if len(records) > 1 and (self.plain or self.rng.random() < NAMED_FIRST_SHARE):
            form = phrases.NAMED_FIRST[0] if self.plain else self.rng.choice(phrases.NAMED_FIRST)
            holes = {f"name {i}": r.name for i, r in zip("abcdefgh", records, strict=False)}
            names = listed([f"{{{hole}}}" for hole in holes], "")
            if any("," in record.name for record in records):  # "Ada Stone, MD; Ben Ray and ..."
                names = names.replace(", ", "; ")
            self.say(form.replace("{names}", names), holes)
            for record in records:
                self._require(record, [])

    def close(self, noun: str) -> None:
        """Now and then ask what else is wanted, as people do."""
        if self.rng.random() < EXTRA_SHARE / 2:
            template = self.bank.pick(noun, "more", lambda _: True, self.rng)
            if template is not None:
                self.say(template.text, {})

    def _require(self, record: FactRecord, slots: Sequence[str]) -> None:
        values = dict(record.fields)
        named = (record.name, "", record.name)
        if record.name != f"the {record.noun}" and named not in self.required:
            self.required.append(named)
        self.required += [(record.name, words, values[words]) for words in slots]

    def both(self, one: FactRecord, two: FactRecord, words: str) -> None:
        """Say one slot of two records in one sentence."""
        form = phrases.BOTH[0] if self.plain else self.rng.choice(phrases.BOTH)
        form = form.replace("{w}", words)
        holes = {"a": one.name, "b": two.name}
        holes |= {"v": dict(one.fields)[words], "u": dict(two.fields)[words]}
        self.say(form, holes)
        self._require(one, [words])
        self._require(two, [words])

    def cover(self, record: FactRecord, slots: Sequence[str], role: str) -> None:
        """Say all slots of a record: first name it, then speak of it until all is said."""
        self._require(record, slots)
        left = list(slots)
        if not self.ordered:
            self.rng.shuffle(left)
        values = {**dict(record.fields), NAME: record.name}
        named = False
        while left or not named:
            template = self._next(record, left, named, role)
            self.say(template.text, values)
            left = [words for words in left if words not in template.slots]
            named = True

    def _next(self, record: FactRecord, left: list[str], named: bool, role: str) -> Template:
        rng, nameless = self.rng, record.name == f"the {record.noun}"

        def fits(template: Template) -> bool:
            told = template.slots - {NAME}
            few = set(left[: len(told)]) if self.ordered else set(left)
            return bool(told) and told <= few

        if left and (self.plain or rng.random() < PLAIN_SHARE):
            return _plain(left[0])
        if not named:
            template = self.bank.pick(
                record.noun,
                role,
                lambda t: (
                    fits(t) and (record.noun in t.text.lower() if nameless else t.holes[0] == NAME)
                ),
                rng,
            )
            if template is not None:
                return template
            if nameless or (left and rng.random() < 0.5):
                return _plain(left[0])
            form = rng.choice(phrases.INTRODUCE[self.kind]).replace("{noun}", record.noun)
            return Template(form, (NAME,), frozenset({NAME}))
        if rng.random() > GENERIC_SHARE:
            template = self.bank.pick(
                record.noun, "inform", lambda t: fits(t) and NAME not in t.slots, rng
            )
            if template is not None:
                return template
        if rng.random() < 0.5:
            return _plain(left[0])
        form = rng.choice(phrases.GENERIC)
        return _own(form, left[0])


def _own(form: str, words: str) -> Template:
    text = form.replace("{w}", words).replace("{v}", f"{{{words}}}")
    return Template(text, tuple(HOLE.findall(text)), frozenset(HOLE.findall(text)))


def _plain(words: str) -> Template:
    return _own(phrases.PLAIN, words)
