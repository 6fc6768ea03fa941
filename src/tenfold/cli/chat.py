"""`tenfold chat`."""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from tenfold.cli import arguments as a
from tenfold.cli.memory_options import Place
from tenfold.cli.output import console, notes
from tenfold.errors import InvalidRequest, TenfoldError, UnknownName

if TYPE_CHECKING:
    from tenfold.agents.remembering import Form
    from tenfold.cli.conversation import Conversation


def command(
    model: Annotated[str, typer.Argument(help="embedded name, folder or hf:owner/name")] = (
        "concierge"
    ),
    system: Annotated[str | None, typer.Option(help="the system message")] = None,
    facts: Annotated[
        Path | None, typer.Option("--facts", help="a text file the answers may draw on")
    ] = None,
    strategy: a.StrategyName = None,
    n: a.Candidates = None,
    reward: a.RewardName = None,
    decode: a.DecodePairs = None,
    decode_json: a.DecodeJson = None,
    temperature: a.Temperature = None,
    top_p: a.TopP = None,
    max_tokens: a.MaxTokens = None,
    seed: a.Seed = None,
    dtype: a.Dtype = "auto",
    adapter: a.Adapters = None,
    executor: a.Executor = "auto",
    kv_memory_mb: a.KvMemory = 1024,
    memory: Annotated[
        str, typer.Option("--memory", help="remember, and be told, what was said: a folder")
    ] = "",
    tenant: Annotated[
        str, typer.Option("--memory-tenant", help="the tenant whose memory it is")
    ] = "default",
    member: Annotated[str, typer.Option("--memory-member", help="the member whose it is")] = "me",
    form: Annotated[
        str, typer.Option("--memory-form", help="facts (which the concierge reads) or turns")
    ] = "facts",
) -> None:
    """Chat with a model in the terminal."""
    if form not in ("facts", "turns"):
        raise UnknownName("form", form, ("facts", "turns"), param="--memory-form")
    chosen = a.decode_object(strategy, n, reward, decode, decode_json)
    known = _read(facts) if facts else None
    with notes().status(f"Loading {model} ..."):
        from tenfold.cli.conversation import Conversation

        llm = a.Load(model, dtype, tuple(adapter or ()), executor, kv_memory_mb).llm()
    with asyncio.Runner() as runner, ExitStack() as stack:
        try:
            place = Place(memory, tenant, member) if memory else None
            kept = stack.enter_context(place.opened("", create=True)) if place else None
            a.add_reward(llm.rewards, reward)
            params = a.sampling(
                llm.model.default_params(),
                temperature=temperature,
                top_p=top_p,
                max_tokens=max_tokens,
                seed=seed,
            )
            conversation = Conversation(
                llm, params, chosen, console(), system, known, kept, cast("Form", form)
            )
            _talk(runner, conversation)
        finally:
            runner.run(llm.close())


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise InvalidRequest(f"{file} cannot be read: {e}") from None


def _talk(runner: asyncio.Runner, conversation: Conversation) -> None:
    out = conversation.out
    terminal = sys.stdin.isatty()
    if terminal:
        import readline  # noqa: F401  (line editing and history, by being imported)

        out.print(f"[bold]{conversation.llm.model.name}[/bold]  /help lists the commands")
    while True:
        try:
            text = _ask(terminal)
        except KeyboardInterrupt:
            out.print("\n[dim]/quit or Ctrl-D leaves[/dim]")
            continue
        if text is None:
            return
        if not text.strip():
            continue
        try:
            if text.startswith("/"):
                if not conversation.command(text):
                    return
            else:
                runner.run(conversation.answer(text))
        except KeyboardInterrupt:
            conversation.stopped()
        except TenfoldError as e:
            hint = f" ({e.hint})" if e.hint else ""
            out.print(f"{e.message}{hint}", style="red", markup=False)


def _ask(terminal: bool) -> str | None:
    """One message: a line, or everything up to a closing `\"\"\"` or a pause in a paste."""
    try:
        line = input("\n› " if terminal else "")
    except EOFError:
        return None
    if line.strip() == '"""':
        return _until_quotes()
    if terminal:
        line += _pasted()
    return line


def _until_quotes() -> str:
    lines: list[str] = []
    while True:
        try:
            line = input()
        except EOFError:
            break
        if line.strip() == '"""':
            break
        lines.append(line)
    return "\n".join(lines)


def _pasted() -> str:
    """Further lines that are already waiting: they were pasted, not typed."""
    import select

    more = ""
    while select.select([sys.stdin], [], [], 0.03)[0]:
        try:
            more += "\n" + input()
        except EOFError:
            break
    return more
