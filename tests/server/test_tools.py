from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tenfold.models.loading import LoadedModel

from .conftest import Scripted, ask, client_of, events_of
from .models import Script

CHAT = "/v1/chat/completions"
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/City"}},
    "required": ["city"],
    "$defs": {"City": {"type": "string"}},
}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
CLOCK = {"type": "function", "function": {"name": "clock"}}
CALLS = (
    'Let me look. <tool_call>{"name": "weather", "arguments": {"city": "Köln"}}</tool_call>\n'
    '<tool_call>{"name": "clock", "arguments": {}}</tool_call>'
)


async def test_calls_are_read_back(scripted: Scripted, tool_model: LoadedModel) -> None:
    llm = scripted(Script(answers=[CALLS]), tool_model)
    async with client_of(llm) as http:
        answer = (await http.post(CHAT, json=ask(tools=[WEATHER, CLOCK]))).json()
    choice = ChatCompletion.model_validate(answer).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me look."
    assert choice.message.tool_calls
    named = [(c.function.name, json.loads(c.function.arguments)) for c in choice.message.tool_calls]
    assert named == [("weather", {"city": "Köln"}), ("clock", {})]
    assert len({c.id for c in choice.message.tool_calls}) == 2
    prompt = llm.model.tokenizer.decode(llm.engine.script.prompts[0][0])
    assert '"weather"' in prompt


@pytest.mark.parametrize("per_step", [1, 7, 500])
async def test_calls_are_streamed(
    scripted: Scripted, tool_model: LoadedModel, per_step: int
) -> None:
    llm = scripted(Script(answers=[CALLS], per_step=per_step), tool_model)
    async with client_of(llm) as http:
        response = await http.post(CHAT, json=ask(tools=[WEATHER, CLOCK], stream=True))
    chunks = [ChatCompletionChunk.model_validate(e) for e in events_of(response.text)[:-1]]
    content = ""
    calls: dict[int, dict[str, str]] = {}
    for chunk in chunks:
        delta = chunk.choices[0].delta
        content += delta.content or ""
        for call in delta.tool_calls or []:
            known = calls.setdefault(call.index, {"id": "", "name": "", "arguments": ""})
            known["id"] += call.id or ""
            assert call.function
            known["name"] += call.function.name or ""
            known["arguments"] += call.function.arguments or ""
    assert content == "Let me look."
    assert [c["name"] for c in calls.values()] == ["weather", "clock"]
    assert json.loads(calls[0]["arguments"]) == {"city": "Köln"}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_text_that_only_looks_like_a_call(
    scripted: Scripted, tool_model: LoadedModel
) -> None:
    text = "Use <tool_call>not json</tool_call> or <tool_c"
    llm = scripted(Script(answers=[text], per_step=3), tool_model)
    async with client_of(llm) as http:
        whole = (await http.post(CHAT, json=ask(tools=[CLOCK]))).json()
        stream = await http.post(CHAT, json=ask(tools=[CLOCK], stream=True))
    assert whole["choices"][0]["message"]["content"] == text
    assert whole["choices"][0]["finish_reason"] == "stop"
    events = events_of(stream.text)[:-1]
    assert "".join(e["choices"][0]["delta"].get("content", "") for e in events) == text
    assert events[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", {"weather", "clock"}),
        ({"type": "function", "function": {"name": "weather"}}, {"weather"}),
    ],
)
async def test_a_demanded_call_is_held_to_a_schema(
    scripted: Scripted, tool_model: LoadedModel, choice: Any, names: set[str]
) -> None:
    text = '{"name": "weather", "arguments": {"city": "Rome"}}'
    llm = scripted(Script(answers=[text], per_step=5), tool_model)
    body = ask(tools=[WEATHER, CLOCK], tool_choice=choice)
    async with client_of(llm) as http:
        answer = (await http.post(CHAT, json=body)).json()
        stream = await http.post(CHAT, json=body | {"stream": True})
    message = answer["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"][0]["function"]["name"] == "weather"
    assert '"tool_calls"' in stream.text
    constraint = llm.engine.script.prompts[0][1].constraint
    check = jsonschema.Draft202012Validator(constraint.value)
    check.validate(json.loads(text))
    for name in ("weather", "clock", "other"):
        call = {"name": name, "arguments": {"city": "x"}}
        assert check.is_valid(call) == (name in names)
    assert not check.is_valid({"name": "weather", "arguments": {"city": 1}})


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"tool_choice": "always"}, "tool_choice"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [{"type": "browser"}]}, "tools.0.type"),
    ],
)
async def test_choices_that_cannot_be_kept(
    scripted: Scripted, tool_model: LoadedModel, body: dict[str, Any], param: str
) -> None:
    async with client_of(scripted(of=tool_model)) as http:
        response = await http.post(CHAT, json=ask(tools=[CLOCK]) | body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


async def test_a_conversation_with_calls_goes_through_the_template(
    scripted: Scripted, tool_model: LoadedModel
) -> None:
    call = {"id": "a1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Time?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "noon", "tool_call_id": "a1"},
    ]
    async with client_of(scripted(of=tool_model)) as http:
        good = await http.post(CHAT, json=ask() | {"messages": messages})
        messages[0]["tool_calls"] = [call]
        bad = await http.post(CHAT, json=ask() | {"messages": messages})
    assert good.status_code == 200
    assert bad.json()["error"]["param"] == "messages.0.tool_calls"


@pytest.mark.parametrize(
    ("wanted", "kind", "value"),
    [
        ({"type": "json_object"}, "json_object", None),
        (
            {"type": "json_schema", "json_schema": {"name": "a", "schema": PARAMETERS}},
            "json_schema",
            PARAMETERS,
        ),
    ],
)
async def test_response_format_is_a_constraint(
    scripted: Scripted, wanted: Any, kind: str, value: Any
) -> None:
    llm = scripted()
    async with client_of(llm) as http:
        await http.post(CHAT, json=ask(response_format=wanted))
    constraint = llm.engine.script.prompts[0][1].constraint
    assert (constraint.kind, constraint.value) == (kind, value)
