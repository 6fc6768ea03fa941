"""Which backend runs an operation.

Backends of an operation are tried in the order of their rank. An implementation declines by
calling `decline(reason)` and returning None; when all have declined, the error tells who and why. A
backend that was asked for by name is the only one tried: nothing is chosen in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from tenfold.errors import BackendUnavailable, UnknownName

_reason: ContextVar[str | None] = ContextVar("decline_reason", default=None)


def decline(reason: str) -> None:
    """Says why; the implementation then returns None."""
    _reason.set(reason)


@dataclass(frozen=True, slots=True)
class Backend:
    """One implementation of one operation.

    `absent()` says why it cannot run on this machine at all, or None when it can. `load()` returns
    the function and is called once, when the backend is first tried.
    """

    op: str
    name: str
    load: Callable[[], Callable[..., Any]]
    absent: Callable[[], str | None]
    rank: int  # higher is tried first


@dataclass(frozen=True, slots=True)
class BackendReport:
    """One line of `tenfold doctor`."""

    op: str
    backend: str
    available: bool
    reason: str | None  # why not
    picked: bool  # tried first when nothing else is asked for


_BACKENDS: dict[str, dict[str, Backend]] = {}
_LOADED: dict[tuple[str, str], Callable[..., Any]] = {}


def register(
    op: str,
    backend: str,
    load: Callable[[], Callable[..., Any]],
    *,
    absent: Callable[[], str | None] = lambda: None,
    rank: int = 0,
) -> None:
    """Adds an implementation of `op`; raises ValueError when the pair is taken."""
    entries = _BACKENDS.setdefault(op, {})
    if backend in entries:
        raise ValueError(f"{op} has a backend {backend!r} already")
    entries[backend] = Backend(op, backend, load, absent, rank)


def ops() -> list[str]:
    """Names of all operations that have a backend."""
    return sorted(_BACKENDS)


def _candidates(op: str, backend: str | None) -> list[Backend]:
    if op not in _BACKENDS:
        raise UnknownName("operation", op, _BACKENDS)
    entries = _BACKENDS[op]
    if backend is None or backend == "auto":
        return sorted(entries.values(), key=lambda b: (-b.rank, b.name))
    if backend not in entries:
        raise UnknownName(f"backend of {op}", backend, ["auto", *entries])
    return [entries[backend]]


def backends(op: str) -> list[BackendReport]:
    """The backends of `op`, the first choice first, for `tenfold doctor`."""
    reports: list[BackendReport] = []
    taken = False
    for b in _candidates(op, None):
        reason = b.absent()
        picked = reason is None and not taken
        taken = taken or picked
        reports.append(BackendReport(op, b.name, reason is None, reason, picked))
    return reports


def call(op: str, *args: Any, backend: str | None = None) -> Any:
    """The first answer that is not None; `backend` None or "auto" tries all.

    Raises BackendUnavailable with one line per backend that declined or cannot run here, and
    UnknownName for an operation or backend that does not exist.
    """
    declined: list[str] = []
    for b in _candidates(op, backend):
        reason = b.absent()
        if reason is None:
            answer = _function(b)(*args)
            if answer is not None:
                return answer
            reason = _reason.get() or "declined without a reason"
            _reason.set(None)
        declined.append(f"{b.name}: {reason}")
    wanted = "" if backend in (None, "auto") else f" with backend {backend!r}"
    raise BackendUnavailable(
        f"{op} cannot run{wanted}; " + "; ".join(declined),
        hint="`tenfold doctor` lists the backends of every operation",
    )


def _function(b: Backend) -> Callable[..., Any]:
    key = (b.op, b.name)
    if key not in _LOADED:
        _LOADED[key] = b.load()
    return _LOADED[key]
