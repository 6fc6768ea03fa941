"""Who may read what, in Postgres's words; the rule itself is in `tenfold.memory.visibility`."""

from __future__ import annotations

from collections.abc import Sequence

from tenfold.memory.store import Selection
from tenfold.memory.visibility import Clause, Viewer, known_by, selected_by

__all__ = ["Clause", "Viewer", "known_by", "one_of", "selected"]


def one_of(column: str, values: Sequence[str | int]) -> Clause:
    """The column holds one of the values, however many there are."""
    return Clause(f"{column} = ANY(?)", (list(values),))


def selected(selection: Selection) -> Clause:
    """The events that a selection means."""
    return selected_by(selection, one_of)
