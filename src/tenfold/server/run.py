"""Serving on a socket: who may connect, where we listen, how we stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import uvicorn

from tenfold.errors import InvalidRequest
from tenfold.search.llm import AsyncLLM
from tenfold.server.app import create_app
from tenfold.server.protocol import Protocol
from tenfold.server.settings import LOOPBACK, ServerSettings

log = logging.getLogger("tenfold.server")

_BACKLOG = 2048  # connections the system holds until we accept them

Ready = Callable[[str], None]


class TenfoldServer(uvicorn.Server):
    """A uvicorn server that says where it listens once it does."""

    def __init__(self, config: uvicorn.Config, bound: socket.socket, ready: Ready | None) -> None:
        super().__init__(config)
        self.bound = bound
        self._ready = ready

    @property
    def address(self) -> str:
        """The URL to open; the port is the real one even when 0 was asked for."""
        host, port = self.bound.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts listening, then calls back."""
        await super().startup(sockets)
        if self.started and self._ready is not None:
            self._ready(self.address)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stops on Ctrl-C and SIGTERM. Unlike uvicorn's own, it does not raise them again once the
        server has stopped: closing the engine comes after, and a stop that went well is no error.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {s: signal.signal(s, self.handle_exit) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def run_here(self) -> None:
        """Serves until told to stop, then lets running requests finish for a while."""
        try:
            await self.serve(sockets=[self.bound])
        finally:
            self.bound.close()


def check_exposure(host: str, settings: ServerSettings) -> None:
    """Raises InvalidRequest when strangers could use the server."""
    if host in LOOPBACK or host.startswith("127."):
        return
    if not settings.api_keys and not settings.allow_unauthenticated:
        raise InvalidRequest(
            f"{host} can be reached from other machines, and there is no API key",
            param="host",
            hint="set --api-key (or TENFOLD_API_KEY), stay on 127.0.0.1, or say "
            "--allow-unauthenticated",
        )


def build_server(
    llm: AsyncLLM,
    settings: ServerSettings | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    ready: Ready | None = None,
) -> TenfoldServer:
    """A server bound to its address but not yet serving.

    Raises InvalidRequest for an address that cannot be had or that would expose an open server.
    """
    chosen = settings or ServerSettings()
    check_exposure(host, chosen)
    if host in LOOPBACK and not chosen.api_keys and not chosen.allowed_hosts:
        # A web page can make its own name resolve to this machine, but cannot hide that name.
        chosen = replace(chosen, allowed_hosts=LOOPBACK)
    app = create_app(llm, chosen)
    config = uvicorn.Config(
        app,
        http=Protocol,
        log_config=None,  # the command line decides where logs go
        access_log=False,  # `edge` writes one line a request, without the query
        server_header=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=max(1, round(chosen.shutdown_s)),
    )
    return TenfoldServer(config, _bind(host, port), ready)


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(_BACKLOG)  # now, because a port is taken only by who listens on it
        except BaseException:
            bound.close()
            raise
    except (OSError, OverflowError) as e:
        raise InvalidRequest(
            f"cannot listen on {host}:{port}: {e}",
            param="port",
            hint="try another: --port N, with make: ARGS='--port N'",
        ) from None
    bound.set_inheritable(True)
    return bound


def serve(
    llm: AsyncLLM,
    settings: ServerSettings | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    ready: Ready | None = None,
) -> None:
    """Serves until interrupted, then closes the engine. `ready` gets the address (port 0 allowed).

    Raises InvalidRequest as `build_server` does.
    """
    server = build_server(llm, settings, host=host, port=port, ready=ready)
    app: Any = server.config.app

    async def until_stopped() -> None:
        try:
            await server.run_here()
        finally:
            app.state.context.close()
            await llm.close()

    asyncio.run(until_stopped())
