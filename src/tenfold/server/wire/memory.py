"""Memory over HTTP: requests and answers. Whose memory it is stands in none of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from tenfold.server.wire.base import Answer, Wire
from tenfold.server.wire.memory_upkeep import Summary

Time = Annotated[str, Field(max_length=64, description="ISO 8601 with a time zone")]
Kind = Literal["observation", "tool", "feedback", "recall"]
Count = Annotated[int, Field(ge=0)]


class NewMemory(Wire):
    """One event to remember."""

    text: str
    role: str = "user"
    subject: str = ""
    to: str = ""
    conversation: str = ""
    kind: Literal["observation", "tool", "feedback"] = "observation"
    scope: str = "private"
    valid_at: Time | None = None
    key: str = ""
    sources: list[str] = Field(default_factory=list)
    provenance: dict[str, str] = Field(default_factory=dict)


class AddRequest(Wire):
    """Events, or the messages of a conversation as OpenAI writes them."""

    events: Annotated[list[NewMemory], Field(min_length=1)] | None = None
    messages: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None
    conversation: str | None = None
    scope: str | None = None


class Selected(Wire):
    """Which events are meant; what is left out does not restrict."""

    conversation: str = ""
    subject: str = ""
    author: str = ""
    kinds: list[Kind] = Field(default_factory=list)
    scope: str = ""
    since: Time | None = None
    until: Time | None = None


class SearchRequest(Selected):
    """A search; `as_of` goes back in time."""

    query: Annotated[str, Field(max_length=8192)]
    k: Annotated[int, Field(ge=1, le=100)] = 10
    as_of: Time | None = None
    verbatim: Annotated[
        bool, Field(description="every event in a place of its own, no summaries")
    ] = False


class EraseRequest(Selected):
    """An erasure: something has to restrict it."""

    ids: list[str] = Field(default_factory=list)


class Asked(Wire):
    """Query parameters, which are all strings before they are read."""

    model_config = ConfigDict(strict=False)


class HistoryQuery(Asked):
    """Which events to list, the newest `limit` of them."""

    conversation: str = ""
    subject: str = ""
    author: str = ""
    since: Time | None = None
    until: Time | None = None
    as_of: Time | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class FactsQuery(Asked):
    """Of whom, what held at `valid` as far as it was known at `recorded`."""

    subject: str = ""
    valid: Time | None = None
    recorded: Time | None = None


class Memory(Answer):
    """An event as the log has it."""

    id: str
    sequence: int
    author: str
    role: str
    text: str
    subject: str
    to: str
    conversation: str
    kind: Kind
    scope: str
    valid_at: str
    recorded_at: str
    key: str
    sources: list[str]
    provenance: dict[str, str]


class MemoryList(Answer):
    """Events in the order of the log."""

    object: Literal["list"]
    data: list[Memory]


class Found(Answer):
    """A found event; its score is the sum of the parts.

    `repeats` say the same again. With a summary it stands for what that quotes of the events found.
    """

    event: Memory
    score: float
    parts: dict[str, float]
    repeats: list[str]
    summary: Summary | None


class FoundList(Answer):
    """Found events, best first."""

    object: Literal["list"]
    data: list[Found]


class Fact(Answer):
    """What events state of a subject, from when until before when; null is an open end."""

    subject: str
    predicate: str
    object: str
    denied: bool
    disputed: bool
    valid_from: str | None
    valid_to: str | None
    recorded_from: str
    recorded_to: str | None
    events: list[str]


class FactList(Answer):
    """What is believed."""

    object: Literal["list"]
    data: list[Fact]


class Receipt(Answer):
    """Proof of an erasure that holds nothing of what was erased."""

    id: str
    erased_at: str
    events: Count
    derived: Count
    rederived: Count
    selection: dict[str, str]
    scrubbed: bool = Field(True, description="false while erased bytes are still in a file")


class Audit(Answer):
    """What is wrong with the memory, by event ids; see `tenfold.memory.audit.Report`."""

    events: Count
    junk: float
    empty_talk: dict[str, Any]
    restated: dict[str, Any]
    duplicated: dict[str, Any]
    duplicates: list[dict[str, str]]
    loops: list[dict[str, str]]
    secrets: list[dict[str, Any]]
    instructions: list[dict[str, Any]]
    stale: list[dict[str, Any]]
    waiting: list[str]
    failed: dict[str, str]


class MemoryStatus(Answer):
    """How the tenant's memory stands."""

    events: Count
    waiting: Count
    failed: Count
    derivers: dict[str, str]
    size_bytes: Count
    unscrubbed: Count = Field(0, description="erasures whose bytes are still in a file")
    notes: list[str] = Field([], description="what makes it slower than it could be")
