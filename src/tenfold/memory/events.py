"""What memory keeps: events, who may read them, and what a caller may hand in.

Times are aware datetimes, kept in UTC. Ids are ULIDs: 26 characters that sort by creation.
"""

from __future__ import annotations

import os
import time
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from tenfold.errors import InvalidRequest

LONGEST_TEXT = 32_768  # characters of one event
LONGEST_NAME = 256  # characters of an actor, a subject, a conversation, a key
MOST_PROVENANCE = 32  # entries, each as long as a name at most
AHEAD = timedelta(minutes=5)  # how far another machine's clock may be ahead of ours
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Kind(StrEnum):
    """What an event is. Only observations and tool results are learnt from.

    A recall is text that memory itself returned: kept for the record, never derived from again, so
    that what is recalled does not become a second memory (mem0 #4573).
    """

    OBSERVATION = "observation"
    TOOL = "tool"
    FEEDBACK = "feedback"
    RECALL = "recall"


@dataclass(frozen=True, slots=True)
class Scope:
    """Who may read an event: its author, the members of a team, or everybody in the tenant."""

    name: str = "private"

    def __post_init__(self) -> None:
        if self.name in ("private", "shared"):
            return
        kind, _, team = self.name.partition(":")
        if kind != "team" or not team:
            raise InvalidRequest(
                f"there is no scope {self.name!r}", param="scope", hint="private, team:NAME, shared"
            )
        clean_name(team, "scope")

    @property
    def team(self) -> str | None:
        """The team of a team scope."""
        return self.name.removeprefix("team:") if self.name.startswith("team:") else None


PRIVATE, SHARED = Scope("private"), Scope("shared")


@dataclass(frozen=True, slots=True)
class NewEvent:
    """What a caller hands in. Raises InvalidRequest with the offending `param`.

    `subject` is whom the event is about (their erasure takes it along) and `to` whom it was said
    to. With `key`, handing in the same event again returns the first one; another event under the
    same key is an error. `sources` are ids of events that this one repeats or answers. A kind and a
    scope may be given by their names.
    """

    text: str
    role: str = "user"
    subject: str = ""  # "" is the author
    to: str = ""
    conversation: str = ""
    kind: Kind = Kind.OBSERVATION
    scope: Scope = PRIVATE
    valid_at: datetime | None = None  # None is now
    key: str = ""
    sources: tuple[str, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", clean_text(self.text))
        object.__setattr__(self, "kind", _kind(self.kind))
        object.__setattr__(self, "scope", scope_of(self.scope))
        for param in ("role", "subject", "to", "conversation", "key"):
            clean_name(getattr(self, param), param)
        if not self.role:
            raise InvalidRequest(
                "an event needs a role", param="role", hint="user, assistant, tool"
            )
        for source in self.sources:
            clean_id(source, "sources")
        if self.valid_at is not None:
            object.__setattr__(self, "valid_at", clean_time(self.valid_at, "valid_at"))
        _clean_provenance(self.provenance)


@dataclass(frozen=True, slots=True)
class Event:
    """An event as the log has it: what was handed in, who wrote it, when, and its place."""

    id: str
    author: str
    role: str
    text: str
    subject: str
    to: str
    conversation: str
    sequence: int  # its place in the log, from 1; gaps are erased events
    kind: Kind
    scope: Scope
    valid_at: datetime
    recorded_at: datetime
    key: str = ""
    sources: tuple[str, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)


def clean_text(text: str) -> str:
    """Normalised (NFC) text. Raises InvalidRequest for what is not text, empty, or too long."""
    clean_unicode(text, "text")
    if "\0" in text:
        raise InvalidRequest(
            "text has a zero byte: that is binary data",
            param="text",
            hint="keep files elsewhere and remember where they are",
        )
    text = unicodedata.normalize("NFC", text)
    if not text.strip():
        raise InvalidRequest("text is empty", param="text")
    if len(text) > LONGEST_TEXT:
        raise InvalidRequest(
            f"text has {len(text):,} characters, at most {LONGEST_TEXT:,} make one event",
            param="text",
            hint="add it in pieces, in one conversation",
        )
    return text


def clean_unicode(text: str, param: str) -> str:
    """The text as it is. Raises InvalidRequest for what is no string, or not valid Unicode."""
    if not isinstance(text, str):
        raise InvalidRequest(f"{param} must be a string, not {type(text).__name__}", param=param)
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise InvalidRequest(
            f"{param} is not valid Unicode: half a surrogate pair at character {e.start}",
            param=param,
            hint="decode the bytes with the encoding they were written in",
        ) from None
    return text


def scope_of(scope: Scope | str) -> Scope:
    """A scope, or the one of this name. Raises InvalidRequest for anything else."""
    if isinstance(scope, Scope):
        return scope
    if isinstance(scope, str):
        return Scope(scope)
    raise InvalidRequest(
        f"scope must be a Scope or its name, not {type(scope).__name__}",
        param="scope",
        hint="private, team:NAME, shared",
    )


def clean_name(name: str, param: str) -> str:
    """A name as it is. Raises InvalidRequest for what is too long or has control characters."""
    if not isinstance(name, str):
        raise InvalidRequest(f"{param} must be a string, not {type(name).__name__}", param=param)
    if len(name) > LONGEST_NAME:
        raise InvalidRequest(
            f"{param} has {len(name)} characters, {LONGEST_NAME} at most", param=param
        )
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
        raise InvalidRequest(f"{param} {name!r} has control characters", param=param)
    return name


def in_utc(moment: datetime, param: str) -> datetime:
    """The moment in UTC. Raises InvalidRequest without a time zone, or out of reach of UTC."""
    if not isinstance(moment, datetime):
        raise InvalidRequest(
            f"{param} must be a datetime, not {type(moment).__name__}",
            param=param,
            hint="datetime.fromisoformat('2026-05-01T12:00:00+00:00') makes one of a text",
        )
    if moment.tzinfo is None:
        raise InvalidRequest(
            f"{param} {moment.isoformat()} has no time zone",
            param=param,
            hint="2026-05-01T12:00:00+00:00, or datetime(..., tzinfo=UTC)",
        )
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidRequest(
            f"{param} {moment.isoformat()} is no time in UTC", param=param
        ) from None


def clean_time(moment: datetime, param: str, now: datetime | None = None) -> datetime:
    """The moment in UTC. Raises InvalidRequest without a time zone, or in the future."""
    moment = in_utc(moment, param)
    if moment > (now or datetime.now(UTC)) + AHEAD:
        raise InvalidRequest(
            f"{param} {moment.isoformat()} is in the future",
            param=param,
            hint="events have happened; say in the text when something planned will be",
        )
    return moment


def clean_id(ulid: str, param: str) -> str:
    """An event's id as it is. Raises InvalidRequest for what cannot be one."""
    if not isinstance(ulid, str) or len(ulid) != 26 or any(c not in CROCKFORD for c in ulid):
        raise InvalidRequest(f"{ulid!r} is no event id", param=param, hint="26 letters and digits")
    return ulid


def new_id(milliseconds: int | None = None) -> str:
    """A fresh ULID: 48 bits of time and 80 random ones."""
    stamp = time.time_ns() // 1_000_000 if milliseconds is None else milliseconds
    number = (stamp << 80) | int.from_bytes(os.urandom(10))
    return "".join(CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def _kind(kind: Kind | str) -> Kind:
    try:
        return Kind(kind)
    except ValueError:
        known = ", ".join(Kind)
        raise InvalidRequest(f"there is no kind {kind!r}", param="kind", hint=known) from None


def _clean_provenance(provenance: Mapping[str, str]) -> None:
    if len(provenance) > MOST_PROVENANCE:
        raise InvalidRequest(
            f"provenance has {len(provenance)} entries, {MOST_PROVENANCE} at most",
            param="provenance",
        )
    for key, value in provenance.items():
        clean_name(key, "provenance")
        clean_name(value, "provenance")
