"""A chat's state: messages, settings, the last report; what `/commands` do to it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenfold.agents import remembering
from tenfold.agents.remembering import MemoryUse
from tenfold.cli import arguments as a
from tenfold.cli.output import printable
from tenfold.errors import InvalidRequest, TenfoldError, UnknownName
from tenfold.memory.events import NewEvent, new_id
from tenfold.search.events import CheckpointEvent, ResultEvent, TokensEvent
from tenfold.types import as_messages

if TYPE_CHECKING:
    from rich.console import Console

    from tenfold.agents.remembering import Form, Recalled
    from tenfold.memory.memory import Memory
    from tenfold.search.llm import AsyncLLM
    from tenfold.types import SamplingParams

_HELP = """\
/help                     this list
/system [TEXT]            set the system message; without text, show it
/facts [TEXT]             set the facts that answers may draw on; without text, show them
/strategy [NAME K=V ...]  such as: /strategy best_of_n n=8 reward=logprob
/set [K=V ...]            temperature, top_p, max_tokens, seed; without text, show them
/reset                    forget the conversation
/stats                    tokens, speed and KV memory
/save FILE                the conversation as JSON
/quit                     leave (or Ctrl-D)
Ctrl-C stops an answer. Several lines: paste them, or begin and end with \"\"\"."""


class Conversation:
    """Messages so far and how the next answer is made."""

    def __init__(
        self,
        llm: AsyncLLM,
        params: SamplingParams,
        decode: dict[str, Any],
        out: Console,
        system: str | None = None,
        facts: str | None = None,
        memory: Memory | None = None,
        form: Form = "facts",
    ) -> None:
        self.llm = llm
        self.params = params
        self.out = out
        self.system = system
        self._facts = facts
        self.decode = decode
        self.options = a.options(llm, decode)
        self.messages: list[dict[str, Any]] = []
        self.last: ResultEvent | None = None
        self._partial = ""
        self._memory = memory
        self._use = MemoryUse(form=form, conversation=f"chat:{new_id()}")

    def context(self) -> list[dict[str, Any]]:
        """The messages a request holds: system and facts first."""
        parts = [p for p in (self.system, self._facts) if p]
        head = [{"role": "system", "content": "\n\n".join(parts)}] if parts else []
        return head + self.messages

    async def answer(self, text: str) -> None:
        """Answers a message, streaming it; a strategy that selects shows its candidates."""
        self.messages.append({"role": "user", "content": text})
        self._partial = ""
        selects = self.options.strategy.selects
        try:
            await self._answer(selects)
        except TenfoldError:  # there is no answer: the question is not part of the conversation
            self.messages.pop()
            raise

    async def _answer(self, selects: bool) -> None:
        given = as_messages(self.context())
        request = self.llm.chat_request(given, self.params)
        found, new = remembering.NOTHING, list[NewEvent]()
        if self._memory is not None:
            new = remembering.turns(given, self._use)
            prompt, most = len(request.prompt_ids), self.params.max_tokens
            room = remembering.room(self.llm.context_length, prompt, most, self._use)
            tokenizer = self.llm.model.tokenizer
            found = remembering.recalled(self._memory, given, self._use, room, tokenizer)
            request = self.llm.chat_request(remembering.informed(given, found), self.params)
        grown: dict[int, int] = {}
        async with aclosing(self.llm.stream(request, self.options)) as events:
            async for event in events:
                if isinstance(event, TokensEvent):
                    grown[event.candidate] = grown.get(event.candidate, 0) + len(event.token_ids)
                    if selects:
                        self._counting(grown)
                    elif event.candidate == 0:
                        self._partial += event.text
                        self.out.print(printable(event.text), end="", markup=False, soft_wrap=True)
                elif isinstance(event, CheckpointEvent) and selects:
                    self._checkpoint(event)
                elif isinstance(event, ResultEvent):
                    self._finish(event, selects)
                    self._remember(new, event.completions[0].text, found)

    def _counting(self, grown: dict[int, int]) -> None:
        if self.out.is_terminal:
            self._clear_line()
            tokens, many = sum(grown.values()), "s" if len(grown) > 1 else ""
            self.out.print(f"[dim]{len(grown)} candidate{many}, {tokens} tokens[/dim]", end="")

    def _clear_line(self) -> None:
        # As a control: print leaves such characters out of what it is given.
        from rich.control import Control
        from rich.segment import ControlType

        self.out.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))

    def _checkpoint(self, event: CheckpointEvent) -> None:
        if self.out.is_terminal:
            self._clear_line()
        cut = f", {len(event.cut)} cut" if event.cut else ""
        scores = sorted(event.scores.items(), key=lambda s: -s[1])
        listed = "  ".join(
            f"[bold green]#{c} {v:.3f}[/]" if c in event.alive else f"[dim]#{c} {v:.3f}[/]"
            for c, v in scores[:12]
        )
        self.out.print(f"[dim]after {event.tokens} tokens{cut}:[/dim] {listed}")

    def _finish(self, event: ResultEvent, selects: bool) -> None:
        answer = event.completions[0].text
        if selects:
            self.out.print(printable(answer), markup=False, soft_wrap=True)
        else:
            self.out.print()
        self.messages.append({"role": "assistant", "content": answer})
        self.last = event

    def _remember(self, new: Sequence[NewEvent], answer: str, found: Recalled) -> None:
        if self._memory is None:
            return
        if count := len(found.events):
            self.out.print(f"[dim]told from memory: {count} event{'s' * (count != 1)}[/dim]")
        try:
            remembering.remember(self._memory, new, answer, self._use, found)
        except TenfoldError as error:  # the answer is there all the same
            self.out.print(f"not remembered: {error.message}", style="yellow", markup=False)

    def stopped(self) -> None:
        """An answer was interrupted: what was shown of it stays in the conversation."""
        if self.messages and self.messages[-1]["role"] == "user":
            if self._partial:
                self.messages.append({"role": "assistant", "content": self._partial})
            else:
                self.messages.pop()
        self.out.print("\n[dim]stopped[/dim]")

    def command(self, text: str) -> bool:
        """Obeys a `/command`; False means leave. Raises InvalidRequest for a wrong one."""
        name, _, rest = text[1:].strip().partition(" ")
        if name in ("quit", "exit"):
            return False
        known = {
            "help": lambda _: self.out.print(_HELP, markup=False),
            "system": self._set_system,
            "facts": self._set_facts,
            "strategy": self._set_strategy,
            "set": self._set,
            "reset": self._reset,
            "stats": self._stats,
            "save": self._save,
        }
        if name not in known:
            raise UnknownName("command", f"/{name}", [*(f"/{k}" for k in known), "/quit"])
        known[name](rest.strip())
        return True

    def _set_system(self, text: str) -> None:
        if text:
            self.system = text
        self.out.print(f"system: {self.system or '(none)'}", markup=False)

    def _set_facts(self, text: str) -> None:
        if text:
            self._facts = text
        self.out.print(f"facts: {self._facts or '(none)'}", markup=False, soft_wrap=True)

    def _set(self, text: str) -> None:
        names = ("temperature", "top_p", "max_tokens", "seed")
        given = a.decode_object(None, None, None, text.split(), None)
        for key, value in given.items():
            if key not in names:
                raise UnknownName("setting", key, names)
            whole = key in ("max_tokens", "seed")
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                raise InvalidRequest(f"{key} must be a {'whole ' if whole else ''}number")
        self.params = a.sampling(self.params, **given)
        values = ((name, getattr(self.params, name)) for name in names)
        self.out.print(" ".join(f"{k}={v}" for k, v in values if v is not None))
        self._warn()

    def _warn(self) -> None:
        if self.options.strategy.selects and self.params.temperature == 0:
            self.out.print(
                "at temperature 0 all candidates are the same: /set temperature=0.8",
                style="yellow",
            )

    def _set_strategy(self, text: str) -> None:
        if text:
            try:
                name, *pairs = shlex.split(text)
            except ValueError as e:
                raise InvalidRequest(f"/strategy: {e}") from None
            decode = a.decode_object(name, None, None, pairs, None)
            self.options = a.options(self.llm, decode)
            self.decode = decode
        strategy = self.options.strategy
        values = {**asdict(strategy), "reward": self.options.reward}
        listed = " ".join(f"{k}={v}" for k, v in values.items() if v is not None)
        self.out.print(f"{strategy.name} {listed}  [dim]{strategy.summary}[/dim]")
        self._warn()

    def _reset(self, _: str) -> None:
        self.messages.clear()
        self._use = replace(self._use, conversation=f"chat:{new_id()}")
        self.out.print("[dim]the conversation is forgotten[/dim]")

    def _stats(self, _: str) -> None:
        stats = self.llm.stats()
        kv = stats.occupancy
        if self.last is not None:
            report, usage = self.last.report, self.last.usage
            speed = usage.generated / max(1e-9, report.ms / 1e3)
            self.out.print(
                f"last answer: {usage.prompt} prompt tokens ({usage.cached} cached), "
                f"{usage.generated} generated, {report.ms:.0f} ms, {speed:.0f} tokens/s"
            )
        self.out.print(
            f"engine: {stats.executor} {stats.dtype}, {stats.generated_tokens} tokens generated, "
            f"KV blocks {kv.blocks_used} of {kv.blocks_total} used, {kv.blocks_cached} cached"
        )

    def _save(self, name: str) -> None:
        if not name:
            raise InvalidRequest("/save needs a file name")
        try:
            Path(name).write_text(
                json.dumps({"messages": self.context()}, indent=2, ensure_ascii=False) + "\n",
                encoding="utf-8",
            )
        except OSError as e:
            raise InvalidRequest(f"cannot write {name}: {e}") from None
        self.out.print(f"[dim]saved to {name}[/dim]")
