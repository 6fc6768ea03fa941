from __future__ import annotations

import json
import logging
from pathlib import Path

import httpx
import pytest

from tenfold.errors import InvalidRequest
from tenfold.server.auth import key_matches
from tenfold.server.run import build_server, check_exposure
from tenfold.server.settings import ServerSettings

from .conftest import Scripted, ask, client_of, running
from .models import Script
from .test_lifetime import connect

CHAT = "/v1/chat/completions"
KEYS = ServerSettings(api_keys=("first-key", "second-këy"))


@pytest.mark.parametrize("key", [None, "wrong", "first-key ", "first-ke", ""])
async def test_without_a_known_key_nothing_is_served(scripted: Scripted, key: str | None) -> None:
    llm = scripted()
    headers = {} if key is None else {"Authorization": f"Basic {key}" if key else "Bearer"}
    async with client_of(llm, KEYS) as http:
        for path in ("/v1/models", "/v1/stats", "/metrics", "/openapi.json", "/v1/nothing"):
            response = await http.get(path, headers=headers)
            assert response.status_code == 401
            assert response.json()["error"]["type"] == "authentication_error"
        response = await http.post(CHAT, content=b"{", headers=headers)
        assert response.status_code == 401
        assert (await http.get("/health")).status_code == 200


async def test_any_of_the_keys_opens(scripted: Scripted) -> None:
    async with client_of(scripted(), KEYS) as http:
        good = await http.get("/v1/models", headers={"Authorization": "Bearer first-key"})
        bad = await http.get("/v1/models", headers={"Authorization": "Bearer first-key2"})
    assert (good.status_code, bad.status_code) == (200, 401)
    assert key_matches("second-këy", KEYS.api_keys)


@pytest.mark.parametrize("path", ["/", "/health"])
async def test_health_checkers_may_send_head(scripted: Scripted, path: str) -> None:
    for settings in (ServerSettings(), KEYS):
        async with client_of(scripted(), settings) as http:
            response = await http.head(path)
            assert response.status_code == 200, response.text


def test_what_is_no_http_is_refused_as_everything_else(scripted: Scripted) -> None:
    with running(scripted()) as address:
        for rubbish in (b"HELLO\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\r\n\r\n"):
            with connect(address) as sock:
                sock.sendall(rubbish)
                answer = b"".join(iter(lambda: sock.recv(4096), b""))
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 400 Bad Request")
            assert b"content-type: application/json" in head.lower()
            error = json.loads(body)["error"]
            assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_http")
        assert httpx.get(address + "/health").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2"])
def test_an_open_server_is_not_bound_beyond_loopback(scripted: Scripted, host: str) -> None:
    with pytest.raises(InvalidRequest, match="API key"):
        build_server(scripted(), host=host, port=0)
    check_exposure(host, KEYS)
    check_exposure(host, ServerSettings(allow_unauthenticated=True))


def test_a_taken_port_is_a_clear_error(scripted: Scripted) -> None:
    first = build_server(scripted(), port=0)
    try:
        with pytest.raises(InvalidRequest, match="another: --port"):
            build_server(scripted(), port=first.bound.getsockname()[1])
    finally:
        first.bound.close()


def test_a_rebound_name_is_refused(scripted: Scripted) -> None:
    with running(scripted()) as address:
        evil = httpx.get(address + "/v1/models", headers={"Host": "evil.example:80"})
        good = httpx.get(address + "/v1/models", headers={"Host": "localhost:1234"})
    assert evil.status_code == 403
    assert evil.json()["error"]["code"] == "host_not_allowed"
    assert good.status_code == 200


async def test_cors_is_off_unless_listed(scripted: Scripted) -> None:
    ask_first = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    async with client_of(scripted()) as http:
        off = await http.options(CHAT, headers=ask_first)
    settings = ServerSettings(cors_origins=("https://app.example",), api_keys=("k",))
    async with client_of(scripted(), settings) as http:
        on = await http.options(CHAT, headers=ask_first)
        other = await http.options(CHAT, headers=ask_first | {"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in off.headers
    assert on.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-origin" not in other.headers


async def test_every_answer_carries_security_headers(scripted: Scripted) -> None:
    async with client_of(scripted()) as http:
        for response in (
            await http.get("/health"),
            await http.get("/nothing"),
            await http.post(CHAT, json=ask(stream=True)),
            await http.post(CHAT, content=b"{"),
        ):
            assert "default-src 'none'" in response.headers["content-security-policy"]
            assert response.headers["x-content-type-options"] == "nosniff"
            assert response.headers["x-request-id"].startswith("req-")


async def test_the_playground_is_open_and_the_api_is_not(
    scripted: Scripted, tmp_path: Path
) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html><title>tenfold</title>")
    (tmp_path / "favicon.svg").write_text("<svg/>")
    (tmp_path / "assets" / "main.js").write_text("1")
    settings = ServerSettings(static_folder=tmp_path, api_keys=("k",))
    async with client_of(scripted(), settings) as http:
        page = await http.get("/")
        script = await http.get("/assets/main.js")
        assert page.headers["content-type"].startswith("text/html")
        assert "javascript" in script.headers["content-type"]
        assert (await http.get("/favicon.svg")).status_code == 200
        assert (await http.head("/")).status_code == 200
        assert (await http.head("/health")).status_code == 200
        assert (await http.get("/assets/../index.html")).status_code in (200, 404)
        assert (await http.get("/assets/%2e%2e/%2e%2e/etc/passwd")).status_code == 404
        assert (await http.get("/assets/none.js")).json()["error"]["type"] == "not_found_error"
        assert (await http.get("/v1/models")).status_code == 401


async def test_prompts_and_keys_stay_out_of_the_log(
    scripted: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="tenfold")
    settings = ServerSettings(api_keys=("sesame-key",))
    llm = scripted(Script(answers=["parrot"]))
    async with client_of(llm, settings, Authorization="Bearer sesame-key") as http:
        await http.post(CHAT + "?q=walnut", json=ask("walnut"))
        await http.post(CHAT, json=ask("walnut", temperature="walnut"))
    assert "POST /v1/chat/completions 200" in caplog.text
    for secret in ("walnut", "sesame", "parrot"):
        assert secret not in caplog.text
