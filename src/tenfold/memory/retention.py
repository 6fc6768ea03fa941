"""How long memories are kept: policies of a tenant, and the events that they want erased.

Policies are settings of the tenant, so no erasure and no rebuild changes them. Nothing here erases:
`due` says which events a policy is over for, and the store erases them with all that came of them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tenfold.errors import InvalidRequest
from tenfold.memory.events import Event, Kind, Scope
from tenfold.memory.store import Receipt, StoreError, Tenant

SETTING = "retention"


@dataclass(frozen=True, slots=True)
class Retention:
    """How long, or how many, events of a scope and kind are kept.

    "" is every scope and None every kind. Age counts from when an event was recorded: how long it
    has been held. `max_events` holds for each scope by itself, and of private events for each
    author. Raises InvalidRequest where nothing would be kept, or nothing is limited.
    """

    scope: str = ""
    kind: Kind | None = None
    max_age: timedelta | None = None
    max_events: int | None = None

    def __post_init__(self) -> None:
        if self.scope:
            Scope(self.scope)
        if self.max_age is None and self.max_events is None:
            raise InvalidRequest(
                "a policy needs a limit", param="max_age", hint="an age, a number of events or both"
            )
        if self.max_age is not None and self.max_age <= timedelta():
            raise InvalidRequest(
                f"to keep events for {self.max_age} is to keep none",
                param="max_age",
                hint="longer than 0; erase the scope to empty it",
            )
        if self.max_events is not None and self.max_events < 1:
            raise InvalidRequest(
                f"to keep {self.max_events} events is to keep none",
                param="max_events",
                hint="at least 1; erase the scope to empty it",
            )

    @property
    def about(self) -> tuple[str, Kind | None]:
        """What it is about; a tenant has one policy for each."""
        return self.scope, self.kind

    def concerns(self, event: Event) -> bool:
        """Whether it says how long this event is kept."""
        return self.scope in ("", event.scope.name) and self.kind in (None, event.kind)


@dataclass(frozen=True, slots=True)
class Retained:
    """What applying the policies erased, or would: events for each policy, and the receipt."""

    due: tuple[tuple[Retention, int], ...]
    events: int  # due by one or several of them
    receipt: Receipt | None = None


def policies(tenant: Tenant) -> list[Retention]:
    """The tenant's policies. Raises StoreError for a setting that this tenfold cannot read."""
    said = tenant.settings().get(SETTING, "[]")
    try:
        return [_read(one) for one in json.loads(said)]
    except (ValueError, TypeError, KeyError, InvalidRequest) as error:
        raise StoreError(
            f"the retention policies of {tenant.name!r} cannot be read: {error}",
            hint="they may be of a newer tenfold; nothing was erased",
        ) from None


def set_policy(tenant: Tenant, policy: Retention) -> None:
    """Sets a policy, in the place of the one about the same scope and kind."""
    _write(tenant, [*(p for p in policies(tenant) if p.about != policy.about), policy])


def drop_policy(tenant: Tenant, scope: str = "", kind: Kind | None = None) -> None:
    """Takes the policy about a scope and kind back. Raises InvalidRequest where there is none."""
    there = policies(tenant)
    left = [p for p in there if p.about != (scope, kind)]
    if len(left) == len(there):
        raise InvalidRequest(
            f"there is no policy about {kind or 'events'} of {scope or 'every scope'}",
            param="scope",
            hint="`retain show` lists them",
        )
    _write(tenant, left)


def due(
    events: Iterable[Event], policies: Sequence[Retention], now: datetime
) -> list[tuple[Retention, tuple[str, ...]]]:
    """For each policy the events that it wants erased, in the order of the log.

    `events` come in that order. An event may be due by several policies.
    """
    old: dict[int, set[str]] = defaultdict(set)
    groups: dict[tuple[int, str, str], list[str]] = defaultdict(list)
    order: list[str] = []
    for event in events:
        for i, policy in enumerate(policies):
            if not policy.concerns(event):
                continue
            if policy.max_age is not None and now - event.recorded_at > policy.max_age:
                old[i].add(event.id)
            if policy.max_events is not None:
                scope = event.scope.name
                groups[i, scope, event.author if scope == "private" else ""].append(event.id)
        order.append(event.id)
    for (i, _, _), ids in groups.items():
        most = policies[i].max_events
        assert most is not None
        old[i].update(ids[: max(0, len(ids) - most)])
    return [(p, tuple(i for i in order if i in old[n])) for n, p in enumerate(policies)]


def _write(tenant: Tenant, policies: Sequence[Retention]) -> None:
    said = [
        {
            "scope": p.scope,
            "kind": p.kind.value if p.kind else "",
            "seconds": p.max_age.total_seconds() if p.max_age is not None else None,
            "events": p.max_events,
        }
        for p in sorted(policies, key=lambda p: (p.scope, p.kind or ""))
    ]
    tenant.set(SETTING, json.dumps(said) if said else "")


def _read(one: dict[str, str | float | None]) -> Retention:
    seconds, events = one["seconds"], one["events"]
    return Retention(
        scope=str(one["scope"]),
        kind=Kind(str(one["kind"])) if one["kind"] else None,
        max_age=timedelta(seconds=float(seconds)) if seconds is not None else None,
        max_events=int(events) if events is not None else None,
    )
