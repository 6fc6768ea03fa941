"""/v1/memory/*: what it does, and that nobody gets at what is not theirs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tenfold.errors import InvalidRequest
from tenfold.memory.memory import CATCH_UP, Memory
from tenfold.memory.store import StoreError
from tenfold.server.app import create_app
from tenfold.server.memories import Memories
from tenfold.server.settings import MemorySettings, Owner, ServerSettings

from .conftest import Scripted, ask, client_of

EVENTS, SEARCH, ERASE = "/v1/memory/events", "/v1/memory/search", "/v1/memory/erase"
HOME = "I live in Porto."
BOATS = "My sister paints boats in the harbour."


def settings(folder: Path, *keys: str, **more: Any) -> ServerSettings:
    memory = MemorySettings(folder, embedder="words", **more)
    return ServerSettings(memory=memory, api_keys=keys)


@asynccontextmanager
async def serving(scripted: Scripted, chosen: ServerSettings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(scripted(), chosen)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            yield http
    finally:
        app.state.context.close()


def key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


async def add(http: httpx.AsyncClient, *texts: str, headers: Any = None, **more: Any) -> list[Any]:
    body = {"events": [{"text": text, **more} for text in texts]}
    response = await http.post(EVENTS, json=body, headers=headers)
    assert response.status_code == 200, response.text
    return response.json()["data"]


async def texts(http: httpx.AsyncClient, headers: Any = None, **params: Any) -> list[str]:
    response = await http.get(EVENTS, params=params, headers=headers)
    assert response.status_code == 200, response.text
    return [event["text"] for event in response.json()["data"]]


def files(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


async def failure(response: httpx.Response, status: int) -> tuple[str | None, str | None, str]:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    return error["code"], error["param"], error["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", EVENTS),
        ("GET", EVENTS),
        ("POST", SEARCH),
        ("POST", ERASE),
        ("GET", "/v1/memory/facts"),
        ("GET", "/v1/memory/audit"),
        ("GET", "/v1/memory/status"),
    ],
)
async def test_without_a_folder_every_operation_says_how_to_switch_memory_on(
    scripted: Scripted, method: str, path: str
) -> None:
    bodies = {EVENTS: {"events": [{"text": "x"}]}, SEARCH: {"query": "x"}, ERASE: {"ids": []}}
    async with client_of(scripted()) as http:
        response = await http.request(method, path, json=bodies.get(path))
    code, _, message = await failure(response, 404)
    assert code == "memory_off"
    assert "tenfold serve --memory FOLDER" in message


async def test_what_is_added_is_listed_found_and_believed(
    scripted: Scripted, tmp_path: Path
) -> None:
    async with serving(scripted, settings(tmp_path)) as http:
        made = await add(http, HOME, BOATS, conversation="tea", valid_at="2026-05-01T10:00+02:00")
        assert [e["author"] for e in made] == ["me", "me"]
        assert made[0]["valid_at"] == "2026-05-01T08:00:00+00:00"
        listed = (await http.get(EVENTS, params={"conversation": "tea"})).json()
        assert listed == {"object": "list", "data": made}
        assert await texts(http, limit=1) == [BOATS]
        assert await texts(http, until="2026-05-01T08:00Z") == []
        found = (await http.post(SEARCH, json={"query": "the sister's boats", "k": 1})).json()
        (hit,) = found["data"]
        assert hit["event"] == made[1]
        assert sum(hit["parts"].values()) == pytest.approx(hit["score"])
        facts = (await http.get("/v1/memory/facts", params={"subject": "me"})).json()["data"]
        assert [(f["predicate"], f["object"], f["events"]) for f in facts] == [
            ("lives in", "Porto", [made[0]["id"]])
        ]
        status = (await http.get("/v1/memory/status")).json()
        assert (status["events"], status["waiting"], status["failed"]) == (2, 0, 0)
        report = (await http.get("/v1/memory/audit")).json()
        assert (report["events"], report["secrets"], report["failed"]) == (2, [], {})


async def test_messages_are_remembered_as_a_conversation(
    scripted: Scripted, tmp_path: Path
) -> None:
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": HOME}, "?"]},
        {"role": "assistant", "content": "Noted."},
    ]
    async with serving(scripted, settings(tmp_path)) as http:
        body: dict[str, Any] = {"messages": chat}
        response = await http.post(EVENTS, json=body)
        assert (await failure(response, 400))[1] == "conversation"
        await http.post(EVENTS, json=body | {"conversation": "tea", "scope": "shared"})
        listed = (await http.get(EVENTS)).json()["data"]
    assert [(e["role"], e["text"], e["scope"]) for e in listed] == [
        ("user", HOME, "shared"),
        ("assistant", "Noted.", "shared"),
    ]


async def test_an_erasure_leaves_a_receipt_and_nothing_else(
    scripted: Scripted, tmp_path: Path
) -> None:
    async with serving(scripted, settings(tmp_path)) as http:
        await add(http, BOATS, conversation="tea")
        await add(http, HOME)
        await http.post(SEARCH, json={"query": "boats"})
        receipt = (await http.post(ERASE, json={"conversation": "tea"})).json()
        assert (receipt["events"], receipt["selection"]) == (1, {"conversation": "given"})
        assert await texts(http) == [HOME]
        found = (await http.post(SEARCH, json={"query": "harbour"})).json()
        assert BOATS not in [hit["event"]["text"] for hit in found["data"]]
        response = await http.post(ERASE, json={"conversation": "tea"})
        assert "no event" in (await failure(response, 400))[2]
    assert b"harbour" not in files(tmp_path)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (EVENTS, {}, "events"),
        (EVENTS, {"events": []}, "events"),
        (EVENTS, {"events": [{"text": "x"}], "messages": [{}]}, "events"),
        (EVENTS, {"events": [{"text": "a"}, {"text": " "}]}, "events.1.text"),
        (EVENTS, {"events": [{"text": "a\0"}]}, "events.0.text"),
        (EVENTS, {"events": [{"text": "a", "valid_at": "2026-05-01"}]}, "events.0.valid_at"),
        (EVENTS, {"events": [{"text": "a", "valid_at": "9999-01-01T00:00Z"}]}, "events.0.valid_at"),
        (
            EVENTS,
            {"events": [{"text": "a", "valid_at": "0001-01-01T00:00+09:00"}]},
            "events.0.valid_at",
        ),
        (EVENTS, {"events": [{"text": "a", "scope": "world"}]}, "events.0.scope"),
        (EVENTS, {"events": [{"text": "a", "scope": "team:x"}]}, "scope"),
        (EVENTS, {"events": [{"text": "a", "kind": "recall"}]}, "events.0.kind"),
        (EVENTS, {"events": [{"text": "a", "sources": ["1"]}]}, "events.0.sources"),
        (EVENTS, {"events": [{"text": "a"}] * 300}, "events"),
        (EVENTS, {"events": [{"text": "a"}], "scope": "shared"}, "scope"),
        (EVENTS, {"messages": [{"content": "a"}], "conversation": "c"}, "messages[0].role"),
        (SEARCH, {"query": " "}, "query"),
        (SEARCH, {"query": "a", "k": 0}, "k"),
        (SEARCH, {"query": "a", "as_of": "yesterday"}, "as_of"),
        (SEARCH, {"query": "a", "scope": "world"}, "scope"),
        (ERASE, {}, "selection"),
        (ERASE, {"ids": ["1"]}, "ids"),
    ],
)
async def test_bad_bodies_are_refused_by_name_and_nothing_is_written(
    scripted: Scripted, tmp_path: Path, path: str, body: Any, param: str
) -> None:
    async with serving(scripted, settings(tmp_path)) as http:
        assert (await failure(await http.post(path, json=body), 400))[1] == param
        assert (await http.get("/v1/memory/status")).json()["events"] == 0


@pytest.mark.parametrize("field", ["tenant", "member", "author", "folder"])
async def test_no_field_of_a_body_says_whose_memory_it_is(
    scripted: Scripted, tmp_path: Path, field: str
) -> None:
    async with serving(scripted, settings(tmp_path)) as http:
        event = await http.post(EVENTS, json={"events": [{"text": "x", field: "bob"}]})
        assert (await failure(event, 400))[0] == "unknown_field"
        whole = await http.post(EVENTS, json={"events": [{"text": "x"}], field: "bob"})
        assert (await failure(whole, 400))[0] == "unknown_field"
        if field != "author":
            listed = await http.get(EVENTS, params={field: "bob"})
            assert (await failure(listed, 400))[0] == "unknown_field"


async def test_each_key_opens_its_holders_memory_and_no_other(
    scripted: Scripted, tmp_path: Path
) -> None:
    holders = {"k-ada": Owner("acme", "ada"), "k-bob": Owner("acme", "bob"), "k-eve": Owner("evil")}
    chosen = settings(tmp_path, "k-me", *holders, holders=holders)
    async with serving(scripted, chosen) as http:
        await add(http, BOATS, headers=key("k-ada"))
        (shared,) = await add(http, HOME, headers=key("k-ada"), scope="shared")
        assert await texts(http, key("k-ada")) == [BOATS, HOME]
        assert await texts(http, key("k-bob")) == [HOME]
        assert await texts(http, key("k-eve")) == await texts(http, key("k-me")) == []
        for name, found in (("k-bob", 1), ("k-eve", 0), ("k-me", 0)):
            hits = await http.post(SEARCH, json={"query": "boats Porto sister"}, headers=key(name))
            assert len(hits.json()["data"]) == found
            gone = await http.post(ERASE, json={"ids": [shared["id"]]}, headers=key(name))
            assert gone.status_code == 400
        assert (await http.get(EVENTS, headers=key("k-wrong"))).status_code == 401
        assert (await http.get(EVENTS)).status_code == 401
        for name in ("k-ada", "k-me"):
            response = await http.get(EVENTS, headers=key(name) | {"X-Tenfold-Member": "bob"})
            assert (await failure(response, 403))[0] == "member_not_trusted"


async def test_the_header_names_the_member_only_where_it_is_trusted(
    scripted: Scripted, tmp_path: Path
) -> None:
    chosen = settings(
        tmp_path,
        "gateway",
        "k-bob",
        holders={"k-bob": Owner("default", "bob")},
        trust_member_header=True,
    )
    async with serving(scripted, chosen) as http:
        ada = key("gateway") | {"X-Tenfold-Member": "%C3%84da"}
        made = await add(http, BOATS, headers=ada)
        assert made[0]["author"] == "Äda"
        assert await texts(http, key("gateway") | {"X-Tenfold-Member": "bob"}) == []
        response = await http.get(EVENTS, headers=key("gateway"))
        assert (await failure(response, 400))[0] == "member_missing"
        for bad in ("%FF", "%00", "x" * 300):
            response = await http.get(EVENTS, headers=key("gateway") | {"X-Tenfold-Member": bad})
            assert (await failure(response, 400))[1] == "X-Tenfold-Member"
        response = await http.get(EVENTS, headers=key("k-bob") | {"X-Tenfold-Member": "%C3%84da"})
        assert (await failure(response, 403))[0] == "member_not_trusted"


def test_keys_that_would_share_a_memory_are_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="share one memory"):
        settings(tmp_path, "a", "b")
    with pytest.raises(InvalidRequest, match="opens nothing"):
        settings(tmp_path, "a", holders={"b": Owner()})
    with pytest.raises(InvalidRequest, match="need names"):
        settings(tmp_path, "a", holders={"a": Owner("", "x")})
    settings(tmp_path, "a", "b", holders={"b": Owner("t", "ada")})
    with pytest.raises(InvalidRequest, match="no embedder"):
        Memories(MemorySettings(tmp_path, embedder="magic"), 1)


async def test_answers_are_generated_while_memory_works(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = threading.Event(), threading.Event()
    search = Memory.search

    def slow(self: Memory, *args: Any, **more: Any) -> Any:
        began.set()
        assert go_on.wait(20)
        return search(self, *args, **more)

    monkeypatch.setattr(Memory, "search", slow)
    async with serving(scripted, settings(tmp_path)) as http:
        waiting = asyncio.create_task(http.post(SEARCH, json={"query": "boats"}))
        assert await asyncio.to_thread(began.wait, 20)
        assert (await http.post("/v1/chat/completions", json=ask())).status_code == 200
        assert not waiting.done()
        go_on.set()
        assert (await waiting).status_code == 200


async def test_a_memory_that_cannot_be_used_is_told_without_its_path(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Memory) -> Any:
        raise StoreError(f"{tmp_path} is full")

    monkeypatch.setattr(Memory, "status", broken)
    async with serving(scripted, settings(tmp_path)) as http:
        code, _, message = await failure(await http.get("/v1/memory/status"), 503)
    assert code == "memory_unavailable"
    assert str(tmp_path) not in message


async def test_an_audit_tells_nothing_of_what_others_keep_to_themselves(
    scripted: Scripted, tmp_path: Path
) -> None:
    holders = {name: Owner("default", name) for name in ("ada", "bob")}
    ada = Memory.open(tmp_path, member="ada", embedder="words")
    event = ada.add("My key is sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD")
    ada.derive()
    ada.tenant.fail([event.id], "ValueError: no")
    ada.close()
    async with serving(scripted, settings(tmp_path, *holders, holders=holders)) as http:
        reports = {
            name: (await http.get("/v1/memory/audit", headers=key(name))).json() for name in holders
        }
    assert reports["ada"]["failed"] == {event.id: "ValueError: no"}
    assert [f["event"] for f in reports["ada"]["secrets"]] == [event.id]
    assert event.id not in str(reports["bob"])


async def test_what_was_added_is_derived_in_slices_without_a_search(scripted, tmp_path):
    async with serving(scripted, settings(tmp_path)) as http:
        await add(http, *(f"I like number{n}." for n in range(2 * CATCH_UP + 5)))
        for _ in range(500):
            status = (await http.get("/v1/memory/status")).json()
            if not status["waiting"]:
                break
            await asyncio.sleep(0.02)
        assert status["waiting"] == 0
        assert status["events"] == 2 * CATCH_UP + 5
