"""The outermost layer: security headers, the Host check, one log line a request, no bare 500."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tenfold.server.errors import CLIENT_LEFT, Failure, failure_of
from tenfold.server.metrics import Metrics

log = logging.getLogger("tenfold.server")

# The playground is one bundle from this origin.
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; media-src 'self' blob:; worker-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Edge:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp, metrics: Metrics, allowed_hosts: Sequence[str]) -> None:
        self.app = app
        self.metrics = metrics
        self.allowed_hosts = frozenset(h.lower() for h in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.monotonic()
        request_id = f"req-{uuid.uuid4().hex[:16]}"
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                # The page's files keep their names between versions: browsers must ask again.
                api = scope["path"].startswith("/v1/")
                headers.setdefault("Cache-Control", "no-store" if api else "no-cache")
            await send(message)

        try:
            if not self._host_allowed(scope):
                failure = Failure(403, "this Host is not served here", code="host_not_allowed")
                await failure.response()(scope, receive, send_with_headers)
            else:
                await self.app(scope, receive, send_with_headers)
        except Exception as e:
            if status:  # too late for an answer; the connection is closed by whoever called us
                log.error("request %s failed after its headers were sent", request_id, exc_info=e)
                raise
            await failure_of(e).response()(scope, receive, send_with_headers)
        finally:
            self._note(scope, status or CLIENT_LEFT, time.monotonic() - began, request_id)

    def _host_allowed(self, scope: Scope) -> bool:
        """A page that rebinds its DNS name to loopback still sends its own name as Host."""
        if not self.allowed_hosts:
            return True
        host = Headers(scope=scope).get("host", "").lower()
        name = host.rpartition(":")[0] if ":" in host.rpartition("]")[2] else host
        return name.strip("[]") in self.allowed_hosts

    def _note(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route = scope.get("route")
        # Only known routes become labels: made-up paths must not grow the metrics.
        path = getattr(route, "path", None) or "other"
        self.metrics.requests.labels(path, str(status)).inc()
        # The path, never the query, headers or body: prompts and keys stay out of logs.
        log.info(
            "%s %s %s %d %.0fms", request_id, scope["method"], scope["path"], status, seconds * 1e3
        )
