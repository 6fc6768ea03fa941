"""Chat templates: the same text as transformers, and hostile ones end quickly with an error."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tenfold.errors import CheckpointError, TemplateError
from tenfold.models.chat_template import ChatTemplate
from tenfold.types import Message, ToolCall

from .test_tokenizer import byte_level

CHATML = """{%- for message in messages %}
    {%- if loop.first and message.role != 'system' %}
        {{- '<|im_start|>system\\nYou help.<|im_end|>\\n' }}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\\n' }}
    {{- message['content'] | trim + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""
LLAMA3 = """{{ bos_token }}{% set ns = namespace(turns=0) %}
{% for message in messages %}
    {% if message['role'] == 'user' %}{% set ns.turns = ns.turns + 1 %}{% endif %}
    {% set head = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' %}
    {% set content = head + message['content'] | trim + '<|eot_id|>' %}
    {{- content }}
{% endfor %}
{%- if ns.turns > 5 %}{{ raise_exception('too many turns') }}{% endif %}
{% if add_generation_prompt %}
{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{% endif %}"""
TOOLS = """{% if tools %}# Tools ({{ tools|length }}) {{ strftime_now('%Y') }}
{% for tool in tools %}{{ tool | tojson }}
{{ tool.function.parameters | tojson(indent=2) }}
{% if loop.index0 > 3 %}{% break %}{% endif %}
{% endfor %}{% endif %}
{% macro show(m) -%}{{ m.role }}: {% generation %}{{ m.content }}{% endgeneration %}{%- endmacro %}
{% for m in messages %}
{% if m.role == 'system' %}{% continue %}{% endif %}
{{ show(m) }}
{% for call in m.tool_calls or [] %}
<tool_call>{"name": "{{ call.function.name }}", "arguments": 
{{- call.function.arguments | tojson }}}</tool_call>
{% endfor %}{% if m.tool_call_id is defined %}({{ m.tool_call_id }}){% endif %}
{% endfor %}{{ mood | default('calm') }}"""
TALK = [
    Message("system", "Be brief. "),
    Message("user", "Hé, <b>what's</b> on?\n"),
    Message("assistant", "  Two things: 1 < 2."),
    Message("user", "Und 漢字 😀?"),
]
CALL = ToolCall("c1", "weather", '{"city": "Köln", "days": 2}')
CALLING = [
    Message("user", "Weather?"),
    Message("assistant", None, tool_calls=(CALL,)),
    Message("tool", '{"sky": "grey"}', name="weather", tool_call_id="c1"),
]
SCHEMAS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "It's <weather>",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]


def shown(message: Message) -> dict[str, Any]:
    """A message as a user of transformers would write it."""
    out: dict[str, Any] = {"role": message.role, "content": message.content or ""}
    if message.name:
        out["name"] = message.name
    if message.tool_call_id:
        out["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        out["tool_calls"] = [
            {
                "id": c.id,
                "type": "function",
                "function": {"name": c.name, "arguments": json.loads(c.arguments)},
            }
            for c in message.tool_calls
        ]
    return out


@pytest.fixture
def template(request: pytest.FixtureRequest) -> Iterator[ChatTemplate]:
    made = ChatTemplate(request.param, {"bos_token": "<s>"})
    yield made
    made.close()


@pytest.mark.parametrize("template", [CHATML, LLAMA3, TOOLS], indirect=True)
@pytest.mark.parametrize("messages", [TALK, TALK[1:], CALLING], ids=["talk", "no system", "tools"])
def test_text_equals_transformers(template: ChatTemplate, messages: list[Message]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import PreTrainedTokenizerFast

        peer = PreTrainedTokenizerFast(tokenizer_object=byte_level(), bos_token="<s>")
        peer.chat_template = template.source
    for tools in (None, SCHEMAS):
        for prompt in (True, False):
            theirs = peer.apply_chat_template(
                [shown(m) for m in messages],
                tools=tools,
                add_generation_prompt=prompt,
                tokenize=False,
                mood="glad",
            )
            ours = template.render(messages, tools, add_generation_prompt=prompt, mood="glad")
            assert ours == theirs


@pytest.mark.parametrize("template", [CHATML, LLAMA3], indirect=True)
def test_a_final_message_can_be_continued(template: ChatTemplate) -> None:
    talk = [*TALK, Message("assistant", "The answer is ")]
    text = template.render(talk, continue_final=True)
    assert text.endswith("The answer is")
    assert template.render(talk).startswith(text)
    with pytest.raises(TemplateError, match="no final message"):
        template.render([], continue_final=True)


LOOPS = "{% for a in range(9999) %}{% for b in range(9999) %}"
HOSTILE = {
    "endless nested loops": LOOPS
    + "{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}",
    "huge range": "{% for a in range(999999999) %}x{% endfor %}",
    "huge output": LOOPS + "x" * 16 + "{% endfor %}{% endfor %}",
    "huge string": "{{ 'a' * 99999999999 }}",
    "huge number": "{{ 9 ** (9 ** 9) }}",
    "huge padding": "{{ 'a'.center(9999999999) }}{{ 'a' | center(9999999999) }}",
    "doubling": "{% set ns = namespace(x='ab') %}{% for i in range(60) %}"
    "{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    "nested doubling": "{% set ns = namespace(x=['ab']) %}{% for i in range(60) %}"
    "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "exponential recursion": "{% macro f(n) %}{% if n %}{% set x = f(n-1) ~ f(n-1) %}{% endif %}"
    "{% endmacro %}{{ f(60) }}",
    "attributes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ raise_exception.__globals__['sys'].modules }}",
    "format": "{{ '{0.__class__.__init__.__globals__}'.format(raise_exception) }}",
    "import": "{% import 'os' as os %}{{ os }}",
    "include": "{% include '/etc/passwd' %}",
    "mutation": "{{ messages.append(1) }}",
    "syntax": "{% for %}",
    "wrong types": "{{ 1 + 'a' }}",
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile_templates_end_quickly(name: str) -> None:
    template = ChatTemplate(HOSTILE[name], seconds=1.0)
    begin = time.monotonic()
    with pytest.raises(TemplateError):
        template.render(TALK)
    assert time.monotonic() - begin < 2.5  # a second, and a process to start
    template.close()


def test_attribute_tricks_yield_nothing() -> None:
    template = ChatTemplate(
        "{{ messages.__class__ }}{{ cycler.__init__ }}{{ self._TemplateReference__context }}"
    )
    assert template.render(TALK) == ""
    template.close()


def test_the_process_comes_back_after_a_kill() -> None:
    loop = LOOPS + "{% endfor %}{% endfor %}"
    template = ChatTemplate("{% if messages|length > 1 %}" + loop + "{% endif %}fine", seconds=0.3)
    assert template.render(TALK[:1]) == "fine"
    with pytest.raises(TemplateError, match=r"more than 0\.3 s"):
        template.render(TALK)
    assert template.render(TALK[:1]) == "fine"
    template.close()
    assert template.render(TALK[:1]) == "fine"
    child = template._process._child
    assert child is not None
    child.kill()
    child.wait()
    assert template.render(TALK[:1]) == "fine"
    template.close()


@pytest.mark.parametrize("template", [LLAMA3], indirect=True)
def test_a_refused_conversation_says_why(template: ChatTemplate) -> None:
    with pytest.raises(TemplateError, match="too many turns"):
        template.render([Message("user", "x")] * 6)
    with pytest.raises(TemplateError, match="not JSON"):
        template.render(TALK, oddity=object())
    assert template.render(TALK[:1]).startswith("<s>")


def test_templates_are_found_in_folders(tmp_path: Path) -> None:
    assert ChatTemplate.from_folder(tmp_path) is None
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"eos_token": {"content": "</s>"}, "chat_template": "one"}))
    found = ChatTemplate.from_folder(tmp_path)
    assert found is not None
    assert (found.source, found.special) == ("one", {"eos_token": "</s>"})
    named = [{"name": "default", "template": "two"}, {"name": "tool_use", "template": "three"}]
    config.write_text(json.dumps({"chat_template": named}))
    sources = [ChatTemplate.from_folder(tmp_path, n) for n in ("default", "tool_use")]
    assert [s.source for s in sources if s] == ["two", "three"]
    with pytest.raises(CheckpointError, match="known: default, tool_use"):
        ChatTemplate.from_folder(tmp_path, "rag")
    (tmp_path / "chat_template.jinja").write_text("four")
    found = ChatTemplate.from_folder(tmp_path)
    assert found is not None
    assert found.source == "four"
    (tmp_path / "chat_template.jinja").unlink()
    config.write_text(json.dumps({"chat_template": 3}))
    with pytest.raises(CheckpointError, match="is not text"):
        ChatTemplate.from_folder(tmp_path)
