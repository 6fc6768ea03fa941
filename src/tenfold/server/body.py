"""Reading request bodies: size and time limits, strict JSON, nothing the engine could choke on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from tenfold.server.errors import CLIENT_LEFT, Refusal
from tenfold.server.settings import ServerSettings


class JsonRequest(Request):
    """A request whose body is read within limits and parsed without leniency."""

    limits: ServerSettings

    async def body(self) -> bytes:
        """The whole body. Raises Refusal (408, 413, 415) instead of waiting or swelling."""
        if not hasattr(self, "_body"):
            self._check_headers()
            try:
                async with asyncio.timeout(self.limits.body_timeout_s):
                    self._body = await self._read()
            except TimeoutError:
                raise Refusal(
                    408,
                    "the body did not arrive in time (is Content-Length right?)",
                    code="body_timeout",
                    headers={"Connection": "close"},
                ) from None
            except ClientDisconnect:
                raise Refusal(CLIENT_LEFT, "the client left", code="client_left") from None
        return self._body

    async def json(self) -> Any:
        """The parsed body."""
        return parse_json(await self.body())

    def _check_headers(self) -> None:
        # Browsers send forms and plain text anywhere without asking; JSON only with permission. So
        # this check is also what keeps other web pages from using a server on the same machine.
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refusal(
                415,
                f"the body's type is {kind or 'not given'} (send Content-Type: application/json)",
                code="unsupported_media_type",
            )
        length = self.headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length) > self.limits.max_body_bytes:
            raise self._too_large()

    async def _read(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in self.stream():
            size += len(part)
            if size > self.limits.max_body_bytes:
                raise self._too_large()
            parts.append(part)
        return b"".join(parts)

    def _too_large(self) -> Refusal:
        return Refusal(
            413,
            f"the body is larger than {self.limits.max_body_bytes} bytes (send less at once)",
            code="body_too_large",
            headers={"Connection": "close"},
        )


def json_route(limits: ServerSettings) -> type[APIRoute]:
    """A route class that reads bodies through JsonRequest."""

    class Bound(JsonRequest):
        pass

    Bound.limits = limits

    class JsonRoute(APIRoute):
        """Routes whose body, if any, is strict JSON within limits."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_strictly(request: Request) -> Response:
                return await handle(Bound(request.scope, request.receive))

            return handle_strictly

    return JsonRoute


def parse_json(body: bytes) -> Any:
    """Standard JSON only: valid UTF-8, no NaN, no number beyond 64 bits, no half surrogates.

    Raises Refusal (400) saying where it went wrong.
    """
    try:
        value = json.loads(
            body.decode("utf-8"),
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_bounded,
        )
        if b"\\ud" in body or b"\\uD" in body:
            # A lone surrogate has no UTF-8 form: no tokenizer reads it and no answer can quote it.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as e:
        raise _bad(f"the body is not valid UTF-8 (byte {e.start})") from None
    except UnicodeEncodeError:
        raise _bad("a string holds half of a surrogate pair (send whole characters)") from None
    except json.JSONDecodeError as e:
        where = f"line {e.lineno}, column {e.colno}"
        raise _bad(f"the body is not valid JSON: {e.msg} ({where})") from None
    except RecursionError:
        raise _bad("the body is nested too deeply (flatten it)") from None
    except ValueError as e:
        raise _bad(f"the body is not valid JSON: {e}") from None
    return value


def _bad(message: str) -> Refusal:
    return Refusal(400, message, code="invalid_json")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:40]} is too large")
    # JSON has one kind of number: 16.0 tokens are 16 tokens.
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _bounded(text: str) -> int:
    # Longer ones overflow in a float or in a tensor somewhere below; none is meaningful.
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise ValueError(f"the number {text[:40]} needs more than 64 bits")
    return int(text)
