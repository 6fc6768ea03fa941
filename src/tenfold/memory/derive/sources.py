"""Which events may be derived from, who speaks in one, and who may read what comes of it."""

from __future__ import annotations

from collections.abc import Iterable

from tenfold.memory.events import Event, Kind

LEARNT = (Kind.OBSERVATION, Kind.TOOL)


def learnt(events: Iterable[Event]) -> list[Event]:
    """Those that are derived from, in the order of the log: no recalls and no feedback.

    A recall is memory's own words. To learn from it would make a second memory of the first.
    """
    return sorted((e for e in events if e.kind in LEARNT), key=lambda e: (e.sequence, e.id))


def audience(event: Event) -> tuple[str, str]:
    """Who may read an event, as a key. What mixes two audiences would leak from one to the other.

    Of private events that is their author; of others the team, or all.
    """
    return event.scope.name, event.author if event.scope.name == "private" else ""


def first_person(event: Event) -> str | None:
    """Whom "I" means: the subject of a user's words. None in an assistant's or a tool's."""
    return (event.subject or event.author) if event.role == "user" else None


def speaker(event: Event) -> str:
    """The name to print before an event's text.

    `provenance["speaker"]` where the caller gave one; else whom "I" means; else the role, because
    an assistant's turns are written down by the member it talked to. Who writes about others is
    named as the author.
    """
    named = event.provenance.get("speaker") or first_person(event)
    if named:
        return named
    return event.author if event.subject not in ("", event.author) else event.role
