"""Options that the commands of `tenfold memory` share, and how they become a memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenfold.errors import InvalidRequest, UnknownName

if TYPE_CHECKING:
    from tenfold.memory.decay import HalfLives
    from tenfold.memory.memory import Memory
    from tenfold.memory.store import Selection

FOLDER = "~/.local/share/tenfold/memory"
FEWEST, MOST = 0.001, 1_000_000.0  # days that are a span of time

Folder = Annotated[
    str,
    typer.Option(
        "--folder", envvar="TENFOLD_MEMORY", help="where the memories are; or postgresql://..."
    ),
]
Tenant = Annotated[str, typer.Option("--tenant", help="whose file: one for each tenant")]
Member = Annotated[str, typer.Option("--member", help="who you are in it")]
EmbedderName = Annotated[
    str, typer.Option("--embedder", help="minilm, words, none; default: what its vectors are of")
]

Conversation = Annotated[str, typer.Option("--conversation", help="of this conversation")]
Subject = Annotated[str, typer.Option("--subject", help="about this person or thing")]
Author = Annotated[str, typer.Option("--author", help="written by this member")]
Kinds = Annotated[
    list[str] | None,
    typer.Option("--kind", help="observation, tool, feedback or recall; repeatable"),
]
ScopeName = Annotated[str, typer.Option("--scope", help="private, team:NAME or shared")]
Since = Annotated[str, typer.Option("--since", help="said at this time or later")]
Until = Annotated[str, typer.Option("--until", help="said before this time")]
AsOf = Annotated[str, typer.Option("--as-of", help="as it stood at this time")]


@dataclass(frozen=True, slots=True)
class Place:
    """Which memory is meant: a folder or a database, a tenant in it, and the member who asks."""

    folder: str
    tenant: str
    member: str

    @contextmanager
    def opened(
        self,
        embedder: str = "none",
        *,
        create: bool = False,
        anew: bool = False,
        half_lives: HalfLives | None = None,
    ) -> Iterator[Memory]:
        """The memory, closed at the end. Raises InvalidRequest where there is none.

        The embedder matters only to who derives (search, facts, audit, rebuild); the others leave
        what waits to the next of these. "" is the one that the vectors are of, which only who makes
        all of them `anew` may change.
        """
        from tenfold.memory.embedders import check_name, fitting
        from tenfold.memory.memory import Memory
        from tenfold.memory.places import open_store, shown

        check_name(embedder, "--embedder")
        try:
            tenant = open_store(self.folder).tenant(self.tenant, create=create)
        except UnknownName:
            raise InvalidRequest(
                f"there is no memory of tenant {self.tenant!r} in {shown(self.folder)}",
                hint="`tenfold memory add` makes it; --folder and --tenant choose another",
            ) from None
        try:
            chosen = fitting(tenant, embedder, option="--embedder", anew=anew)
            yield Memory(tenant, self.member, embedder=chosen, half_lives=half_lives)
        finally:
            tenant.close()


def local_time(text: str, option: str) -> datetime | None:
    """A time of the command line: without a zone it is this machine's. Raises InvalidRequest."""
    if not text:
        return None
    from tenfold.memory.interchange import parse_time

    moment = parse_time(text, option)
    try:
        return moment.astimezone()
    except (OverflowError, ValueError):
        raise InvalidRequest(
            f"{option} {text!r} is no time here", param=option, hint="leave out what has no bound"
        ) from None


def selection(
    *,
    ids: Sequence[str] | None = None,
    kinds: Sequence[str] | None = None,
    scope: str = "",
    since: str = "",
    until: str = "",
    as_of: str = "",
    **names: str,
) -> Selection:
    """The selection that options describe; raises InvalidRequest for what is no id, kind, time."""
    from tenfold.memory.events import Kind, Scope, clean_id
    from tenfold.memory.store import Selection

    known = [kind.value for kind in Kind]
    for kind in kinds or ():
        if kind not in known:
            raise UnknownName("kind", kind, known, param="--kind")
    return Selection(
        ids=tuple(clean_id(one, "--id") for one in ids or ()),
        kinds=tuple(Kind(kind) for kind in kinds or ()),
        scope=Scope(scope) if scope else None,
        since=local_time(since, "--since"),
        until=local_time(until, "--until"),
        as_of=local_time(as_of, "--as-of"),
        **names,
    )


def read_text(file: Path) -> str:
    """A file as text, standard input for `-`; raises InvalidRequest when it cannot be read."""
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as e:
        raise InvalidRequest(f"{file} cannot be read: {e.strerror or e}") from None
    except UnicodeDecodeError:
        raise InvalidRequest(f"{file} cannot be read: it is no text in UTF-8") from None


def read_messages(file: Path) -> list[dict[str, Any]]:
    """A list of chat messages from a JSON file; raises InvalidRequest for anything else."""
    try:
        messages = json.loads(read_text(file))
    except (ValueError, RecursionError) as e:
        raise InvalidRequest(f"{file} is not JSON: {e}", param="--messages") from None
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise InvalidRequest(
            f"{file} is no list of messages",
            param="--messages",
            hint='[{"role": "user", "content": "..."}, ...]',
        )
    return messages


def span(days: float | None, option: str) -> timedelta | None:
    """A number of days as a span of time. Raises InvalidRequest for what is none that one means."""
    if days is None:
        return None
    if not FEWEST <= days <= MOST:
        raise InvalidRequest(
            f"{days:g} days are no span of time",
            param=option,
            hint=f"from {FEWEST:g}, a minute and a half, to {MOST:,.0f}",
        )
    return timedelta(days=days)
