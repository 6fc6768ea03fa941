"""`tenfold memory`: remember, find, look back, forget."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from tenfold.cli import memory_learning as learning
from tenfold.cli import memory_options as o
from tenfold.cli import memory_retention
from tenfold.cli import memory_upkeep as upkeep
from tenfold.cli.arguments import AsJson
from tenfold.cli.memory_display import plural
from tenfold.cli.output import notes, printable, write_json, write_line
from tenfold.errors import InvalidRequest, UnknownName

app = typer.Typer(help="Remember what was said, find it again, erase it for good.")

FOLDER = o.FOLDER


@app.command()
def add(
    text: Annotated[str | None, typer.Argument(help="what was said; none: standard input")] = None,
    messages: Annotated[
        Path | None, typer.Option("--messages", help="JSON list of chat messages; - is stdin")
    ] = None,
    role: Annotated[str, typer.Option(help="user, assistant, tool, ...")] = "user",
    subject: o.Subject = "",
    to: Annotated[str, typer.Option(help="whom it was said to")] = "",
    conversation: Annotated[str, typer.Option(help="the conversation it belongs to")] = "",
    scope: o.ScopeName = "private",
    kind: Annotated[str, typer.Option(help="observation, tool or feedback")] = "observation",
    valid_at: Annotated[str, typer.Option(help="when it was said; default: now")] = "",
    key: Annotated[str, typer.Option(help="the same key again adds nothing")] = "",
    folder: o.Folder = FOLDER,
    tenant: o.Tenant = "default",
    member: o.Member = "me",
    as_json: AsJson = False,
) -> None:
    """Remember a text, or a list of messages; prints ids."""
    from tenfold.memory.events import NewEvent, Scope
    from tenfold.memory.interchange import as_json as plain
    from tenfold.memory.interchange import of_messages

    fields: dict[str, Any] = {
        "subject": subject,
        "to": to,
        "scope": Scope(scope),
        "valid_at": o.local_time(valid_at, "--valid-at"),
    }
    if messages is not None:
        if text is not None or key or role != "user" or kind != "observation":
            raise InvalidRequest("--messages brings its own texts, roles and kinds", param="text")
        if not conversation:
            raise InvalidRequest("--messages needs --conversation NAME", param="--conversation")
        said_there = list(of_messages(o.read_messages(messages), conversation, fields))
        with o.Place(folder, tenant, member).opened(create=True) as memory:
            events = memory.add_all(said_there)
    else:
        said = o.read_text(Path("-")).strip("\r\n") if text is None else text
        fields |= {"role": role, "conversation": conversation, "key": key, "kind": kind}
        new = NewEvent(said, **fields)  # refused before a memory is made for it
        with o.Place(folder, tenant, member).opened(create=True) as memory:
            events = memory.add_all([new])
    for event in events:
        if as_json:
            write_line(plain(event))
        else:
            sys.stdout.write(event.id + "\n")


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="what is looked for")],
    k: Annotated[int, typer.Option("--k", min=1, help="how many at most")] = 10,
    explain: Annotated[bool, typer.Option("--explain", help="what makes each score")] = False,
    verbatim: Annotated[
        bool, typer.Option("--verbatim", help="every event by itself: no summaries")
    ] = False,
    half_life_days: Annotated[
        float, typer.Option(min=0, max=36500, help="after so many days a score is half; 0: never")
    ] = 0.0,
    conversation: o.Conversation = "",
    subject: o.Subject = "",
    author: o.Author = "",
    kind: o.Kinds = None,
    since: o.Since = "",
    until: o.Until = "",
    as_of: o.AsOf = "",
    folder: o.Folder = FOLDER,
    tenant: o.Tenant = "default",
    member: o.Member = "me",
    embedder: o.EmbedderName = "",
    as_json: AsJson = False,
) -> None:
    """Find what answers a query, best first."""
    from tenfold.cli.memory_display import hit_json, show_hits
    from tenfold.memory.decay import HalfLives

    meant = o.selection(
        conversation=conversation,
        subject=subject,
        author=author,
        kinds=kind,
        since=since,
        until=until,
        as_of=as_of,
    )
    if not query.strip():
        raise InvalidRequest("the query is empty", param="query")
    lives = HalfLives(default=timedelta(days=half_life_days)) if half_life_days else None
    with o.Place(folder, tenant, member).opened(embedder, half_lives=lives) as memory:
        memory.derive()  # a command has no server behind it that does so meanwhile
        hits = memory.search(query, k, meant, verbatim=verbatim)
    if as_json:
        for hit in hits:
            write_line(hit_json(hit))
    elif hits:
        show_hits(hits, explain=explain)
    else:
        notes().print("nothing was found")


@app.command()
def history(
    limit: Annotated[int, typer.Option(min=0, help="the newest so many; 0: all")] = 50,
    ids: Annotated[list[str] | None, typer.Option("--id", help="this event; repeatable")] = None,
    conversation: o.Conversation = "",
    subject: o.Subject = "",
    author: o.Author = "",
    kind: o.Kinds = None,
    since: o.Since = "",
    until: o.Until = "",
    as_of: o.AsOf = "",
    folder: o.Folder = FOLDER,
    tenant: o.Tenant = "default",
    member: o.Member = "me",
    as_json: AsJson = False,
) -> None:
    """Show what was recorded, in its order."""
    from tenfold.cli.memory_display import show_event
    from tenfold.memory.interchange import as_json as plain

    meant = o.selection(
        ids=ids,
        conversation=conversation,
        subject=subject,
        author=author,
        kinds=kind,
        since=since,
        until=until,
        as_of=as_of,
    )
    show = (lambda event: write_line(plain(event))) if as_json else show_event
    nothing = True
    with o.Place(folder, tenant, member).opened() as memory:
        for event in memory.history(meant, limit):
            show(event)
            nothing = False
    if nothing and not as_json:
        notes().print("there is nothing to show")


@app.command()
def facts(
    subject: Annotated[str, typer.Argument(help="of whom; none: of all")] = "",
    valid: Annotated[str, typer.Option(help="what held at this time; default: now")] = "",
    recorded: Annotated[str, typer.Option(help="what was known at this time")] = "",
    folder: o.Folder = FOLDER,
    tenant: o.Tenant = "default",
    member: o.Member = "me",
    embedder: o.EmbedderName = "",
    as_json: AsJson = False,
) -> None:
    """Show what is believed, or was at a time."""
    from tenfold.cli.memory_display import fact_json, show_facts

    when = o.local_time(valid, "--valid"), o.local_time(recorded, "--recorded")
    with o.Place(folder, tenant, member).opened(embedder) as memory:
        found = memory.facts(subject, valid=when[0], recorded=when[1])
    if as_json:
        for fact in found:
            write_line(fact_json(fact))
    elif found:
        show_facts(found)
    else:
        what = f" of {printable(subject)}" if subject else ""
        notes().print(f"nothing is believed{what}", markup=False)


@app.command()
def export(
    out: Annotated[
        Path | None, typer.Option("--out", help="a new file; none: standard output")
    ] = None,
    conversation: o.Conversation = "",
    subject: o.Subject = "",
    author: o.Author = "",
    since: o.Since = "",
    until: o.Until = "",
    folder: o.Folder = FOLDER,
    tenant: o.Tenant = "default",
    member: o.Member = "me",
) -> None:
    """Write events as JSON lines."""
    meant = o.selection(
        conversation=conversation, subject=subject, author=author, since=since, until=until
    )
    with o.Place(folder, tenant, member).opened() as memory:
        if out is None:
            count = memory.export(sys.stdout, meant)
        else:
            try:
                out.touch(mode=0o600, exist_ok=False)  # memories are nobody else's
                with out.open("w", encoding="utf-8") as file:
                    count = memory.export(file, meant)
            except FileExistsError:
                raise InvalidRequest(
                    f"{out} is there already",
                    param="--out",
                    hint="give a new name: an export overwrites nothing",
                ) from None
            except OSError as e:
                raise InvalidRequest(
                    f"{out} cannot be written: {e.strerror or e}", param="--out"
                ) from None
    notes().print(f"{plural(count, 'event')} written")


@app.command("import")
def load(
    file: Annotated[Path, typer.Argument(help="JSON lines that `export` wrote; - is stdin")],
    origin: Annotated[
        str, typer.Option("--from", help="tenfold, or mem0: history.db or a dump of get_all()")
    ] = "tenfold",
    folder: o.Folder = FOLDER,
    tenant: o.Tenant = "default",
    member: o.Member = "me",
    as_json: AsJson = False,
) -> None:
    """Remember what `export` wrote, or what mem0 has; again adds nothing twice."""
    if origin not in ("tenfold", "mem0"):
        raise UnknownName("origin", origin, ["tenfold", "mem0"], param="--from")
    lines = o.read_text(file).rstrip("\n").split("\n") if origin == "tenfold" else None
    if lines == [""]:
        raise InvalidRequest(f"{file} is empty", param="file")
    with o.Place(folder, tenant, member).opened(create=True) as memory:
        if lines is None:
            from tenfold.memory.mem0 import importing

            count = len(importing.read(file))
            new = len(importing.load(memory, file))
        else:
            newest = next(memory.history(limit=1), None)
            found = {event.id: event.sequence for event in memory.load(lines)}
            count = len(found)
            new = sum(newest is None or place > newest.sequence for place in found.values())
    if as_json:
        write_json({"new": new, "here_already": count - new})
    else:
        sys.stdout.write(f"{plural(new, 'new event')}, {count - new} here already\n")


@app.command()
def serve(
    folder: o.Folder = FOLDER,
    tenant: o.Tenant = "default",
    member: o.Member = "me",
    embedder: o.EmbedderName = "",
) -> None:
    """Offer the memory to an assistant over MCP (stdio)."""
    from tenfold.server.mcp import serve as serve_mcp

    with o.Place(folder, tenant, member).opened(embedder, create=True) as memory:
        serve_mcp(memory)


for work in (
    upkeep.erase,
    upkeep.audit,
    upkeep.status,
    upkeep.rebuild,
    upkeep.grant,
    upkeep.revoke,
    learning.consolidate,
    learning.feedback,
    learning.learn,
):
    app.command()(work)
app.add_typer(memory_retention.app, name="retain")
