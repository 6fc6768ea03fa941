"""/v1/memory/*: remember, search, look back, erase. Whose memory it is, no body can say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from tenfold.errors import InvalidRequest
from tenfold.memory.events import Event, Kind, NewEvent, Scope, clean_id
from tenfold.memory.interchange import as_json
from tenfold.memory.memory import Memory
from tenfold.memory.retrieval import Hit
from tenfold.memory.store import Selection
from tenfold.server import errors, memory_lineage, memory_upkeep
from tenfold.server.context import Context
from tenfold.server.errors import Refusal
from tenfold.server.memories import owner_of
from tenfold.server.moments import aware
from tenfold.server.wire import memory as wire
from tenfold.server.wire.base import Answer

T = TypeVar("T")


def routes(router: APIRouter, ctx: Context) -> None:
    """The operations on memory."""

    _changing(router, ctx)
    _looking(router, ctx)
    for routes_of in (memory_lineage.routes, memory_upkeep.routes):
        routes_of(
            router,
            lambda http, work: _on_memory(ctx, http, work),
            lambda http, work: _on_memory(ctx, http, work, long=True),
        )


async def _on_memory(
    ctx: Context, http: Request, work: Callable[[Memory], T], *, long: bool = False
) -> T:
    settings = ctx.settings
    if ctx.memories is None or settings.memory is None:
        raise Refusal(
            404,
            "this server has no memory (start it with `tenfold serve --memory FOLDER`)",
            code="memory_off",
        )
    owner = owner_of(settings.memory, http.headers)
    how = ctx.memories.look if long else ctx.memories.run
    return await how(owner, work, settings.max_ms / 1000)


def _answers(model: type[Any]) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model}, **errors.GENERATES}


def _changing(router: APIRouter, ctx: Context) -> None:
    @router.post("/v1/memory/events", responses=_answers(wire.MemoryList))
    async def add_memories(body: wire.AddRequest, request: Request) -> Response:
        """Remember events, or the messages of a conversation; all of them or none."""
        most = ctx.settings.max_inputs
        return _json(_listed(await _on_memory(ctx, request, lambda m: _add(m, body, most))))

    @router.post("/v1/memory/erase", responses=_answers(wire.Receipt))
    async def erase_memories(body: wire.EraseRequest, request: Request) -> Response:
        """Erase what is selected and all that came from it, for good."""
        meant = _selection(body, ids=tuple(clean_id(one, "ids") for one in body.ids))
        receipt = await _on_memory(ctx, request, lambda m: m.erase(meant))
        return _json(wire.Receipt(**_plain(asdict(receipt))))


def _looking(router: APIRouter, ctx: Context) -> None:
    @router.get("/v1/memory/events", responses=_answers(wire.MemoryList))
    async def list_memories(
        query: Annotated[wire.HistoryQuery, Query()], request: Request
    ) -> Response:
        """What was recorded, in its order."""
        meant = Selection(
            conversation=query.conversation,
            subject=query.subject,
            author=query.author,
            since=aware(query.since, "since"),
            until=aware(query.until, "until"),
            as_of=aware(query.as_of, "as_of"),
        )
        return _json(
            _listed(await _on_memory(ctx, request, lambda m: list(m.history(meant, query.limit))))
        )

    @router.post("/v1/memory/search", responses=_answers(wire.FoundList))
    async def search_memories(body: wire.SearchRequest, request: Request) -> Response:
        """What answers a query best, with the parts of each score."""
        meant = _selection(body, as_of=aware(body.as_of, "as_of"))
        hits = await _on_memory(
            ctx, request, lambda m: m.search(body.query, body.k, meant, verbatim=body.verbatim)
        )
        return _json(wire.FoundList(object="list", data=[_found(hit) for hit in hits]))

    @router.get("/v1/memory/facts", responses=_answers(wire.FactList))
    async def list_facts(query: Annotated[wire.FactsQuery, Query()], request: Request) -> Response:
        """What is believed, or was at a time."""
        valid, recorded = aware(query.valid, "valid"), aware(query.recorded, "recorded")
        found = await _on_memory(
            ctx,
            request,
            lambda m: m.facts(query.subject, valid=valid, recorded=recorded),
            long=True,
        )
        data = [wire.Fact(**_plain(asdict(fact))) for fact in found]
        return _json(wire.FactList(object="list", data=data))

    @router.get("/v1/memory/audit", responses=_answers(wire.Audit))
    async def audit_memory(request: Request) -> Response:
        """What is wrong with the memory, by event ids."""
        report = await _on_memory(ctx, request, lambda m: m.audit().as_dict(), long=True)
        return _json(wire.Audit.model_validate(report))

    @router.get("/v1/memory/status", responses=_answers(wire.MemoryStatus))
    async def read_memory_status(request: Request) -> Response:
        """How the tenant's memory stands."""
        status = await _on_memory(ctx, request, lambda m: m.status())
        return _json(wire.MemoryStatus(**asdict(status)))


def _json(answer: Answer) -> Response:
    return JSONResponse(answer.json_ready())


def _add(memory: Memory, body: wire.AddRequest, most: int) -> list[Event]:
    if (body.events is None) == (body.messages is None):
        raise InvalidRequest("give either events or messages", param="events")
    count = len(body.events or body.messages or ())
    param = "messages" if body.events is None else "events"
    if count > most:
        raise InvalidRequest(
            f"{count} entries in {param}; this server takes {most} at once", param=param
        )
    if body.messages is not None:
        if not body.conversation:
            raise InvalidRequest("messages need a conversation", param="conversation")
        scope = Scope(body.scope or "private")
        return memory.add_messages(body.messages, conversation=body.conversation, scope=scope)
    if body.conversation is not None or body.scope is not None:
        raise InvalidRequest(
            "conversation and scope stand in each of the events",
            param="conversation" if body.conversation is not None else "scope",
        )
    return memory.add_all([_new(one, f"events.{i}") for i, one in enumerate(body.events or ())])


def _new(one: wire.NewMemory, where: str) -> NewEvent:
    fields = one.model_dump(exclude={"kind", "scope", "valid_at", "sources"})
    try:
        return NewEvent(
            kind=Kind(one.kind),
            scope=Scope(one.scope),
            valid_at=aware(one.valid_at, "valid_at"),
            sources=tuple(one.sources),
            **fields,
        )
    except InvalidRequest as e:
        raise InvalidRequest(e.message, param=f"{where}.{e.param}", hint=e.hint) from None


def _selection(body: wire.Selected, **more: Any) -> Selection:
    return Selection(
        conversation=body.conversation,
        subject=body.subject,
        author=body.author,
        kinds=tuple(Kind(kind) for kind in body.kinds),
        scope=Scope(body.scope) if body.scope else None,
        since=aware(body.since, "since"),
        until=aware(body.until, "until"),
        **more,
    )


def _listed(events: Sequence[Event]) -> wire.MemoryList:
    return wire.MemoryList(object="list", data=[_event(event) for event in events])


def _found(hit: Hit) -> wire.Found:
    return wire.Found(
        event=_event(hit.event),
        score=hit.score,
        parts=dict(hit.parts),
        repeats=list(hit.repeats),
        summary=memory_upkeep.summary_json(hit.summary) if hit.summary else None,
    )


def _event(event: Event) -> wire.Memory:
    return wire.Memory(**as_json(event))


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Times in ISO 8601, tuples as lists."""
    return {
        k: v.isoformat() if isinstance(v, datetime) else list(v) if isinstance(v, tuple) else v
        for k, v in values.items()
    }
