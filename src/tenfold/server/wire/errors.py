"""OpenAI's error shape, which every failure takes."""

from __future__ import annotations

from typing import Literal

from tenfold.server.wire.base import Answer

ErrorType = Literal[
    "invalid_request_error",
    "authentication_error",
    "not_found_error",
    "rate_limit_error",
    "server_error",
    "timeout_error",
]


class ErrorDetail(Answer):
    """What is wrong (`message` ends with what to do about it) and which field is to blame."""

    message: str
    type: ErrorType
    param: str | None
    code: str | None


class ErrorResponse(Answer):
    """The body of every response with a status of 400 and above."""

    error: ErrorDetail
