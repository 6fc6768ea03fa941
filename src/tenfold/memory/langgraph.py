"""A LangGraph store over tenfold's memory: `graph.compile(store=LangGraphStore(memory))`.

Needs langgraph-checkpoint (LangGraph brings it). An item is kept as events of one member: its value
as JSON, which nothing is derived from, and each indexed text as an event that is found and derived
from like anything said. A put replaces, and `versions` has what was; a delete erases all of it.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from tenfold.errors import InvalidRequest, MissingExtra
from tenfold.memory.events import LONGEST_NAME, LONGEST_TEXT, Event, Kind, NewEvent, new_id
from tenfold.memory.langgraph_items import (
    BadOperation,
    Kept,
    Place,
    checked_ttl,
    clean_namespace,
    kept_of,
    leaves,
    matches,
    namespace_matches,
    place_of,
)
from tenfold.memory.memory import Memory
from tenfold.memory.store import Selection
from tenfold.memory.versions import Versions

try:
    from langgraph.store.base import (
        BaseStore,
        GetOp,
        Item,
        ListNamespacesOp,
        Op,
        PutOp,
        Result,
        SearchItem,
        SearchOp,
        TTLConfig,
        get_text_at_path,
        tokenize_path,
    )
except ModuleNotFoundError as error:
    raise MissingExtra(
        "the store for LangGraph needs its base", hint="pip install langgraph-checkpoint"
    ) from error

WHOLE = "$"  # the path of the whole value


class LangGraphStore(BaseStore):
    """LangGraph's `BaseStore`, kept in a memory; for any number of threads.

    `fields` are the paths that are searched (the whole value, unless a put says otherwise; [] for
    none). With `member_at` the label at that place of every namespace names the member who has the
    item, so that no search can reach another's: an operation whose namespace ends before it is
    refused. Without it all items are the memory's own member's. `versions=False` erases what a put
    replaces. Items are held in this process's memory while the store is open.
    """

    supports_ttl = True

    def __init__(
        self,
        memory: Memory,
        *,
        fields: Sequence[str] = (WHOLE,),
        member_at: int | None = None,
        ttl: TTLConfig | None = None,
        versions: bool = True,
    ) -> None:
        self.memory = memory
        self.ttl_config = ttl
        self._fields = tuple(fields)
        self._member_at = member_at
        self._keeps = versions
        self._read: dict[str, Versions[Place]] = {}
        self._parsed: dict[str, dict[Place, tuple[str, Kept]]] = {}  # with the last event's id
        self._lock = threading.RLock()
        self._swept = datetime.now(UTC)

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Reads see the state before the batch; of several puts to one place the last counts.

        The puts of one member are one transaction, then its deletes are. Raises InvalidRequest
        (also a ValueError), before anything is written, for an operation that cannot be.
        """
        with self._lock:
            self._sweep_now_and_then()
            results: list[Result] = []
            puts: dict[tuple[str, Place], PutOp] = {}
            for op in ops:
                if isinstance(op, PutOp):
                    puts[self._whose(op.namespace), self._place(op)] = op
                    results.append(None)
                else:
                    results.append(self._answer(op))
            self._write(puts)
            return results

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """As `batch`, on a thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.batch, list(ops))

    def versions(self, namespace: tuple[str, ...], key: str) -> list[Item]:
        """What an item was, oldest first, and last what it is; nothing once it is deleted."""
        with self._lock:
            events = self._things(self._whose(namespace)).get((namespace, key), [])
            return [_item(kept) for kept in _all_kept(events)]

    def sweep_ttl(self) -> int:
        """Erases what has expired, of the members met so far; returns how many items."""
        with self._lock:
            self._swept = now = datetime.now(UTC)
            count = 0
            for member in [*self._read]:
                gone = [
                    events
                    for events in self._things(member).values()
                    if (kept := kept_of(events)) and kept.expired(now)
                ]
                self._erase(member, gone)
                count += len(gone)
            return count

    def _answer(self, op: Op) -> Result:
        if isinstance(op, GetOp):
            return self._get(op)
        if isinstance(op, SearchOp):
            return list(self._search(op))
        if isinstance(op, ListNamespacesOp):
            return self._namespaces(op)
        raise BadOperation(f"there is no operation {type(op).__name__}", param="ops")

    def _get(self, op: GetOp) -> Item | None:
        member, place = self._whose(op.namespace), (clean_namespace(op.namespace), op.key)
        kept = kept_of(self._things(member).get(place, []))
        if kept is None or kept.expired(datetime.now(UTC)):
            return None
        if op.refresh_ttl:
            self._touch(member, [kept])
        return _item(kept)

    def _search(self, op: SearchOp) -> Sequence[SearchItem]:
        prefix = clean_namespace(op.namespace_prefix)
        member = self._whose(prefix)
        if op.limit < 0 or op.offset < 0:
            raise BadOperation("limit and offset are at least 0", param="limit")
        found = [
            kept
            for (namespace, _), kept in self._live(member).items()
            if namespace[: len(prefix)] == prefix and matches(kept.value, op.filter or {})
        ]
        found.sort(key=lambda kept: kept.updated_at, reverse=True)
        last = op.offset + op.limit
        scores = self._scores(member, op.query, found, last) if op.query else {}
        found.sort(key=lambda kept: -scores.get(kept.put, float("-inf")))  # the others stay behind
        chosen = found[op.offset : last]
        if op.refresh_ttl:
            self._touch(member, chosen)
        return [
            SearchItem(
                kept.namespace,
                kept.key,
                kept.value,
                kept.created_at,
                kept.updated_at,
                score=scores.get(kept.put),
            )
            for kept in chosen
        ]

    def _scores(
        self, member: str, query: str, found: Sequence[Kept], wanted: int
    ) -> dict[str, float]:
        """How well items answer a query: the best of an item's texts counts."""
        put_of = {ulid: kept.put for kept in found for ulid in kept.texts}
        most = max((len(kept.texts) for kept in found), default=0)
        if not put_of or not wanted or not query.strip():
            return {}
        hits = self.memory.of(member).search(
            query, min(len(put_of), wanted * most), Selection(ids=tuple(put_of)), verbatim=True
        )
        scores: dict[str, float] = {}
        for hit in hits:
            scores.setdefault(put_of[hit.event.id], hit.score)
        return scores

    def _namespaces(self, op: ListNamespacesOp) -> list[tuple[str, ...]]:
        conditions = op.match_conditions or ()
        prefix = next((tuple(c.path) for c in conditions if c.match_type == "prefix"), ())
        there = {
            namespace
            for namespace, _ in self._live(self._whose(prefix))
            if all(namespace_matches(c.match_type, c.path, namespace) for c in conditions)
        }
        if op.max_depth is not None:
            there = {namespace[: op.max_depth] for namespace in there}
        return sorted(there)[op.offset : op.offset + op.limit]

    def _write(self, puts: Mapping[tuple[str, Place], PutOp]) -> None:
        """Everything new is checked before anything is written."""
        added: dict[str, list[NewEvent]] = {}
        erased: dict[str, list[list[Event]]] = {}
        for (member, place), op in puts.items():
            before = self._things(member).get(place, [])
            if op.value is None:
                erased.setdefault(member, []).append(list(before))
                continue
            kept = kept_of(before)
            first = kept.created_at if kept else None
            try:
                added.setdefault(member, []).extend(self._events(place, op, first))
            except BadOperation:
                raise
            except InvalidRequest as error:  # what no event takes, such as a zero byte
                raise BadOperation(error.message, param=error.param, hint=error.hint) from None
            if not self._keeps:
                erased.setdefault(member, []).append(list(before))
        for member, events in added.items():
            self.memory.of(member).add_all(events)
        for member, things in erased.items():
            self._erase(member, things)

    def _events(self, place: Place, op: PutOp, first: datetime | None) -> Iterator[NewEvent]:
        namespace, key = place
        try:
            value = json.dumps(op.value, allow_nan=False)  # ASCII: no normalisation changes it
        except (TypeError, ValueError, RecursionError) as error:
            raise BadOperation(f"the value of {key!r} is no JSON: {error}", param="value") from None
        if not isinstance(op.value, Mapping):
            raise BadOperation("a value is a dictionary", param="value", hint='{"text": "..."}')
        provenance = {"store.key": key, "store.put": new_id()}
        if first is not None:
            provenance["store.first"] = first.isoformat()
        if op.ttl is not None:
            provenance["store.ttl"] = str(checked_ttl(op.ttl))
        conversation = ".".join(namespace)
        for part, text in enumerate(_pieces(value)):
            yield NewEvent(
                text,
                role="item",
                kind=Kind.FEEDBACK,
                conversation=conversation,
                provenance={**provenance, "store.part": str(part)},
            )
        for text in self._texts(op):
            for piece in _pieces(text):
                yield NewEvent(piece, role="text", conversation=conversation, provenance=provenance)

    def _texts(self, op: PutOp) -> Iterator[str]:
        paths = self._fields if op.index is None else op.index or ()
        for path in paths:
            if path == WHOLE:
                texts = ["\n".join(leaves(op.value))]
            else:
                texts = get_text_at_path(op.value, tokenize_path(path))
            yield from texts

    def _touch(self, member: str, read: Sequence[Kept]) -> None:
        """Notes that items were read, where the last note is older than a tenth of their time."""
        now = datetime.now(UTC)
        touches = [
            NewEvent(
                "read",
                role="touch",
                kind=Kind.FEEDBACK,
                conversation=".".join(kept.namespace),
                provenance={"store.key": kept.key, "store.put": kept.put},
            )
            for kept in read
            if kept.ttl is not None and now - kept.accessed_at > kept.ttl / 10
        ]
        if touches:
            self.memory.of(member).add_all(touches)

    def _erase(self, member: str, things: Sequence[Sequence[Event]]) -> None:
        ids = tuple(event.id for events in things for event in events)
        if ids:
            self.memory.of(member).erase(Selection(ids=ids))
            self._live(member)  # forgets their texts here, too

    def _things(self, member: str) -> Mapping[Place, list[Event]]:
        if member not in self._read:
            self._read[member] = Versions(self.memory.of(member), place_of)
        return self._read[member].read()

    def _live(self, member: str) -> dict[Place, Kept]:
        """The items that have not expired, as they are now."""
        now, known = datetime.now(UTC), self._parsed.get(member, {})
        parsed: dict[Place, tuple[str, Kept]] = {}
        for place, events in self._things(member).items():
            last = events[-1].id
            if place in known and known[place][0] == last:
                parsed[place] = known[place]
            elif (kept := kept_of(events)) is not None:
                parsed[place] = last, kept
        self._parsed[member] = parsed
        return {place: kept for place, (_, kept) in parsed.items() if not kept.expired(now)}

    def _whose(self, namespace: Sequence[str]) -> str:
        if self._member_at is None:
            return self.memory.member
        if len(namespace) <= self._member_at or namespace[self._member_at] == "*":
            raise BadOperation(
                f"the namespace {tuple(namespace)!r} does not say whose the items are",
                param="namespace",
                hint=f"its label {self._member_at} names the member",
            )
        return str(namespace[self._member_at])

    def _place(self, op: PutOp) -> Place:
        namespace = clean_namespace(op.namespace)
        if not namespace:
            raise BadOperation("an item needs a namespace", param="namespace")
        if not isinstance(op.key, str) or not op.key or len(op.key) > LONGEST_NAME:
            raise BadOperation(
                f"{op.key!r} is no key", param="key", hint=f"1 to {LONGEST_NAME} characters"
            )
        return namespace, op.key

    def _sweep_now_and_then(self) -> None:
        minutes = (self.ttl_config or {}).get("sweep_interval_minutes")
        if minutes is not None and datetime.now(UTC) - self._swept > timedelta(minutes=minutes):
            self.sweep_ttl()


def _pieces(text: str) -> Iterator[str]:
    """A text in pieces that are no longer than an event."""
    for at in range(0, len(text), LONGEST_TEXT):
        yield text[at : at + LONGEST_TEXT]


def _item(kept: Kept) -> Item:
    return Item(
        value=kept.value,
        key=kept.key,
        namespace=kept.namespace,
        created_at=kept.created_at,
        updated_at=kept.updated_at,
    )


def _all_kept(events: Sequence[Event]) -> Iterator[Kept]:
    puts = dict.fromkeys(e.provenance["store.put"] for e in events if e.role == "item")
    for put in puts:
        kept = kept_of([e for e in events if e.provenance["store.put"] == put])
        if kept is not None:
            yield kept
