"""The real client against a real socket: what it parses and raises is what users get."""

from __future__ import annotations

import json
from collections.abc import Iterator

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tenfold.models.loading import LoadedModel
from tenfold.search.llm import AsyncLLM
from tenfold.server.settings import ServerSettings

from .conftest import Scripted, running
from .models import Script

HI: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]
TEXT = "Grüß Gott, 你好 👋!"
TOOL: openai.types.chat.ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}},
}
SETTINGS = ServerSettings(api_keys=("test-key",))


@pytest.fixture
def llm(scripted: Scripted) -> AsyncLLM:
    return scripted(Script(answers=[TEXT, "Second"], per_step=1))


@pytest.fixture
def client(llm: AsyncLLM) -> Iterator[OpenAI]:
    with (
        running(llm, SETTINGS) as address,
        OpenAI(base_url=address + "/v1", api_key="test-key", max_retries=0) as client,
    ):
        yield client


def test_chat(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="tiny", messages=HI, n=2, seed=1)
    assert [c.message.content for c in answer.choices] == [TEXT, "Second"]
    assert answer.usage
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.completion_tokens_details
    assert answer.usage.completion_tokens_details.accepted_prediction_tokens == 0


def test_chat_stream(client: OpenAI) -> None:
    texts = ["", ""]
    usage = None
    with client.chat.completions.create(
        model="tiny", messages=HI, n=2, stream=True, stream_options={"include_usage": True}
    ) as stream:
        for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
    assert texts == [TEXT, "Second"]
    assert usage
    assert usage.completion_tokens == len(TEXT.encode()) + len("Second") + 2


async def test_async_chat_and_stream(llm: AsyncLLM) -> None:
    with running(llm, SETTINGS) as address:
        async with AsyncOpenAI(base_url=address + "/v1", api_key="test-key") as client:
            answer = await client.chat.completions.create(model="tiny", messages=HI)
            assert answer.choices[0].message.content == TEXT
            text = ""
            async for chunk in await client.chat.completions.create(
                model="tiny", messages=HI, stream=True
            ):
                text += chunk.choices[0].delta.content or ""
            assert text == TEXT
            async with client.chat.completions.stream(model="tiny", messages=HI) as events:
                final = await events.get_final_completion()
            assert final.choices[0].message.content == TEXT


def test_logprobs(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=HI, logprobs=True, top_logprobs=3
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs
    assert logprobs.content
    spelled = [b for entry in logprobs.content[:-1] for b in entry.bytes or []]
    assert bytes(spelled).decode() == TEXT
    assert [len(e.top_logprobs) for e in logprobs.content] == [3] * len(logprobs.content)
    streamed = []
    for chunk in client.chat.completions.create(
        model="tiny", messages=HI, logprobs=True, stream=True
    ):
        lp = chunk.choices[0].logprobs
        streamed += lp.content or [] if lp else []
    assert [e.logprob for e in streamed] == [e.logprob for e in logprobs.content]


def test_strategies_and_presets(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=HI, extra_body={"decode": {"strategy": "best_of_n", "n": 4}}
    )
    assert answer.model_extra
    assert answer.model_extra["decode"]["candidates"]["started"] == 4
    preset = client.chat.completions.create(model="tiny@best", messages=HI)
    assert preset.model_extra
    assert preset.model_extra["decode"]["params"] == {"n": 8}
    assert preset.usage
    assert preset.usage.completion_tokens > 8


def test_completions(client: OpenAI) -> None:
    answer = client.completions.create(model="tiny", prompt=["a", "b"], max_tokens=4, logprobs=1)
    assert [c.text for c in answer.choices] == ["Grü"] * 2
    stream = client.completions.create(model="tiny", prompt="a", max_tokens=100, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == TEXT


def test_embeddings(client: OpenAI) -> None:
    answer = client.embeddings.create(model="tiny", input=["a", "b"])  # base64 on the wire
    plain = client.embeddings.create(model="tiny", input="a", encoding_format="float")
    assert answer.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert len(answer.data) == 2


def test_models(client: OpenAI) -> None:
    assert [m.id for m in client.models.list()] == ["tiny", "tiny@best"]
    assert client.models.retrieve("tiny@best").owned_by == "tenfold"
    with pytest.raises(openai.NotFoundError, match="known: tiny"):
        client.models.retrieve("other")


def test_errors_are_the_clients_own(client: OpenAI) -> None:
    create = client.chat.completions.create
    with pytest.raises(openai.BadRequestError, match="did you mean 'temperature'") as caught:
        create(model="tiny", messages=HI, extra_body={"temprature": 1})
    assert caught.value.param == "temprature"
    assert caught.value.code == "unknown_field"
    with pytest.raises(openai.BadRequestError, match="at most"):
        create(model="tiny", messages=HI, n=1000)
    with pytest.raises(openai.NotFoundError):
        create(model="other", messages=HI)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()
    with pytest.raises(openai.BadRequestError, match="text only"):
        create(
            model="tiny",
            messages=[
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}],
                }
            ],
        )


def test_an_error_inside_a_stream_is_raised(scripted: Scripted) -> None:
    with (
        running(scripted(Script(fail_after=3))) as address,
        OpenAI(base_url=address + "/v1", api_key="x", max_retries=0) as client,
    ):
        stream = client.chat.completions.create(model="tiny", messages=HI, stream=True)
        got = []
        with pytest.raises(openai.APIError, match="server failed"):
            got.extend(stream)
        assert len(got) == 4
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="tiny", messages=HI, temperature=9, stream=True)


def test_overload_is_a_rate_limit(scripted: Scripted) -> None:
    with (
        running(scripted(Script(full=True))) as address,
        OpenAI(base_url=address + "/v1", api_key="x", max_retries=0) as client,
        pytest.raises(openai.RateLimitError),
    ):
        client.chat.completions.create(model="tiny", messages=HI)


def test_tools(scripted: Scripted, tool_model: LoadedModel) -> None:
    text = '<tool_call>{"name": "clock", "arguments": {"zone": "CET"}}</tool_call>'
    with (
        running(scripted(Script(answers=[text], per_step=3), tool_model)) as address,
        OpenAI(base_url=address + "/v1", api_key="x") as client,
    ):
        answer = client.chat.completions.create(model="tiny", messages=HI, tools=[TOOL])
        calls = answer.choices[0].message.tool_calls
        assert calls
        assert calls[0].type == "function"
        assert json.loads(calls[0].function.arguments) == {"zone": "CET"}
        with client.chat.completions.stream(model="tiny", messages=HI, tools=[TOOL]) as events:
            final = events.get_final_completion().choices[0]
        assert final.finish_reason == "tool_calls"
        assert final.message.tool_calls
        assert final.message.tool_calls[0].function.name == "clock"
        # What the client got goes back as it is.
        again = [
            *HI,
            final.message.model_dump(exclude={"parsed"}),
            {"role": "tool", "tool_call_id": calls[0].id, "content": "noon"},
        ]
        for message in again:
            for call in message.get("tool_calls") or []:
                call["function"].pop("parsed_arguments", None)
        client.chat.completions.create(model="tiny", messages=again, tools=[TOOL])
