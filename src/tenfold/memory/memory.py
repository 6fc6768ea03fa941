"""One member's memory: remember, find again, look back, forget.

`Memory.open("memories", tenant="acme", member="ada")` is all it takes; no model and no server.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from tenfold.errors import InvalidRequest
from tenfold.memory.audit import Report, audit
from tenfold.memory.decay import HalfLives, decay
from tenfold.memory.derive import DERIVERS
from tenfold.memory.derive.facts import Claim, Fact, as_of, claim_of, claims, facts
from tenfold.memory.deriving import Deriving
from tenfold.memory.embedding import Embedder, HashedWords, MiniLM, QueryCache
from tenfold.memory.events import LONGEST_TEXT, Event, Kind, NewEvent, Scope
from tenfold.memory.packing import Packed, pack
from tenfold.memory.places import open_store
from tenfold.memory.query import read_query
from tenfold.memory.retrieval import Hit, Ranker, Weighted, candidates, rank
from tenfold.memory.store import Receipt, Selection, Status, Tenant

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
    """

    def __init__(
        self,
        tenant: Tenant,
        member: str,
        *,
        embedder: Embedder | None = None,
        ranker: Ranker | None = None,
        half_lives: HalfLives | None = None,
    ) -> None:
        self.tenant = tenant
        self._member = tenant.member(member)
        self._queries = QueryCache(embedder) if embedder is not None else None
        self._deriving = Deriving(tenant, embedder, list(DERIVERS.values()))
        self._ranker = ranker or Weighted()
        self._half_lives = half_lives

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        tenant: str = "default",
        member: str = "me",
        embedder: str | Embedder | None = "minilm",
        create: bool = True,
    ) -> Memory:
        """The memory in a folder, or at a database's address (`postgresql://USER@HOST/DATABASE`).

        `embedder` is minilm, words, none, or one of your own. Raises UnknownName for a tenant that
        does not exist when `create` is false, MissingExtra where minilm or the database's driver is
        not installed, StoreError where the place cannot be used.
        """
        if isinstance(embedder, str):
            embedder = named_embedder(embedder)
        store = open_store(folder)
        return cls(store.tenant(tenant, create=create), member, embedder=embedder)

    def of(self, member: str) -> Memory:
        """The memory of another member of the tenant; they share what derives and embeds."""
        other = copy(self)
        other._member = self.tenant.member(member)
        return other

    @property
    def member(self) -> str:
        """Whose memory this is."""
        return self._member.name

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
        return self.add_all(list(_of_messages(messages, conversation, fields)))

    def derive(self, limit: int = 0) -> int:
        """Makes vectors, facts and the rest of events that wait; returns of how many."""
        return self._deriving.run(limit)

    def search(self, query: str, k: int = 10, selection: Selection = EVERYTHING) -> list[Hit]:
        """The `k` readable events that answer the query best, each with the parts of its score."""
        if not query.strip():
            raise InvalidRequest("the query is empty", param="query")
        self.derive(CATCH_UP)
        asked = read_query(query)
        vector = self._queries.vector(query, self.member) if self._queries is not None else None
        found = candidates(self._member, asked, vector, selection)
        if self._half_lives is None:
            return rank(found, asked, self._ranker, k)
        hits = rank(found, asked, self._ranker, max(k, len(found.events)))
        now = selection.as_of or datetime.now(UTC)
        factors = decay([h.event for h in hits], now, self._half_lives)
        faded = [_faded(hit, float(f)) for hit, f in zip(hits, factors, strict=True)]
        return sorted(faded, key=lambda hit: -hit.score)[:k]

    def recall(
        self,
        query: str,
        budget: int,
        count: Callable[[str], int],
        *,
        k: int = 50,
        selection: Selection = EVERYTHING,
        seen: Collection[str] = (),
    ) -> Packed:
        """What answers the query as text for a prompt, within `budget` tokens of `count`.

        Events whose text is in `seen`, because the prompt says it already, are left out.
        It is kept in the log as a recall, with the events it repeats as sources: when one of them
        is erased it goes too, and nothing is ever learnt from it.
        """
        hits = self.search(query, k, selection)

        def size(text: str) -> int:  # a recall is an event, so it may be no longer than one
            return count(text) if len(text) <= LONGEST_TEXT else budget + 1

        packed = pack([h.event for h in hits if h.event.text not in seen], budget, size)
        if packed.citations:
            sources = tuple(packed.citations.values())
            self.add(packed.text, role="memory", kind=Kind.RECALL, sources=sources)
        return packed

    def facts(
        self, subject: str = "", *, valid: datetime | None = None, recorded: datetime | None = None
    ) -> list[Fact]:
        """What is believed of a subject (all of them if ""), or was at a time.

        Without an embedder nothing is kept derived, so the claims are read from the log each time.
        """
        now = datetime.now(UTC)
        claimed = [c for c in self._claims() if not subject or _same(c.subject, subject)]
        return as_of(facts(claimed), valid or now, recorded or now)

    def _claims(self) -> list[Claim]:
        if self._queries is None:
            return claims(list(self.history()))
        self.derive()
        return [claim_of(row) for row in self._member.derived("claim")]

    def get(self, *ids: str) -> list[Event]:
        """Readable events by their ids."""
        return self._member.get(ids)

    def history(self, selection: Selection = EVERYTHING, limit: int = 0) -> Iterator[Event]:
        """Readable events in the order in which they were recorded; the newest `limit` of them."""
        return self._member.history(selection, limit)

    def erase(self, selection: Selection) -> Receipt:
        """Erases own events and those about oneself, with all that came from them, for good."""
        return self._member.erase(selection)

    def audit(self) -> Report:
        """What is wrong with the readable memory: junk, restatements, loops, secrets, and more."""
        believed = facts(self._claims())
        failures = dict(self.tenant.failures())
        waiting = [event.id for event in self.tenant.waiting(EXAMINED)]
        readable = {event.id for event in self.get(*failures, *waiting)}  # both are the tenant's
        return audit(
            list(self.history()),
            believed,
            waiting=[ulid for ulid in waiting if ulid in readable],
            failed={ulid: why for ulid, why in failures.items() if ulid in readable},
        )

    def status(self) -> Status:
        """How the tenant's memory stands."""
        return self.tenant.status()

    def rebuild(self) -> Status:
        """Drops all that was derived and makes it anew from the log."""
        self.tenant.rebuild()
        self.derive()
        return self.status()

    def export(self, out: TextIO, selection: Selection = EVERYTHING) -> int:
        """Writes readable events as JSON lines; returns how many."""
        count = 0
        for event in self.history(selection):
            out.write(json.dumps(as_json(event), ensure_ascii=False) + "\n")
            count += 1
        return count

    def load(self, lines: Iterable[str]) -> list[Event]:
        """Remembers what `export` wrote; an event that was loaded before is not loaded twice.

        Recalls are left out: they repeat what is there. Raises InvalidRequest, naming the line,
        and nothing is written then.
        """
        events = [e for n, line in enumerate(lines, 1) if (e := _of_line(line, n)) is not None]
        return self.add_all(events)

    def close(self) -> None:
        """Ends it; harmless when called twice."""
        self.tenant.close()


def named_embedder(name: str) -> Embedder | None:
    """One of `EMBEDDERS`. Raises InvalidRequest, or MissingExtra where it is not installed."""
    if name not in EMBEDDERS:
        known = ", ".join(EMBEDDERS)
        raise InvalidRequest(f"there is no embedder {name!r}", param="embedder", hint=known)
    return EMBEDDERS[name]()


def as_json(event: Event) -> dict[str, Any]:
    """An event as plain values; times in ISO 8601."""
    return {
        "id": event.id,
        "sequence": event.sequence,
        "author": event.author,
        "role": event.role,
        "text": event.text,
        "subject": event.subject,
        "to": event.to,
        "conversation": event.conversation,
        "kind": event.kind.value,
        "scope": event.scope.name,
        "valid_at": event.valid_at.isoformat(),
        "recorded_at": event.recorded_at.isoformat(),
        "key": event.key,
        "sources": list(event.sources),
        "provenance": dict(event.provenance),
    }


def parse_time(text: str, param: str) -> datetime:
    """A moment in ISO 8601. Raises InvalidRequest; a missing time zone is found by the event."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(
            f"{param} {text!r} is no time", param=param, hint="such as 2026-05-01T12:00:00+00:00"
        ) from None


def _same(name: str, other: str) -> bool:
    return name.casefold() == other.casefold()


def _faded(hit: Hit, factor: float) -> Hit:
    """The score times the factor; what it loses is a part of its own, so that parts add up.

    A score below zero is divided by it: age must not lift what fits badly.
    """
    loss = hit.score * (factor if hit.score > 0 else 1 / max(factor, 1e-6)) - hit.score
    return (
        hit
        if factor == 1
        else replace(hit, score=hit.score + loss, parts={**hit.parts, "age": loss})
    )


def _of_messages(
    messages: Iterable[Mapping[str, Any]], conversation: str, fields: Mapping[str, Any]
) -> Iterator[NewEvent]:
    for place, message in enumerate(messages):
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str):
            raise InvalidRequest("a message needs a role", param=f"messages[{place}].role")
        if isinstance(content, list):
            texts = (p for p in content if isinstance(p, Mapping) and p.get("type") == "text")
            parts = [p.get("text") for p in texts]
            content = "\n".join(p for p in parts if isinstance(p, str))
        if content is not None and not isinstance(content, str):
            raise InvalidRequest(
                "content must be a string or a list of parts", param=f"messages[{place}].content"
            )
        if role not in ("system", "developer") and content and content.strip():
            kind = Kind.TOOL if role == "tool" else Kind.OBSERVATION
            yield NewEvent(content, role=role, conversation=conversation, kind=kind, **fields)


def _of_line(line: str, number: int) -> NewEvent | None:
    try:
        item = json.loads(line)
        if item.get("kind") == Kind.RECALL:
            return None
        provenance = dict(item.get("provenance", {}))
        if author := item.get("author"):
            provenance.setdefault("author", author)
        when = item.get("valid_at")
        return NewEvent(
            item["text"],
            role=item.get("role", "user"),
            subject=item.get("subject", ""),
            to=item.get("to", ""),
            conversation=item.get("conversation", ""),
            kind=Kind(item.get("kind", Kind.OBSERVATION)),
            scope=Scope(item.get("scope", "private")),
            valid_at=parse_time(when, "valid_at") if when else None,
            key=item.get("key") or (f"loaded:{item['id']}" if "id" in item else ""),
            provenance=provenance,
        )
    except (json.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidRequest(f"line {number} is no event: {error}", param="lines") from None
    except InvalidRequest as error:
        raise InvalidRequest(
            f"line {number}: {error.message}", param=error.param, hint=error.hint
        ) from None
