from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tenfold.errors import EngineError
from tenfold.search.llm import AsyncLLM
from tenfold.server.settings import ServerSettings

from .conftest import Scripted, ask, client_of, events_of, running
from .models import Script

CHAT = "/v1/chat/completions"
LONG = "word " * 400


def connect(address: str) -> socket.socket:
    parts = urlsplit(address)
    assert parts.hostname
    assert parts.port
    return socket.create_connection((parts.hostname, parts.port), timeout=10)


def post(body: dict[str, Any], path: str = CHAT) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def wait_until(condition: Any, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def blocks(llm: AsyncLLM) -> int:
    return llm.stats().occupancy.blocks_used


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
def test_a_client_who_leaves_frees_its_blocks(scripted: Scripted, stream: bool, path: str) -> None:
    llm = scripted(Script(answers=[LONG], per_step=1, delay_s=0.02))
    body = ask(stream=stream, n=3, max_tokens=1000)
    if path != CHAT:
        body = {"prompt": ["a", "b"], "stream": stream, "max_tokens": 1000}
    with running(llm) as address:
        with connect(address) as sock:
            sock.sendall(post(body, path))
            wait_until(lambda: blocks(llm) >= 2)
            if stream:
                assert b"200 OK" in sock.recv(4096)
        wait_until(lambda: blocks(llm) == 0)
        assert httpx.get(address + "/health").json()["status"] == "ok"


def test_half_a_body_is_let_go(scripted: Scripted) -> None:
    whole = post(ask())
    with running(scripted(), ServerSettings(body_timeout_s=0.3)) as address:
        with connect(address) as sock:
            sock.sendall(whole[:-10])
            answer = sock.recv(65536)
            assert b" 408 " in answer.splitlines()[0]
        with connect(address) as sock:  # leaves in the middle of its body
            sock.sendall(whole[:-10])
        assert httpx.post(address + CHAT, json=ask()).status_code == 200


def test_a_slow_reader_holds_back_only_itself(scripted: Scripted) -> None:
    llm = scripted(Script(answers=["x" * 200_000], per_step=500))
    settings = ServerSettings(max_ms=1500, grace_s=0.2)
    with running(llm, settings) as address, connect(address) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(post(ask(stream=True)))
        wait_until(lambda: blocks(llm) == 1)
        assert httpx.get(address + "/health", timeout=5).status_code == 200
        wait_until(lambda: blocks(llm) == 0)


async def test_an_error_after_the_first_chunk_ends_a_valid_stream(scripted: Scripted) -> None:
    llm = scripted(Script(fail_after=2))
    async with client_of(llm) as http:
        response = await http.post(CHAT, json=ask(stream=True))
    assert response.status_code == 200
    *events, error, done = events_of(response.text)
    assert done == "[DONE]"
    assert len(events) == 3
    assert error["error"]["type"] == "server_error"
    assert "secret" not in response.text
    assert blocks(llm) == 0


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("error", [RuntimeError("secret"), EngineError("secret")])
async def test_an_error_before_the_first_chunk_is_a_status(
    scripted: Scripted, error: Exception, stream: bool
) -> None:
    llm = scripted(Script(fail_after=0, error=lambda: error))
    async with client_of(llm) as http:
        response = await http.post(CHAT, json=ask(stream=stream))
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "server_error"
    assert "secret" not in response.text
    assert blocks(llm) == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_a_full_engine_says_so(scripted: Scripted, stream: bool) -> None:
    async with client_of(scripted(Script(full=True))) as http:
        response = await http.post(CHAT, json=ask(stream=stream))
    assert response.status_code == 429
    assert response.json()["error"]["type"] == "rate_limit_error"
    assert int(response.headers["retry-after"]) >= 1


async def test_a_full_queue_says_so(scripted: Scripted) -> None:
    llm = scripted(Script(answers=[LONG], delay_s=0.05))
    settings = ServerSettings(max_running=1, max_waiting=1, max_ms=700)
    async with client_of(llm, settings) as http:
        tasks = [asyncio.create_task(http.post(CHAT, json=ask())) for _ in range(3)]
        statuses = sorted(r.status_code for r in await asyncio.gather(*tasks))
        stats = (await http.get("/v1/stats")).json()
    # One is answered with the best so far, one waits until its own time is over.
    assert statuses == [200, 408, 429]
    assert stats["sequences"]["waiting"] == 0


async def test_a_silent_stream_is_kept_alive(scripted: Scripted) -> None:
    llm = scripted(Script(answers=["a", "b"], delay_s=0.4))
    body = ask(stream=True, decode={"strategy": "best_of_n", "n": 2})
    async with client_of(llm, ServerSettings(keep_alive_s=0.1)) as http:
        response = await http.post(CHAT, json=body)
    assert response.text.startswith(": keep-alive\n\n")
    assert events_of(response.text)[-1] == "[DONE]"


async def test_the_deadline_returns_the_best_so_far(scripted: Scripted) -> None:
    llm = scripted(Script(answers=[LONG], delay_s=0.03))
    body = ask(decode={"strategy": "best_of_n", "n": 2, "budget": {"ms": 300}})
    async with client_of(llm) as http:
        answer = (await http.post(CHAT, json=body)).json()
        stream = await http.post(CHAT, json=body | {"stream": True})
    assert answer["decode"]["stopped_by"] == "deadline"
    assert answer["decode"]["budget"] == {"tokens": None, "ms": 300}
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["choices"][0]["message"]["content"].startswith("word")
    assert events_of(stream.text)[-2]["choices"][0]["finish_reason"] == "length"
    assert blocks(llm) == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_a_hanging_engine_hangs_nobody(scripted: Scripted, stream: bool) -> None:
    llm = scripted(Script(hang=True))
    async with client_of(llm, ServerSettings(max_ms=200, grace_s=0.2)) as http:
        response = await http.post(CHAT, json=ask(stream=stream))
    assert response.status_code == 408
    assert response.json()["error"]["type"] == "timeout_error"
    assert blocks(llm) == 0


async def test_the_token_budget_is_a_length(scripted: Scripted) -> None:
    llm = scripted(Script(answers=[LONG]))
    async with client_of(llm) as http:
        answer = (await http.post(CHAT, json=ask(decode={"budget": {"tokens": 10}}))).json()
    assert answer["decode"]["stopped_by"] == "budget"
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 10
