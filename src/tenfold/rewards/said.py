"""Values with the records they are said of, and lists of them: "Porto and Lisbon"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from tenfold.rewards.catalogue import Meaning
from tenfold.rewards.phrases import Found


class Scope(NamedTuple):
    """The records a value is said of. Of `joint` ones it is said of each, else of one of them."""

    records: tuple[int, ...]
    joint: bool = False
    latest_first: bool = False  # records of earlier sentences, those named last before the others

    @property
    def as_named(self) -> tuple[int, ...]:
        """The records in the order of their names."""
        return self.records[::-1] if self.latest_first else self.records


class Statement(NamedTuple):
    """A value, with who it is said of. `pending` ones may yet turn out to be said otherwise."""

    at: Found[Meaning]
    scope: Scope
    slot: str | None  # the slot named beside the value
    pending: bool = False


def respectively(
    spoken: Sequence[Statement], adjacent: Callable[[int, int], bool], *, open_end: bool
) -> list[Statement]:
    """A sentence's statements, where values listed for several records are each said of one.

    Of "A and B are in Porto and Lisbon" the first is A's and the second B's: as many values of a
    slot as there are records come in the records' order. Where something else lies between those
    values, and where the sentence goes on, others than these are not judged.
    """
    lists: dict[tuple[tuple[int, ...], str], list[int]] = {}
    for i, statement in enumerate(spoken):
        records = statement.scope.as_named
        slots = {m.slot for m in statement.at.meanings if _is_of(m, records)}
        if statement.slot in slots:
            slots = {statement.slot}
        if len(records) > 1 and len(slots) == 1:
            lists.setdefault((records, slots.pop()), []).append(i)
    told = list(spoken)
    for (records, slot), places in lists.items():
        if len(places) < len(records):
            continue
        pairs = [(i, records[n % len(records)]) for n, i in enumerate(places)]
        told_right = all(
            any(m.slot == slot and _is_of(m, (record,)) for m in spoken[i].at.meanings)
            for i, record in pairs
        )
        listed = all(adjacent(spoken[a].at.end, spoken[b].at.start) for a, b in pairwise(places))
        for i, record in pairs:
            pending = spoken[i].pending or (not told_right and (open_end or not listed))
            told[i] = spoken[i]._replace(scope=Scope((record,)), slot=slot, pending=pending)
    return told


def _is_of(meaning: Meaning, records: Sequence[int]) -> bool:
    return meaning.kind == "value" and meaning.record in records
