"""API keys: checked before anything else of a request is read."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from tenfold.server.errors import Failure

# The playground has to load before it can ask for a key, and health checks carry none.
_PROTECTED = ("/v1", "/metrics", "/openapi.json")


def protected(path: str) -> bool:
    """Whether the path needs a key."""
    return any(path == p or path.startswith(p + "/") for p in _PROTECTED)


def key_matches(given: str, keys: Sequence[str]) -> bool:
    """Compares with every key, in a time that does not depend on which one it is nearest to."""
    found = False
    for key in keys:
        found |= hmac.compare_digest(given.encode(), key.encode())
    return found


def bearer(headers: Headers) -> str:
    """The key of a request, "" where it has none."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


class ApiKeys:
    """ASGI middleware that lets nobody without a key through to protected paths."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self.app = app
        self.keys = tuple(keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and protected(scope["path"]):
            given = bearer(Headers(scope=scope))
            if not key_matches(given, self.keys):
                what = "is not known here" if given else "is missing"
                failure = Failure(
                    401,
                    f"the API key {what} (send Authorization: Bearer KEY)",
                    code="invalid_api_key",
                    headers={"WWW-Authenticate": "Bearer"},
                )
                await failure.response()(scope, receive, send)
                return
        await self.app(scope, receive, send)
