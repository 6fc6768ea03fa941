"""The verbs of mem0's `Memory` and `AsyncMemory`."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from tenfold.errors import InvalidRequest
from tenfold.memory import memory as plain
from tenfold.memory.asynchronous import OneThread
from tenfold.memory.embedding import Embedder
from tenfold.memory.events import Event, Kind, NewEvent, clean_id
from tenfold.memory.mem0.filters import Mem0Error, check, matches, valued
from tenfold.memory.mem0.items import (
    ACTOR,
    EXPIRES,
    FIRST,
    IDS,
    METADATA,
    Scoped,
    about,
    belongs,
    checked_top,
    free,
    item_of,
    moment_of,
    narrowed,
    payload_of,
    said,
    scoped,
    squeezed,
    thing_of,
)
from tenfold.memory.store import Selection
from tenfold.memory.versions import Versions, from_provenance

FOLDER = "~/.local/share/tenfold/memory"
SETTINGS = ("folder", "tenant", "embedder")
UNSET: Any = object()

P = ParamSpec("P")
R = TypeVar("R")


class Memory:
    """mem0's `Memory`: many users in one tenant, a user given with each call.

    `get`, `update`, `delete` and `history` take only an id, as mem0's do, so whoever has an id has
    that memory; ids cannot be guessed. Where users hand ids in, use `tenfold.memory.Memory`, which
    is of one member. Errors that mem0 raises as ValueError are ValueErrors here, too.
    """

    def __init__(
        self,
        folder: str | Path = FOLDER,
        *,
        tenant: str = "mem0",
        embedder: str | Embedder | None = "minilm",
    ) -> None:
        self.memory = plain.Memory.open(
            folder,
            tenant=tenant,
            member="mem0",
            embedder=embedder,
        )
        self._kept: dict[str, Versions[str]] = {}

    @classmethod
    @valued()
    def from_config(cls, config_dict: Mapping[str, Any]) -> Memory:
        """A memory from `{"folder": ..., "tenant": ..., "embedder": ...}`, none of which must be.

        Raises InvalidRequest for mem0's own settings, which choose what is not here: vector stores,
        language models, graph stores.
        """
        return cls(**settings(config_dict))

    @valued()
    def add(
        self,
        messages: str | Mapping[str, Any] | list[Any],
        *,
        user_id: Any = None,
        agent_id: Any = None,
        run_id: Any = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: datetime | str | float | None = None,
        expiration_date: date | str | None = None,
        infer: bool = True,
        memory_type: str | None = None,
        prompt: str | None = None,
    ) -> dict[str, list[dict[str, Any]]]:
        """Remembers a text or messages; one result with event ADD for each that is new.

        With `timestamp` (which open-source mem0 has not) it was said then. Raises InvalidRequest
        for what needs a language model: `prompt`, and `memory_type`.
        """
        if prompt is not None or memory_type is not None:
            raise Mem0Error(
                "there is no language model to write memories",
                param="prompt" if prompt is not None else "memory_type",
                hint="texts are kept as they are; add what a model wrote as a text",
            )
        scope = scoped({"user_id": user_id, "agent_id": agent_id, "run_id": run_id})
        fields: dict[str, Any] = {
            "conversation": scope.conversation,
            "valid_at": moment_of(timestamp, "timestamp") if timestamp is not None else None,
        }
        more = about(scope, metadata, expiration_date)
        known = self._texts(scope) if infer else set()
        new = []
        for role, text, actor in said(messages):
            if text in known:
                continue
            if infer:
                known.add(text)
            kind = Kind.TOOL if role == "tool" else Kind.OBSERVATION
            provenance = {**more, **({ACTOR: actor} if actor else {})}
            new.append(NewEvent(text, role=role, kind=kind, provenance=provenance, **fields))
        events = self.memory.of(scope.owner).add_all(new) if new else []
        return {
            "results": [
                {
                    "id": e.id,
                    "memory": e.text,
                    "event": "ADD",
                    "actor_id": e.provenance.get(ACTOR),
                    "role": e.role,
                }
                for e in events
            ]
        }

    def get(self, memory_id: str) -> dict[str, Any] | None:
        """A memory as it is now, or None."""
        versions = self._versions(memory_id)
        return {**item_of(versions), "score": None} if versions else None

    @valued()
    def get_all(
        self,
        *,
        filters: Mapping[str, Any] | None = None,
        top_k: int = 20,
        show_expired: bool = False,
        **ids: Any,
    ) -> dict[str, list[dict[str, Any]]]:
        """The first `top_k` memories that the filters admit, oldest first."""
        top_k = ids.pop("limit", top_k)
        scope, wanted = narrowed(filters, ids)
        found = self._current(scope, wanted, show_expired)
        return {"results": [item_of(versions) for versions in found[: checked_top(top_k)]]}

    @valued()
    def search(
        self,
        query: str,
        *,
        top_k: int = 20,
        filters: Mapping[str, Any] | None = None,
        threshold: float | None = None,
        rerank: bool = False,
        explain: bool = False,
        reference_date: datetime | str | float | None = None,
        show_expired: bool = False,
        **ids: Any,
    ) -> dict[str, list[dict[str, Any]]]:
        """The memories that answer the query best, best first.

        `score` is tenfold's own, squeezed into 0 to 1; it is no cosine, so nothing is cut off
        unless a `threshold` is given. `explain` adds what made it, before squeezing. With
        `reference_date` the memory is searched as it stood then. `user_id` and the like may stand
        in the filters, as in mem0 2, or beside them with `limit`, as in mem0 1.
        """
        if rerank:
            raise Mem0Error("there is no second ranker", param="rerank", hint="leave it out")
        if not isinstance(query, str) or not query.strip():
            raise Mem0Error("the query is empty", param="query")
        if threshold is not None and not 0 <= threshold <= 1:
            raise Mem0Error(f"threshold is {threshold}", param="threshold", hint="0 to 1")
        top_k = checked_top(ids.pop("limit", top_k))
        scope, wanted = narrowed(filters, ids)
        when = None if reference_date is None else moment_of(reference_date, "reference_date")
        found = {v[-1].id: v for v in self._current(scope, wanted, show_expired, when)}
        if not found or not top_k:
            return {"results": []}
        meant = Selection(ids=tuple(found), as_of=when)
        hits = self.memory.of(scope.owner).search(query, top_k, meant, verbatim=True)
        results = []
        for hit in hits:
            item = {**item_of(found[hit.event.id]), "score": squeezed(hit.score)}
            if explain:
                item["score_details"] = dict(hit.parts)
            if threshold is None or item["score"] >= threshold:
                results.append(item)
        return {"results": results}

    @valued()
    def update(
        self,
        memory_id: str,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        expiration_date: date | str | None = UNSET,
        data: str | None = None,
    ) -> dict[str, str]:
        """Replaces a memory; `history` keeps what it was. Metadata is merged, ids stay.

        Raises InvalidRequest for an unknown id, and when there is nothing to change.
        """
        text = data if text is None else text
        if text is None and metadata is None and expiration_date is UNSET:
            raise Mem0Error("give text, metadata or expiration_date", param="text")
        last = self._one(memory_id)[-1]
        merged = {**(from_provenance(METADATA, last.provenance) or {}), **free(metadata)}
        expires = last.provenance.get(EXPIRES) if expiration_date is UNSET else expiration_date
        scope = Scoped(**{name: last.provenance.get(f"mem0.{name}") for name in IDS})
        provenance = about(scope, merged, expires)
        if actor := last.provenance.get(ACTOR):
            provenance[ACTOR] = actor
        self.memory.of(last.author).add(
            last.text if text is None else text,
            role=last.role,
            kind=last.kind,
            conversation=last.conversation,
            provenance={**provenance, FIRST: memory_id},
        )
        return {"message": "Memory updated successfully!"}

    def delete(self, memory_id: str) -> dict[str, str]:
        """Erases a memory and its history for good. Raises InvalidRequest for an unknown id."""
        versions = self._one(memory_id)
        self._erase(versions[-1].author, [versions])
        return {"message": "Memory deleted successfully!"}

    @valued()
    def delete_all(
        self, user_id: Any = None, agent_id: Any = None, run_id: Any = None
    ) -> dict[str, str]:
        """Erases all memories with these ids, and their histories, for good."""
        scope = scoped({"user_id": user_id, "agent_id": agent_id, "run_id": run_id})
        self._erase(scope.owner, self._current(scope, {}, show_expired=True))
        return {"message": "Memories deleted successfully!"}

    def history(self, memory_id: str) -> list[dict[str, Any]]:
        """What a memory was, oldest first: ADD, then an UPDATE each. Nothing once it is deleted."""
        versions = self._versions(memory_id)
        return [
            {
                "id": now.id,
                "memory_id": memory_id,
                "old_memory": before.text if before else None,
                "new_memory": now.text,
                "event": "UPDATE" if before else "ADD",
                "created_at": versions[0].valid_at.isoformat(),
                "updated_at": now.valid_at.isoformat(),
                "is_deleted": False,
                "actor_id": now.provenance.get(ACTOR),
                "role": now.role,
            }
            for before, now in zip([None, *versions], versions, strict=False)
        ]

    def reset(self) -> None:
        """Erases everything in the tenant, of all users."""
        self._kept.clear()
        if self.memory.status().events:
            self.memory.tenant.erase(Selection(since=datetime.min.replace(tzinfo=UTC)))

    def close(self) -> None:
        """Ends it; harmless when called twice."""
        self.memory.close()

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _of(self, owner: str) -> Mapping[str, list[Event]]:
        if owner not in self._kept:
            self._kept[owner] = Versions(self.memory.of(owner), thing_of)
        return self._kept[owner].read()

    def _current(
        self,
        scope: Scoped,
        wanted: Mapping[str, Any],
        show_expired: bool,
        when: datetime | None = None,
    ) -> list[list[Event]]:
        """The memories that the ids and filters admit, each with its versions up to `when`."""
        check(wanted)
        today = (when or datetime.now(UTC)).date().isoformat()
        found = []
        for versions in self._of(scope.owner).values():
            if when is not None:
                versions = [e for e in versions if max(e.valid_at, e.recorded_at) <= when]
            expires = versions[-1].provenance.get(EXPIRES) if versions else None
            if not versions or not belongs(versions, scope):
                continue
            if expires and expires < today and not show_expired:
                continue
            if not wanted or matches(payload_of(versions), wanted):
                found.append(versions)
        return found

    def _texts(self, scope: Scoped) -> set[str]:
        return {versions[-1].text for versions in self._current(scope, {}, show_expired=True)}

    def _versions(self, memory_id: str) -> list[Event]:
        """The versions of a memory, whoever's it is: the only call that looks beyond one owner.

        An id that is not in the log is looked for in all of it, where something was erased: of a
        memory that is there still the first version may be gone.
        """
        try:
            chosen = Selection(ids=(clean_id(str(memory_id), "memory_id"),))
        except InvalidRequest:
            return []
        tenant = self.memory.tenant
        one = next(tenant.history(chosen), None)
        if one is None and tenant.epoch():
            one = next((e for e in tenant.history() if e.provenance.get(FIRST) == memory_id), None)
        return self._of(one.author).get(memory_id, []) if one is not None else []

    def _one(self, memory_id: str) -> list[Event]:
        versions = self._versions(memory_id)
        if not versions:
            raise Mem0Error(f"there is no memory {memory_id!r}", param="memory_id")
        return versions

    def _erase(self, owner: str, things: Iterable[list[Event]]) -> None:
        ids = tuple(event.id for versions in things for event in versions)
        if ids:
            self.memory.of(owner).erase(Selection(ids=ids))
        self._of(owner)


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a memory. Raises InvalidRequest for others, as mem0's own."""
    if unknown := sorted(set(config) - set(SETTINGS)):
        raise Mem0Error(
            f"there are no settings {', '.join(unknown)}",
            param="config",
            hint=f"{', '.join(SETTINGS)}; there is no vector store and no model to choose",
        )
    return dict(config)


def _awaited(
    method: Callable[Concatenate[Memory, P], R],
) -> Callable[Concatenate[AsyncMemory, P], Awaitable[R]]:
    @functools.wraps(method)
    async def verb(self: AsyncMemory, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._thread.run(lambda: method(self.memory, *args, **kwargs))

    return cast("Callable[Concatenate[AsyncMemory, P], Awaitable[R]]", verb)


class AsyncMemory:
    """mem0's `AsyncMemory`: the verbs of `Memory`, awaited, on a thread of its own."""

    def __init__(
        self,
        folder: str | Path = FOLDER,
        *,
        tenant: str = "mem0",
        embedder: str | Embedder | None = "minilm",
    ) -> None:
        self.memory = Memory(folder, tenant=tenant, embedder=embedder)
        self._thread = OneThread()

    @classmethod
    def from_config(cls, config_dict: Mapping[str, Any]) -> AsyncMemory:
        """As that of `Memory`."""
        return cls(**settings(config_dict))

    add = _awaited(Memory.add)
    get = _awaited(Memory.get)
    get_all = _awaited(Memory.get_all)  # type: ignore[arg-type]
    search = _awaited(Memory.search)  # type: ignore[arg-type]
    update = _awaited(Memory.update)
    delete = _awaited(Memory.delete)
    delete_all = _awaited(Memory.delete_all)
    history = _awaited(Memory.history)
    reset = _awaited(Memory.reset)

    def close(self) -> None:
        """Ends it after what was begun; not awaited, as in mem0."""
        self._thread.close()
        self.memory.close()

    async def __aenter__(self) -> AsyncMemory:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()
