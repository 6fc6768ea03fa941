"""Items of a LangGraph store as events, and what its filters and namespaces match."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tenfold.errors import InvalidRequest
from tenfold.memory.events import LONGEST_NAME, Event

Place = tuple[tuple[str, ...], str]  # namespace and key
ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
OPERATORS = ("$eq", "$ne", *ORDERS)


class BadOperation(InvalidRequest, ValueError):
    """An operation that a store cannot carry out; LangGraph's own stores raise ValueErrors."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An item as the log has it: its value, and the ids of the events that hold its texts."""

    namespace: tuple[str, ...]
    key: str
    put: str  # names the put that wrote it
    value: dict[str, Any]
    texts: tuple[str, ...]
    created_at: datetime
    updated_at: datetime
    accessed_at: datetime
    ttl: timedelta | None

    def expired(self, now: datetime) -> bool:
        """Whether nobody read or wrote it for the time that it has."""
        return self.ttl is not None and now - self.accessed_at > self.ttl


def place_of(event: Event) -> Place | None:
    """Where the item is that an event is of; None for what is of none."""
    if not event.provenance.keys() >= {"store.put", "store.key"}:
        return None
    return tuple(event.conversation.split(".")), event.provenance["store.key"]


def kept_of(events: Sequence[Event]) -> Kept | None:
    """The item that the events of one place make, in the order of the log: the last put's.

    None where a part of its value was erased, as by a retention policy.
    """
    put = next((e.provenance["store.put"] for e in reversed(events) if e.role == "item"), "")
    own = [e for e in events if e.provenance["store.put"] == put]
    parts = [e for e in own if e.role == "item"]
    parts.sort(key=lambda e: int(e.provenance["store.part"]))
    if not parts or [int(e.provenance["store.part"]) for e in parts] != [*range(len(parts))]:
        return None
    try:
        value = json.loads("".join(e.text for e in parts))
    except ValueError:  # the last part is missing: no beginning of an object is JSON
        return None
    first = parts[0]
    ttl, since = first.provenance.get("store.ttl"), first.provenance.get("store.first")
    return Kept(
        namespace=tuple(first.conversation.split(".")),
        key=first.provenance["store.key"],
        put=put,
        value=value,
        texts=tuple(e.id for e in own if e.role == "text"),
        created_at=datetime.fromisoformat(since) if since else first.valid_at,
        updated_at=first.valid_at,
        accessed_at=own[-1].valid_at,
        ttl=timedelta(minutes=float(ttl)) if ttl else None,
    )


def leaves(value: Any) -> Iterator[str]:
    """The texts of a JSON value, in its order; numbers and the like as JSON writes them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from leaves(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from leaves(one)
    elif value is not None:
        yield json.dumps(value)


def clean_namespace(namespace: Sequence[str]) -> tuple[str, ...]:
    """A namespace as it is. Raises BadOperation for labels that are empty, no text, or have dots.

    A dot would let ("a.b",) pass for ("a", "b").
    """
    for label in namespace:
        if not isinstance(label, str) or not label or "." in label:
            raise BadOperation(
                f"{label!r} is no label of a namespace", param="namespace", hint="a text, no dots"
            )
    if len(".".join(namespace)) > LONGEST_NAME:
        raise BadOperation(
            f"the namespace has more than {LONGEST_NAME} characters", param="namespace"
        )
    return tuple(namespace)


def checked_ttl(minutes: float) -> float:
    """The minutes that an item has. Raises BadOperation for what is no span of time."""
    try:
        if minutes > 0 and timedelta(minutes=minutes):
            return float(minutes)
    except (TypeError, ValueError, OverflowError):
        pass
    raise BadOperation(
        f"ttl is {minutes!r}", param="ttl", hint="minutes, above 0; None for an item that stays"
    )


def namespace_matches(how: str, path: Sequence[str], namespace: Sequence[str]) -> bool:
    """Whether a namespace begins or ends with a path, in which `*` is any label."""
    if how not in ("prefix", "suffix"):
        raise BadOperation(f"there is no match {how!r}", param="match_type", hint="prefix, suffix")
    if len(path) > len(namespace):
        return False
    part = namespace[: len(path)] if how == "prefix" else namespace[len(namespace) - len(path) :]
    return all(p in ("*", label) for p, label in zip(path, part, strict=True))


def matches(value: Any, wanted: Mapping[str, Any]) -> bool:
    """Whether a value's fields are what a filter wants: equal, or in LangGraph's operators."""
    return all(_holds(value.get(key), one) for key, one in wanted.items())


def _holds(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        if any(str(name).startswith("$") for name in wanted):
            return all(_compares(value, name, other) for name, other in wanted.items())
        return isinstance(value, Mapping) and matches(value, wanted)
    if isinstance(wanted, (list, tuple)):
        return (
            isinstance(value, (list, tuple))
            and len(value) == len(wanted)
            and all(_holds(v, w) for v, w in zip(value, wanted, strict=True))
        )
    return bool(value == wanted)


def _compares(value: Any, name: str, other: Any) -> bool:
    """What has no order, as a text and a number, is on neither side."""
    if name == "$eq":
        return bool(value == other)
    if name == "$ne":
        return bool(value != other)
    if name not in ORDERS:
        raise BadOperation(
            f"there is no operator {name}", param="filter", hint=", ".join(OPERATORS)
        )
    if isinstance(value, str) and isinstance(other, str):
        return ORDERS[name](value, other)
    if isinstance(value, (int, float)) and isinstance(other, (int, float)):
        return ORDERS[name](float(value), float(other))
    return False
