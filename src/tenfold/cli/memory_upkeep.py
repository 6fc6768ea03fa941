"""`tenfold memory`: erase, audit, rebuild, status, and who is in which team."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenfold.cli import memory_options as o
from tenfold.cli.arguments import AsJson
from tenfold.cli.output import notes, printable, write_json
from tenfold.errors import InvalidRequest

if TYPE_CHECKING:
    from tenfold.memory.memory import Memory
    from tenfold.memory.store import Receipt, Selection, Status

FOLDER = o.FOLDER


def erase(
    ids: Annotated[list[str] | None, typer.Option("--id", help="this event; repeatable")] = None,
    conversation: o.Conversation = "",
    subject: o.Subject = "",
    author: o.Author = "",
    kind: o.Kinds = None,
    scope: o.ScopeName = "",
    since: o.Since = "",
    until: o.Until = "",
    all_members: Annotated[
        bool, typer.Option("--all-members", help="of every member, not only what is yours")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    verify: Annotated[
        list[str] | None,
        typer.Option("--verify", help="look for this word in every file after; repeatable"),
    ] = None,
    folder: o.Folder = FOLDER,
    tenant: o.Tenant = "default",
    member: o.Member = "me",
    as_json: AsJson = False,
) -> None:
    """Erase events and all that came from them, for good."""
    from tenfold.cli.memory_display import show_receipt, show_residue

    meant = o.selection(
        ids=ids,
        conversation=conversation,
        subject=subject,
        author=author,
        kinds=kind,
        scope=scope,
        since=since,
        until=until,
    )
    if meant.is_everything():
        raise InvalidRequest(
            "nothing says what to erase",
            hint="--id, --conversation, --subject, --author, --kind, --scope, --since or --until;"
            " all that is yours: --since 1000-01-01, of every member: --all-members with it",
        )
    with o.Place(folder, tenant, member).opened() as memory:
        if not yes:
            _confirm(memory, meant, all_members=all_members)
        receipt = memory.erase(meant, all_members=all_members)
        residue = memory.tenant.verify_erasure(verify) if verify else []
    if as_json:
        write_json(
            {"receipt": receipt_json(receipt)}
            | (
                {"residue": [asdict(one) for one in residue], "looked_into": looked_into(folder)}
                if verify
                else {}
            )
        )
    else:
        show_receipt(receipt)
        if verify:
            show_residue(residue, looked_into(folder))
    if residue:
        raise typer.Exit(1)


def looked_into(folder: str) -> str:
    """What a verification reads: the files themselves are another machine's with a database."""
    from tenfold.memory.places import is_address

    if not is_address(folder):
        return "every table, every index and the bytes of every file of this tenant"
    from tenfold.memory.postgres.address import parse

    data = parse(folder).data
    files = f", and the server's files in {data} that this process may read"
    return "everything that this tenant's keys open, and the text index" + (
        files if data else "; not into the server's files, which data=FOLDER in the address names"
    )


def receipt_json(receipt: Receipt) -> dict[str, Any]:
    """A receipt as plain values."""
    return asdict(receipt) | {"erased_at": receipt.erased_at.isoformat()}


def _confirm(memory: Memory, meant: Selection, *, all_members: bool) -> None:
    """Says how much it would be and asks. Raises InvalidRequest where nobody can answer."""
    if all_members:
        what = f"what is selected of all members of {memory.tenant.name}"
    else:
        own = sum(memory.member in (e.author, e.subject) for e in memory.history(meant))
        what = f"{own} event{'s' * (own != 1)} of {memory.member}"
    try:
        agreed = typer.confirm(f"Erase {what}, and all that came from them, for good?", err=True)
    except typer.Abort:
        sys.stderr.write("\n")
        raise InvalidRequest("nobody said yes; nothing was erased", hint="--yes") from None
    if not agreed:
        notes().print("nothing was erased")
        raise typer.Exit(1)


def audit(
    folder: o.Folder = FOLDER,
    tenant: o.Tenant = "default",
    member: o.Member = "me",
    embedder: o.EmbedderName = "",
    as_json: AsJson = False,
) -> None:
    """Find junk, duplicates, loops, secrets and planted instructions."""
    from tenfold.cli.memory_display import show_report

    with o.Place(folder, tenant, member).opened(embedder) as memory:
        report = memory.audit()
    if as_json:
        write_json(report.as_dict())
    else:
        show_report(report)


def rebuild(
    folder: o.Folder = FOLDER,
    tenant: o.Tenant = "default",
    member: o.Member = "me",
    embedder: o.EmbedderName = "",
    as_json: AsJson = False,
) -> None:
    """Make every index, vector and fact anew from the log."""
    with (
        o.Place(folder, tenant, member).opened(embedder, anew=True) as memory,
        notes().status("Deriving everything anew ..."),
    ):
        found = memory.rebuild()
    _tell(found, as_json)


def status(
    folder: o.Folder = FOLDER,
    tenant: o.Tenant = "default",
    member: o.Member = "me",
    as_json: AsJson = False,
) -> None:
    """Show how the tenant's memory stands."""
    with o.Place(folder, tenant, member).opened() as memory:
        found = memory.status()
    _tell(found, as_json)


def _tell(status: Status, as_json: bool) -> None:
    from tenfold.cli.memory_display import show_status

    if as_json:
        write_json(asdict(status))
    else:
        show_status(status)


def grant(
    member: Annotated[str, typer.Argument(help="who")],
    team: Annotated[str, typer.Argument(help="may read and write this team's events")],
    folder: o.Folder = FOLDER,
    tenant: o.Tenant = "default",
) -> None:
    """Let a member read and write a team's events."""
    with o.Place(folder, tenant, member).opened(create=True) as memory:
        known = team in memory.tenant.member(member).teams
        memory.tenant.grant(member, team)
    was = "was in" if known else "is now in"
    sys.stdout.write(f"{printable(member)} {was} team {printable(team)}\n")


def revoke(
    member: Annotated[str, typer.Argument(help="who")],
    team: Annotated[str, typer.Argument(help="may no longer read and write this team's events")],
    folder: o.Folder = FOLDER,
    tenant: o.Tenant = "default",
) -> None:
    """Take a member out of a team."""
    with o.Place(folder, tenant, member).opened() as memory:
        known = team in memory.tenant.member(member).teams
        memory.tenant.revoke(member, team)
    was = "is no longer in" if known else "was not in"
    sys.stdout.write(f"{printable(member)} {was} team {printable(team)}\n")
