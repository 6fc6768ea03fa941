from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from tenfold.models.tokenizer import Tokenizer
from tenfold.server.settings import ServerSettings

from .conftest import Scripted, ask, client_of
from .models import Script

CHAT = "/v1/chat/completions"


def message(**fields: Any) -> dict[str, Any]:
    return ask() | {"messages": [{"role": "user", "content": "Hi"} | fields]}


# body -> (param, a word the message must hold)
BAD: dict[str, tuple[Any, str | None, str]] = {
    "unknown field": (ask(temprature=1), "temprature", "'temperature'"),
    "unknown nested field": (message(contents="x"), "messages.0.contents", "'content'"),
    "unknown decode key": (ask(decode={"foo": 1}), "decode.foo", "known here"),
    "unknown strategy": (ask(decode={"strategy": "best"}), "decode.strategy", "best_of_n"),
    "unknown reward": (
        ask(decode={"strategy": "best_of_n", "reward": "log"}),
        "decode.reward",
        "logprob",
    ),
    "decode n of the wrong type": (
        ask(decode={"strategy": "best_of_n", "n": "8"}),
        "decode.n",
        "integer",
    ),
    "budget key": (ask(decode={"budget": {"sec": 1}}), "decode.budget.sec", "ms"),
    "wrong type": (ask(temperature="hot"), "temperature", "number"),
    "no coercion": (ask(max_tokens="5"), "max_tokens", "integer"),
    "out of range": (ask(temperature=3), "temperature", "2"),
    "n too large": (ask(n=129), "n", "128"),
    "candidates over the cap": (
        ask(decode={"strategy": "best_of_n", "n": 500}),
        "decode.n",
        "128",
    ),
    "n with a selecting strategy": (
        ask(n=2, decode={"strategy": "best_of_n"}),
        "n",
        "return_candidates",
    ),
    "return_candidates without selection": (
        ask(decode={"return_candidates": 2}),
        "decode.return_candidates",
        "n",
    ),
    "two n": (ask(n=2, decode={"n": 3}), "n", "only one"),
    "no messages": ({"model": "tiny", "messages": []}, "messages", "at least 1"),
    "messages missing": ({"model": "tiny"}, "messages", "required"),
    "unknown role": (message(role="robot"), "messages.0.role", "user"),
    "image": (
        message(content=[{"type": "image_url", "image_url": {"url": "x"}}]),
        "messages.0.content",
        "text only",
    ),
    "no content": (message(content=None), "messages.0.content", "content"),
    "tool message without id": (message(role="tool"), "messages.0.tool_call_id", "id"),
    "too long": (ask("x" * 3000), "messages", "2048"),
    "top_logprobs alone": (ask(top_logprobs=2), "top_logprobs", "logprobs"),
    "logit_bias key": (ask(logit_bias={"a": 1}), "logit_bias", "token id"),
    "logit_bias id": (ask(logit_bias={"99999": 1}), "logit_bias", "261"),
    "logit_bias value": (ask(logit_bias={"1": 101}), "logit_bias", "100"),
    "stop id beyond the vocabulary": (ask(stop_token_ids=[999999]), "stop_token_ids", "261"),
    "stop id below zero": (ask(stop_token_ids=[1, -1]), "stop_token_ids", "-1 is not a token id"),
    "penalty near zero": (ask(repetition_penalty=1e-300), "repetition_penalty", "0.01"),
    "two limits": (
        ask(max_tokens=2, max_completion_tokens=3),
        "max_completion_tokens",
        "one of them",
    ),
    "min over max": (ask(max_tokens=2, min_tokens=3), "min_tokens", "max_tokens"),
    "empty stop": (ask(stop=""), "stop", "at least 1"),
    "speculation": (ask(speculative={"enabled": True}), "speculative", "proposer"),
    "schema missing": (
        ask(response_format={"type": "json_schema"}),
        "response_format.json_schema",
        "schema",
    ),
    "tool_choice alone": (ask(tool_choice="required"), "tool_choice", "tools"),
    "tools without template": (
        ask(tools=[{"type": "function", "function": {"name": "f"}}]),
        "tools",
        "template",
    ),
    "template variable": (
        ask(chat_template_kwargs={"messages": []}),
        "chat_template_kwargs.messages",
        "messages",
    ),
    "template flag": (
        ask(chat_template_kwargs={"add_generation_prompt": False}),
        "chat_template_kwargs.add_generation_prompt",
        "the server sets it",
    ),
    "template token": (
        ask(chat_template_kwargs={"bos_token": "<|system|>"}),
        "chat_template_kwargs.bos_token",
        "the server sets it",
    ),
    "not an object": ([1, 2], None, "object"),
    "budget over the limit": (
        ask(decode={"budget": {"ms": 1e9}}),
        "decode.budget.ms",
        "600000",
    ),
}


@pytest.mark.parametrize("case", BAD)
async def test_bad_requests_name_the_field_and_the_way_out(scripted: Scripted, case: str) -> None:
    body, param, word = BAD[case]
    async with client_of(scripted()) as http:
        response = await http.post(CHAT, json=body)
    error = response.json()["error"]
    assert response.status_code == 400, error
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param, error
    assert word in error["message"], error
    assert set(error) == {"message", "type", "param", "code"}


RAW: dict[str, tuple[bytes, str, int, str]] = {
    "malformed": (b'{"model": "tiny", ', "application/json", 400, "line 1"),
    "empty": (b"", "application/json", 400, "JSON object"),
    "utf-8": (b'{"model": "\xff"}', "application/json", 400, "byte 11"),
    "half a surrogate": (b'{"model": "\\ud800"}', "application/json", 400, "surrogate"),
    "NaN": (b'{"temperature": NaN}', "application/json", 400, "NaN"),
    "infinity": (b'{"temperature": 1e999}', "application/json", 400, "too large"),
    "huge integer": (b'{"seed": ' + b"9" * 5000 + b"}", "application/json", 400, "64 bits"),
    "nesting": (b"[" * 60_000, "application/json", 400, "nested"),
    "form": (b"model=tiny", "application/x-www-form-urlencoded", 415, "application/json"),
    "plain text": (b"{}", "text/plain", 415, "application/json"),
    "no type": (b"{}", "", 415, "application/json"),
    "too large": (b'{"model": "' + b"x" * 70_000 + b'"}', "application/json", 413, "65536"),
}


@pytest.mark.parametrize("case", RAW)
async def test_bodies_that_are_no_request(scripted: Scripted, case: str) -> None:
    body, kind, status, word = RAW[case]
    headers = {"Content-Type": kind} if kind else {}
    async with client_of(scripted(), ServerSettings(max_body_bytes=65536)) as http:
        response = await http.post(CHAT, content=body, headers=headers)
    assert response.status_code == status
    assert word in response.json()["error"]["message"]


async def test_a_chunked_body_over_the_limit(scripted: Scripted) -> None:
    async def parts() -> Any:
        for _ in range(100):
            yield b"x" * 1000

    async with client_of(scripted(), ServerSettings(max_body_bytes=65536)) as http:
        response = await http.post(
            CHAT, content=parts(), headers={"Content-Type": "application/json"}
        )
    assert response.status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/v1/nothing", 404, "not_found_error"),
        ("GET", CHAT, 405, "invalid_request_error"),
        ("DELETE", "/v1/models", 405, "invalid_request_error"),
        ("GET", "/v1/models/other", 404, "not_found_error"),
        ("GET", "/docs", 404, "not_found_error"),
    ],
)
async def test_framework_errors_take_the_same_shape(
    scripted: Scripted, method: str, path: str, status: int, kind: str
) -> None:
    async with client_of(scripted()) as http:
        response = await http.request(method, path)
    assert response.status_code == status
    assert response.json()["error"]["type"] == kind


async def test_an_unknown_model_is_404_with_the_nearest(scripted: Scripted) -> None:
    async with client_of(scripted()) as http:
        response = await http.post(CHAT, json=ask() | {"model": "tiny@bset"})
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (404, "model_not_found")
    assert error["param"] == "model"
    assert "'tiny@best'" in error["message"]


@pytest.mark.parametrize("name", ["self", "template_kwargs", "variables", "tool", "a b"])
async def test_template_variables_have_any_name(scripted: Scripted, name: str) -> None:
    async with client_of(scripted()) as http:
        response = await http.post(CHAT, json=ask(chat_template_kwargs={name: 1}))
    assert response.status_code == 200, response.text


HUGE = "the cat " * 400_000
ENDPOINTS: dict[str, tuple[dict[str, Any], str]] = {
    CHAT: (ask(HUGE), "messages"),
    "/v1/completions": ({"prompt": ["a", HUGE]}, "prompt"),
    "/v1/embeddings": ({"input": ["a", HUGE]}, "input"),
    "/v1/score": (ask() | {"candidates": ["a", HUGE]}, "candidates.1"),
}


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_texts_that_cannot_fit_are_not_encoded(
    scripted: Scripted, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = Tokenizer.encode

    def guarded(self: Tokenizer, text: str, *more: Any) -> list[int]:
        assert len(text) < 10_000
        if text != Script.answers[0]:  # which the scripted engine encodes
            assert threading.current_thread() is not threading.main_thread()
        return encode(self, text, *more)

    monkeypatch.setattr(Tokenizer, "encode", guarded)
    body, param = ENDPOINTS[path]
    async with client_of(scripted()) as http:
        response = await http.post(path, json=body)
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (400, "context_length_exceeded"), error
        assert error["param"] == param
        assert "the context holds 2048" in error["message"]
        small = json.dumps(body).replace(HUGE, "b")
        headers = {"Content-Type": "application/json"}
        assert (await http.post(path, content=small, headers=headers)).status_code == 200


async def test_harmless_openai_fields_pass(scripted: Scripted) -> None:
    body = ask(
        user="u",
        metadata={"a": "b"},
        store=False,
        parallel_tool_calls=True,
        service_tier="auto",
        n=None,
        stop=None,
        logit_bias=None,
        speculative={"enabled": False},
        response_format={"type": "text"},
        tool_choice="none",
        modalities=["text"],
    )
    body["messages"] = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c", "refusal": None, "audio": None, "annotations": []},
        {"role": "user", "content": "d", "name": "bob"},
    ]
    llm = scripted()
    async with client_of(llm) as http:
        response = await http.post(CHAT, json=body)
    assert response.status_code == 200, response.text
    ids, _ = llm.engine.script.prompts[0]
    prompt = llm.model.tokenizer.decode(ids, skip_special=False)
    assert prompt == "<|user|>ab<|end|><|assistant|>c<|end|><|user|>d<|end|><|assistant|>"


@pytest.mark.parametrize("stream", [False, True])
async def test_the_facts_reward_needs_facts(scripted: Scripted, stream: bool) -> None:
    decode = {"strategy": "best_of_n", "n": 2, "reward": "facts"}
    body = ask("Hi", decode=decode, stream=stream, temperature=1.0)
    facts = {"role": "system", "content": "Blue Door is a bar. For Blue Door the city is Porto."}
    async with client_of(scripted()) as http:
        refused = await http.post("/v1/chat/completions", json=body)
        body["messages"].insert(0, facts)
        fine = await http.post("/v1/chat/completions", json=body)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, "messages")
    assert "no facts" in error["message"]
    assert fine.status_code == 200
