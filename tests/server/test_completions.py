from __future__ import annotations

import base64
import struct
from typing import Any

import pytest
from openai.types import Completion, CreateEmbeddingResponse

from tenfold.server.settings import ServerSettings

from .conftest import Scripted, client_of, events_of
from .models import Script

PATH = "/v1/completions"


async def test_all_four_forms_of_a_prompt(scripted: Scripted) -> None:
    llm = scripted()
    encode = llm.model.tokenizer.encode
    forms: list[Any] = ["ab", ["ab", "cd"], encode("ab"), [encode("ab"), encode("cd")]]
    async with client_of(llm) as http:
        for prompt in forms:
            llm.engine.script.prompts.clear()
            body = {"prompt": prompt, "n": 2, "echo": True}
            answer = (await http.post(PATH, json=body)).json()
            Completion.model_validate(answer)
            count = 2 if isinstance(prompt[0], list) or prompt == ["ab", "cd"] else 1
            assert [c["index"] for c in answer["choices"]] == list(range(2 * count))
            texts = [c["text"] for c in answer["choices"]]
            assert texts == ["abHello there, fri"] * 2 + ["cdHello there, fri"] * 2 * (count - 1)
            read = {ids for ids, _ in llm.engine.script.prompts}
            assert read == {tuple(encode(p)) for p in ("ab", "cd")[:count]}
    assert llm.stats().occupancy.blocks_used == 0


async def test_a_request_takes_one_place_whatever_it_holds(scripted: Scripted) -> None:
    settings = ServerSettings(max_running=1, max_waiting=0)
    body = {"prompt": ["a", "b", "c"], "n": 2}
    async with client_of(scripted(), settings) as http:
        for stream in (False, True):
            response = await http.post(PATH, json=body | {"stream": stream})
            assert response.status_code == 200
            assert "error" not in response.text


async def test_a_stream_of_several_prompts(scripted: Scripted) -> None:
    llm = scripted(Script(answers=["one", "two"]))
    body = {
        "prompt": ["a", "b"],
        "n": 2,
        "echo": True,
        "stream": True,
        "logprobs": None,
        "stream_options": {"include_usage": True},
    }
    async with client_of(llm) as http:
        *events, done = events_of((await http.post(PATH, json=body)).text)
    assert done == "[DONE]"
    texts: dict[int, str] = {}
    finishes: dict[int, str] = {}
    for chunk in [Completion.model_validate(e) for e in events]:
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
            if choice.finish_reason:
                finishes[choice.index] = choice.finish_reason
    assert texts == {0: "aone", 1: "atwo", 2: "bone", 3: "btwo"}
    assert finishes == dict.fromkeys(range(4), "stop")
    assert events[-1]["usage"] == events[-1]["usage"] | {
        "prompt_tokens": 2,
        "completion_tokens": 16,
    }


async def test_legacy_logprobs(scripted: Scripted) -> None:
    body: dict[str, Any] = {"prompt": "a", "logprobs": 2, "max_tokens": 5}
    async with client_of(scripted()) as http:
        whole = (await http.post(PATH, json=body)).json()["choices"][0]["logprobs"]
        events = events_of((await http.post(PATH, json=body | {"stream": True})).text)[:-1]
    assert whole["tokens"] == list("Hello")
    assert whole["token_logprobs"] == [-0.5] * 5
    assert whole["text_offset"] == [0, 1, 2, 3, 4]
    assert [len(t) for t in whole["top_logprobs"]] == [2] * 5
    parts = [e["choices"][0]["logprobs"] for e in events if e["choices"][0]["logprobs"]]
    for key, value in whole.items():
        assert [x for part in parts for x in part[key]] == value


async def test_selection_over_several_prompts(scripted: Scripted) -> None:
    llm = scripted(Script(answers=["a", "b", "c"]))
    decode = {"strategy": "best_of_n", "n": 3, "return_candidates": 2}
    body = {"prompt": ["x", "y"], "decode": decode}
    async with client_of(llm) as http:
        whole = (await http.post(PATH, json=body)).json()
        options = {"include_progress": True}
        stream = await http.post(PATH, json=body | {"stream": True, "stream_options": options})
        single = (await http.post(PATH, json=body | {"prompt": "x"})).json()
    assert [c["text"] for c in whole["choices"]] == ["a", "b", "a", "b"]
    assert ["decode" in c for c in whole["choices"]] == [True, False, True, False]
    assert single["decode"]["winner"]["candidate"] == 0
    events = events_of(stream.text)[:-1]
    results = [e for e in events if e.get("decode", {}).get("event") == "result"]
    assert sorted(e["choices"][0]["index"] for e in results) == [0, 2]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": [5000]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": ["a"] * 300}, "prompt"),
        ({"prompt": "a" * 3000}, "prompt"),
        ({}, "prompt"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": "a", "best_of": 3}, "best_of"),
        ({"prompt": "a", "echo": True, "logprobs": 1}, "echo"),
        ({"prompt": "a", "messages": []}, "messages"),
    ],
)
async def test_bad_requests(scripted: Scripted, body: Any, param: str) -> None:
    async with client_of(scripted()) as http:
        response = await http.post(PATH, json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"].split(".")[0] == param, error


async def test_one_failing_prompt_ends_the_others(scripted: Scripted) -> None:
    llm = scripted(Script(fail_after=3, delay_s=0.01))
    async with client_of(llm) as http:
        for stream in (False, True):
            response = await http.post(PATH, json={"prompt": ["a", "b", "c"], "stream": stream})
            assert response.status_code == (200 if stream else 500)
            assert llm.stats().occupancy.blocks_used == 0


async def test_embeddings_in_both_formats(scripted: Scripted) -> None:
    body = {"model": "tiny", "input": ["Hello", "there"]}
    path = "/v1/embeddings"
    async with client_of(scripted()) as http:
        plain = (await http.post(path, json=body)).json()
        packed = (await http.post(path, json=body | {"encoding_format": "base64"})).json()
        ids = (await http.post(path, json={"input": [1, 2, 3]})).json()
    answer = CreateEmbeddingResponse.model_validate(plain)
    assert answer.usage.prompt_tokens == 10
    for a, b in zip(answer.data, packed["data"], strict=True):
        vector = struct.unpack("<32f", base64.b64decode(b["embedding"]))
        assert vector == pytest.approx(a.embedding, abs=1e-6)
        assert sum(x * x for x in vector) == pytest.approx(1, abs=1e-5)
    assert len(ids["data"]) == 1


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input.1"),
        ({"input": [1, -1]}, "input.1"),
        ({"input": {"text": "a"}}, "input"),
        ({"input": [999]}, "input"),
        ({"input": "a" * 3000}, "input"),
        ({"input": "a", "dimensions": 8}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
    ],
)
async def test_bad_embedding_requests(scripted: Scripted, body: Any, param: str) -> None:
    async with client_of(scripted()) as http:
        response = await http.post("/v1/embeddings", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_scores_are_the_models_own(scripted: Scripted) -> None:
    import torch

    from tenfold.models.reference import reference_logits

    llm = scripted()
    messages = [{"role": "user", "content": "Hi"}]
    body = {"model": "tiny", "messages": messages, "candidates": ["yes", "no", ""]}
    async with client_of(llm) as http:
        answer = (await http.post("/v1/score", json=body)).json()
        unknown = await http.post("/v1/score", json=body | {"reward": "logprobs"})
        long = await http.post("/v1/score", json=body | {"candidates": ["a", "b" * 3000]})
    assert (long.status_code, long.json()["error"]["param"]) == (400, "candidates.1")
    encode = llm.model.tokenizer.encode
    prompt, yes = encode("<|user|>Hi<|end|><|assistant|>"), encode("yes")
    logits = reference_logits(llm.model.decoder, torch.tensor(prompt + yes))
    logp = logits.log_softmax(-1)
    expected = sum(float(logp[len(prompt) - 1 + i, t]) for i, t in enumerate(yes)) / len(yes)
    assert answer["data"][0]["score"] == pytest.approx(expected, abs=1e-4)
    assert [d["index"] for d in answer["data"]] == [0, 1, 2]
    assert answer["data"][2]["score"] is None
    assert answer["usage"]["completion_tokens"] == 0
    error = unknown.json()["error"]
    assert (unknown.status_code, error["param"]) == (400, "reward")
    assert "'logprob'" in error["message"]


async def test_inputs_are_counted(scripted: Scripted) -> None:
    settings = ServerSettings(max_inputs=2)
    async with client_of(scripted(), settings) as http:
        for path, body in (
            ("/v1/embeddings", {"input": ["a"] * 3}),
            (
                "/v1/score",
                {"messages": [{"role": "user", "content": "x"}], "candidates": ["a"] * 3},
            ),
        ):
            response = await http.post(path, json=body)
            assert response.status_code == 400
            assert "2 at once" in response.json()["error"]["message"]
