"""Where memories come from, over HTTP: lineage, timeline, and what an erasure would take."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tenfold.server.wire.base import Answer
from tenfold.server.wire.memory import Asked, Count, EraseRequest, Fact, Kind, Memory, Time


class TimelineQuery(Asked):
    """Which events, by valid time; `before` is the `next` of the page before."""

    conversation: str = ""
    subject: str = ""
    author: str = ""
    kind: Kind | None = None
    scope: str = ""
    since: Time | None = None
    until: Time | None = None
    as_of: Time | None = None
    before: Annotated[str, Field(max_length=64)] = ""
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class Timeline(Answer):
    """A page of events, the latest first, as `member` may read them; `next` is null at the end."""

    object: Literal["list"]
    member: str
    data: list[Memory]
    next: str | None


class BeliefsQuery(Asked):
    """Of whom, as it was believed at `recorded`; by default as it is believed now."""

    subject: str = ""
    recorded: Time | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 200


class BeliefList(Answer):
    """Facts of all times, those that hold first; `more` were left out."""

    object: Literal["list"]
    data: list[Fact]
    more: Count


class Vector(Answer):
    """A vector of an event, and the events whose text it holds."""

    kind: str
    deriver: str
    events: list[str]


class Thing(Answer):
    """What came from events, with what it says; kept, or worked out when it is asked for."""

    kind: str
    deriver: str
    events: list[str]
    value: dict[str, str | float | None]
    kept: bool


class Lineage(Answer):
    """An event, what it came from and what came of it, as far as the member may read."""

    event: Memory
    state: Literal["derived", "waiting", "failed", "never"]
    reason: str
    words: bool
    vectors: list[Vector]
    facts: list[Fact]
    things: list[Thing]
    sources: list[Memory]
    recalls: list[Memory]
    feedback: list[Memory]
    complete: bool


class PreviewRequest(EraseRequest):
    """The selection of an erasure."""


class Preview(Answer):
    """What the erasure would take: own events, recalls and feedback on them; nothing is done."""

    events: Count
    recalls: Count
    feedback: Count
    others: Count
    examples: list[str]
