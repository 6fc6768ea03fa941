"""mem0's filters: what a memory's fields must be, with AND, OR and NOT.

`{"city": "Porto"}`, `{"stars": {"gte": 4}}`, `{"OR": [{...}, {...}]}`. A field that a memory does
not have fulfils no condition on it but `"*"`, also none of `ne` and `nin`, as with mem0's Qdrant.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from tenfold.errors import InvalidRequest

LOGIC = ("AND", "OR", "NOT")
RANGES: Mapping[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
OPERATORS = ("eq", "ne", "in", "nin", *RANGES, "contains", "icontains")


class Mem0Error(InvalidRequest, ValueError):
    """What mem0 raises as a ValueError, so that code which catches those goes on working."""


@contextmanager
def valued() -> Iterator[None]:
    """Within it every InvalidRequest is a ValueError too."""
    try:
        yield
    except Mem0Error:
        raise
    except InvalidRequest as error:
        raise Mem0Error(error.message, param=error.param, hint=error.hint) from None


def check(filters: Any, param: str = "filters") -> None:
    """Raises Mem0Error for what are no filters."""
    if not isinstance(filters, Mapping):
        raise Mem0Error("filters are a dictionary", param=param, hint='{"user_id": "ada"}')
    for key, value in filters.items():
        where = f"{param}.{key}"
        if key in LOGIC:
            if not isinstance(value, list) or not value:
                raise Mem0Error(f"{key} takes a list of filters", param=where)
            for place, one in enumerate(value):
                check(one, f"{where}[{place}]")
        elif isinstance(value, Mapping):
            if unknown := [str(name) for name in value if name not in OPERATORS]:
                raise Mem0Error(
                    f"there is no operator {', '.join(unknown)}",
                    param=where,
                    hint=", ".join((*OPERATORS, *LOGIC)),
                )
            for name in ("in", "nin"):
                if not isinstance(value.get(name, []), (list, tuple, set)):
                    raise Mem0Error(f"{name} takes a list of values", param=where)


def matches(payload: Mapping[str, Any], filters: Mapping[str, Any]) -> bool:
    """Whether a memory with these fields fulfils all of the filters, which `check` has seen."""
    return all(_holds(payload, key, value) for key, value in filters.items())


def _holds(payload: Mapping[str, Any], key: str, wanted: Any) -> bool:
    if key == "AND":
        return all(matches(payload, one) for one in wanted)
    if key == "OR":
        return any(matches(payload, one) for one in wanted)
    if key == "NOT":
        return not any(matches(payload, one) for one in wanted)
    if wanted == "*":
        return True
    value = payload.get(key)
    if value is None:
        return False
    values = value if isinstance(value, list) else [value]  # any of a list's values will do
    if isinstance(wanted, Mapping):
        return any(all(_compares(v, name, other) for name, other in wanted.items()) for v in values)
    if isinstance(wanted, list):
        return any(v in wanted for v in values)
    return any(_same(v, wanted) for v in values)


def _compares(value: Any, name: str, other: Any) -> bool:
    if name in ("eq", "ne"):
        return _same(value, other) == (name == "eq")
    if name in ("in", "nin"):
        return any(_same(value, one) for one in other) == (name == "in")
    if name in RANGES:
        pair = _comparable(value, other)
        return pair is not None and RANGES[name](*pair)
    if not isinstance(value, str) or not isinstance(other, str):
        return False
    if name == "icontains":
        return other.casefold() in value.casefold()
    return other in value


def _same(value: Any, other: Any) -> bool:
    """Equal, and not merely as True is to 1."""
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)


def _comparable(value: Any, other: Any) -> tuple[Any, Any] | None:
    """Two numbers, or two times; None for what has no order."""
    numbers = (int, float)
    if isinstance(value, bool) or isinstance(other, bool):
        return None
    if isinstance(value, numbers) and isinstance(other, numbers):
        return value, other
    if isinstance(value, str) and isinstance(other, str):
        try:
            return _time(value), _time(other)
        except ValueError:
            return None
    return None


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
