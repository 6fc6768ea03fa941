"""Who may read what, as SQL over `events e`. This is the only place that writes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from tenfold.memory.store import Selection

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Name(str):
    """A value that names someone or something; a store may compare keyed hashes of it instead."""

    __slots__ = ()


class Clause(NamedTuple):
    """A condition with its parameters (`?`); values never become part of the SQL."""

    sql: str
    values: tuple[Any, ...] = ()

    def __and__(self, other: Clause) -> Clause:
        return Clause(f"({self.sql} AND {other.sql})", self.values + other.values)


class Viewer(NamedTuple):
    """Who looks: a member by name, or the tenant itself, which sees all (`member` is None)."""

    member: str | None

    def sees(self) -> Clause:
        """Their own private events, those of teams they are in now, and what is shared."""
        if self.member is None:
            return Clause("TRUE")
        return Clause(
            "((e.scope = 'private' AND e.author = ?) OR e.scope = 'shared' OR e.scope IN"
            " (SELECT 'team:' || team FROM grants WHERE member = ?))",
            (Name(self.member), Name(self.member)),
        )

    def may_erase(self) -> Clause:
        """What they see and wrote, or what they see and is about them."""
        if self.member is None:
            return self.sees()
        return self.sees() & Clause(
            "(e.author = ? OR e.subject = ?)", (Name(self.member), Name(self.member))
        )


def microseconds(moment: datetime) -> int:
    """Since 1970, exactly."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def moment(stamp: int) -> datetime:
    """The time of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=stamp)


OneOf = Callable[[str, Sequence[str | int]], Clause]  # the column holds one of the values


def selected_by(selection: Selection, one_of: OneOf) -> Clause:
    """The events that a selection means; `one_of` is the store's way to say it of many values."""
    clause = Clause("TRUE")
    if selection.ids:
        clause &= one_of("e.id", [Name(ulid) for ulid in selection.ids])
    for column, name in (
        ("e.subject", selection.subject),
        ("e.conversation", selection.conversation),
        ("e.author", selection.author),
    ):
        if name:
            clause &= Clause(f"{column} = ?", (Name(name),))
    if selection.scope:
        clause &= Clause("e.scope = ?", (selection.scope.name,))
    if selection.kinds:
        clause &= one_of("e.kind", [str(kind) for kind in selection.kinds])
    if selection.since:
        clause &= Clause("e.valid_at >= ?", (microseconds(selection.since),))
    if selection.until:
        clause &= Clause("e.valid_at < ?", (microseconds(selection.until),))
    return clause & known_by(selection)


def known_by(selection: Selection) -> Clause:
    """What was recorded and valid at the time that is gone back to."""
    if selection.as_of is None:
        return Clause("TRUE")
    stamp = microseconds(selection.as_of)
    return Clause("(e.recorded_at <= ? AND e.valid_at <= ?)", (stamp, stamp))
