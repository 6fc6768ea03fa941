"""`tenfold memory`: sum up what has come to rest, say what was useful, and learn from it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from tenfold.cli import memory_options as o
from tenfold.cli.arguments import AsJson
from tenfold.cli.output import notes, write_json, write_line
from tenfold.errors import InvalidRequest

FOLDER = o.FOLDER


def consolidate(
    conversation: Annotated[str, typer.Argument(help="what to sum up; none: --rest-days")] = "",
    rest_days: Annotated[
        float | None,
        typer.Option("--rest-days", help="all in which nothing was said for so long"),
    ] = None,
    folder: o.Folder = FOLDER,
    tenant: o.Tenant = "default",
    member: o.Member = "me",
    as_json: AsJson = False,
) -> None:
    """Sum up conversations; search and recall then prefer the summaries."""
    from tenfold.cli.memory_display import show_summary

    if bool(conversation) == (rest_days is not None):
        raise InvalidRequest(
            "say what to sum up",
            hint="either a conversation or --rest-days N",
            param="conversation",
        )
    rest = o.span(rest_days, "--rest-days")
    with o.Place(folder, tenant, member).opened() as memory:
        made = memory.consolidate(conversation, rest=rest)
    for summary in made:
        if as_json:
            write_line(asdict(summary))
        else:
            show_summary(summary)
    if not made and not as_json:
        notes().print("there is nothing new to sum up")


def feedback(
    query: Annotated[str, typer.Argument(help="what was asked")],
    useful: Annotated[
        list[str] | None, typer.Option("--useful", help="an event that answered it; repeatable")
    ] = None,
    shown: Annotated[
        list[str] | None,
        typer.Option("--shown", help="an event that was shown; none: what a search shows now"),
    ] = None,
    k: Annotated[int, typer.Option("--k", min=1, help="how many a search shows")] = 10,
    conversation: o.Conversation = "",
    folder: o.Folder = FOLDER,
    tenant: o.Tenant = "default",
    member: o.Member = "me",
    embedder: o.EmbedderName = "",
    as_json: AsJson = False,
) -> None:
    """Say which of the events shown for a query answered it."""
    from tenfold.memory.events import clean_id
    from tenfold.memory.interchange import as_json as plain

    good = [clean_id(one, "--useful") for one in useful or ()]
    seen = [clean_id(one, "--shown") for one in shown or ()]
    with o.Place(folder, tenant, member).opened(embedder) as memory:
        if not seen:
            memory.derive()
            meant = o.selection(conversation=conversation)
            seen = [hit.event.id for hit in memory.search(query, k, meant, verbatim=True)]
        event = memory.feedback(query, seen, good, conversation=conversation)
    if as_json:
        write_json(plain(event))
    else:
        sys.stdout.write(event.id + "\n")


def learn(
    undo: Annotated[bool, typer.Option("--undo", help="go back to what ranked before")] = False,
    folder: o.Folder = FOLDER,
    tenant: o.Tenant = "default",
    member: o.Member = "me",
    embedder: o.EmbedderName = "",
    as_json: AsJson = False,
) -> None:
    """Learn from feedback how to rank, if that proves better."""
    with o.Place(folder, tenant, member).opened(embedder) as memory:
        if undo:
            ranks = memory.unlearn()
            outcome = {}
        else:
            with notes().status("Learning ..."):
                memory.derive()
                outcome = asdict(memory.learn())
            ranks = memory.ranks()
    if as_json:
        write_json(outcome | {"ranks": ranks})
        return
    if outcome:
        said = f"{outcome['feedback']} feedback: {outcome['why']}"
        if outcome["gain"] or outcome["low"]:
            said += (
                f" (useful events among the first ten {100 * outcome['gain']:+.1f} points,"
                f" with confidence {100 * outcome['low']:+.1f} or more)"
            )
        sys.stdout.write(said + "\n")
    sys.stdout.write(f"{ranks} ranks now\n")
