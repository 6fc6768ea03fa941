"""The server on the real engine: what a script cannot show."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import jsonschema
import pytest
import torch
from openai import OpenAI

from tenfold.engine.async_engine import AsyncEngine
from tenfold.engine.settings import EngineSettings
from tenfold.models.loading import LoadedModel
from tenfold.models.reference import reference_logits
from tenfold.search.llm import AsyncLLM

from .conftest import ask, client_of, events_of, running
from .test_lifetime import blocks, connect, post, wait_until

CHAT = "/v1/chat/completions"


async def test_a_seed_fixes_the_answer_whatever_else_runs(real_llm: AsyncLLM) -> None:
    body = ask(max_tokens=12, seed=5, n=2)
    async with client_of(real_llm) as http:
        alone = (await http.post(CHAT, json=body)).json()
        others = [ask(f"Other {i}", max_tokens=20, seed=i) for i in range(6)]
        answers = await asyncio.gather(
            *(http.post(CHAT, json=b) for b in [*others[:3], body, *others[3:]])
        )
        streamed = await http.post(CHAT, json=body | {"stream": True})
    texts = [c["message"]["content"] for c in alone["choices"]]
    assert [c["message"]["content"] for c in answers[3].json()["choices"]] == texts
    grown = ["", ""]
    for e in events_of(streamed.text)[:-1]:
        for c in e["choices"]:
            grown[c["index"]] += c["delta"].get("content", "")
    assert grown == texts
    assert texts[0] != texts[1]


async def test_logprobs_are_the_models(real_llm: AsyncLLM) -> None:
    body = {"prompt": "abc", "max_tokens": 6, "seed": 1, "logprobs": 2, "temperature": 0.7}
    body["logit_bias"] = {str(real_llm.model.tokenizer.encode("z")[0]): 5}
    body |= {"ignore_eos": True}
    chat = ask("abc", max_tokens=6, seed=1, logprobs=True, top_logprobs=1, ignore_eos=True)
    async with client_of(real_llm) as http:
        entry = (await http.post("/v1/completions", json=body)).json()["choices"][0]
        content = (await http.post(CHAT, json=chat)).json()["choices"][0]["logprobs"]["content"]
    assert len(entry["logprobs"]["tokens"]) == len(content) == 6
    encode = real_llm.model.tokenizer.encode
    ids = encode("<|user|>abc<|end|><|assistant|>")
    first = reference_logits(real_llm.model.decoder, torch.tensor(ids)).log_softmax(-1)[-1]
    best = content[0]["top_logprobs"][0]
    assert best["logprob"] == pytest.approx(float(first.max()), abs=1e-4)


async def test_a_schema_is_kept(real_llm: AsyncLLM) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"stars": {"enum": [1, 2, 3]}, "open": {"type": "boolean"}},
        "required": ["stars", "open"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    body = ask(response_format=wanted, max_tokens=100, n=3, seed=2)
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(130):
        deep = {"type": "object", "properties": {"a": deep}}
    bad: list[dict[str, Any]] = [
        {"type": "json_schema", "json_schema": {"name": "a", "schema": wrong}}
        for wrong in ({"type": "nothing"}, deep)
    ]
    async with client_of(real_llm) as http:
        answer = (await http.post(CHAT, json=body)).json()
        refusals = [await http.post(CHAT, json=ask(response_format=b)) for b in bad]
    for choice in answer["choices"]:
        jsonschema.validate(json.loads(choice["message"]["content"]), schema)
    for refused in refusals:
        assert refused.status_code == 400, refused.text
        assert refused.json()["error"]["type"] == "invalid_request_error"


async def test_a_demanded_call_is_made(tool_model: LoadedModel) -> None:
    llm = AsyncLLM(tool_model, AsyncEngine.for_model(tool_model, EngineSettings(kv_blocks=256)))
    parameters = {
        "type": "object",
        "properties": {"zone": {"enum": ["CET", "UTC"]}},
        "required": ["zone"],
        "additionalProperties": False,
    }
    tool = {"type": "function", "function": {"name": "clock", "parameters": parameters}}
    body = ask(tools=[tool], tool_choice="required", max_tokens=200, seed=1)
    async with client_of(llm) as http:
        answer = (await http.post(CHAT, json=body)).json()
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    call = choice["message"]["tool_calls"][0]["function"]
    jsonschema.validate(json.loads(call["arguments"]), parameters)
    await llm.close()
    async with client_of(llm) as http:
        closed = await http.post(CHAT, json=ask())
    assert closed.status_code == 500
    assert closed.json()["error"]["type"] == "server_error"


def test_clients_who_leave_free_their_blocks(model: LoadedModel) -> None:
    llm = AsyncLLM(model, AsyncEngine.for_model(model, EngineSettings(kv_blocks=2000)))
    base = blocks(llm)
    with running(llm) as address:
        for stream in (True, False):
            body = ask("Hello", stream=stream, n=4, max_tokens=1500, ignore_eos=True)
            socks = [connect(address) for _ in range(3)]
            for sock in socks:
                sock.sendall(post(body))
            wait_until(lambda: llm.stats().occupancy.running >= 12)
            for sock in socks:
                sock.close()
            wait_until(lambda: blocks(llm) == base)
        stats = httpx.get(address + "/v1/stats").json()
        assert stats["sequences"] == {"running": 0, "waiting": 0, "paused": 0}
        with OpenAI(base_url=address + "/v1", api_key="x") as client:
            answer = client.chat.completions.create(
                model="tiny@best", messages=[{"role": "user", "content": "Hi"}], max_tokens=5
            )
        assert answer.model_extra
        assert answer.model_extra["decode"]["candidates"]["started"] == 8
    asyncio.run(llm.close())


async def test_a_prompt_read_before_is_cached(real_llm: AsyncLLM) -> None:
    body = ask("The same long prompt. " * 20, max_tokens=2)
    async with client_of(real_llm) as http:
        await http.post(CHAT, json=body)
        usage = (await http.post(CHAT, json=body)).json()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] > usage["prompt_tokens"] // 2
