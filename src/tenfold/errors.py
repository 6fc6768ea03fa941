"""Errors a user can meet. Each says what is wrong and, in `hint`, what to do about it.

TenfoldError
├── InvalidRequest        a value the caller gave is wrong (HTTP 400; `param` names it)
│   ├── PromptTooLong     the prompt does not fit the model's context
│   └── UnknownName       no such model, strategy, reward, backend (HTTP 404 for models)
├── CheckpointError       a model folder that cannot be read: missing, wrong, unsafe
├── TemplateError         a chat template that fails, loops or reaches outside its sandbox
├── BackendUnavailable    a backend was asked for that cannot run here
├── MissingExtra          an optional dependency is not installed
├── Overloaded            queue or KV memory is full (HTTP 429)
├── DeadlineExceeded      the request's time is over and there is no answer yet (HTTP 408)
└── EngineError           a request died inside the engine; others go on (HTTP 500)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TenfoldError(Exception):
    """Base of all errors meant for users; `str(error)` is the message followed by the hint."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InvalidRequest(TenfoldError):
    """The caller's input is wrong; `param` is its dotted name, such as `decode.alpha`."""

    def __init__(self, message: str, *, param: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.param = param


class PromptTooLong(InvalidRequest):
    """The prompt leaves no room for an answer in the model's context."""


class UnknownName(InvalidRequest):
    """A name that is not registered; the message lists the known ones and the nearest."""

    def __init__(
        self, kind: str, name: str, known: Iterable[str], *, param: str | None = None
    ) -> None:
        self.known = sorted(known)
        self.kind = kind
        near = difflib.get_close_matches(name, self.known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        listed = ", ".join(self.known) or "none"
        super().__init__(f"unknown {kind} {name!r}", param=param, hint=f"{hint}known: {listed}")


class CheckpointError(TenfoldError):
    """A checkpoint that cannot be loaded as it stands."""


class TemplateError(TenfoldError):
    """A chat template that cannot be rendered."""


class BackendUnavailable(TenfoldError):
    """A requested backend cannot run on this machine; nothing is chosen in its place."""


class MissingExtra(TenfoldError):
    """An optional dependency is missing; the hint is the line that installs it."""


class Overloaded(TenfoldError):
    """The server has no room for this request now."""


class DeadlineExceeded(TenfoldError):
    """The time allowed for the request is over before any answer existed."""


class EngineError(TenfoldError):
    """A request failed inside the engine; other requests are unaffected."""
