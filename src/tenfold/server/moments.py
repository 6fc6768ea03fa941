"""Times as requests write them."""

from __future__ import annotations

from datetime import UTC, datetime

from tenfold.errors import InvalidRequest
from tenfold.memory.interchange import parse_time


def aware(text: str | None, param: str) -> datetime | None:
    """A moment in UTC; None for no text. Raises InvalidRequest without a time zone."""
    if not text:
        return None
    moment = parse_time(text, param)
    if moment.tzinfo is None:
        raise InvalidRequest(
            f"{param} {text!r} has no time zone", param=param, hint="2026-05-01T12:00:00+00:00"
        )
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidRequest(f"{param} {text!r} is no time in UTC", param=param) from None
