"""One member's memory: remember, find again, look back, forget.

`Memory.open("memories", tenant="acme", member="ada")` is all it takes; no model and no server.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

from tenfold.errors import InvalidRequest
from tenfold.memory import consolidation, interchange
from tenfold.memory.audit import Report, audit
from tenfold.memory.consolidation import FEW, SPARE, Summarise, condensed, may_stand_in, quoted
from tenfold.memory.decay import HalfLives, aged
from tenfold.memory.derive import DERIVERS
from tenfold.memory.derive.facts import Claim, Fact, as_of, claim_of, claims, facts
from tenfold.memory.derive.summaries import KIND as SUMMARY
from tenfold.memory.derive.summaries import Summary
from tenfold.memory.deriving import VECTORS, Deriving
from tenfold.memory.embedding import Embedder, HashedWords, MiniLM, QueryCache
from tenfold.memory.events import LONGEST_TEXT, Event, Kind, NewEvent, clean_unicode, in_utc
from tenfold.memory.learning import Learner, Learnt, LearntRankers, feedback
from tenfold.memory.packing import Packed, pack
from tenfold.memory.places import open_store
from tenfold.memory.query import read_query
from tenfold.memory.reranking import FIRST, Reranker, reranked
from tenfold.memory.retention import Retained, Retention, due, policies
from tenfold.memory.retrieval import Hit, Ranker, Weighted, candidates, rank
from tenfold.memory.store import ON_DEMAND, Derived, Receipt, Selection, Status, Tenant, Vectors

CATCH_UP = 64  # waiting events that a search derives first, about two seconds at most
EXAMINED = 1000  # waiting events that an audit names
EMBEDDERS: Mapping[str, Callable[[], Embedder | None]] = {
    "minilm": MiniLM,
    "words": HashedWords,
    "none": lambda: None,
}
EVERYTHING = Selection()


class Memory:
    """What one member of a tenant remembers and may read; made by `open`.

    Adding is durable and found by its words at once. Vectors, facts and the rest follow: `derive`
    makes them; a search makes those of the few events that mostly wait, `facts` and `audit` all.
    Not for two threads at once, but for reading while another derives. `pause` is called now and
    then by `facts`, `audit` and `learn`, which may take long: what it raises ends them.
    """

    pause: Callable[[], None]

    def __init__(
        self,
        tenant: Tenant,
        member: str,
        *,
        embedder: Embedder | None = None,
        ranker: Ranker | None = None,
        half_lives: HalfLives | None = None,
        rerank: Reranker | None = None,
    ) -> None:
        self.tenant = tenant
        self._member = tenant.member(member)
        self._queries = QueryCache(embedder) if embedder is not None else None
        self._deriving = Deriving(tenant, embedder, list(DERIVERS.values()))
        self._derives = threading.Lock()
        self._base = ranker or Weighted()  # what ranks until something is learnt
        self._rankers = LearntRankers(tenant)
        self._half_lives = half_lives
        self._rerank = rerank
        self.pause = lambda: None

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        tenant: str = "default",
        member: str = "me",
        embedder: str | Embedder | None = "minilm",
        half_lives: HalfLives | None = None,
        rerank: Reranker | None = None,
        create: bool = True,
    ) -> Memory:
        """The memory in a folder, or at a database's address (`postgresql://USER@HOST/DATABASE`).

        `embedder` is minilm, words, none, or one of your own. With `half_lives` age lowers the
        scores of what is found; `rerank` reads the first of it and says their order. Raises
        UnknownName for a tenant that does not exist when `create` is false, MissingExtra where
        minilm or the database's driver is not installed, StoreError where the place cannot be used.
        """
        if isinstance(embedder, str):
            embedder = named_embedder(embedder)
        store = open_store(folder)
        return cls(
            store.tenant(tenant, create=create),
            member,
            embedder=embedder,
            half_lives=half_lives,
            rerank=rerank,
        )

    def of(self, member: str) -> Memory:
        """The memory of another member of the tenant; they share what derives and embeds."""
        other = copy(self)
        other._member = self.tenant.member(member)
        return other

    @property
    def member(self) -> str:
        """Whose memory this is."""
        return self._member.name

    @property
    def embedder(self) -> Embedder | None:
        """What makes its vectors."""
        return self._queries.embedder if self._queries is not None else None

    def add(self, text: str, **fields: Any) -> Event:
        """Remembers one event; `fields` are those of NewEvent. On disk when it returns."""
        return self.add_all([NewEvent(text, **fields)])[0]

    def add_all(self, events: Sequence[NewEvent]) -> list[Event]:
        """Remembers events in one transaction: all of them or none."""
        return self._member.append(events)

    def add_messages(
        self, messages: Iterable[Mapping[str, Any]], *, conversation: str, **fields: Any
    ) -> list[Event]:
        """Remembers a list of chat messages (role and content, as OpenAI writes them).

        Messages of the system and parts that are not text are left out. Raises InvalidRequest for
        what is no such list.
        """
        return self.add_all(list(interchange.of_messages(messages, conversation, fields)))

    def derive(self, limit: int = 0) -> int:
        """Makes vectors, facts and the rest of events that wait; returns of how many."""
        with self._derives:
            return self._deriving.run(limit)

    def search(
        self,
        query: str,
        k: int = 10,
        selection: Selection = EVERYTHING,
        *,
        verbatim: bool = False,
        rerank: Reranker | None = None,
    ) -> list[Hit]:
        """The `k` readable events that answer the query best, each with the parts of its score.

        Restatements take one place together, and where several of a consolidated conversation's
        events are found its summary takes theirs (`Hit.summary`). `verbatim` gives every event a
        place of its own; so does a selection of single events, or of a time, for the summaries.
        `rerank` stands in for the one that the memory was opened with.
        """
        if not clean_unicode(query, "query").strip():
            raise InvalidRequest("the query is empty", param="query")
        rerank = rerank or self._rerank
        self.derive(CATCH_UP)
        asked = read_query(query)
        found = candidates(self._member, asked, self._vector(query), selection)
        ranker = self._rankers.of(self.member, self._learner())

        def ranked(limit: int) -> list[Hit]:
            most = limit
            if k > 0 and self._half_lives is not None:  # the last may be the youngest
                most = max(limit, len(found.events))
            elif k > 0 and rerank is not None:
                most = max(limit, FIRST)
            hits = rank(found, asked, ranker, most)
            if rerank is not None:
                hits = reranked(hits, query, rerank)
            if self._half_lives is not None:
                hits = aged(hits, selection.as_of or datetime.now(UTC), self._half_lives)
            return hits[:limit]

        if verbatim or k < 1:
            return ranked(k)
        hits = ranked(k + FEW)
        summaries: list[Derived] = []
        if hits and may_stand_in(selection):
            among = Selection(ids=tuple(hit.event.id for hit in hits[:k]))
            summaries = list(self._member.derived(SUMMARY, among))
        if summaries:  # they can free many places
            hits = ranked(k + SPARE)
        return condensed(hits, k, summaries)

    def _vector(self, query: str) -> Vectors | None:
        return self._queries.vector(query, self.member) if self._queries is not None else None

    def recall(
        self,
        query: str,
        budget: int,
        count: Callable[[str], int],
        *,
        k: int = 50,
        selection: Selection = EVERYTHING,
        seen: Collection[str] = (),
        verbatim: bool = False,
        keep: bool = True,
    ) -> Packed:
        """What answers the query as text for a prompt, within `budget` tokens of `count`.

        Events whose text is in `seen`, because the prompt says it already, are left out. Of
        summaries the sentences are quoted, each with its event; `verbatim` has only whole events.
        It is kept in the log as a recall, with the events it repeats as sources: when one of them
        is erased it goes too, and nothing is ever learnt from it. Without `keep` nothing is
        written: the caller may add `recall_of` what it got with events of its own.
        """
        hits = self.search(query, k, selection, verbatim=verbatim)
        fresh = [event for event in quoted(hits, self.get) if event.text not in seen]

        def size(text: str) -> int:  # a recall is an event, so it may be no longer than one
            return count(text) if len(text) <= LONGEST_TEXT else budget + 1

        packed = pack(fresh, budget, size)
        cited = dict.fromkeys(packed.citations.values())
        for hit in hits:  # a summary comes from all of its events
            if hit.summary is not None and not cited.keys().isdisjoint(hit.summary.events):
                cited.update(dict.fromkeys(hit.summary.events))
        packed = replace(packed, sources=tuple(cited))
        if keep and cited:
            self.add_all([recall_of(packed.text, packed.sources)])
        return packed

    def consolidate(
        self,
        conversation: str = "",
        *,
        rest: timedelta | None = None,
        summarise: Summarise | None = None,
    ) -> list[Summary]:
        """Sums up a conversation, or those in which nothing was said for `rest`; the new summaries.

        Only what no summary stands for yet. A summary is made of the events' own sentences, or of
        private ones by `summarise`, which makes its text of them (by a language model, say). Raises
        InvalidRequest unless one of conversation and rest is given.
        """
        if bool(conversation) == (rest is not None):
            raise InvalidRequest(
                "say what to sum up",
                param="conversation",
                hint="either a conversation, or after what time of rest (HTTP: rest_days)",
            )
        names = [conversation]
        if rest is not None:
            names = consolidation.ripe(self._member, datetime.now(UTC), rest)
        return [
            summary
            for name in names
            for summary in consolidation.consolidate(self.tenant, self._member, name, summarise)
        ]

    def feedback(
        self, query: str, shown: Sequence[str], useful: Sequence[str], *, conversation: str = ""
    ) -> Event:
        """Keeps which of the events shown for a query were useful; `learn` learns from it.

        `conversation` is the one that was searched, where it was one. Erasing one of the events
        takes the feedback along. Raises InvalidRequest for useful events that were not shown.
        """
        return self.add_all([feedback(query, shown, useful, within=conversation)])[0]

    def learn(self) -> Learnt:
        """Learns from the member's feedback how to rank, if that proves better; says how it went.

        What is learnt ranks for this member from then on, until something that it was learnt from
        is erased or later feedback speaks against it. After an erasure what ranked before ranks at
        once, and this learns anew from what is left.
        """
        try:
            return self._learner().learn()
        finally:
            self._rankers.forget(self.member)

    def unlearn(self) -> str:
        """Goes back to what ranked before; its name. Raises InvalidRequest where there is nothing.

        The same feedback does not bring it again: `learn` waits for more, also after an erasure.
        """
        try:
            return self._learner().roll_back().name
        finally:
            self._rankers.forget(self.member)

    def ranks(self) -> str:
        """The name of what ranks for this member now."""
        return self._learner().ranker().name

    def _learner(self) -> Learner:
        label = f"{self.embedder.name}/{VECTORS}" if self.embedder is not None else ""
        return Learner(
            self.tenant, self.member, self._vector, self._base, embedder=label, pause=self.pause
        )

    def facts(
        self,
        subject: str = "",
        *,
        by: str = "",
        valid: datetime | None = None,
        recorded: datetime | None = None,
    ) -> list[Fact]:
        """What is believed of a subject (all of them if ""), or was at a time.

        With `by` only what this author wrote counts: what others say of a name neither adds to it
        nor disputes it. Without an embedder nothing is kept derived, so the claims are read from
        the log each time.
        """
        now = datetime.now(UTC)
        claimed = [
            c
            for c in self._claims()
            if (not subject or _same(c.subject, subject)) and (not by or c.by == by)
        ]
        moments = (in_utc(valid or now, "valid"), in_utc(recorded or now, "recorded"))
        return as_of(facts(claimed), *moments)

    def _claims(self) -> list[Claim]:
        if self._queries is None:
            return claims(list(self._all()))
        self.derive()
        found = []
        for row in self._member.derived("claim"):
            self.pause()
            found.append(claim_of(row))
        return found

    def get(self, *ids: str) -> list[Event]:
        """Readable events by their ids."""
        return self._member.get(ids)

    def history(self, selection: Selection = EVERYTHING, limit: int = 0) -> Iterator[Event]:
        """Readable events in the order in which they were recorded; the newest `limit` of them."""
        return self._member.history(selection, limit)

    def erase(self, selection: Selection, *, all_members: bool = False) -> Receipt:
        """Erases own events and those about oneself, with all that came from them, for good.

        With `all_members` what is selected of everybody, as the tenant may. Summaries of this
        member that went along are made again from what is left, those of others when they next
        consolidate. Learnt weights that saw any of it no longer rank; `learn` learns them anew.
        """
        with self._mending():
            return self.tenant.erase(selection) if all_members else self._member.erase(selection)

    @contextmanager
    def _mending(self) -> Iterator[None]:
        sums = list(self._member.derived(SUMMARY))
        try:
            yield
        finally:  # an erasure may raise when only leftover bytes are in the way
            left = {row.events for row in self._member.derived(SUMMARY)} if sums else set()
            lost = [row for row in sums if row.events not in left]
            consolidation.remake(self.tenant, self._member, lost)

    def retain(self, *, dry_run: bool = False) -> Retained:
        """Erases what the tenant's retention policies want erased, of all members; see `retention`.

        With `dry_run` it only says how much that would be.
        """
        found = due(self.tenant.history(), policies(self.tenant), datetime.now(UTC))
        ids = tuple(dict.fromkeys(ulid for _, due_ones in found for ulid in due_ones))
        counts = tuple((policy, len(due_ones)) for policy, due_ones in found)
        if dry_run or not ids:
            return Retained(counts, len(ids))
        return Retained(counts, len(ids), self.erase(Selection(ids=ids), all_members=True))

    def retention(self) -> list[Retention]:
        """The tenant's retention policies."""
        return policies(self.tenant)

    def audit(self) -> Report:
        """What is wrong with the readable memory: junk, restatements, loops, secrets, and more."""
        believed = facts(self._claims())
        self.pause()
        failures = dict(self.tenant.failures())
        readable = {event.id for event in self.get(*failures)}  # failures are the tenant's
        return audit(
            list(self._all()),
            believed,
            pause=self.pause,
            waiting=self._member.waiting(EXAMINED),
            failed={ulid: why for ulid, why in failures.items() if ulid in readable},
        )

    def _all(self) -> Iterator[Event]:
        for event in self.history():
            self.pause()
            yield event

    def status(self) -> Status:
        """How the tenant's memory stands."""
        return self.tenant.status()

    def rebuild(self) -> Status:
        """Drops all that was derived and makes it anew from the log.

        Summaries and learnt weights stay: they were made on demand, and go only with their events.
        """
        self.tenant.rebuild(keep=ON_DEMAND)
        self.derive()
        return self.status()

    def export(self, out: TextIO, selection: Selection = EVERYTHING) -> int:
        """Writes readable events as JSON lines; returns how many."""
        return interchange.export(self.history(selection), out)

    def load(self, lines: Iterable[str]) -> list[Event]:
        """Remembers what `export` wrote; an event that is here already is not loaded twice.

        Recalls are left out: they repeat what is there. Raises InvalidRequest, naming the line,
        and nothing is written then. See `interchange.load` for sources and keys.
        """
        return interchange.load(self._member, lines)

    def close(self) -> None:
        """Ends it; harmless when called twice."""
        self.tenant.close()


def named_embedder(name: str) -> Embedder | None:
    """One of `EMBEDDERS`. Raises InvalidRequest, or MissingExtra where it is not installed."""
    if name not in EMBEDDERS:
        known = ", ".join(EMBEDDERS)
        raise InvalidRequest(f"there is no embedder {name!r}", param="embedder", hint=known)
    return EMBEDDERS[name]()


def recall_of(text: str, sources: Sequence[str]) -> NewEvent:
    """The event of a text that memory returned, made of the source events."""
    return NewEvent(text, role="memory", kind=Kind.RECALL, sources=tuple(sources))


def _same(name: str, other: str) -> bool:
    return name.casefold() == other.casefold()
