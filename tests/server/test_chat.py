from __future__ import annotations

from typing import Any, cast

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tenfold.engine.branch import Capabilities
from tenfold.models.loading import LoadedModel

from .conftest import Scripted, ask, client_of, events_of
from .models import Script


async def test_an_answer_in_one_piece(scripted: Scripted) -> None:
    llm = scripted()
    async with client_of(llm) as http:
        response = await http.post("/v1/chat/completions", json=ask())
    assert response.status_code == 200
    answer = ChatCompletion.model_validate(response.json(), strict=False)
    assert answer.choices[0].message.content == "Hello there, friend."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage
    assert answer.usage.completion_tokens == 21
    assert "decode" not in response.json()
    assert llm.stats().occupancy.blocks_used == 0


async def test_a_stream_is_role_text_finish_usage_done(scripted: Scripted) -> None:
    async with client_of(scripted()) as http:
        response = await http.post(
            "/v1/chat/completions",
            json=ask(stream=True, stream_options={"include_usage": True}),
        )
    assert response.headers["content-type"].startswith("text/event-stream")
    *events, done = events_of(response.text)
    assert done == "[DONE]"
    chunks = [ChatCompletionChunk.model_validate(e) for e in events]
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "Hello there, friend."
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert all(c.choices[0].finish_reason is None for c in chunks[:-2])
    assert chunks[-1].choices == []
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == 21
    assert all(c.usage is None for c in chunks[:-1])
    assert len({c.id for c in chunks}) == 1


@pytest.mark.parametrize("seeded", [True, False])
async def test_a_report_says_whether_the_seed_holds(scripted: Scripted, seeded: bool) -> None:
    llm = scripted()
    cast(Any, llm.engine).capabilities = Capabilities(True, True, seeded, True)
    async with client_of(llm) as http:
        given = (await http.post("/v1/chat/completions", json=ask(seed=5, decode={}))).json()
        without = (await http.post("/v1/chat/completions", json=ask(decode={}))).json()
        stream = await http.post("/v1/chat/completions", json=ask(seed=5, decode={}, stream=True))
    assert given["decode"]["seeded"] is seeded
    assert "seeded" not in without["decode"]
    assert events_of(stream.text)[-2]["decode"]["seeded"] is seeded


async def test_the_real_engine_answers(real_llm, model: LoadedModel) -> None:
    async with client_of(real_llm) as http:
        body = ask(max_tokens=8, seed=1)
        whole = (await http.post("/v1/chat/completions", json=body)).json()
        streamed = await http.post("/v1/chat/completions", json={**body, "stream": True})
    text = "".join(
        e["choices"][0]["delta"].get("content", "") for e in events_of(streamed.text)[:-1]
    )
    assert text == whole["choices"][0]["message"]["content"]
    assert whole["usage"]["completion_tokens"] <= 8


async def test_best_of_n_shows_progress_then_the_winner(scripted: Scripted) -> None:
    llm = scripted(Script(answers=["first", "second", "third"]))
    decode = {"strategy": "best_of_n", "n": 3, "return_candidates": 2}
    options = {"include_progress": True, "include_usage": True}
    async with client_of(llm) as http:
        whole = (await http.post("/v1/chat/completions", json=ask(decode=decode))).json()
        stream = await http.post(
            "/v1/chat/completions",
            json=ask(decode=decode, stream=True, stream_options=options),
        )
    assert whole["decode"]["winner"] == {"candidate": 0, "score": -0.5}
    assert whole["decode"]["candidates"] == {"started": 3, "finished": 3, "dropped": 0}
    assert [c["message"]["content"] for c in whole["choices"]] == ["first", "second"]
    assert whole["choices"][1]["score"] < whole["choices"][0]["score"]
    *events, done = events_of(stream.text)
    assert done == "[DONE]"
    for e in events:
        ChatCompletionChunk.model_validate(e)
    kinds = [e["decode"]["event"] for e in events if "decode" in e]
    assert kinds[0] == "tokens"
    assert kinds[-2:] == ["checkpoint", "result"]
    assert events[-2]["decode"]["winner"] == 0
    assert set(events[-2]["decode"]["scores"]) == {"0", "1", "2"}
    text = {0: "", 1: ""}
    for e in events:
        for c in e["choices"]:
            text[c["index"]] += c["delta"].get("content") or ""
    assert text == {0: "first", 1: "second"}
    assert llm.stats().occupancy.blocks_used == 0
