"""/v1/memory: summing up, feedback, learning, retention; and long work beside short."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tenfold.memory import learning
from tenfold.memory.events import SHARED
from tenfold.memory.memory import Memory
from tenfold.memory.retention import Retention, set_policy
from tenfold.memory.store import Selection
from tenfold.memory.weights import LOCOMO
from tenfold.server.memories import Memories
from tenfold.server.settings import MemorySettings, Owner

from .conftest import Scripted, client_of
from .test_memory import HOME, SEARCH, add, failure, key, serving, settings, texts

FENCE = tuple(f"The garden fence number {n} needs {n + 3} pots of green paint." for n in range(7))
FEEDBACK, LEARN = "/v1/memory/feedback", "/v1/memory/learn"
CONSOLIDATE, RETENTION = "/v1/memory/consolidate", "/v1/memory/retention"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", CONSOLIDATE, {}),
        ("POST", FEEDBACK, {"query": "x", "shown": ["0" * 26]}),
        ("POST", LEARN, None),
        ("DELETE", LEARN, None),
        ("GET", RETENTION, None),
    ],
)
async def test_without_a_folder_these_too_say_how_to_switch_memory_on(
    scripted: Scripted, method: str, path: str, body: Any
) -> None:
    async with client_of(scripted()) as http:
        response = await http.request(method, path, json=body)
    assert (await failure(response, 404))[0] == "memory_off"


async def test_a_summary_takes_over_and_verbatim_has_the_turns(
    scripted: Scripted, tmp_path: Path
) -> None:
    async with serving(scripted, settings(tmp_path)) as http:
        added = await add(http, *FENCE, conversation="fence")
        response = await http.post(CONSOLIDATE, json={"conversation": "fence"})
        (summary,) = response.json()["data"]
        assert summary["events"] == [e["id"] for e in added]
        said = {s["event"]: s["text"] for s in summary["said"]}
        assert said.items() <= {e["id"]: e["text"] for e in added}.items()
        query = {"query": "green paint for the garden fence", "k": 6}
        found = (await http.post(SEARCH, json=query)).json()["data"]
        assert [hit["summary"] for hit in found if hit["summary"]] == [summary]
        found = (await http.post(SEARCH, json=query | {"verbatim": True})).json()["data"]
        assert [hit["summary"] for hit in found] == [None] * 6
        again = await http.post(CONSOLIDATE, json={"rest_days": 1})
        assert again.json()["data"] == []
        for bad, said in (({}, "what to sum up"), ({"conversation": "x"}, "no conversation")):
            response = await http.post(CONSOLIDATE, json=bad)
            assert said in (await failure(response, 400))[2]


async def test_what_was_said_again_is_named_by_what_is_shown(
    scripted: Scripted, tmp_path: Path
) -> None:
    async with serving(scripted, settings(tmp_path)) as http:
        first, again = await add(http, HOME, HOME.lower())
        (hit,) = (await http.post(SEARCH, json={"query": "where do I live? Porto"})).json()["data"]
    assert {hit["event"]["id"], *hit["repeats"]} == {first["id"], again["id"]}


async def test_what_was_learnt_can_be_taken_back(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt = learning.Learnt(True, 1, "as if it were better")
    monkeypatch.setattr(learning, "lesson", lambda *_: (learnt, dict(LOCOMO)))
    async with serving(scripted, settings(tmp_path)) as http:
        (event,) = await add(http, HOME)
        assert "no learnt weights" in (await failure(await http.delete(LEARN), 400))[2]
        body = {"query": "home?", "shown": [event["id"]], "useful": [event["id"]]}
        await http.post(FEEDBACK, json=body)
        assert (await http.post(LEARN)).json()["ranks"] != "locomo"
        assert (await http.delete(LEARN)).json() == {"ranks": "locomo"}
        assert (await http.post(LEARN)).json()["ranks"] == "locomo"  # not from the same feedback


async def test_feedback_is_kept_and_learning_says_how_it_went(
    scripted: Scripted, tmp_path: Path
) -> None:
    holders = {name: Owner("default", name) for name in ("ada", "bob")}
    async with serving(scripted, settings(tmp_path, *holders, holders=holders)) as http:
        (event,) = await add(http, HOME, headers=key("ada"))
        body = {"query": "home?", "shown": [event["id"]], "useful": [event["id"]]}
        given = (await http.post(FEEDBACK, json=body, headers=key("ada"))).json()
        assert (given["kind"], given["sources"]) == ("feedback", [event["id"]])
        learnt = (await http.post(LEARN, headers=key("ada"))).json()
        assert (learnt["promoted"], learnt["feedback"], learnt["ranks"]) == (False, 1, "locomo")
        response = await http.post(FEEDBACK, json=body, headers=key("bob"))  # not bob's to judge
        assert "no event" in (await failure(response, 400))[2]
        bad = body | {"useful": ["1" * 26]}
        response = await http.post(FEEDBACK, json=bad, headers=key("ada"))
        assert "was not shown" in (await failure(response, 400))[2]
        response = await http.post(FEEDBACK, json=body | {"shown": ["x"]}, headers=key("ada"))
        assert (await failure(response, 400))[1] == "shown"


async def test_policies_are_shown_and_upkeep_applies_them(
    scripted: Scripted, tmp_path: Path
) -> None:
    memory = Memory.open(tmp_path, embedder="none")
    set_policy(memory.tenant, Retention("private", max_events=2))
    memory.close()
    async with serving(scripted, settings(tmp_path, upkeep_s=0.05)) as http:
        policies = (await http.get(RETENTION)).json()["data"]
        assert policies == [{"scope": "private", "kind": "", "days": None, "events": 2}]
        await add(http, *FENCE)
        for _ in range(400):
            if len(left := await texts(http)) == 2:
                break
            await asyncio.sleep(0.05)
        assert left == list(FENCE[-2:])


def test_upkeep_learns_anew_after_another_s_erasure_and_rests_where_nothing_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lessons: list[int] = []

    def lesson(shown: list[learning.Shown], current: object) -> object:
        lessons.append(len(shown))
        return learning.Learnt(bool(shown), len(shown), "taken for granted"), {"lexical": 1.0}

    monkeypatch.setattr(learning, "lesson", lesson)
    ada, bob = Owner("default", "ada"), Owner("default", "bob")
    memories = Memories(MemorySettings(tmp_path, embedder="words", owner=ada), 4)
    memory, other = memories._of(ada), memories._of(bob)
    shared = other.add("The boat is green.", scope=SHARED)
    own = [memory.add(f"The boat number {n} is painted.") for n in range(3)]
    for event in own:
        memory.feedback("boat", [event.id, shared.id], [event.id])
    memory.feedback("boat", [own[0].id, own[1].id], [own[1].id])
    memories.tend()
    memories.tend()
    assert (memory.ranks(), lessons) == ("learnt-1", [4])
    other.erase(Selection(ids=(shared.id,)))  # with the feedback on it; the newest stays
    assert memory.ranks() == "locomo"
    for _ in range(2):
        memories.tend()
        assert (memory.ranks(), lessons) == ("learnt-1", [4, 1])
    memories.close()


async def test_a_long_audit_holds_up_nobody_and_not_the_end(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = threading.Event()
    audit = Memory.audit

    def endless(self: Memory) -> Any:
        audit(self)
        began.set()
        while True:
            self.pause()
            time.sleep(0.01)

    monkeypatch.setattr(Memory, "audit", endless)
    async with serving(scripted, settings(tmp_path)) as http:
        waiting = asyncio.create_task(http.get("/v1/memory/audit"))
        assert await asyncio.to_thread(began.wait, 60)
        await add(http, HOME)
        assert (await http.post(SEARCH, json={"query": "where do I live?"})).json()["data"]
        assert not waiting.done()
        http._transport.app.state.context.close()  # type: ignore[attr-defined]
        code, _, message = await failure(await waiting, 503)
    assert (code, "stopping" in message) == ("memory_unavailable", False)


@pytest.mark.parametrize("verb", ["audit", "facts", "learn"])
def test_what_takes_long_asks_whether_to_go_on(tmp_path: Path, verb: str) -> None:
    class Stop(Exception):
        pass

    memory = Memory.open(tmp_path, embedder="words")
    events = [memory.add(f"I like number{n}.") for n in range(5)]
    memory.feedback("what?", [events[0].id, events[1].id], [events[0].id])
    memory.derive()
    asked, last = [], [0]

    def pause() -> None:
        asked.append(1)
        if len(asked) == last[0]:
            raise Stop

    memory.pause = pause
    getattr(memory, verb)()
    most = len(asked)
    assert most >= (1 if verb == "learn" else 5)
    for last[0] in range(1, most + 1):
        asked.clear()
        with pytest.raises(Stop):
            getattr(memory, verb)()
    memory.close()


async def test_a_stopping_server_takes_no_more_to_read(tmp_path: Path) -> None:
    memories = Memories(MemorySettings(tmp_path, embedder="words"), 4)
    owner = Owner()
    assert await memories.look(owner, lambda m: m.member, 5) == "me"
    memories.close()
    memories.close()
    with pytest.raises(Exception, match=r"stopping|shutdown"):
        await memories.look(owner, lambda m: m.member, 5)


def test_upkeep_needs_a_time(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="above 0"):
        MemorySettings(tmp_path, upkeep_s=0)
