"""Who may read what, in SQLite's words; the rule itself is in `tenfold.memory.visibility`."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tenfold.memory.store import Selection
from tenfold.memory.visibility import (
    EPOCH,
    Clause,
    Viewer,
    known_by,
    microseconds,
    moment,
    selected_by,
)

__all__ = [
    "EPOCH",
    "Clause",
    "Viewer",
    "array",
    "known_by",
    "microseconds",
    "moment",
    "one_of",
    "selected",
]


def selected(selection: Selection) -> Clause:
    """The events that a selection means."""
    return selected_by(selection, one_of)


def one_of(column: str, values: Sequence[str | int]) -> Clause:
    """The column holds one of the values, however many there are."""
    return Clause(f"{column} IN (SELECT value FROM json_each(?))", (array(values),))


def array(values: Sequence[str | int]) -> str:
    """Values as the JSON that `one_of` reads."""
    return json.dumps(list(values))
