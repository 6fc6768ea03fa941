"""Retrieval learns from what was useful, and keeps what it learnt only where that is no worse.

Feedback is an event: its text is the query, its sources are the events that were shown, and its
provenance says which of them were useful. Weights are learnt from a member's own feedback and kept
as something derived from all these events, so that erasing one of them takes the weights along:
what ranked before ranks at once, and the next `learn` makes them anew from what is left. Nobody
ranks by weights learnt from what they cannot read.

A gate stands before new weights: every fifth feedback is not learnt from, and the new weights are
taken only if they rank it better than the current ones, with one-sided 95 % confidence. Weights
that lose on later feedback are taken back.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tenfold.errors import InvalidRequest
from tenfold.memory.events import MOST_PROVENANCE, PRIVATE, Event, Kind, NewEvent, Scope
from tenfold.memory.features import FEATURES, Values, features
from tenfold.memory.fusion import Judged, fit
from tenfold.memory.query import read_query
from tenfold.memory.retrieval import Fixed, Ranker, Weighted, candidates
from tenfold.memory.store import Derived, Selection, Tenant, Vectors

KIND, DERIVER = "weights", "weights/2"
TAKEN_BACK = "back to the ranking before"  # the event that a member's word against weights is
USEFUL, WITHIN = "useful", "within"  # provenance of feedback: ID -> useful; the conversation
FIRST = 10  # useful events should be among the first so many of those shown
HELD_BACK = 5  # every so many-th feedback is held back for the gate
# Feedback held back without which nothing is judged. With fewer, weights from shuffled feedback
# passed now and then and cost 6 points of recall or more; useful ones hardly passed anyway.
LEAST = 20
LATER = 5  # later feedback on which weights can lose
CONFIDENT = 1.645  # standard errors: one-sided 95 %
MOST = 2_000  # feedback that is learnt from, the newest
AGAIN = 60.0  # seconds after which weights are looked for that another process has learnt

Embed = Callable[[str], Vectors | None]  # a query's vector [width]


@dataclass(frozen=True, slots=True)
class Learnt:
    """How learning went; `gain` is of the new over the current weights on held-back feedback.

    It is the mean share of useful events among the first FIRST; `low` is its lower 95 % limit.
    """

    promoted: bool
    feedback: int
    why: str
    gain: float = 0.0
    low: float = 0.0


@dataclass(frozen=True, slots=True)
class Shown:
    """The events that one feedback is about, as they are found today; none of their texts.

    `base` has their scores by what ranks unless something is learnt.
    """

    sequence: int
    judged: Judged
    base: Values

    @property
    def teaches(self) -> bool:
        return bool(self.judged.evidence.any()) and not self.judged.evidence.all()


def feedback(
    query: str,
    shown: Sequence[str],
    useful: Sequence[str],
    *,
    within: str = "",
    scope: Scope = PRIVATE,
) -> NewEvent:
    """The event that says which of the shown events answered a query; `within` one conversation.

    Raises InvalidRequest where nothing was shown, or for useful events that were not shown or are
    too many.
    """
    if missing := sorted(set(useful) - set(shown)):
        raise InvalidRequest(
            f"{missing[0]} is useful but was not shown",
            param="useful",
            hint="`shown` are the ids of the hits, `useful` some of them",
        )
    if len(set(useful)) >= MOST_PROVENANCE:
        raise InvalidRequest(
            f"{len(set(useful))} events are useful, {MOST_PROVENANCE - 1} at most", param="useful"
        )
    event = NewEvent(
        query,
        kind=Kind.FEEDBACK,
        scope=scope,
        sources=tuple(dict.fromkeys(shown)),
        provenance={**dict.fromkeys(useful, USEFUL), **({WITHIN: within} if within else {})},
    )
    if not event.sources:
        raise InvalidRequest(
            "feedback on nothing says nothing",
            param="shown",
            hint="`shown` are the ids of the hits, `useful` some of them",
        )
    return event


class Learner:
    """What one member's feedback has taught; not for two threads at once.

    `base` ranks until weights are promoted, and again when they are erased or taken back. Weights
    belong to an `embedder` by its name: those of another are not used, and learnt anew. `pause` is
    called for each feedback that is learnt from: what it raises ends learning.
    """

    def __init__(
        self,
        tenant: Tenant,
        member: str,
        embed: Embed,
        base: Ranker | None = None,
        *,
        embedder: str = "",
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        self._tenant = tenant
        self._member = tenant.member(member)
        self._embed = embed
        self._base = base or Fixed()
        self._embedder = embedder
        self._pause = pause

    def ranker(self) -> Ranker:
        """What ranks now."""
        row = self._current(self._rows())
        return self._base if row is None else _weighted(row)

    def learn(self) -> Learnt:
        """Takes back weights that lose, learns new ones, and takes them if they pass the gate."""
        rows = self._rows()
        events = self._feedback()
        newest = rows[-1] if rows else None
        if newest is not None and _last(events) <= _number(newest, "last"):
            return Learnt(False, len(events), "no feedback since the last time")
        shown = [self.shown(e) for e in events]
        if newest is not None and self._loses(rows, shown):
            # From the same events as the weights: what erases those erases this.
            self._take_back(rows, newest, events, newest.events)
            return Learnt(False, len(events), "the weights lost on later feedback: taken back")
        current = self._current(rows)
        learnt, weights = lesson(shown, None if current is None else _weighted(current))
        if learnt.promoted:
            lineage = {i for e in events for i in (e.id, *e.sources)}
            value = {**weights, **self._value(rows, events), "gain": learnt.gain}
            self._tenant.put([Derived(KIND, DERIVER, tuple(sorted(lineage)), value)])
        return learnt

    def roll_back(self) -> Ranker:
        """Goes back to the weights before, or to `base`; returns what ranks then.

        The same feedback does not bring them again: `learn` waits for more, whatever of it is
        erased meanwhile. That the member said so is an event of its own.
        """
        rows = self._rows()
        if self._current(rows) is None:
            raise InvalidRequest("there are no learnt weights to take back")
        (said,) = self._member.append([NewEvent(TAKEN_BACK, kind=Kind.FEEDBACK)])
        self._take_back(rows, rows[-1], self._feedback(), (said.id,))
        return self.ranker()

    def _feedback(self) -> list[Event]:
        """The member's own feedback, oldest first, that still has something shown."""
        chosen = Selection(author=self._member.name, kinds=(Kind.FEEDBACK,))
        return [e for e in self._member.history(chosen, MOST) if e.sources]

    def shown(self, event: Event) -> Shown:
        """What a feedback is about."""
        self._pause()
        query = read_query(event.text)
        within = Selection(conversation=event.provenance.get(WITHIN, ""))
        found = candidates(self._member, query, self._embed(event.text), within)
        place = {e.id: i for i, e in enumerate(found.events)}
        ids = [i for i in event.sources if i in place]
        places = np.array([place[i] for i in ids], dtype=np.int64)
        evidence = np.array([event.provenance.get(i) == USEFUL for i in ids], dtype=np.bool_)
        reasons = self._base.reasons(found, query, len(found.events))
        base: Values = np.zeros(len(found.events))
        base[reasons.places] = reasons.parts.sum(axis=1)
        judged = Judged(features(found, query, places), evidence)
        return Shown(event.sequence, judged, base[places])

    def _rows(self) -> list[Derived]:
        """All weights ever taken or taken back that are not erased, in order."""
        whose = self._member.name, self._embedder
        every = self._member.derived(KIND)
        own = [d for d in every if (d.value.get("member"), d.value.get("embedder")) == whose]
        return sorted(own, key=lambda d: _number(d, "number"))

    def _current(self, rows: Sequence[Derived]) -> Derived | None:
        """The newest weights; after taking back, those it went back to, if they are there."""
        if not rows:
            return None
        back_to = rows[-1].value.get("back_to")
        if back_to is None:
            return rows[-1]
        return next((d for d in rows if _number(d, "number") == back_to), None)

    def _value(
        self, rows: Sequence[Derived], events: Sequence[Event]
    ) -> dict[str, str | float | None]:
        return {
            "member": self._member.name,
            "embedder": self._embedder,
            "number": _number(rows[-1], "number") + 1 if rows else 1,
            "last": _last(events),
        }

    def _before(self, rows: Sequence[Derived], row: Derived) -> Derived | None:
        """The weights that ranked when these were learnt."""
        return self._current([d for d in rows if _number(d, "number") < _number(row, "number")])

    def _take_back(
        self,
        rows: Sequence[Derived],
        row: Derived,
        events: Sequence[Event],
        lineage: tuple[str, ...],
    ) -> None:
        before = self._before(rows, self._current(rows) or row)
        back_to = 0.0 if before is None else _number(before, "number")
        value = {**self._value(rows, events), "back_to": back_to}
        self._tenant.put([Derived(KIND, DERIVER, lineage, value)])

    def _loses(self, rows: Sequence[Derived], shown: Sequence[Shown]) -> bool:
        """Whether the ones before rank the feedback since better, with confidence."""
        current = self._current(rows)
        if current is None:
            return False
        since = [s for s in shown if s.sequence > _number(current, "last") and s.teaches]
        if len(since) < LATER:
            return False
        before = self._before(rows, current)
        earlier = None if before is None else _weighted(before)
        return _gain(since, earlier, _weighted(current))[1] > 0


def lesson(
    shown: Sequence[Shown], current: Weighted | None = None
) -> tuple[Learnt, dict[str, float]]:
    """What feedback teaches, oldest first, and whether it is better than the current weights.

    None are the scores of `base`. Every HELD_BACK-th feedback is judged by, not learnt from.
    """
    held = [s for s in shown[HELD_BACK - 1 :: HELD_BACK] if s.teaches]
    rest = [s.judged for i, s in enumerate(shown) if (i + 1) % HELD_BACK and s.teaches]
    if not rest or len(held) < LEAST:
        why = (
            f"{len(rest)} feedback to learn from and {len(held)} to judge by: too little,"
            f" {HELD_BACK * LEAST} are needed in which something shown was useful and something not"
        )
        return Learnt(False, len(shown), why), {}
    weights = fit(rest)
    gain, low = _gain(held, Weighted(weights), current)
    why = f"{'better' if low > 0 else 'no better'} on held-back feedback"
    return Learnt(low > 0, len(shown), why, gain, low), weights


class LearntRankers:
    """What ranks for each member of a tenant now, without asking the store for it every time.

    What was erased, or who lost a right, is noticed at once (by the tenant's epoch); what another
    process has learnt after AGAIN seconds.
    """

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._known: dict[str, tuple[int, float, Ranker]] = {}

    def of(self, member: str, learner: Learner) -> Ranker:
        """The ranker of a member, whose learner it is."""
        epoch, now = self._tenant.epoch(), time.monotonic()
        known = self._known.get(member)
        if known is None or known[0] != epoch or now - known[1] > AGAIN:
            known = self._known[member] = epoch, now, learner.ranker()
        return known[2]

    def forget(self, member: str) -> None:
        """Asks again the next time."""
        self._known.pop(member, None)


def _weighted(row: Derived) -> Weighted:
    weights = {n: float(v) for n in FEATURES if isinstance(v := row.value.get(n), float | int)}
    return Weighted(weights, name=f"learnt-{_number(row, 'number'):.0f}")


def _last(events: Sequence[Event]) -> float:
    """The place in the log of the newest of these."""
    return float(max((e.sequence for e in events), default=0))


def _number(row: Derived, key: str) -> float:
    value = row.value.get(key)
    return float(value) if isinstance(value, float | int) else 0.0


def _gain(
    shown: Sequence[Shown], new: Weighted | None, old: Weighted | None
) -> tuple[float, float]:
    """The mean gain of one ranking over another, and its lower limit."""
    gains = np.array([_recall(s, new) - _recall(s, old) for s in shown])
    error = gains.std(ddof=1) / math.sqrt(len(gains)) if len(gains) > 1 else math.inf
    return float(gains.mean()), float(gains.mean() - CONFIDENT * error)


def _recall(shown: Shown, ranker: Weighted | None) -> float:
    """The share of useful events among the first of those shown, by weights or by `base`."""
    scores = shown.base
    if ranker is not None:
        scores = shown.judged.features @ [ranker.weights.get(name, 0.0) for name in FEATURES]
    first: NDArray[np.int64] = np.argsort(-scores, kind="stable")[:FIRST]
    return float(shown.judged.evidence[first].sum() / shown.judged.evidence.sum())
