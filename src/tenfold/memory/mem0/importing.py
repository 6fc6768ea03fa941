"""What mem0 remembers, brought into a memory of tenfold.

Two things that mem0 leaves can be read without running any of it: its `history.db` (SQLite), and a
JSON dump of `get_all()`. Its local vector store (Qdrant) holds Python pickles, which can run code
when they are loaded, so it is never opened. The dump has whose each memory is and its metadata; the
history has the versions, and no ids at all.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from tenfold.errors import InvalidRequest
from tenfold.memory.events import Event, NewEvent
from tenfold.memory.mem0.filters import Mem0Error
from tenfold.memory.mem0.items import (
    ACTOR,
    EXPIRES,
    FIRST,
    IDS,
    METADATA,
    OWNERS,
    Scoped,
    about,
    scoped,
)
from tenfold.memory.memory import Memory
from tenfold.memory.versions import Versions, from_provenance

WAS = "mem0.id"  # the id that a memory had in mem0
SQLITE = b"SQLite format 3\0"
COLUMNS = ("memory_id", "new_memory", "event", "created_at", "updated_at")
HOW_TO_DUMP = 'json.dump(memory.get_all(filters={"user_id": "ada"}, top_k=1_000_000), file)'


@dataclass(frozen=True, slots=True)
class Item:
    """One version of a memory of mem0's; `scope` is None where nothing says whose it is.

    A `whole` one says of metadata and expiry that there is none, where it has none.
    """

    was: str
    text: str
    said: datetime
    scope: Scoped | None
    role: str = "user"
    actor: str = ""
    metadata: Mapping[str, Any] | None = None
    expires: str | None = None
    whole: bool = True


def load(memory: Memory, path: Path) -> list[Event]:
    """Remembers what is in mem0's history.db or in a dump of `get_all()`; returns what is new.

    Memories with ids go to the members that `tenfold.memory.mem0` keeps them under; those of a
    history, which has none, to the member of `memory`: `user:ada` makes them ada's there. What was
    loaded before is not loaded twice, a memory that has changed since becomes an update, and what
    is older than the version that is there is left out. Everything is checked before anything is
    written. Raises InvalidRequest, which names the memory.
    """
    by_owner: dict[str, list[Item]] = {}
    named = _named(memory.member)
    for item in read(path):
        item = item if item.scope else replace(item, scope=named)
        by_owner.setdefault(item.scope.owner if item.scope else memory.member, []).append(item)
    planned = [(m := memory.of(owner), _planned(m, items)) for owner, items in by_owner.items()]
    return [event for owner, things in planned for event in _remembered(owner, things)]


def read(path: Path) -> list[Item]:
    """The memories in a file, in its order, or in the history.db of a folder."""
    file = path / "history.db" if path.is_dir() else path
    try:
        with file.open("rb") as opened:
            beginning = opened.read(len(SQLITE))
        if beginning == SQLITE:
            return list(_of_history(file))
        return list(_of_dump(file))
    except (OSError, UnicodeDecodeError) as error:
        raise Mem0Error(
            f"{file} cannot be read: {getattr(error, 'strerror', None) or error}",
            param="path",
            hint=f"mem0's history.db, or a dump: {HOW_TO_DUMP}",
        ) from None


@dataclass(slots=True)
class Thing:
    """The versions of a memory that are to be written; `first` is the id of one that is there."""

    first: str
    new: list[NewEvent]


def _planned(memory: Memory, items: Sequence[Item]) -> list[Thing]:
    """What is new in the items, which are the versions of memories in the order of time."""
    things: dict[str, Thing] = {}
    last: dict[str, Event | NewEvent] = {}
    for versions in Versions(memory, _first).read().values():
        if was := next((e.provenance[WAS] for e in versions if WAS in e.provenance), None):
            things[was], last[was] = Thing(_first(versions[0]), []), versions[-1]
    for item in items:
        before = last.get(item.was)
        if before is not None and before.valid_at is not None and item.said < before.valid_at:
            continue
        thing = things.setdefault(item.was, Thing("", []))
        try:
            event = _event(item, before, thing.first)
        except InvalidRequest as error:
            raise Mem0Error(
                f"memory {item.was}: {error.message}", param=error.param, hint=error.hint
            ) from None
        if before is None or _content(event) != _content(before):
            thing.new.append(event)
            last[item.was] = event
    return [thing for thing in things.values() if thing.new]


def _remembered(memory: Memory, things: Sequence[Thing]) -> list[Event]:
    loaded: list[Event] = []
    while things:  # a first version must be there before the second can name it
        written = memory.add_all([_after(thing.first, thing.new[0]) for thing in things])
        loaded.extend(written)
        left = zip(things, written, strict=True)
        things = [Thing(t.first or e.id, t.new[1:]) for t, e in left if len(t.new) > 1]
    return loaded


def _event(item: Item, before: Event | NewEvent | None, first: str) -> NewEvent:
    """A version of a memory; what its file does not tell of it stays as it was before."""
    provenance = {WAS: item.was, **({ACTOR: item.actor} if item.actor else {})}
    if not item.whole and before is not None:
        provenance = {k: v for k, v in before.provenance.items() if k != FIRST} | provenance
    elif item.scope:
        provenance |= about(item.scope, item.metadata, item.expires)
    conversation = item.scope.conversation if item.scope else ""
    if not item.whole and before is not None:
        conversation = before.conversation
    new = NewEvent(
        item.text,
        role=item.role,
        conversation=conversation,
        valid_at=item.said,
        provenance=provenance,
    )
    return _after(first, new)


def _after(first: str, event: NewEvent) -> NewEvent:
    """The event as a later version of the one with that id; as it is where there is none."""
    return replace(event, provenance={**event.provenance, FIRST: first}) if first else event


def _content(event: Event | NewEvent) -> tuple[str, Any, str | None]:
    metadata = from_provenance(METADATA, event.provenance)
    return event.text, metadata, event.provenance.get(EXPIRES)


def _first(event: Event) -> str:
    return event.provenance.get(FIRST, event.id)


def _named(member: str) -> Scoped | None:
    """The ids that a member's name stands for, such as `user:ada`."""
    kind, _, value = member.partition(":")
    found = [name for name in IDS if OWNERS[name] == kind]
    return Scoped(**{found[0]: value}) if found and value else None


def _of_dump(file: Path) -> Iterator[Item]:
    text = file.read_text(encoding="utf-8-sig")
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        try:  # JSON lines
            whole = [json.loads(line) for line in text.splitlines() if line.strip()]
        except (ValueError, RecursionError) as error:
            raise Mem0Error(
                f"{file} is neither mem0's history.db nor JSON: {error}",
                param="path",
                hint=f"make a dump: {HOW_TO_DUMP}",
            ) from None
    for number, item in enumerate(_flat(whole), 1):
        try:
            yield _item(item)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Mem0Error(
                f"memory {number} of {file} is none that mem0's get_all() returns: {error!r}",
                param="path",
            ) from None


def _flat(whole: Any) -> Iterator[Any]:
    """The memories of one or several results of `get_all`."""
    if isinstance(whole, Mapping) and "results" in whole:
        yield from _flat(whole["results"])
    elif isinstance(whole, list):
        for one in whole:
            yield from _flat(one)
    else:
        yield whole


def _item(item: Any) -> Item:
    metadata = item.get("metadata") or None
    return Item(
        was=str(item["id"]),
        text=item["memory"],
        said=_time(item.get("updated_at") or item["created_at"]),
        scope=scoped(item),
        role=item.get("role") or "user",
        actor=item.get("actor_id") or "",
        metadata=dict(metadata) if metadata else None,
        expires=item.get("expiration_date"),
    )


def _of_history(file: Path) -> Iterator[Item]:
    """The versions of what mem0 still had; what it deleted is not brought back."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as db:
            there = {row[1] for row in db.execute("PRAGMA table_info(history)")}
            if missing := [name for name in COLUMNS if name not in there]:
                raise Mem0Error(
                    f"{file} has no table history with {', '.join(missing)}",
                    param="path",
                    hint="it is no history.db of mem0, or one of an older version",
                )
            more = [name if name in there else f"NULL AS {name}" for name in ("actor_id", "role")]
            rows = db.execute(
                f"SELECT {', '.join((*COLUMNS, *more))} FROM history ORDER BY rowid"
            ).fetchall()
    except sqlite3.Error as error:
        raise Mem0Error(f"{file} cannot be read: {error}", param="path") from None
    deleted = {row[0] for row in rows if row[2] == "DELETE"}
    last: dict[str, str] = {}
    for was, text, event, created, updated, actor, role in rows:
        if was in deleted or event not in ("ADD", "UPDATE") or not text or last.get(was) == text:
            continue
        last[was] = text
        try:
            said = _time(updated if event == "UPDATE" and updated else created)
        except (TypeError, ValueError) as error:
            raise Mem0Error(f"memory {was} in {file}: {error}", param="path") from None
        yield Item(was, text, said, None, role or "user", actor or "", whole=False)


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise ValueError(f"{text!r} is no time") from None
    if moment.tzinfo is None:
        raise ValueError(f"the time {text} has no zone")
    return moment
