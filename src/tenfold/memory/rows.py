"""Finding over rows: BM25, cosines and neighbours, whatever store the rows were read from.

A view is what one member can find within one selection; all numbers here are about it alone.
Counting words over the others' texts as well would tell, by the scores, which words occur in them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from tenfold.errors import InvalidRequest
from tenfold.memory.events import Event
from tenfold.memory.store import Vectors
from tenfold.memory.traits import NOTHING, Said, said
from tenfold.memory.visibility import microseconds

R = TypeVar("R")

K1, B = 1.2, 0.75  # BM25: how soon a word's repetition stops counting; how much length does
COMMON = 4_000  # rows of a view from which a word is a common one
MOST_SAID = 16_384  # events of which a view keeps what was said, half a kilobyte each
Scores = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class View:
    """The events one member can find within one selection, in the order of the log.

    `place` is the row of a sequence number, -1 for those that are not here; `before` and `after`
    are rows of neighbours in the conversation, -1 where there is none.
    """

    epoch: int
    last: int  # the log is seen up to here
    sequences: Places  # [rows]
    words: NDArray[np.float64]  # [rows] length of each text
    place: Places  # [last + 1]
    before: Places  # [rows]
    after: Places  # [rows]
    ends: dict[Hashable, int]  # the last row of each conversation
    said: dict[int, Said]  # by sequence number, of events that ranking has read; it grows


@dataclass(frozen=True, slots=True)
class Matrix:
    """The vectors of one kind; `vectors` may have spare rows after `count`."""

    epoch: int
    stamp: int
    sequences: Places  # [count]
    place: Places  # row of a sequence number, -1 without a vector
    vectors: NDArray[np.float32]  # [count or more, width]

    @property
    def count(self) -> int:
        return len(self.sequences)

    @property
    def width(self) -> int:
        """0 where there are no vectors."""
        return int(self.vectors.shape[1])


class Rows(Sequence[Event], Generic[R]):
    """Events that are read when somebody looks at them, with the rights of that moment.

    A query finds hundreds of candidates, ranking weighs what some of them say and shows ten;
    reading them all and making events of them took longer than everything else. What was said is
    kept in `known` for later queries, and taken from there while the view that it belongs to stands
    as it is: `stands` tells whether something was erased or rights changed since. What was erased
    since the numbers were made is `gone`: ranking leaves it out, and taking it raises LookupError.
    """

    def __init__(
        self,
        sequences: Sequence[int],
        read: Callable[[Sequence[int]], Mapping[int, R]],
        event_of: Callable[[R], Event],
        said_of: Callable[[R], Said],
        known: dict[int, Said],
        stands: Callable[[], bool],
    ) -> None:
        self._sequences, self._read = sequences, read
        self._event_of, self._said_of = event_of, said_of
        self._known, self._stands = known, stands
        self._rows: dict[int, R | None] = {}

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[Event]:
        return iter(self[:])

    @overload
    def __getitem__(self, place: int) -> Event: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Event]: ...
    def __getitem__(self, place: int | slice) -> Event | Sequence[Event]:
        places = range(len(self))[place]
        if isinstance(places, int):
            (row,) = self.fetch([places])
            if row is None:
                raise LookupError("the event was erased after it was found")
            return self._event_of(row)
        return [self._event_of(row) for row in self.fetch(places) if row is not None]

    def said(self, places: Sequence[int]) -> list[Said]:
        """What was said at each of some places; nothing where it is gone."""
        known = self._known if self._stands() else {}
        found = {p: known.get(self._sequences[p]) for p in places}
        missing = [p for p, said in found.items() if said is None]
        fresh = {}
        for place, row in zip(missing, self.fetch(missing), strict=True):
            if row is not None:
                found[place] = fresh[self._sequences[place]] = self._said_of(row)
        if len(known) + len(fresh) > MOST_SAID:
            known.clear()
        known.update(fresh)
        return [found[p] or NOTHING for p in places]

    def gone(self, place: int) -> bool:
        """Whether the event of a place was erased since."""
        return self.fetch([place]) == [None]

    def fetch(self, places: Sequence[int]) -> list[R | None]:
        """Reads what is at some places, if it was not; None where it is gone."""
        wanted = {self._sequences[p]: p for p in places if p not in self._rows}
        if wanted:
            read = self._read(list(wanted))
            self._rows.update((p, read.get(sequence)) for sequence, p in wanted.items())
        return [self._rows[p] for p in places]


def all_said(events: Sequence[Event], places: Sequence[int]) -> list[Said]:
    """What was said at each of some places."""
    if isinstance(events, Rows):
        return events.said(places)
    return [
        said(e.author, e.text, microseconds(e.valid_at)) for e in map(events.__getitem__, places)
    ]


def still_there(events: Sequence[Event], places: Sequence[int], limit: int) -> list[int]:
    """The first `limit` of some places whose events were not erased since they were found."""
    if not isinstance(events, Rows):
        return list(places[:limit])
    events.fetch(places[:limit])
    return list(islice((p for p in places if not events.gone(p)), limit))


def empty_view(epoch: int) -> View:
    """Before anything is read into it."""
    none = np.empty(0, dtype=np.int64)
    return View(epoch, 0, none, np.empty(0), np.full(1, -1, dtype=np.int64), none, none, {}, {})


def extended(view: View, rows: Sequence[tuple[int, float, Hashable]], last: int) -> View:
    """The view with rows that the log got since: sequence, length in words, conversation."""
    start = len(view.sequences)
    fresh = np.array([row[0] for row in rows], dtype=np.int64)
    place = np.concatenate([view.place, np.full(last - view.last, -1, dtype=np.int64)])
    place[fresh] = np.arange(start, start + len(fresh))
    before = np.concatenate([view.before, np.full(len(fresh), -1, dtype=np.int64)])
    after = np.concatenate([view.after, np.full(len(fresh), -1, dtype=np.int64)])
    ends = dict(view.ends)
    for row, (_, _, conversation) in enumerate(rows, start):
        if conversation:
            end = ends.get(conversation, -1)
            before[row] = end
            if end >= 0:
                after[end] = row
            ends[conversation] = row
    words = np.array([row[1] for row in rows], dtype=np.float64)
    return replace(
        view,
        last=last,
        sequences=np.concatenate([view.sequences, fresh]),
        words=np.concatenate([view.words, words]),
        place=place,
        before=before,
        after=after,
        ends=ends,
    )


def rows_with(view: View, documents: Places, times: Places) -> tuple[Places, Places]:
    """The rows of the view with a word, and how often each has it."""
    near = documents < len(view.place)
    rows = view.place[documents[near]]
    return rows[rows >= 0], times[near][rows >= 0]


def bm25(view: View, postings: list[tuple[Places, Places]]) -> Scores:
    """The score of every row of the view; 0 where no word matches.

    A common word (COMMON rows or more) is left out where a rarer one matches at all: it says little
    and would put thousands of events before the scan of neighbours. What is common is decided
    within the view: counted over the tenant it would tell what stands in texts of others.
    """
    total = len(view.sequences)
    scores = np.zeros(total)
    if not total:
        return scores
    rare = [found for found in postings if 0 < len(found[0]) < COMMON]
    norm = K1 * (1 - B + B * view.words / max(view.words.mean(), 1.0))
    for rows, times in rare or postings:
        rarity = math.log(1 + (total - len(rows) + 0.5) / (len(rows) + 0.5))
        scores[rows] += rarity * times * (K1 + 1) / (times + norm[rows])
    return scores


def unit(vector: Vectors) -> Vectors:
    """A query's vector at length 1. Raises InvalidRequest for what has no direction."""
    vector = np.asarray(vector, dtype=np.float32)
    if vector.ndim != 1 or not np.isfinite(vector).all() or not (length := np.linalg.norm(vector)):
        raise InvalidRequest(
            f"a query's vector is finite and not zero, and not of shape {vector.shape}",
            param="vector",
        )
    return np.asarray(vector / length, dtype=np.float32)


def products(vectors: Vectors, query: Vectors) -> Vectors:
    """The product of each row with the query.

    On one thread and straight through memory: BLAS takes twice as long over it, and where it has
    threads, these wait for each other, up to 15 ms, and keep a core busy long after.
    """
    found: Vectors = np.einsum("ij,j->i", vectors, query)
    return found


def cosines(view: View, matrix: Matrix, kind: str, query: Vectors | None) -> Scores:
    """The cosine of every row of the view; 0 of rows without a vector."""
    cosines = np.zeros(len(view.sequences))
    if query is None or not matrix.count:
        return cosines
    if matrix.width != len(query):
        raise InvalidRequest(
            f"the query's vector has {len(query)} numbers, the {kind} vectors have {matrix.width}",
            param="vector",
            hint="query with the embedder that the memory was built with, or rebuild the memory",
        )
    inside = view.sequences < len(matrix.place)
    found = np.full(len(view.sequences), -1, dtype=np.int64)
    found[inside] = matrix.place[view.sequences[inside]]
    rows = np.flatnonzero(found >= 0)
    if 8 * len(rows) < matrix.count:  # few of many: take them out instead of scanning all
        cosines[rows] = products(matrix.vectors[found[rows]], query)
    else:
        cosines[rows] = products(matrix.vectors[: matrix.count], query)[found[rows]]
    return cosines


def best(scores: Scores, limit: int) -> Places:
    """The rows with the `limit` highest scores that are not 0, in any order."""
    rows = np.flatnonzero(scores)
    if len(rows) > limit:
        rows = rows[np.argpartition(-scores[rows], limit - 1)[:limit]]
    return rows


def each_once(places: Sequence[Places], count: int) -> Places:
    """All of these places, ascending; a tenth of the time of np.unique on few thousands."""
    there = np.zeros(count, dtype=np.bool_)
    for some in places:
        there[some] = True
    return np.flatnonzero(there)


def neighbours(view: View, whole: View, rows: Places, side: Places) -> Places:
    """The neighbour's row for each row, -1 where it is not in the view."""
    sequences = view.sequences[rows]
    neighbour = side[whole.place[sequences]]
    there = whole.sequences[np.maximum(neighbour, 0)]
    inside = (neighbour >= 0) & (there < len(view.place))
    return np.where(inside, view.place[np.where(inside, there, 0)], -1)


def around(view: View, whole: View, rows: Places) -> Places:
    """The rows of what stands before and after these in their conversations."""
    if not len(rows):
        return rows
    both = np.concatenate(
        [neighbours(view, whole, rows, side) for side in (whole.before, whole.after)]
    )
    return both[both >= 0]


def places_before(view: View, whole: View, rows: Places) -> Places:
    """For each of the rows, where among them the event before it is."""
    if not len(rows):
        return rows
    place = np.full(len(view.sequences), -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    before = neighbours(view, whole, rows, whole.before)
    return np.where(before >= 0, place[np.maximum(before, 0)], -1)


def with_fresh(matrix: Matrix, sequences: Places, vectors: NDArray[np.float32]) -> Matrix:
    """The matrix with new rows, and in place of old ones what was derived again."""
    if not len(sequences):
        return matrix
    inside = sequences < len(matrix.place)
    rows = (
        np.where(inside, matrix.place[np.where(inside, sequences, 0)], -1)
        if len(matrix.place)
        else np.full(len(sequences), -1, dtype=np.int64)
    )
    old = rows >= 0
    if old.any():  # derived again: a copy, because another query may be reading the old ones
        changed = matrix.vectors.copy()
        changed[rows[old]] = vectors[old]
        matrix = replace(matrix, vectors=changed)
    added, total = vectors[~old], matrix.count + int((~old).sum())
    room = matrix.vectors
    if total > len(room):
        room = np.empty((max(total, 2 * len(room)), vectors.shape[1]), dtype=np.float32)
        room[: matrix.count] = matrix.vectors[: matrix.count]
    room[matrix.count : total] = added
    return _placed(matrix, np.concatenate([matrix.sequences, sequences[~old]]), room)


def without_gone(matrix: Matrix, there: Places) -> Matrix:
    """Copies what is still there, so that the memory of what is not becomes free."""
    keep = np.isin(matrix.sequences, there)
    if keep.all():
        return matrix
    return _placed(matrix, matrix.sequences[keep], matrix.vectors[: matrix.count][keep])


def _placed(matrix: Matrix, sequences: Places, vectors: NDArray[np.float32]) -> Matrix:
    place = np.full(int(sequences.max(initial=0)) + 1, -1, dtype=np.int64)
    place[sequences] = np.arange(len(sequences))
    return replace(matrix, sequences=sequences, place=place, vectors=vectors)
