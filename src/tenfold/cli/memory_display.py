"""How memories are shown: times of this machine's zone, texts that cannot steer the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tenfold.cli.output import console, printable

if TYPE_CHECKING:
    from tenfold.memory.audit import Report
    from tenfold.memory.derive.facts import Fact
    from tenfold.memory.derive.summaries import Summary
    from tenfold.memory.events import Event
    from tenfold.memory.retrieval import Hit
    from tenfold.memory.store import Receipt, Residue, Status


def plural(count: int, what: str) -> str:
    """Such as "1 event" and "2 events"."""
    return f"{count} {what}{'s' * (count != 1)}"


def shown_time(moment: datetime | None) -> str:
    """In this machine's zone; nothing for an open end."""
    if moment is None:
        return ""
    with suppress(OverflowError):  # the first or the last hours that there are
        moment = moment.astimezone()
    return f"{moment:%Y-%m-%d %H:%M}"


def show_event(event: Event, before: str = "") -> None:
    """One line about an event and below it what it says."""
    about = [shown_time(event.valid_at), event.author]
    about += [f"({event.role})"] if event.role != "user" else []
    about += [f"about {event.subject}"] if event.subject not in ("", event.author) else []
    about += [f"in {event.conversation}"] if event.conversation else []
    about += [event.kind.value] if event.kind.value != "observation" else []
    about += [event.scope.name] if event.scope.name != "private" else []
    text = "\n".join(f"    {line}" for line in printable(event.text).split("\n"))
    sys.stdout.write(f"{before}{event.id}  {printable('  '.join(about))}\n{text}\n")


def show_hits(hits: Sequence[Hit], *, explain: bool) -> None:
    """The hits, best first; with `explain`, also what each reason adds to each score."""
    for number, hit in enumerate(hits, 1):
        before = f"{number:>2}. {hit.score:7.3f}  "
        if hit.summary is None:
            show_event(hit.event, before)
        else:
            show_summary(hit.summary, before)
        if hit.repeats:
            sys.stdout.write(f"    said again in {', '.join(hit.repeats)}\n")
    if explain:
        _explain(hits)


def show_summary(summary: Summary, before: str = "") -> None:
    """What a summary is of, and its sentences with their events."""
    count = f"{plural(len(summary.events), 'event')} in {printable(summary.conversation)}"
    sys.stdout.write(f"{before}summary of {count}\n")
    for ulid, sentence in summary.said:
        sys.stdout.write(f"    {ulid}  {printable(sentence)}\n")
    if not summary.said:
        sys.stdout.writelines(f"    {printable(line)}\n" for line in summary.text.split("\n"))


def hit_json(hit: Hit) -> dict[str, Any]:
    """A hit as plain values; times in ISO 8601."""
    from tenfold.memory.interchange import as_json

    return {
        "score": hit.score,
        "event": as_json(hit.event),
        "parts": dict(hit.parts),
        "repeats": list(hit.repeats),
        "summary": asdict(hit.summary) if hit.summary is not None else None,
    }


def _explain(hits: Sequence[Hit]) -> None:
    from rich.table import Table

    table = Table("reason", title="What makes the scores", title_justify="left", box=None)
    for number in range(1, len(hits) + 1):
        table.add_column(f"{number}.", justify="right")
    names = {name for hit in hits for name in hit.parts}
    weight = {name: max(abs(hit.parts.get(name, 0.0)) for hit in hits) for name in names}
    for name in sorted(names, key=lambda n: (-weight[n], n)):
        values = (hit.parts.get(name) for hit in hits)
        table.add_row(name, *("-" if v is None else f"{v:.3f}" for v in values))
    table.add_section()
    table.add_row("score", *(f"{hit.score:.3f}" for hit in hits), style="bold")
    console().print(table)


def fact_json(fact: Fact) -> dict[str, Any]:
    """A fact as plain values; times in ISO 8601."""
    return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in asdict(fact).items()}


def show_facts(found: Iterable[Fact]) -> None:
    """Facts as a table: who, what, from when until when."""
    from rich.table import Table
    from rich.text import Text

    table = Table("subject", "fact", "object", "from", "until", box=None, pad_edge=False)
    for fact in found:
        said = f"not {fact.predicate}" if fact.denied else fact.predicate
        words = [Text(printable(w)) for w in (fact.subject, said, fact.object)]
        until = "disputed" if fact.disputed else shown_time(fact.valid_to)
        table.add_row(*words, shown_time(fact.valid_from), until)
    console().print(table)


def show_report(report: Report) -> None:
    """What an audit found, as counts and the ids of some events."""
    from rich.table import Table
    from rich.text import Text

    rows: list[tuple[str, int, Sequence[str]]] = [
        ("empty talk", report.empty_talk.count, report.empty_talk.examples),
        ("restated", report.restated.count, report.restated.examples),
        ("duplicated", report.duplicated.count, report.duplicated.examples),
        ("recall loops", len(report.loops), [pair.event for pair in report.loops]),
        ("secrets", len(report.secrets), [f"{f.event} {f.kind}" for f in report.secrets]),
        (
            "instructions",
            len(report.instructions),
            [f"{f.event} {f.kind}" for f in report.instructions],
        ),
        ("stale facts", len(report.stale), [s.recall for s in report.stale]),
        ("waiting", len(report.waiting), report.waiting),
        ("failed", len(report.failed), [f"{e} {printable(w)}" for e, w in report.failed.items()]),
    ]
    out = console()
    out.print(f"learnt from {plural(report.events, 'event')}, of which {report.junk:.1%} are junk")
    table = Table("found", "count", "such as", box=None, pad_edge=False)
    for name, count, examples in rows:
        some = Text("\n".join(examples[:3]))
        table.add_row(name, str(count), some, style="dim" if not count else "")
    out.print(table)


def show_receipt(receipt: Receipt) -> None:
    """What an erasure took along."""
    sys.stdout.write(
        f"erased {plural(receipt.events, 'event')}, and {plural(receipt.derived, 'row')} made of"
        f" {'it' if receipt.events == 1 else 'them'},"
        f" at {shown_time(receipt.erased_at)}; receipt {receipt.id}\n"
    )
    if not receipt.scrubbed:
        sys.stdout.write(
            "another process still reads the memory as it was before, so erased bytes are still in"
            " its file: they go with the next erasure, or when the memory is opened again\n"
        )


def show_residue(residue: Sequence[Residue], looked: str) -> None:
    """Where probes were found, by their number: what they say is not shown again."""
    if not residue:
        sys.stdout.write(f"none of the words is left; looked into {looked}\n")
    for one in residue:
        sys.stdout.write(f"word {one.probe + 1} is still in: {one.where}\n")


def show_status(status: Status) -> None:
    """Counts and versions of a tenant's memory."""
    derivers = ", ".join(f"{n} {v}".strip() for n, v in status.derivers.items()) or "none yet"
    sys.stdout.write(
        f"{plural(status.events, 'event')}, {status.waiting} waiting to be derived,"
        f" {status.failed} failed, {status.size_bytes / 2**20:.1f} MiB\n"
        f"derived by: {printable(derivers)}\n"
    )
    notes = [*status.notes]
    if status.unscrubbed:
        notes.append(
            f"bytes of {plural(status.unscrubbed, 'erasure')} are still in the file: see `erase`"
        )
    sys.stdout.write("".join(f"note: {note}\n" for note in notes))
