from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import httpx
import pytest

from tenfold.engine.async_engine import AsyncEngine
from tenfold.engine.settings import EngineSettings
from tenfold.models.loading import LoadedModel
from tenfold.search.llm import AsyncLLM
from tenfold.server.app import create_app
from tenfold.server.run import build_server
from tenfold.server.settings import ServerSettings

from .models import TOOL_TEMPLATE, Script, ScriptedEngine, tiny_model


@pytest.fixture(scope="session")
def model() -> Iterator[LoadedModel]:
    made = tiny_model()
    yield made
    assert made.chat_template is not None
    made.chat_template.close()


@pytest.fixture(scope="session")
def tool_model() -> Iterator[LoadedModel]:
    made = tiny_model(TOOL_TEMPLATE)
    yield made
    assert made.chat_template is not None
    made.chat_template.close()


Scripted = Callable[..., AsyncLLM]


@pytest.fixture
def scripted(model: LoadedModel) -> Scripted:
    """An AsyncLLM whose engine follows a script."""

    def make(script: Script | None = None, of: LoadedModel = model) -> AsyncLLM:
        engine = ScriptedEngine(of.tokenizer, script or Script())
        return AsyncLLM(of, cast(AsyncEngine, engine))

    return make


@pytest.fixture(scope="session")
def real_llm(model: LoadedModel) -> Iterator[AsyncLLM]:
    """The real engine on a tiny random model."""
    llm = AsyncLLM(model, AsyncEngine.for_model(model, EngineSettings(kv_blocks=512)))
    yield llm
    asyncio.run(llm.close())


@asynccontextmanager
async def client_of(
    llm: AsyncLLM, settings: ServerSettings | None = None, **headers: str
) -> AsyncIterator[httpx.AsyncClient]:
    """An in-process client; the app's own errors are not raised but answered, as over a socket."""
    transport = httpx.ASGITransport(create_app(llm, settings), raise_app_exceptions=False)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://test", headers=headers, timeout=30
    ) as client:
        yield client


@contextmanager
def running(llm: AsyncLLM, settings: ServerSettings | None = None) -> Iterator[str]:
    """A real server on a free port of this machine; yields its address."""
    addresses: list[str] = []
    up = threading.Event()

    def ready(address: str) -> None:
        addresses.append(address)
        up.set()

    server = build_server(llm, settings, port=0, ready=ready)
    thread = threading.Thread(target=lambda: asyncio.run(server.run_here()))
    thread.start()
    try:
        assert up.wait(20)
        yield addresses[0]
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def ask(text: str = "Hi", **more: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], **more}


def events_of(body: str) -> list[Any]:
    """The data of an event stream, read by the rules of the WHATWG standard; comments dropped."""
    found: list[Any] = []
    for block in body.split("\n\n"):
        data = []
        for line in block.split("\n"):
            assert line == "" or line.startswith((":", "data: ")), line
            if line.startswith("data: "):
                data.append(line.removeprefix("data: "))
        if data:
            text = "\n".join(data)
            found.append(text if text == "[DONE]" else json.loads(text))
    return found
