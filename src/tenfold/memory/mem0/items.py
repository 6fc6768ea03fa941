"""A memory in mem0's shape, and the event that keeps it; whose it is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from tenfold.memory.events import Event, in_utc
from tenfold.memory.mem0.filters import Mem0Error, valued
from tenfold.memory.versions import from_provenance, in_provenance

IDS = ("user_id", "agent_id", "run_id")
OWNERS = {"user_id": "user", "agent_id": "agent", "run_id": "run"}  # -> the member's name begins
FIRST, ACTOR, EXPIRES, METADATA = "mem0.first", "mem0.actor_id", "mem0.expires", "mem0.metadata"


@dataclass(frozen=True, slots=True)
class Scoped:
    """The ids of a call: whose memory it is about, and what narrows it down."""

    user_id: str | None = None
    agent_id: str | None = None
    run_id: str | None = None

    @property
    def given(self) -> dict[str, str]:
        """The ids that are there."""
        return {name: value for name in IDS if (value := getattr(self, name))}

    @property
    def owner(self) -> str:
        """The member of the tenant that has these memories."""
        name, value = next(iter(self.given.items()))
        return f"{OWNERS[name]}:{value}"

    @property
    def conversation(self) -> str:
        """What was said one after another: in the run, else with the agent, else by the user."""
        name = next(name for name in ("run_id", "agent_id", "user_id") if name in self.given)
        return f"{OWNERS[name]}:{self.given[name]}"


def scoped(ids: Mapping[str, Any]) -> Scoped:
    """The ids of a call. Raises InvalidRequest for none at all, spaces within, and `*`."""
    clean: dict[str, str] = {}
    for name in IDS:
        value = ids.get(name)
        if value is None:
            continue
        clean[name] = str(value).strip()
        if not clean[name] or any(c.isspace() for c in clean[name]):
            raise Mem0Error(f"{name} {value!r} is no id", param=name, hint="no spaces, not empty")
        if clean[name] == "*" or isinstance(value, (Mapping, list, tuple, set)):
            raise Mem0Error(f"{name} {value!r} is nobody's", param=name, hint="one id, as a string")
    if not clean:
        raise Mem0Error("whose memory?", param="filters", hint="user_id, agent_id or run_id")
    return Scoped(**clean)


def narrowed(
    filters: Mapping[str, Any] | None, ids: Mapping[str, Any]
) -> tuple[Scoped, dict[str, Any]]:
    """Whose memory a search is in, and what else it filters by; ids may stand in either."""
    if unknown := sorted(set(ids) - set(IDS)):
        raise Mem0Error(f"there is no option {', '.join(unknown)}", param=unknown[0])
    wanted = dict(filters or {})
    return scoped({**ids, **{n: wanted.pop(n) for n in IDS if n in wanted}}), wanted


def said(messages: Any) -> list[tuple[str, str, str]]:
    """Role, text and speaker's name of each message that has text; none of the system's."""
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if isinstance(messages, Mapping):
        messages = [messages]
    if not isinstance(messages, list):
        raise Mem0Error("neither a text nor messages", param="messages")
    found = []
    for place, message in enumerate(messages):
        where = f"messages[{place}]"
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise Mem0Error(f"{where} is no message with a role", param=where)
        content = message.get("content")
        if isinstance(content, list):
            content = " ".join(filter(None, (_text(part, where) for part in content)))
        if content is not None and not isinstance(content, str):
            raise Mem0Error("content must be a string or a list of parts", param=where)
        if message["role"] not in ("system", "developer") and content and content.strip():
            found.append((message["role"], content, str(message.get("name") or "")))
    return found


def _text(part: Any, where: str) -> str:
    """The text of a part of a message's content; "" of an image and the like."""
    if not isinstance(part, Mapping):
        raise Mem0Error("content must be a string or a list of parts", param=where)
    text = part.get("text") if part.get("type") == "text" else ""
    if not isinstance(text, str):
        raise Mem0Error("a part of type text needs a text", param=where)
    return text


def free(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Metadata without ids: whose a memory is, metadata cannot say."""
    return {k: v for k, v in (metadata or {}).items() if k not in (*IDS, "actor_id")}


def about(
    scope: Scoped, metadata: Mapping[str, Any] | None, expires: date | str | None
) -> dict[str, str]:
    """What an event's provenance says of a memory."""
    provenance = {f"mem0.{name}": value for name, value in scope.given.items()}
    if kept := free(metadata):
        provenance |= in_provenance(METADATA, kept, "metadata")
    if expires is not None:
        provenance[EXPIRES] = day_of(expires)
    return provenance


def day_of(day: date | str) -> str:
    """A date as mem0 writes it. Raises InvalidRequest."""
    try:
        return (day if isinstance(day, date) else date.fromisoformat(day)).isoformat()[:10]
    except (ValueError, TypeError):
        raise Mem0Error(
            f"{day!r} is no date", param="expiration_date", hint="such as 2026-12-31"
        ) from None


def moment_of(when: datetime | str | float, param: str) -> datetime:
    """A time in UTC, of one in ISO 8601 with a zone or in seconds since 1970. Raises Mem0Error."""
    with valued():
        try:
            if isinstance(when, str):
                when = datetime.fromisoformat(when)
            elif not isinstance(when, datetime):
                when = datetime.fromtimestamp(when, UTC)
        except (TypeError, ValueError, OverflowError, OSError):
            raise Mem0Error(
                f"{when!r} is no time", param=param, hint="seconds since 1970, or ISO 8601"
            ) from None
        return in_utc(when, param)


def thing_of(event: Event) -> str | None:
    """The id of the memory that an event is a version of; None for what is none, as a recall."""
    if not any(f"mem0.{name}" in event.provenance for name in IDS):
        return None
    return event.provenance.get(FIRST, event.id)


def belongs(versions: list[Event], scope: Scoped) -> bool:
    """Whether a memory has all ids of the scope."""
    provenance = versions[-1].provenance
    return all(provenance.get(f"mem0.{name}") == value for name, value in scope.given.items())


def item_of(versions: list[Event]) -> dict[str, Any]:
    """A memory in mem0's shape."""
    first, last = versions[0], versions[-1]
    item: dict[str, Any] = {
        "id": first.provenance.get(FIRST, first.id),
        "memory": last.text,
        "hash": hashlib.md5(last.text.encode(), usedforsecurity=False).hexdigest(),
        "metadata": from_provenance(METADATA, last.provenance),
        "created_at": first.valid_at.isoformat(),
        "updated_at": last.valid_at.isoformat(),
    }
    named = {**{name: f"mem0.{name}" for name in IDS}, "actor_id": ACTOR}
    item |= {n: last.provenance[key] for n, key in named.items() if key in last.provenance}
    item["role"] = last.role
    if expires := last.provenance.get(EXPIRES):
        item["expiration_date"] = expires
    return item


def payload_of(versions: list[Event]) -> dict[str, Any]:
    """What filters see: metadata beside the other fields, which it cannot hide."""
    item = item_of(versions)
    return {**(item.pop("metadata") or {}), **item, "data": item["memory"]}


def checked_top(top_k: Any) -> int:
    """How many at most. Raises InvalidRequest."""
    if not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 0:
        raise Mem0Error(f"top_k is {top_k!r}", param="top_k", hint="a number, at least 0")
    return top_k


def squeezed(score: float) -> float:
    """From any number into 0 to 1, in the same order."""
    return 0.5 + score / (2 + 2 * abs(score))
