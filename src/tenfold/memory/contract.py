"""What every store does the same way: events of what is handed in, checks, errors, probes."""

from __future__ import annotations

import dataclasses
import json
import re
import time
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

from tenfold.errors import InvalidRequest
from tenfold.memory.events import Event, NewEvent, clean_name, new_id
from tenfold.memory.store import Receipt, Selection, Vectors
from tenfold.memory.visibility import microseconds, moment

VECTORS = ("turn", "window")
FAILURE = 500  # characters of a reason that are kept
_WORD = re.compile(r"[^\W_]+")


def made(new: NewEvent, author: str, ulid: str, sequence: int, now: int) -> Event:
    """The event as the log will have it; `now` in microseconds since 1970."""
    return Event(
        id=ulid,
        author=author,
        role=new.role,
        text=new.text,
        subject=new.subject or author,
        to=new.to,
        conversation=new.conversation,
        sequence=sequence,
        kind=new.kind,
        scope=new.scope,
        valid_at=new.valid_at or moment(now),
        recorded_at=moment(now),
        key=new.key,
        sources=tuple(new.sources),
        provenance=dict(new.provenance),
    )


def same_again(first: Event, new: NewEvent) -> Event:
    """The event that has the key already. Raises InvalidRequest when it is another one."""
    again = made(new, first.author, first.id, first.sequence, microseconds(first.recorded_at))
    if new.valid_at is None:  # it was "now" the first time, whenever that was
        again = dataclasses.replace(again, valid_at=first.valid_at)
    if again != first:
        raise InvalidRequest(
            f"key {new.key!r} holds another event ({first.id})",
            param="key",
            hint="a key names one event for good; use a new one for something new",
        )
    return first


def check_teams(author: str, events: Sequence[NewEvent], teams: Iterable[str]) -> None:
    """Raises InvalidRequest where an event is for a team that its author is not in."""
    missing = {e.scope.team for e in events if e.scope.team is not None} - set(teams)
    if missing:
        raise InvalidRequest(
            f"{author!r} is not in team {min(missing)!r}",
            param="scope",
            hint=f"`tenfold memory grant {author} {min(missing)}` makes it so"
            " (in Python memory.tenant.grant)",
        )


def check_sources(author: str, wanted: Iterable[str], known: Iterable[str]) -> None:
    """Raises InvalidRequest for a source that is not among the known ones."""
    missing = sorted(set(wanted) - set(known))
    if missing:
        raise InvalidRequest(
            f"there is no event {missing[0]} that {author!r} can read",
            param="sources",
            hint="sources are ids of events that memory returned to this member",
        )


def check_erasable(selection: Selection) -> None:
    """Raises InvalidRequest for a selection of everything."""
    if selection.is_everything():
        raise InvalidRequest(
            "an erasure needs a selection",
            param="selection",
            hint="a conversation, subject, author, kind, scope, time or ids;"
            " everything is since 1000-01-01T00:00:00Z",
        )


def nothing_to_erase() -> InvalidRequest:
    """The error of a selection that selects nothing."""
    return InvalidRequest(
        "the selection has no event that can be erased",
        param="selection",
        hint="members erase what they wrote and what is about them; a tenant erases the rest",
    )


def receipt_of(selection: Selection, events: int, derived: int, rederived: int) -> Receipt:
    """The receipt of an erasure that happens now."""
    now = moment(time.time_ns() // 1000)
    return Receipt(new_id(), now, events, derived, rederived, _parts(selection))


def check_space(kind: str, there: tuple[str, int], deriver: str, width: int) -> None:
    """Vectors of one kind come from one deriver, or cosines between them mean nothing."""
    if there != (deriver, width):
        raise InvalidRequest(
            f"the {kind} vectors are of {there[0]!r} with width {there[1]}, these are of"
            f" {deriver!r} with width {width}",
            param="deriver",
            hint="rebuild the memory to change its embedder",
        )


def checked_vectors(kind: str, ids: Sequence[str], vectors: Vectors) -> Vectors:
    """Vectors [events, width] of unit length. Raises InvalidRequest for anything else."""
    if kind not in VECTORS:
        raise InvalidRequest(f"there are no {kind!r} vectors", param="kind", hint="turn, window")
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(ids):
        raise InvalidRequest(
            f"{len(ids)} events need vectors of shape [{len(ids)}, width], not {vectors.shape}",
            param="vectors",
        )
    lengths = np.linalg.norm(vectors, axis=1)
    if not np.all(np.abs(lengths - 1) < 1e-2):  # also refuses what is not a number
        raise InvalidRequest(
            "vectors must have unit length", param="vectors", hint="divide each by its norm"
        )
    return vectors


def number_of_words(text: str) -> int:
    """Its length, for BM25."""
    return sum(1 for _ in _WORD.finditer(text))


def named(name: str, param: str) -> str:
    """The name. Raises InvalidRequest for an empty one and for what is none."""
    if not clean_name(name, param):
        raise InvalidRequest(f"a {param} needs a name", param=param)
    return name


def at_least(limit: int, least: int) -> int:
    """The limit. Raises InvalidRequest for one below `least`."""
    if limit < least:
        raise InvalidRequest(f"limit is {limit}, {least} at least", param="limit")
    return limit


def forms_of(probe: str) -> list[bytes]:
    """A probe's bytes in the ways in which it may be written."""
    texts = {probe, probe.lower(), probe.upper(), probe.casefold()}
    texts |= {unicodedata.normalize(form, t) for t in texts for form in ("NFC", "NFD")}
    texts |= {json.dumps(t, ensure_ascii=False)[1:-1] for t in texts}
    return sorted({t.encode(errors="replace").lower() for t in texts if t})


def holding(data: bytes, forms: Sequence[Sequence[bytes]]) -> list[int]:
    """The probes that are in the data."""
    low = data.lower()  # of ASCII; other letters are looked for in each of their cases
    return [i for i, variants in enumerate(forms) if any(v in low for v in variants)]


def _parts(selection: Selection) -> dict[str, str]:
    """Which parts restricted it, and of lists how long they are: no values."""
    parts: dict[str, str] = {}
    for part in dataclasses.fields(selection):
        value = getattr(selection, part.name)
        if value:
            parts[part.name] = str(len(value)) if isinstance(value, tuple) else "given"
    return parts
