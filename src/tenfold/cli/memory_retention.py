"""`tenfold memory retain`: how long a tenant's memories are kept."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenfold.cli import memory_options as o
from tenfold.cli.arguments import AsJson
from tenfold.cli.output import notes, printable, write_json, write_line
from tenfold.errors import InvalidRequest, UnknownName

if TYPE_CHECKING:
    from tenfold.memory.events import Kind
    from tenfold.memory.memory import Memory
    from tenfold.memory.retention import Retention

app = typer.Typer(help="Set, show and apply how long memories are kept.")

FOLDER = o.FOLDER
Scope = Annotated[str, typer.Option("--scope", help="private, team:NAME, shared; none: every one")]
KindName = Annotated[
    str, typer.Option("--kind", help="observation, tool, feedback or recall; none: every one")
]


@app.command("set")
def set_policy(
    scope: Scope = "",
    kind: KindName = "",
    days: Annotated[
        float | None, typer.Option("--days", help="erase what has been held for longer")
    ] = None,
    most: Annotated[
        int | None, typer.Option("--most", help="erase the oldest beyond so many")
    ] = None,
    folder: o.Folder = FOLDER,
    tenant: o.Tenant = "default",
) -> None:
    """Set the policy about a scope and kind; nothing is erased until it is applied."""
    from tenfold.memory import retention

    if days is None and most is None:
        raise InvalidRequest("a policy needs a limit", hint="--days, --most or both")
    policy = retention.Retention(scope, _kind(kind), o.span(days, "--days"), most)
    if policy.kind == "feedback":
        notes().print("the values of LangGraph items are of kind feedback, too: see the docs")
    with o.Place(folder, tenant, "me").opened(create=True) as memory:
        retention.set_policy(memory.tenant, policy)
    sys.stdout.write(_said(policy) + "; `tenfold memory retain apply` erases what is due\n")


@app.command()
def drop(
    scope: Scope = "",
    kind: KindName = "",
    folder: o.Folder = FOLDER,
    tenant: o.Tenant = "default",
) -> None:
    """Take the policy about a scope and kind back."""
    from tenfold.memory import retention

    with o.Place(folder, tenant, "me").opened() as memory:
        retention.drop_policy(memory.tenant, scope, _kind(kind))


@app.command()
def show(folder: o.Folder = FOLDER, tenant: o.Tenant = "default", as_json: AsJson = False) -> None:
    """Show the policies."""
    with o.Place(folder, tenant, "me").opened() as memory:
        policies = memory.retention()
    for policy in policies:
        if as_json:
            write_line(_plain(policy))
        else:
            sys.stdout.write(_said(policy) + "\n")
    if not policies and not as_json:
        notes().print("everything is kept until it is erased")


@app.command()
def apply(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only say how much it would be")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    folder: o.Folder = FOLDER,
    tenant: o.Tenant = "default",
    embedder: o.EmbedderName = "none",
    as_json: AsJson = False,
) -> None:
    """Erase, of every member, what the policies want erased."""
    from tenfold.cli.memory_display import show_receipt
    from tenfold.cli.memory_upkeep import receipt_json

    with o.Place(folder, tenant, "me").opened(embedder) as memory:
        found = memory.retain(dry_run=True)
        if not as_json:
            for policy, count in found.due:
                sys.stdout.write(f"{_said(policy)}: {count} due\n")
        if found.events and not dry_run:
            if not yes:
                _confirm(memory, found.events)
            found = memory.retain()
    if as_json:
        due = [_plain(policy) | {"due": count} for policy, count in found.due]
        receipt = receipt_json(found.receipt) if found.receipt else None
        write_json({"events": found.events, "policies": due, "receipt": receipt})
    elif found.receipt:
        show_receipt(found.receipt)
    elif not found.events:
        notes().print("nothing is due")


def _confirm(memory: Memory, count: int) -> None:
    what = f"{count} event{'s' * (count != 1)} of members of {memory.tenant.name}"
    try:
        agreed = typer.confirm(f"Erase {what}, and all that came from them, for good?", err=True)
    except typer.Abort:
        sys.stderr.write("\n")
        raise InvalidRequest("nobody said yes; nothing was erased", hint="--yes") from None
    if not agreed:
        notes().print("nothing was erased")
        raise typer.Exit(1)


def _kind(name: str) -> Kind | None:
    from tenfold.memory.events import Kind

    known = [kind.value for kind in Kind]
    if name and name not in known:
        raise UnknownName("kind", name, known, param="--kind")
    return Kind(name) if name else None


def _plain(policy: Retention) -> dict[str, Any]:
    age = policy.max_age
    return {
        "scope": policy.scope,
        "kind": policy.kind.value if policy.kind else "",
        "days": age / timedelta(days=1) if age is not None else None,
        "most": policy.max_events,
    }


def _said(policy: Retention) -> str:
    limits = []
    if policy.max_age is not None:
        limits.append(f"for {policy.max_age / timedelta(days=1):g} days")
    if policy.max_events is not None:
        limits.append(f"at most {policy.max_events}")
    what = f"{policy.kind.value} events" if policy.kind else "events"
    return f"{printable(policy.scope) or 'every scope'}: {what} are kept {', '.join(limits)}"
