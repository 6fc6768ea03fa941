"""Consolidating: summaries take over in what is recalled, the events themselves stay.

A conversation that has come to rest is summed up, its own audience at a time. From then on search
and recall show the summary where several of the events that it quotes would stand; each event is
still there for whoever asks for it, and what was found and is not in the summary speaks for itself.
When one of the events is erased the summary goes in the same transaction, and
what is left is summed up anew.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from tenfold.errors import InvalidRequest
from tenfold.memory.derive.duplicates import Clusters
from tenfold.memory.derive.sources import LEARNT, learnt
from tenfold.memory.derive.summaries import (
    DERIVER,
    KIND,
    Summary,
    derive_summaries,
    row_of,
    segments,
    summary_of,
)
from tenfold.memory.events import PRIVATE, Event, clean_text
from tenfold.memory.retrieval import Hit
from tenfold.memory.store import Derived, Member, Selection, Tenant

TOLD = "told-summaries/1"  # by a function of the caller's, such as a language model
FEW = 16  # hits beyond those asked for, from which the places of restatements are filled
SPARE = 100  # the same where summaries take places
_WORD = re.compile(r"\w+")

Summarise = Callable[[Sequence[Event]], str]  # events of one conversation and audience, in order


def at_rest(events: Iterable[Event], now: datetime, rest: timedelta) -> list[str]:
    """The conversations in which nothing has been said for `rest`.

    Raises InvalidRequest for a rest that is not above 0.
    """
    if rest <= timedelta():
        raise InvalidRequest(
            f"a rest of {rest} is none", param="rest", hint="longer than 0, such as 30 days"
        )
    last: dict[str, datetime] = {}
    for event in events:
        if event.conversation:
            last[event.conversation] = max(
                event.valid_at, last.get(event.conversation, event.valid_at)
            )
    return sorted(name for name, moment in last.items() if now - moment >= rest)


def consolidate(
    tenant: Tenant, member: Member, conversation: str, summarise: Summarise | None = None
) -> list[Summary]:
    """Sums up what a member can read of a conversation and no summary stands for yet.

    Returns the new summaries; none where what is new is as short as a summary of it would be.
    `summarise` is asked about the member's own private events alone: what others read too is summed
    up in its own sentences, so that nobody is told a member's words for what was said by all.
    Raises InvalidRequest for a conversation without events, and for a text that is no text.
    """
    whole = Selection(conversation=conversation)
    events = list(member.history(replace(whole, kinds=LEARNT)))
    if not events:
        raise InvalidRequest(
            f"there is no conversation {conversation!r} to sum up",
            param="conversation",
            hint="a conversation with events that you can read",
        )
    covered = {ulid for row in member.derived(KIND, whole) for ulid in row.events}
    rows = _rows([e for e in events if e.id not in covered], summarise)
    tenant.put(rows)
    return [summary_of(row) for row in rows]


def remake(tenant: Tenant, member: Member, lost: Iterable[Derived]) -> None:
    """Sums up what an erasure has left of the events of summaries that went with the others.

    Those in a caller's own words are not made again: the caller's function is not here.
    """
    left = {i for row in lost if row.deriver == DERIVER for i in row.events}
    if left:
        tenant.put(derive_summaries(member.get(sorted(left))))


def _rows(events: Sequence[Event], summarise: Summarise | None) -> list[Derived]:
    if summarise is None:
        return derive_summaries(events)
    rows = derive_summaries([event for event in events if event.scope != PRIVATE])
    for group in segments([event for event in events if event.scope == PRIVATE]):
        if len(group) > 1:
            rows.append(row_of(group, clean_text(summarise(group)).strip(), TOLD))
    return rows


def may_stand_in(selection: Selection) -> bool:
    """Whether summaries may answer it: one that picks single events, or a time, means those."""
    return selection == Selection(conversation=selection.conversation, scope=selection.scope)


def condensed(hits: Sequence[Hit], k: int, summaries: Iterable[Derived]) -> list[Hit]:
    """The `k` best places: restatements in one, and summaries in the place of their events.

    A summary takes the place of events whose whole text it quotes, where it quotes two or more of
    the first k hits: a detail that it leaves out is found as before, and a single event says better
    what it says. One in words of its own quotes nothing. It takes the place of the last of its
    events among the first k, where there are two or more. An event of several summaries goes to the
    one that most hits call for.
    """
    rows = list(summaries)
    distinct = collapsed(hits, 0 if rows else k)
    stands = _standing(distinct, k, rows)
    places: dict[str, Hit] = {}
    for hit in distinct:
        row = stands.get(hit.event.id)
        name = hit.event.id
        if row is not None:  # two summaries may be of the same events
            name = "\n".join((*row.events, str(row.value["text"])))
        if name in places:
            first = places[name]
            places[name] = replace(first, repeats=first.repeats + hit.repeats)
        elif len(places) < k:
            places[name] = hit if row is None else replace(hit, summary=summary_of(row))
    return list(places.values())


def _standing(hits: Sequence[Hit], k: int, rows: Sequence[Derived]) -> dict[str, Derived]:
    """For each event that is found the summary that takes its place."""
    replaced = [(row, _replaced(hits, k, summary_of(row))) for row in rows]
    first = {hit.event.id for hit in hits[:k]}
    stands: dict[str, Derived] = {}
    for row, events in sorted(replaced, key=lambda pair: -len(first.intersection(pair[1]))):
        free = [event for event in events if event not in stands]
        if (row.deriver == TOLD and free) or len(first.intersection(free)) > 1:
            stands |= dict.fromkeys(free, row)
    return stands


def _replaced(hits: Sequence[Hit], k: int, summary: Summary) -> list[str]:
    """The found events that a summary may take the place of."""
    if not summary.said:
        called = [hit.event.id for hit in hits[:k] if hit.event.id in summary.events]
        return called[-1:] if len(called) > 1 else []
    taken: dict[str, list[str]] = defaultdict(list)
    for ulid, sentence in summary.said:
        taken[ulid].append(sentence)
    return [
        h.event.id for h in hits if " ".join(taken[h.event.id]) == " ".join(h.event.text.split())
    ]


def collapsed(hits: Sequence[Hit], most: int = 0) -> list[Hit]:
    """Each statement once, where it ranks best; `repeats` are the others that make it.

    What is alike but has another number, name or negation is another statement (see `duplicates`).
    With `most` the first so many statements, and no restatement beyond the last of them.
    """
    kept: list[Hit] = []
    worded: list[frozenset[str]] = []
    place: dict[str, int] = {}
    clusters, compared = Clusters(), set[int]()
    for hit in hits:
        words = frozenset(_WORD.findall(hit.event.text.casefold()))
        # Comparing in full takes long, and few texts share half of their words with another.
        near = [i for i, other in enumerate(worded) if _overlap(words, other)]
        for i in near:
            if i not in compared:
                compared.add(i)
                clusters.add(kept[i].event)
        row = clusters.add(hit.event) if near else None
        if row is not None:
            first = place[row.events[1]]
            kept[first] = replace(kept[first], repeats=(*kept[first].repeats, hit.event.id))
            continue
        if most and len(kept) == most:
            break
        if near:
            compared.add(len(kept))
        place[hit.event.id] = len(kept)
        kept.append(hit)
        worded.append(words)
    return kept


def _overlap(a: frozenset[str], b: frozenset[str]) -> bool:
    """Whether half of the words of one are in the other, and neither is twice as long."""
    few, many = sorted((len(a), len(b)))
    return 2 * few >= many and 2 * len(a & b) >= few


def quoted(hits: Sequence[Hit], read: Callable[..., Sequence[Event]]) -> list[Event]:
    """What a prompt is told of hits: events, and of summaries the events with what was taken.

    The words of a caller's own summary stand as the best event's, in the role "summary". `read`
    reads events by their ids.
    """
    told: list[Event] = []
    whole = {hit.event.id for hit in hits if hit.summary is None}
    for hit in hits:
        if hit.summary is None:
            told.append(hit.event)
        elif not hit.summary.said:
            told.append(replace(hit.event, text=hit.summary.text, role="summary"))
        else:  # the one that was found comes first, for a prompt may have room for no more
            parts: dict[str, list[str]] = {hit.event.id: []}
            for ulid, sentence in hit.summary.said:
                if ulid not in whole:
                    parts.setdefault(ulid, []).append(sentence)
            events = sorted(read(*parts), key=lambda e: e.id != hit.event.id)
            told += [replace(e, text=" … ".join(parts[e.id])) for e in events]
    return told


def ripe(member: Member, now: datetime, rest: timedelta) -> list[str]:
    """The conversations at rest that have something no summary stands for."""
    events = learnt(member.history(Selection(kinds=LEARNT)))
    covered = {ulid for row in member.derived(KIND) for ulid in row.events}
    open_ones = {e.conversation for e in events if e.id not in covered}
    return [name for name in at_rest(events, now, rest) if name in open_ones]
