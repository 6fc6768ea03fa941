"""/v1/memory: the timeline, where things come from, and what an erasure would take.

Looking before one erases. Whose memory it is, is decided as in `memory`; an id that the member may
not read is answered like one that does not exist.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from tenfold.memory import lineage, timeline
from tenfold.memory.derive.facts import Fact
from tenfold.memory.events import Event, Kind, Scope, clean_id
from tenfold.memory.interchange import as_json
from tenfold.memory.memory import Memory
from tenfold.memory.store import Selection
from tenfold.server import errors
from tenfold.server.errors import Refusal
from tenfold.server.moments import aware
from tenfold.server.wire import memory as wire
from tenfold.server.wire import memory_lineage as shapes
from tenfold.server.wire.base import Answer

T = TypeVar("T")
OnMemory = Callable[[Request, Callable[[Memory], Any]], Awaitable[Any]]


def routes(router: APIRouter, on_memory: OnMemory, look_at: OnMemory) -> None:
    """The operations; `look_at` runs what takes long beside what `on_memory` runs."""

    @router.get("/v1/memory/timeline", responses=_answers(shapes.Timeline))
    async def read_timeline(
        query: Annotated[shapes.TimelineQuery, Query()], request: Request
    ) -> Response:
        """Events by the time at which they were said, the latest first, page by page."""
        meant = Selection(
            conversation=query.conversation,
            subject=query.subject,
            author=query.author,
            kinds=(Kind(query.kind),) if query.kind else (),
            scope=Scope(query.scope) if query.scope else None,
            since=aware(query.since, "since"),
            until=aware(query.until, "until"),
            as_of=aware(query.as_of, "as_of"),
        )
        before = timeline.Place.parse(query.before) if query.before else None

        def look(memory: Memory) -> shapes.Timeline:
            events, end = timeline.page(memory, meant, before, query.limit)
            return shapes.Timeline(
                object="list",
                member=memory.member,
                data=[_event(e) for e in events],
                next=str(end) if end else None,
            )

        return _json(await on_memory(request, look))

    @router.get("/v1/memory/timeline/facts", responses=_answers(shapes.BeliefList))
    async def read_beliefs(
        query: Annotated[shapes.BeliefsQuery, Query()], request: Request
    ) -> Response:
        """Facts of all times, ended ones too, as they were believed at a time."""
        recorded = aware(query.recorded, "recorded") or datetime.now(UTC)
        about = query.subject.casefold()

        def look(memory: Memory) -> shapes.BeliefList:
            known = lineage.beliefs(memory, recorded)
            found = [f for f in known if not about or f.subject.casefold() == about]
            found.sort(key=_latest, reverse=True)
            shown = [_fact(f) for f in found[: query.limit]]
            return shapes.BeliefList(object="list", data=shown, more=len(found) - len(shown))

        return _json(await look_at(request, look))

    @router.get("/v1/memory/lineage/{event_id}", responses=_answers(shapes.Lineage))
    async def read_lineage(event_id: str, request: Request) -> Response:
        """What came of an event, and what it came from."""
        ulid = clean_id(event_id, "event_id")
        found = await look_at(request, lambda m: lineage.lineage(m, ulid))
        if found is None:
            raise Refusal(
                404,
                f"there is no event {ulid} that you can read",
                param="event_id",
                code="event_not_found",
            )
        return _json(_lineage(found))

    @router.post("/v1/memory/erase/preview", responses=_answers(shapes.Preview))
    async def preview_erasure(body: shapes.PreviewRequest, request: Request) -> Response:
        """What an erasure would take; nothing is erased."""
        meant = Selection(
            ids=tuple(clean_id(one, "ids") for one in body.ids),
            conversation=body.conversation,
            subject=body.subject,
            author=body.author,
            kinds=tuple(Kind(kind) for kind in body.kinds),
            scope=Scope(body.scope) if body.scope else None,
            since=aware(body.since, "since"),
            until=aware(body.until, "until"),
        )
        found = await look_at(request, lambda m: lineage.preview(m, meant))
        return _json(shapes.Preview(**asdict(found) | {"examples": list(found.examples)}))


def _answers(model: type[Any]) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model}, **errors.GENERATES}


def _json(answer: Answer) -> Response:
    return JSONResponse(answer.json_ready())


def _latest(fact: Fact) -> tuple[bool, datetime, datetime]:
    """Those that hold first, then those that ended last; of these, what began last."""
    return fact.valid_to is None, fact.valid_to or fact.recorded_from, fact.recorded_from


def _lineage(found: lineage.Lineage) -> shapes.Lineage:
    return shapes.Lineage(
        event=_event(found.event),
        state=found.state.value,
        reason=found.reason,
        words=found.words,
        vectors=[
            shapes.Vector(kind=v.kind, deriver=v.deriver, events=list(v.events))
            for v in found.vectors
        ],
        facts=[_fact(fact) for fact in found.facts],
        things=[_thing(thing) for thing in found.things],
        sources=[_event(e) for e in found.sources],
        recalls=[_event(e) for e in found.recalls],
        feedback=[_event(e) for e in found.feedback],
        complete=found.complete,
    )


def _thing(thing: lineage.Thing) -> shapes.Thing:
    made = thing.derived
    return shapes.Thing(
        kind=made.kind,
        deriver=made.deriver,
        events=list(made.events),
        value=dict(made.value),
        kept=thing.kept,
    )


def _event(event: Event) -> wire.Memory:
    return wire.Memory(**as_json(event))


def _fact(fact: Fact) -> wire.Fact:
    return wire.Fact(
        **asdict(fact)
        | {
            "events": list(fact.events),
            "recorded_from": fact.recorded_from.isoformat(),
            "recorded_to": fact.recorded_to.isoformat() if fact.recorded_to else None,
            "valid_from": fact.valid_from.isoformat() if fact.valid_from else None,
            "valid_to": fact.valid_to.isoformat() if fact.valid_to else None,
        }
    )
