"""Facts in two times: from when to when something held, and from when to when we believed it.

Each event yields claims, from its own words alone; what they add up to is worked out when it is
asked for, from the claims that the asker may read. So a private claim cannot end a shared fact, and
an erased event takes its claims along and nothing else.

What a claim does to what was said before it, whichever arrived first:
- another value of a predicate that has one (where someone lives) ends the value before it;
- "no longer" and "not" end what they deny and are kept as a denial of their own;
- a correction ("actually", "not Porto but Lisbon") takes the place of the value before it, which is
  believed no more;
- two values from the same moment, or from different speakers, are kept and marked `disputed`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from tenfold.memory.derive.sources import learnt
from tenfold.memory.derive.statements import Polarity, find_statements
from tenfold.memory.events import Event
from tenfold.memory.store import Derived

DERIVER = "facts/2"


@dataclass(frozen=True, slots=True)
class Claim:
    """What one event says of a subject. `by` is who said it, `single` a predicate of one value.

    It holds from `valid_from`, and certainly when it was `said`.
    """

    subject: str
    predicate: str
    object: str
    polarity: Polarity
    single: bool
    correction: bool
    valid_from: datetime
    said: datetime
    recorded_at: datetime
    by: str
    event: str

    @property
    def key(self) -> str:
        """The object as it is compared."""
        return self.object.casefold()


@dataclass(frozen=True, slots=True)
class Fact:
    """A statement that held from `valid_from` until before `valid_to`, and that was believed from
    `recorded_from` until before `recorded_to`. None is an open end; without `valid_from` it held
    some time before. `events` made it and ended it.
    """

    subject: str
    predicate: str
    object: str
    denied: bool
    valid_from: datetime | None
    valid_to: datetime | None
    disputed: bool
    events: tuple[str, ...]
    recorded_from: datetime
    recorded_to: datetime | None = None


def claims(events: Sequence[Event]) -> list[Claim]:
    """What events state, in the order of the log."""
    return [
        Claim(
            subject=s.subject,
            predicate=s.predicate,
            object=s.object,
            polarity=s.polarity,
            single=s.single,
            correction=s.correction,
            valid_from=s.valid_from,
            said=event.valid_at,
            recorded_at=event.recorded_at,
            by=event.author,
            event=event.id,
        )
        for event in learnt(events)
        for s in find_statements(event)
    ]


def derive_claims(events: Sequence[Event]) -> list[Derived]:
    """A row for each claim; `claim_of` reads it back."""
    return [_row(claim) for claim in claims(events)]


def claim_of(row: Derived) -> Claim:
    """The claim that a row of `derive_claims` holds."""
    value = {key: str(v) for key, v in row.value.items()}
    return Claim(
        subject=value["subject"],
        predicate=value["predicate"],
        object=value["object"],
        polarity=Polarity(value["polarity"]),
        single=bool(row.value["single"]),
        correction=bool(row.value["correction"]),
        valid_from=datetime.fromisoformat(value["valid_from"]),
        said=datetime.fromisoformat(value["said"]),
        recorded_at=datetime.fromisoformat(value["recorded_at"]),
        by=value["by"],
        event=row.events[0],
    )


def facts(claimed: Iterable[Claim]) -> list[Fact]:
    """What claims add up to, with all that was believed on the way.

    The order of the claims does not matter.
    """
    topics: dict[tuple[str, str, str], list[Claim]] = defaultdict(list)
    for claim in claimed:
        about = "" if claim.single else claim.key
        topics[claim.subject.casefold(), claim.predicate, about].append(claim)
    known: list[Fact] = []
    for topic in sorted(topics):
        known.extend(_believed(topics[topic]))
    return known


def as_of(
    known: Iterable[Fact], valid: datetime | None = None, recorded: datetime | None = None
) -> list[Fact]:
    """The facts that held at `valid` as they were believed at `recorded`.

    Without `recorded` as they are believed now; without `valid` those of all times.
    """
    return [
        fact
        for fact in known
        if (
            fact.recorded_to is None
            if recorded is None
            else _within(recorded, fact.recorded_from, fact.recorded_to)
        )
        and (valid is None or _within(valid, fact.valid_from, fact.valid_to))
    ]


def _within(moment: datetime, start: datetime | None, end: datetime | None) -> bool:
    return start is not None and start <= moment and (end is None or moment < end)


def _row(claim: Claim) -> Derived:
    value: dict[str, str | float | None] = {
        "subject": claim.subject,
        "predicate": claim.predicate,
        "object": claim.object,
        "polarity": claim.polarity.value,
        "single": float(claim.single),
        "correction": float(claim.correction),
        "valid_from": claim.valid_from.isoformat(),
        "said": claim.said.isoformat(),
        "recorded_at": claim.recorded_at.isoformat(),
        "by": claim.by,
    }
    return Derived("claim", DERIVER, (claim.event,), value)


def _believed(topic: Sequence[Claim]) -> list[Fact]:
    """Every version of a topic's facts: what was believed after each moment of recording."""
    name = min(topic, key=lambda c: (c.said, c.event))
    past: list[Fact] = []
    current: dict[_Held, datetime] = {}  # what is believed, and since when
    for moment in sorted({claim.recorded_at for claim in topic}):
        now = _timeline([claim for claim in topic if claim.recorded_at <= moment])
        past.extend(
            _fact(name, held, since, moment) for held, since in current.items() if held not in now
        )
        current = {held: current.get(held, moment) for held in now}
    return past + [_fact(name, held, since, None) for held, since in current.items()]


class _Held(NamedTuple):
    """A fact without its recorded times."""

    object: str
    denied: bool
    start: datetime | None
    end: datetime | None
    disputed: bool
    events: tuple[str, ...]


def _fact(name: Claim, held: _Held, since: datetime, until: datetime | None) -> Fact:
    return Fact(
        subject=name.subject,
        predicate=name.predicate,
        object=held.object,
        denied=held.denied,
        valid_from=held.start,
        valid_to=held.end,
        disputed=held.disputed,
        events=held.events,
        recorded_from=since,
        recorded_to=until,
    )


@dataclass(slots=True)
class _Span:
    """A fact in the making."""

    object: str
    denied: bool
    start: datetime | None
    said: datetime  # when last
    events: list[str]
    by: set[str]
    end: datetime | None = None
    disputed: bool = False

    def is_of(self, claim: Claim) -> bool:
        return self.object.casefold() == claim.key

    def support(self, claim: Claim) -> None:
        self.events.append(claim.event)
        self.by.add(claim.by)
        self.said = claim.said


def _timeline(topic: Iterable[Claim]) -> list[_Held]:
    """What claims about one topic add up to, in the order in which they were said."""
    spans: list[_Span] = []
    for claim in sorted(
        topic,
        key=lambda c: (c.said, c.polarity is not Polarity.ASSERTED, c.key, c.by, c.event),
    ):
        if claim.polarity is Polarity.ASSERTED:
            _assert(claim, spans)
        else:
            _deny(claim, spans)
    return [
        _Held(s.object, s.denied, s.start, s.end, s.disputed, tuple(dict.fromkeys(s.events)))
        for s in spans
    ]


def _assert(claim: Claim, spans: list[_Span]) -> None:
    held = [s for s in spans if s.end is None]
    # Of a predicate of one value, other values end; of others a topic has one object only.
    against = [s for s in held if s.denied == s.is_of(claim)]
    same = next((s for s in held if not s.denied and s.is_of(claim)), None)
    new = same or _Span(claim.object, False, claim.valid_from, claim.said, [], set())
    for span in against:
        _replace(claim, span, new, spans)
    new.support(claim)
    if same is None:
        spans.append(new)


def _deny(claim: Claim, spans: list[_Span]) -> None:
    held = [s for s in spans if s.end is None]
    same = next((s for s in held if s.denied and s.is_of(claim)), None)
    new = same or _Span(claim.object, True, claim.valid_from, claim.said, [], set())
    denied = [s for s in held if not s.denied and s.is_of(claim)]
    for span in denied:
        _replace(claim, span, new, spans)
    new.support(claim)
    if claim.polarity is Polarity.ENDED and not denied and same is None:
        # It held before; since when was not said. It ended before what took its place began.
        others = [s.start for s in held if not s.denied and s.start is not None]
        end = min([claim.valid_from, *others])
        past = _Span(claim.object, False, None, claim.said, [claim.event], {claim.by}, end)
        spans.append(past)
    if same is None:
        spans.append(new)


def _replace(claim: Claim, old: _Span, new: _Span, spans: list[_Span]) -> None:
    """Ends what a claim contradicts, takes it back, or marks both as disputed."""
    if claim.by not in old.by:
        old.disputed = new.disputed = True
    elif claim.correction:
        spans.remove(old)
        new.start = old.start
        new.events.extend(old.events)
        return
    if old.said == claim.said:
        old.disputed = new.disputed = True
        return
    # It held when it was last said: what took its place began no earlier.
    old.end = max(claim.valid_from, old.said)
    old.events.append(claim.event)
    if not new.events and new.start is not None:
        new.start = max(new.start, old.end)
