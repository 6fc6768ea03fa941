"""Every failure as an HTTP status and OpenAI's error body."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import Response

from tenfold.errors import (
    BackendUnavailable,
    DeadlineExceeded,
    EngineError,
    InvalidRequest,
    MissingExtra,
    Overloaded,
    PromptTooLong,
    TemplateError,
    TenfoldError,
    UnknownName,
)
from tenfold.memory.store import StoreError
from tenfold.server.wire.errors import ErrorDetail, ErrorResponse, ErrorType

log = logging.getLogger("tenfold.server")

CLIENT_LEFT = 499  # not in the RFC; nobody is there to read it, it only shows in logs and metrics
RETRY_AFTER = {"Retry-After": "1"}

_TYPES: Mapping[int, ErrorType] = {
    401: "authentication_error",
    403: "authentication_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
}


class Refusal(HTTPException):
    """A request turned away before any work: status, message with its hint, param and code.

    An HTTPException, so that it also passes through the framework's own body parsing unchanged.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail=message, headers=headers)
        self.param = param
        self.code = code


@dataclass(frozen=True, slots=True)
class Failure:
    """A status with its error body."""

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] | None = None

    def body(self) -> dict[str, Any]:
        """The JSON body, validated against the documented shape."""
        kind = _TYPES.get(
            self.status, "server_error" if self.status >= 500 else "invalid_request_error"
        )
        detail = ErrorDetail(message=self.message, type=kind, param=self.param, code=self.code)
        return ErrorResponse(error=detail).json_ready()

    def response(self) -> JSONResponse:
        """The HTTP response."""
        return JSONResponse(self.body(), self.status, headers=self.headers)


def failure_of(error: BaseException) -> Failure:
    """The failure that `error` is to a client. Unexpected errors are logged, not shown."""
    if isinstance(error, InvalidRequest):
        return _invalid(error)
    if isinstance(error, TenfoldError):
        return _tenfold(error)
    if isinstance(error, RequestValidationError):
        return _validation(error.errors())
    if isinstance(error, StarletteHTTPException):
        return _http(error)
    log.error("unexpected error", exc_info=error)
    return Failure(
        500, "the server failed on this request (its log says why)", code="internal_error"
    )


def _invalid(error: InvalidRequest) -> Failure:
    if isinstance(error, UnknownName) and error.kind == "model":
        return Failure(404, str(error), error.param, "model_not_found")
    if isinstance(error, PromptTooLong):
        return Failure(400, str(error), error.param, "context_length_exceeded")
    return Failure(400, str(error), error.param, "invalid_value")


def _tenfold(error: TenfoldError) -> Failure:
    if isinstance(error, Overloaded):
        return Failure(429, str(error), code="overloaded", headers=RETRY_AFTER)
    if isinstance(error, DeadlineExceeded):
        return Failure(408, str(error), code="deadline_exceeded")
    if isinstance(error, TemplateError):
        return Failure(400, str(error), "messages", "template_error")
    if isinstance(error, BackendUnavailable | MissingExtra):
        return Failure(501, str(error), code="not_available")
    if isinstance(error, EngineError):
        # Its text may quote internals; the log has all of it.
        log.error("engine error", exc_info=error)
        return Failure(500, "the engine failed on this request (try again)", code="engine_error")
    if isinstance(error, StoreError):
        # Its text names files of this machine; the log has all of it.
        log.error("memory error", exc_info=error)
        message = "the memory cannot be used as it stands (the server's log says why)"
        return Failure(503, message, code="memory_unavailable")
    log.error("unexpected error", exc_info=error)
    return Failure(500, "the server failed on this request", code="internal_error")


def _http(error: StarletteHTTPException) -> Failure:
    if isinstance(error, Refusal):
        return Failure(error.status_code, error.detail, error.param, error.code, error.headers)
    phrase = HTTPStatus(error.status_code).phrase.lower()
    detail = error.detail if isinstance(error.detail, str) else phrase
    if error.status_code == 404:
        detail = "there is nothing at this address (GET /openapi.json lists the operations)"
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another one")
        detail = f"this address does not take that method (it takes {allowed})"
    code = phrase.replace(" ", "_")
    return Failure(error.status_code, detail, code=code, headers=error.headers)


# Pydantic marks the arms of a union by their type in `loc`; clients know only the JSON path.
_ARMS = frozenset({"str", "int", "float", "bool", "dict", "constrained-str", "none"})


def _is_arm(step: int | str) -> bool:
    return isinstance(step, str) and (step in _ARMS or "[" in step or step[:1].isupper())


def dotted(loc: Sequence[int | str]) -> str | None:
    """`("body", "messages", 0, "role")` as `messages.0.role`."""
    return ".".join(str(step) for step in loc[1:] if not _is_arm(step)) or None


def _meant(errors: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The first error; in a union, the first of the arm that came furthest with fewest errors."""
    loc = errors[0]["loc"]
    at = next((i for i, step in enumerate(loc) if _is_arm(step)), None)
    if at is None:
        return errors[0]
    arms: defaultdict[int | str, list[Mapping[str, Any]]] = defaultdict(list)
    for error in errors:
        if error["loc"][:at] == loc[:at] and len(error["loc"]) > at:
            arms[error["loc"][at]].append(error)
    best = max(arms.values(), key=lambda arm: (max(len(e["loc"]) for e in arm), -len(arm)))
    return best[0]


def _validation(errors: Sequence[Mapping[str, Any]]) -> Failure:
    best = _meant(errors)
    param = dotted(best["loc"])
    text = str(best["msg"])
    if best["type"] == "unknown_field":
        field = str(best["ctx"]["field"])
        return Failure(400, text, f"{param}.{field}" if param else field, "unknown_field")
    if best["loc"] == ("body",):
        message = "the request needs a JSON object as its body"
        return Failure(400, message, None, "invalid_body")
    if best["type"] == "unsupported_content":
        return Failure(400, text, param, "unsupported_content")
    text = f"{param}: {text[:1].lower()}{text[1:]}"
    code = "missing_field" if best["type"] == "missing" else "invalid_value"
    return Failure(400, text, param, code)


def install(app: FastAPI) -> None:
    """Makes `app` answer every failure in this shape."""

    async def handle(_: Request, error: Exception) -> Response:
        return failure_of(error).response()

    for kind in (TenfoldError, RequestValidationError, StarletteHTTPException):
        app.add_exception_handler(kind, handle)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error responses of an operation, for its OpenAPI description."""
    return {
        status: {"model": ErrorResponse, "description": HTTPStatus(status).phrase}
        for status in sorted(statuses)
    }


READS = documented(400, 401, 403, 404, 405, 500, 503)
GENERATES = documented(400, 401, 403, 404, 405, 408, 413, 415, 429, 500, 501, 503)
