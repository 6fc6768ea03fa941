"""/v1/memory: timeline, lineage and previews; deny by default over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenfold.server.settings import Owner

from .conftest import Scripted, client_of
from .test_memory import BOATS, ERASE, HOME, add, failure, key, serving, settings

TIMELINE, BELIEFS, PREVIEW = (
    "/v1/memory/timeline",
    "/v1/memory/timeline/facts",
    "/v1/memory/erase/preview",
)


def lineage_of(ulid: str) -> str:
    return f"/v1/memory/lineage/{ulid}"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", TIMELINE), ("GET", BELIEFS), ("GET", lineage_of("0" * 26)), ("POST", PREVIEW)],
)
async def test_without_a_folder_these_too_say_how_to_switch_memory_on(
    scripted: Scripted, method: str, path: str
) -> None:
    async with client_of(scripted()) as http:
        response = await http.request(method, path, json={} if method == "POST" else None)
    assert (await failure(response, 404))[0] == "memory_off"


async def test_a_timeline_is_paged_by_valid_time(scripted: Scripted, tmp_path: Path) -> None:
    async with serving(scripted, settings(tmp_path)) as http:
        for day in (3, 1, 2):
            await add(http, f"Day {day}.", valid_at=f"2026-05-0{day}T10:00Z", conversation="tea")
        first = (await http.get(TIMELINE, params={"limit": 2})).json()
        assert [e["text"] for e in first["data"]] == ["Day 3.", "Day 2."]
        assert first["member"] == "me"
        rest = (await http.get(TIMELINE, params={"limit": 2, "before": first["next"]})).json()
        assert ([e["text"] for e in rest["data"]], rest["next"]) == (["Day 1."], None)
        gone_back = {"until": "2026-05-02T00:00Z", "conversation": "tea", "kind": "observation"}
        assert len((await http.get(TIMELINE, params=gone_back)).json()["data"]) == 1
        assert (await http.get(TIMELINE, params={"kind": "tool"})).json()["data"] == []


async def test_facts_of_all_times_come_with_their_ends(scripted: Scripted, tmp_path: Path) -> None:
    async with serving(scripted, settings(tmp_path)) as http:
        await add(http, HOME, valid_at="2026-05-01T10:00Z")
        await add(http, "I live in Lisbon.", valid_at="2026-06-01T10:00Z")
        data = (await http.get(BELIEFS)).json()["data"]
        ends = [(f["object"], f["valid_to"]) for f in data if f["predicate"] == "lives in"]
        assert ends == [("Lisbon", None), ("Porto", "2026-06-01T10:00:00+00:00")]
        one = (await http.get(BELIEFS, params={"limit": 1})).json()
        assert (len(one["data"]), one["more"]) == (1, len(data) - 1)
        assert (await http.get(BELIEFS, params={"subject": "bob"})).json()["data"] == []
        past = await http.get(BELIEFS, params={"recorded": "2026-01-01T00:00Z"})
        assert past.json()["data"] == []


async def test_lineage_tells_what_came_of_an_event(scripted: Scripted, tmp_path: Path) -> None:
    async with serving(scripted, settings(tmp_path)) as http:
        made = await add(http, HOME, BOATS, conversation="tea")
        found = (await http.get(lineage_of(made[1]["id"]))).json()
        assert found["event"] == made[1]
        assert (found["state"], found["words"], found["complete"]) == ("derived", True, True)
        assert found["vectors"][1]["events"] == [made[0]["id"], made[1]["id"]]
        home = (await http.get(lineage_of(made[0]["id"]))).json()
        assert [f["object"] for f in home["facts"]] == ["Porto"]
        useful = {"kind": "feedback", "sources": [made[0]["id"]]}
        (given,) = await add(http, "useful", **useful)
        home = (await http.get(lineage_of(made[0]["id"]))).json()
        assert home["feedback"] == [given]


async def test_a_preview_erases_nothing(scripted: Scripted, tmp_path: Path) -> None:
    async with serving(scripted, settings(tmp_path)) as http:
        made = await add(http, HOME, BOATS, conversation="tea")
        body = {"conversation": "tea"}
        found = (await http.post(PREVIEW, json=body)).json()
        ids = [e["id"] for e in made]
        assert found == {"events": 2, "recalls": 0, "feedback": 0, "others": 0, "examples": ids}
        assert (await http.post(ERASE, json=body)).json()["events"] == 2
        assert (await http.post(PREVIEW, json=body)).json()["events"] == 0


async def test_nobody_sees_where_the_memories_of_others_come_from(
    scripted: Scripted, tmp_path: Path
) -> None:
    holders = {"k-ada": Owner("acme", "ada"), "k-bob": Owner("acme", "bob"), "k-eve": Owner("evil")}
    chosen = settings(tmp_path, "k-me", *holders, holders=holders)
    async with serving(scripted, chosen) as http:
        (hidden,) = await add(http, HOME, headers=key("k-ada"), conversation="tea")
        (told,) = await add(
            http, BOATS, headers=key("k-ada"), scope="shared", sources=[hidden["id"]]
        )
        for name in ("k-bob", "k-eve", "k-me"):
            said = await failure(await http.get(lineage_of(hidden["id"]), headers=key(name)), 404)
            absent = await failure(await http.get(lineage_of("0" * 26), headers=key(name)), 404)
            assert said[2].replace(hidden["id"], "") == absent[2].replace("0" * 26, "")
            body = {"conversation": "tea"}
            preview = (await http.post(PREVIEW, json=body, headers=key(name))).json()
            assert (preview["events"], preview["others"]) == (0, 0)
            for path in (TIMELINE, BELIEFS):
                assert "Porto" not in (await http.get(path, headers=key(name))).text
        found = (await http.get(lineage_of(told["id"]), headers=key("k-bob"))).json()
        assert found["sources"] == []
        seen = (await http.get(TIMELINE, headers=key("k-bob"))).json()
        assert ([e["text"] for e in seen["data"]], seen["member"]) == ([BOATS], "bob")
        for path in (TIMELINE, BELIEFS, lineage_of(told["id"])):
            assert (await http.get(path)).status_code == 401
            header = key("k-bob") | {"X-Tenfold-Member": "ada"}
            assert (await http.get(path, headers=header)).status_code == 403


@pytest.mark.parametrize(
    ("path", "param"),
    [
        (lineage_of("1"), "event_id"),
        (f"{TIMELINE}?before=x", "before"),
        (f"{TIMELINE}?limit=0", "limit"),
        (f"{TIMELINE}?kind=junk", "kind"),
        (f"{TIMELINE}?scope=world", "scope"),
        (f"{TIMELINE}?until=2026-05-01", "until"),
        (f"{TIMELINE}?member=bob", "member"),
        (f"{BELIEFS}?recorded=x", "recorded"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_name(
    scripted: Scripted, tmp_path: Path, path: str, param: str
) -> None:
    async with serving(scripted, settings(tmp_path)) as http:
        assert (await failure(await http.get(path), 400))[1] == param
        assert (await failure(await http.post(PREVIEW, json={}), 400))[1] == "selection"
