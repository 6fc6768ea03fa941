"""What a chat completion does with the memory of whoever sends it: recall before, remember after.

Recalling can fail the request, for nothing was done yet. Remembering cannot: the answer is there,
and the report says why it was not kept.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from fastapi import Request as HttpRequest

from tenfold.agents import remembering
from tenfold.agents.remembering import NOTHING, MemoryUse, Recalled
from tenfold.errors import InvalidRequest, TenfoldError
from tenfold.memory.events import NewEvent, clean_name
from tenfold.search.strategy import Request
from tenfold.server.context import Context
from tenfold.server.errors import Refusal, failure_of
from tenfold.server.memories import Memories, owner_of
from tenfold.server.plan import Plan
from tenfold.server.settings import Owner
from tenfold.server.wire import answers as wire
from tenfold.server.wire.chat import ChatMemory as Wanted
from tenfold.types import Message

log = logging.getLogger("tenfold.server")


class ChatMemory:
    """One request's use of memory; `of` makes it."""

    def __init__(
        self, ctx: Context, plan: Plan, memories: Memories, owner: Owner, use: MemoryUse
    ) -> None:
        self._ctx = ctx
        self._plan = plan
        self._memories = memories
        self._owner = owner
        self._use = use
        self._recalled: Recalled = NOTHING
        self._new: list[NewEvent] = []

    @classmethod
    def of(
        cls, ctx: Context, plan: Plan, wanted: Wanted | None, http: HttpRequest, identity: str
    ) -> ChatMemory | None:
        """None where the request asks for no memory. Raises Refusal and InvalidRequest for what
        cannot work; a request that names no conversation is one of its own, by its key or, where it
        has none, by its `identity`: sent again with its key it is the same."""
        if wanted is None:
            return None
        if ctx.memories is None or ctx.settings.memory is None:
            raise Refusal(
                400,
                "this server has no memory (leave `memory` out, or start the server with "
                "`tenfold serve --memory FOLDER`)",
                param="memory",
                code="memory_off",
            )
        shown = (
            plan.options.return_candidates
            if plan.options.strategy.selects
            else plan.options.strategy.candidates
        )
        if wanted.remember and shown > 1:
            raise InvalidRequest(
                f"of {shown} answers memory cannot tell which was meant",
                param="memory.remember",
                hint="ask for one answer, or set it to false",
            )
        key = clean_name(wanted.key, "memory.key")
        own = f"request:{key}" if key else identity
        use = MemoryUse(
            recall=wanted.recall,
            remember=wanted.remember,
            conversation=clean_name(wanted.conversation, "memory.conversation") or own,
            key=key,
            budget=wanted.budget,
            form=wanted.form,
        )
        return cls(ctx, plan, ctx.memories, owner_of(ctx.settings.memory, http.headers), use)

    async def inform(self, messages: Sequence[Message], request: Request) -> list[Message]:
        """The messages with what memory has to say; `request` is their prompt without it."""
        if self._use.remember:
            self._new = remembering.turns(messages, self._use)
        if self._use.recall:
            llm, use = self._ctx.llm, self._use
            prompt, most = len(request.prompt_ids), self._plan.params.max_tokens
            room = remembering.room(llm.context_length, prompt, most, use)
            self._recalled = await self._memories.run(
                self._owner,
                lambda memory: remembering.recalled(
                    memory, messages, use, room, llm.model.tokenizer
                ),
                self._plan.deadline_s,
            )
        return remembering.informed(messages, self._recalled)

    async def remember(self, answer: str | None) -> wire.MemoryReport:
        """Remembers the new turns and the answer; what was recalled and remembered, or why not."""
        report = wire.MemoryReport(
            conversation=self._use.conversation,
            recalled=list(self._recalled.events),
            tokens=self._recalled.tokens,
            remembered=[],
        )
        if not self._use.remember:
            return report
        new, use, found = self._new, self._use, self._recalled
        try:
            events = await self._memories.run(
                self._owner,
                lambda memory: remembering.remember(memory, new, answer, use, found),
                self._ctx.settings.grace_s,
            )
        except (TenfoldError, OSError) as error:
            failure = failure_of(error)
            log.warning("a turn was not remembered: %s", failure.message)
            report.error = failure.message
        else:
            report.remembered = [event.id for event in events]
        return report
