"""Simple statements in everyday sentences: "I moved to Lisbon", "Anna no longer eats meat".

Patterns, no parser: what they do not surely understand they leave alone. Questions, conditions,
wishes, reports of what others said and quoted speech state nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from enum import StrEnum

from tenfold.memory.derive.dates import days_of, find_dates
from tenfold.memory.derive.grammar import RULES, Rule
from tenfold.memory.derive.names import NO_NAMES
from tenfold.memory.derive.objects import cut_objects
from tenfold.memory.derive.sentences import sentence_spans
from tenfold.memory.derive.sources import first_person
from tenfold.memory.events import Event

_LONGEST = 1000  # characters of a sentence that may be a simple one
_QUOTED = re.compile(r"\"[^\"]*\"|“[^”]*”|(?<!\w)'[^']{3,}'(?!\w)|`[^`]*`")
_CLAUSE = re.compile(
    r"(?:^|[,;:—–(]|\s-|\b(?:and|but|so|because|since|although|though|while)\b)\s*"
)
_OPENING = re.compile(
    r"(?:(?:well|yes|yeah|yep|no|oh|ah|hi|hey|hello|ok|okay|actually|honestly|anyway|also|sorry|wait"
    r"|correction|so|and|but|fyi|btw|by the way|in fact|to be honest|as you know|unfortunately"
    r"|luckily|still|these days|nowadays|currently|right now|now|today|i mean|i meant"
    r"|(?:please )?(?:note|remember)(?: that)?)\b[\s,:.!—–-]*)*",
    re.IGNORECASE,
)
# Said anywhere before a statement in its sentence, these take it back.
_DOUBT = re.compile(
    r"\b(?:if|wish|unless|whether|imagine|suppose|pretend|when|whenever|until|would|might|maybe"
    r"|perhaps|could|should|said|says|say|told|tells|asked|claims?|claimed|heard|dream(?:t|ed)?"
    r"|jok(?:e|ing)|kidding|as though|as if|used to think|thought|hope|hopes|doubt|example|e\.g"
    r"|wrote|writes|story|novel|character|song|lyrics|quote|sometimes i feel|not true|who)\b",
    re.IGNORECASE,
)
_CORRECTS = re.compile(r"\b(?:actually|correction|sorry|i meant?|wait|to correct myself)\b", re.I)
_CHANGE = re.compile(r"\b(?:now|nowadays|these days|since|just|recently|moved|started)\b", re.I)
_NO_MORE = re.compile(r"\s+(?:any\s?more|any longer)\b", re.IGNORECASE)
_BUT = re.compile(r",?\s+but\s+(?:(?:rather|instead)\s+)?(?:(?:in|at|for|from|to)\s+)?")
_COMMA_NOT = re.compile(r",\s*(?:and\s+)?not\s+(?:(?:in|at|for|from|to)\s+)?")
_BEFORE_DATE = re.compile(r"\s*\b(?:since|in|on|from|back in|until|by|around)\s*$", re.IGNORECASE)
_MEMBER = re.compile(r"(?:the\s+)?(?:user|guest|customer|client|patient)$", re.IGNORECASE)


_ATTRIBUTES = (
    ("email", re.compile(r"e-?mail(?: address)?")),
    ("phone", re.compile(r"(?:phone|mobile|telephone|cell)(?: number)?")),
    ("address", re.compile(r"(?:home |postal |new )?address")),
    ("name", re.compile(r"(?:full )?name")),
)


class Polarity(StrEnum):
    """Whether a statement holds, does not, or holds no longer."""

    ASSERTED = "asserted"
    DENIED = "denied"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Statement:
    """Who or what, how, whom or what; of a `single` predicate one value holds at a time."""

    subject: str
    predicate: str
    object: str
    polarity: Polarity
    single: bool
    correction: bool
    valid_from: datetime


def find_statements(event: Event) -> list[Statement]:
    """The statements of an event's text, each once."""
    # Of equal length, so that nothing moves; what is quoted becomes a wall that no pattern passes.
    text = _QUOTED.sub(lambda m: "|" * len(m[0]), event.text.replace("’", "'"))
    found: dict[Statement, None] = {}
    for start, end in sentence_spans(text):
        sentence = text[start:end]
        if len(sentence) > _LONGEST or sentence.rstrip("\"') ").endswith("?"):
            continue
        for statement in _in_sentence(sentence, event):
            found[statement] = None
    return list(found)


def _in_sentence(sentence: str, event: Event) -> Iterator[Statement]:
    done = 0
    doubt = _DOUBT.search(sentence)
    for boundary in _CLAUSE.finditer(sentence):
        opening = _OPENING.match(sentence, boundary.end())
        at = opening.end() if opening else boundary.end()
        if doubt and doubt.end() <= at:
            return
        if at < done:
            continue
        for rule in RULES:
            match = rule.pattern.match(sentence, at)
            subject = _subject(match, event) if match else None
            statements = list(_read(rule, match, subject, event)) if match and subject else []
            if match and statements:
                done = match.start("object") + 1
                yield from statements
                break


def _subject(match: re.Match[str], event: Event) -> str | None:
    """Whom a statement is of. None for pronouns and the like, and for an assistant's "I"."""
    groups = match.groupdict()
    who = groups.get("who") or groups.get("other") or "I"
    if who.lower() in ("i", "my", "me"):
        return first_person(event)
    if _MEMBER.fullmatch(who):
        return event.subject or None
    first = who.split()[0]
    activity = first == who and who.endswith("ing")  # "Networking plays a part"
    named = who[0].isupper() and first.casefold() not in NO_NAMES and not activity
    return who if named else None


def _read(rule: Rule, match: re.Match[str], subject: str, event: Event) -> Iterator[Statement]:
    groups = match.groupdict()
    said = match["object"]
    polarity = Polarity.ASSERTED
    if groups.get("gone") or groups.get("used") or rule.ends:
        polarity = Polarity.ENDED
    elif groups.get("no") or groups.get("never"):
        polarity = Polarity.ENDED if _NO_MORE.search(said) else Polarity.DENIED
    if rule.opposite:
        if polarity is not Polarity.ASSERTED:
            return  # not to hate tea is not to like it
        polarity = Polarity.DENIED
    said, since = _since(rule, said, event)
    corrects = _CORRECTS.search(match.string, 0, match.start("object"))
    base = Statement(
        subject=subject,
        predicate=rule.predicate or _attribute(match["what"]),
        object="",
        polarity=polarity,
        single=rule.single,
        correction=bool(corrects and not rule.begins and not _CHANGE.search(match.string)),
        valid_from=since,
    )
    yield from _with_objects(rule, base, said)


def _attribute(what: str) -> str:
    """One spelling of what somebody has: "mobile number" is a phone."""
    words = " ".join(what.lower().split()).replace("favorite", "favourite")
    return next((name for name, spelled in _ATTRIBUTES if spelled.fullmatch(words)), words)


def _with_objects(rule: Rule, base: Statement, said: str) -> Iterator[Statement]:
    if rule.form == "owned" and said.startswith("no ") and base.polarity is Polarity.ASSERTED:
        base = replace(base, polarity=Polarity.DENIED)
    elif said.lower().startswith("not ") and base.polarity is Polarity.ASSERTED:
        base, said = replace(base, polarity=Polarity.DENIED), said[4:]
    rest, right = said, ""
    if base.polarity is Polarity.DENIED and not rule.opposite:  # "not in Porto but in Lisbon"
        rest, _, right = _split(_BUT, said)
    elif base.polarity is Polarity.ASSERTED:  # "in Lisbon, not in Porto"
        right, _, rest = _split(_COMMA_NOT, said)
        if not rest:
            rest, right = right, ""
    rights = cut_objects(rule.form, rule.many, right) if right else []
    if rights:
        base = replace(base, correction=base.correction or rule.single)
    denied = base if not rights else replace(base, polarity=Polarity.DENIED)
    for value in rights:
        yield replace(base, object=value, polarity=Polarity.ASSERTED)
    for value in cut_objects(rule.form, rule.many, rest):
        yield replace(denied, object=value)


def _split(pattern: re.Pattern[str], said: str) -> tuple[str, str, str]:
    match = pattern.search(said)
    return (said[: match.start()], match[0], said[match.end() :]) if match else (said, "", "")


def _since(rule: Rule, said: str, event: Event) -> tuple[str, datetime]:
    """What was said up to a date in it; and from when it holds, if the date tells."""
    if rule.form in ("date", "age", "code", "phone", "address", "amount", "setting"):
        return said, event.valid_at
    for date in find_dates(said, event.valid_at):
        before = said[: date.start].rstrip(" ,")
        words = _BEFORE_DATE.sub("", before)
        if not words:
            continue
        days = days_of(date.value)
        tells = rule.begins or before.lower().endswith("since")
        if days and tells:
            return words, min(datetime.combine(days[0], time(), UTC), event.valid_at)
        return words, event.valid_at
    return said, event.valid_at
