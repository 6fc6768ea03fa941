"""Who may read what, as SQL. There is one clause, and this is the only place that writes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from tenfold.memory.store import Selection

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clause(NamedTuple):
    """A condition on `events e` with its parameters; values never become part of the SQL."""

    sql: str
    values: tuple[str | int, ...] = ()

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
            (self.member, self.member),
        )

    def may_erase(self) -> Clause:
        """What they see and wrote, or what they see and is about them."""
        if self.member is None:
            return self.sees()
        return self.sees() & Clause("(e.author = ? OR e.subject = ?)", (self.member, self.member))


def microseconds(moment: datetime) -> int:
    """Since 1970, exactly."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def moment(stamp: int) -> datetime:
    """The time of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=stamp)


def selected(selection: Selection) -> Clause:
    """The events that a selection means."""
    clause = Clause("TRUE")
    if selection.ids:
        clause &= one_of("e.id", selection.ids)
    for column, name in (
        ("e.subject", selection.subject),
        ("e.conversation", selection.conversation),
        ("e.author", selection.author),
        ("e.scope", selection.scope.name if selection.scope else ""),
    ):
        if name:
            clause &= Clause(f"{column} = ?", (name,))
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


def one_of(column: str, values: Sequence[str | int]) -> Clause:
    """The column holds one of the values, however many there are."""
    return Clause(f"{column} IN (SELECT value FROM json_each(?))", (array(values),))


def array(values: Sequence[str | int]) -> str:
    """Values as the JSON that `one_of` reads."""
    return json.dumps(list(values))
