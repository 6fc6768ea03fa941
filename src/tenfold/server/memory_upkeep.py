"""/v1/memory: summing up, feedback, learning from it, and how long things are kept.

Whose memory it is, is decided as in `memory`. Policies are shown here and set by the operator
(`tenfold memory retain`): they are about all members of the tenant.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from tenfold.memory.derive.summaries import Summary
from tenfold.memory.events import clean_id
from tenfold.memory.interchange import as_json
from tenfold.memory.memory import Memory
from tenfold.memory.retention import Retention
from tenfold.server import errors
from tenfold.server.wire import memory as wire
from tenfold.server.wire import memory_upkeep as shapes
from tenfold.server.wire.base import Answer

OnMemory = Callable[[Request, Callable[[Memory], Any]], Awaitable[Any]]
DAY = timedelta(days=1)


def routes(router: APIRouter, on_memory: OnMemory, look_at: OnMemory) -> None:
    """The operations; `look_at` runs what takes long beside what `on_memory` runs."""

    @router.post("/v1/memory/consolidate", responses=_answers(shapes.SummaryList))
    async def consolidate_memories(body: shapes.ConsolidateRequest, request: Request) -> Response:
        """Sum up a conversation, or those at rest: summaries take over in what is found."""
        rest = body.rest_days * DAY if body.rest_days is not None else None
        made = await on_memory(request, lambda m: m.consolidate(body.conversation, rest=rest))
        return _json(shapes.SummaryList(object="list", data=[summary_json(s) for s in made]))

    @router.post("/v1/memory/feedback", responses=_answers(wire.Memory))
    async def give_feedback(body: shapes.FeedbackRequest, request: Request) -> Response:
        """Say which of the shown events answered a query."""
        shown = [clean_id(one, "shown") for one in body.shown]
        useful = [clean_id(one, "useful") for one in body.useful]
        event = await on_memory(
            request,
            lambda m: m.feedback(body.query, shown, useful, conversation=body.conversation),
        )
        return _json(wire.Memory(**as_json(event)))

    @router.post("/v1/memory/learn", responses=_answers(shapes.Learnt))
    async def learn_from_feedback(request: Request) -> Response:
        """Learn from one's feedback how to rank, if that proves better."""

        def learn(memory: Memory) -> shapes.Learnt:
            return shapes.Learnt(**asdict(memory.learn()), ranks=memory.ranks())

        return _json(await look_at(request, learn))

    @router.delete("/v1/memory/learn", responses=_answers(shapes.Ranks))
    async def unlearn(request: Request) -> Response:
        """Go back to what ranked before the last learning."""
        return _json(await look_at(request, lambda m: shapes.Ranks(ranks=m.unlearn())))

    @router.get("/v1/memory/retention", responses=_answers(shapes.RetentionList))
    async def list_retention(request: Request) -> Response:
        """How long, and how many, events are kept."""
        found = await on_memory(request, lambda m: m.retention())
        return _json(shapes.RetentionList(object="list", data=[_retention(p) for p in found]))


def summary_json(summary: Summary) -> shapes.Summary:
    """A summary as an answer."""
    return shapes.Summary(
        conversation=summary.conversation,
        text=summary.text,
        events=list(summary.events),
        said=[shapes.Sentence(event=ulid, text=text) for ulid, text in summary.said],
        deriver=summary.deriver,
    )


def _retention(policy: Retention) -> shapes.Retention:
    return shapes.Retention(
        scope=policy.scope,
        kind=policy.kind.value if policy.kind else "",
        days=policy.max_age / DAY if policy.max_age is not None else None,
        events=policy.max_events,
    )


def _answers(model: type[Any]) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model}, **errors.GENERATES}


def _json(answer: Answer) -> Response:
    return JSONResponse(answer.json_ready())
