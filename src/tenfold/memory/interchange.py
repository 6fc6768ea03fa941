"""Events in and out of a memory: JSON lines, and lists of chat messages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TextIO

from tenfold.errors import InvalidRequest
from tenfold.memory.events import Event, Kind, NewEvent, Scope, clean_id
from tenfold.memory.store import Member, Selection

LOADED = "loaded:"  # the key of what another member wrote, or had no key: the id it had there
_Stored = dict[str, Event]


def as_json(event: Event) -> dict[str, Any]:
    """An event as plain values; times in ISO 8601."""
    return {
        "id": event.id,
        "sequence": event.sequence,
        "author": event.author,
        "role": event.role,
        "text": event.text,
        "subject": event.subject,
        "to": event.to,
        "conversation": event.conversation,
        "kind": event.kind.value,
        "scope": event.scope.name,
        "valid_at": event.valid_at.isoformat(),
        "recorded_at": event.recorded_at.isoformat(),
        "key": event.key,
        "sources": list(event.sources),
        "provenance": dict(event.provenance),
    }


def parse_time(text: str, param: str) -> datetime:
    """A moment in ISO 8601. Raises InvalidRequest; a missing time zone is found by the event."""
    try:
        return datetime.fromisoformat(text)
    except (ValueError, TypeError):
        raise InvalidRequest(
            f"{param} {text!r} is no time", param=param, hint="such as 2026-05-01T12:00:00+00:00"
        ) from None


def export(events: Iterable[Event], out: TextIO) -> int:
    """Writes events as JSON lines; returns how many."""
    count = 0
    for event in events:
        out.write(json.dumps(as_json(event), ensure_ascii=False) + "\n")
        count += 1
    return count


def load(member: Member, lines: Iterable[str]) -> list[Event]:
    """Remembers what `export` wrote; returns the events as they are here, in the file's order.

    What is here already is not added again: the event itself, one that was loaded before, or one
    that this file's event was loaded from. The ids that events name as sources become those that
    the sources have here; sources that are in neither place are left out, and so are recalls and
    feedback on nothing. Of another member's event the author is kept in `provenance`, its key not.

    Raises InvalidRequest, naming the line, and nothing is written then. What fails later (a full
    disk) may leave the first part of the file, which loading again completes.
    """
    records = [_record(line, number) for number, line in enumerate(lines, 1)]
    wanted = _new_to(member, [record for record in records if record is not None])
    here, own = _there(member, wanted)
    found: list[Event | int] = []  # an event, or its place among those of the batch
    batch: list[NewEvent] = []
    names: dict[str, int] = {}  # ids in the file of those in the batch
    loaded: list[Event] = []

    def write() -> None:
        written = member.append(batch)
        here.update({name: written[place] for name, place in names.items()})
        loaded.extend(written[one] if isinstance(one, int) else one for one in found)
        for pending in (found, batch, names):
            pending.clear()

    for record in wanted:
        known = _known(record, here, own)
        if known is None and record.id in names:
            found.append(names[record.id])
            continue
        if known is not None:
            here[record.id or known.id] = known
            found.append(known)
            continue
        if not names.keys().isdisjoint(record.sources):
            write()  # only what is in the log can be a source
        new = _with_sources(record, here)
        if new is not None:
            if record.id:
                names[record.id] = len(batch)
            found.append(len(batch))
            batch.append(new)
    write()
    return loaded


@dataclass(frozen=True, slots=True)
class _Record:
    """A line of the file; `new` has no sources yet."""

    line: int
    id: str
    author: str
    origin: str  # the id of the event that this one was loaded from, where it was
    sources: tuple[str, ...]
    new: NewEvent

    def refused(self, message: str, param: str | None, hint: str | None = None) -> InvalidRequest:
        return InvalidRequest(f"line {self.line}: {message}", param=param, hint=hint)


def _record(line: str, number: int) -> _Record | None:
    try:
        item = json.loads(line)
        if item.get("kind") == Kind.RECALL:
            return None
        when = item.get("valid_at")
        sources = tuple(clean_id(one, "sources") for one in item.get("sources", ()))
        new = NewEvent(
            item["text"],
            role=item.get("role", "user"),
            subject=item.get("subject", ""),
            to=item.get("to", ""),
            conversation=item.get("conversation", ""),
            kind=Kind(item.get("kind", Kind.OBSERVATION)),
            scope=Scope(item.get("scope", "private")),
            valid_at=parse_time(when, "valid_at") if when else None,
            key=item.get("key") or "",
            provenance=dict(item.get("provenance", {})),
        )
        origin = new.key.removeprefix(LOADED) if new.key.startswith(LOADED) else ""
        ulid, author = str(item.get("id", "")), str(item.get("author", ""))
        return _Record(number, ulid, author, origin, sources, new)
    except (
        json.JSONDecodeError, RecursionError, AttributeError, KeyError, TypeError, ValueError
    ) as error:  # fmt: skip
        raise InvalidRequest(f"line {number} is no event: {error}", param="lines") from None
    except InvalidRequest as error:
        raise InvalidRequest(
            f"line {number}: {error.message}", param=error.param, hint=error.hint
        ) from None


def _new_to(member: Member, records: Iterable[_Record]) -> list[_Record]:
    """The records as events of this member. Raises InvalidRequest for teams and keys that clash."""
    teams, keys, wanted = member.teams, dict[str, _Record](), []
    for record in records:
        new = record.new
        if new.scope.team is not None and new.scope.team not in teams:
            raise record.refused(
                f"{member.name!r} is not in team {new.scope.team!r}",
                "scope",
                f"`tenfold memory grant {member.name} {new.scope.team}` makes it so"
                " (in Python memory.tenant.grant)",
            )
        first_id = record.origin or record.id
        if record.author not in ("", member.name):
            by = {"author": record.author, **new.provenance}
            new = replace(new, key=f"{LOADED}{first_id}" if first_id else new.key, provenance=by)
        elif not new.key and first_id:
            new = replace(new, key=f"{LOADED}{first_id}")
        first = keys.setdefault(new.key, record) if new.key else record
        if first.new.text != record.new.text:
            raise record.refused(f"key {new.key!r} is that of line {first.line} already", "key")
        wanted.append(replace(record, new=new))
    return wanted


def _there(member: Member, records: Iterable[_Record]) -> tuple[_Stored, _Stored]:
    """Readable events that the file names, by id; and the member's own ones by their keys."""
    ids = {i for r in records for i in (r.id, r.origin, *r.sources)}
    here = {e.id: e for e in member.get(sorted(i for i in ids if _is_id(i)))}
    own = member.history(Selection(author=member.name))
    return here, {e.key: e for e in own if e.key}


def _known(record: _Record, here: _Stored, own: _Stored) -> Event | None:
    """The event that a record would only repeat. Raises InvalidRequest where it says another."""
    key = record.new.key
    known = here.get(record.id) or here.get(record.origin) or own.get(key)
    if known is not None and known.text != record.new.text:
        raise record.refused(
            f"the event is here as {known.id}, with another text",
            "id" if record.id in here else "key",
            "without id and key it is added as a new one",
        )
    return known


def _with_sources(record: _Record, here: _Stored) -> NewEvent | None:
    """The event with its sources as they are called here; None for feedback that has none left."""
    sources = tuple(dict.fromkeys(here[i].id for i in record.sources if i in here))
    provenance = dict(record.new.provenance)
    if record.new.kind is Kind.FEEDBACK:  # says of its sources by their ids which were useful
        if record.sources and not sources:
            return None
        for one in record.sources:
            if (said := provenance.pop(one, None)) is not None and one in here:
                provenance[here[one].id] = said
    return replace(record.new, sources=sources, provenance=provenance)


def _is_id(text: str) -> bool:
    try:
        return bool(clean_id(text, "id"))
    except InvalidRequest:
        return False


def of_messages(
    messages: Iterable[Mapping[str, Any]], conversation: str, fields: Mapping[str, Any]
) -> Iterator[NewEvent]:
    """Chat messages as events. Raises InvalidRequest for what is none."""
    for place, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise InvalidRequest(
                f"a message must be an object, not {type(message).__name__}",
                param=f"messages[{place}]",
                hint='{"role": "user", "content": "..."}',
            )
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str):
            raise InvalidRequest("a message needs a role", param=f"messages[{place}].role")
        if isinstance(content, list):
            texts = (p for p in content if isinstance(p, Mapping) and p.get("type") == "text")
            parts = [p.get("text") for p in texts]
            content = "\n".join(p for p in parts if isinstance(p, str))
        if content is not None and not isinstance(content, str):
            raise InvalidRequest(
                "content must be a string or a list of parts", param=f"messages[{place}].content"
            )
        if role not in ("system", "developer") and content and content.strip():
            kind = Kind.TOOL if role == "tool" else Kind.OBSERVATION
            yield NewEvent(content, role=role, conversation=conversation, kind=kind, **fields)
