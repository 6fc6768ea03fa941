"""Tool calls: whole and streamed at every split point, valid and malformed."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.models.tool_calls import (
    ContentDelta,
    ToolCallDelta,
    ToolCallStream,
    ToolFormat,
    markers,
    parse,
    tool_format,
)

BOOKING = '{"room": "12", "note": "a } \\" ] b"}'
HERMES = '<tool_call>\n{"name": "book", "arguments": ' + BOOKING + "}\n</tool_call>"
ONE = [("book", BOOKING)]
# (format, text, content, [(name, arguments)])
WHOLE: list[tuple[ToolFormat, str, str, list[tuple[str, str]]]] = [
    ("hermes", "Just words, 3 < 4 and <tool.", "Just words, 3 < 4 and <tool.", []),
    ("hermes", HERMES, "", ONE),
    ("hermes", f"Let me see.\n{HERMES}\n{HERMES}\n", "Let me see.", ONE * 2),
    ("hermes", f"{HERMES}\n Done. ", "\n Done. ", ONE),
    ("hermes", HERMES.removesuffix("</tool_call>"), "", ONE),  # the tag was a stop string
    ("hermes", HERMES.removesuffix("_call>"), "", ONE),
    ("hermes", '<tool_call>{"name": "now"}</tool_call>', "", [("now", "{}")]),
    (
        "hermes",
        '<tool_call>{"name": "x", "arguments": "{\\"a\\": 1}"}</tool_call>',
        "",
        [("x", '{"a": 1}')],
    ),
    (
        "hermes",
        '<tool_call>{"name": 3}</tool_call> ok',
        '<tool_call>{"name": 3}</tool_call> ok',
        [],
    ),
    ("hermes", "<tool_call>{oops}</tool_call>", "<tool_call>{oops}</tool_call>", []),
    ("hermes", '<tool_call>{"name": "x", "argu', '<tool_call>{"name": "x", "argu', []),
    ("hermes", "<tool_call>", "<tool_call>", []),
    ("hermes", f"<tool_call> no {HERMES}", "<tool_call> no", ONE),
    ("hermes", '<tool_call>{"name": "x"} then', '<tool_call>{"name": "x"} then', []),
    ("hermes", "<tool_call>" + "[" * 500, "<tool_call>" + "[" * 500, []),
    ("hermes", '<tool_call>{"a":' * 200, '<tool_call>{"a":' * 200, []),
    ("llama3", ' {"name": "f", "parameters": {"a": [1, 2]}}', "", [("f", '{"a": [1, 2]}')]),
    (
        "llama3",
        '{"name": "f", "parameters": {}}; {"name": "g", "parameters": {"b": null}}',
        "",
        [("f", "{}"), ("g", '{"b": null}')],
    ),
    ("llama3", '<|python_tag|>{"name": "f", "parameters": {}}', "", [("f", "{}")]),
    (
        "llama3",
        'Sure. {"name": "f", "parameters": {}}',
        'Sure. {"name": "f", "parameters": {}}',
        [],
    ),
    ("llama3", '{"name": "Bob", "age": 3}', '{"name": "Bob", "age": 3}', []),
    ("llama3", "<|python_tag|>print(1)", "<|python_tag|>print(1)", []),
    ("llama3", "{curly} words", "{curly} words", []),
    ("llama3", ", so it is", ", so it is", []),
    (
        "mistral",
        'ok [TOOL_CALLS] [{"name": "f", "arguments": {"x": 1}}, {"arguments": {}, "name": "g"}] ',
        "ok",
        [("f", '{"x": 1}'), ("g", "{}")],
    ),
    ("mistral", "[TOOL_CALLS][]", "[TOOL_CALLS][]", []),
    ("mistral", "[TOOL_CALLS][1, 2] x", "[TOOL_CALLS][1, 2] x", []),
    ("mistral", "[TOOL_ not] [TOOL", "[TOOL_ not] [TOOL", []),
]


def run(pieces: list[str], form: ToolFormat) -> tuple[str, list[tuple[str, str]]]:
    count = itertools.count()
    stream = ToolCallStream(form, lambda: f"id{next(count)}")
    deltas = [*(d for piece in pieces for d in stream.push(piece)), *stream.flush()]
    calls = [d for d in deltas if isinstance(d, ToolCallDelta)]
    assert [d.index for d in calls] == list(range(len(calls)))
    assert [d.call.id for d in calls] == [f"id{i}" for i in range(len(calls))]
    content = "".join(d.text for d in deltas if isinstance(d, ContentDelta))
    return content, [(d.call.name, d.call.arguments) for d in calls]


@pytest.mark.parametrize(("form", "text", "content", "calls"), WHOLE)
def test_whole(form: ToolFormat, text: str, content: str, calls: list[tuple[str, str]]) -> None:
    found, found_calls = parse(text, form)
    assert (found, [(c.name, c.arguments) for c in found_calls]) == (content, calls)
    assert all(len(c.id) == 9 and c.id.isalnum() for c in found_calls)


@pytest.mark.parametrize(("form", "text", "content", "calls"), WHOLE)
def test_every_split_point_gives_the_same(
    form: ToolFormat, text: str, content: str, calls: list[tuple[str, str]]
) -> None:
    assert run(list(text), form) == (content, calls)
    for at in range(len(text) if len(text) < 600 else 0):
        assert run([text[:at], text[at:]], form) == (content, calls)


ALPHABET = st.sampled_from(
    [
        *("<tool_call>", "</tool_call>", '{"name": "f", "arguments": {}}', "{", "}", "[", "]", '"'),
        *("<tool", "_call>", "[TOOL_CALLS]", "<|python_tag|>", '{"name": "f", "parameters": {}}'),
        *(" ", "\n", ";", ",", "word", '[{"name": "f"}]', "<", "<|", "\\", "é"),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(ALPHABET, max_size=9), st.sampled_from(["hermes", "llama3", "mistral"]), st.data())
def test_streaming_equals_whole(parts: list[str], form: ToolFormat, data: st.DataObject) -> None:
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = run([text], form)
    assert run(pieces, form) == whole
    assert run(list(text), form) == whole
    if not whole[1]:
        assert whole[0] == text  # nothing is lost where there is no call


def test_content_is_not_delayed_longer_than_a_tag_could_last() -> None:
    stream = ToolCallStream("hermes")
    assert stream.push("Hello there") == [ContentDelta("Hello there")]
    assert stream.push(" <tool") == []
    assert stream.push("box") == [ContentDelta(" <toolbox")]
    assert stream.push("\n<tool_call>") == []
    assert stream.push(json.dumps({"name": "f", "arguments": {}})) == []
    (delta,) = stream.push("</tool_call>")
    assert isinstance(delta, ToolCallDelta)
    assert delta.call.name == "f"


def test_a_long_call_is_read_in_linear_time() -> None:
    stream = ToolCallStream("hermes")
    stream.push('<tool_call>{"name": "f", "arguments": {"text": "')
    for _ in range(20_000):
        assert stream.push("ab ") == []
    (delta,) = stream.push('"}}</tool_call>')
    assert isinstance(delta, ToolCallDelta)
    assert len(delta.call.arguments) == 60_000 + len('{"text": ""}')


def test_the_template_tells_the_format() -> None:
    assert tool_format("{{ '<tool_call>' }}") == "hermes"
    assert tool_format("<tool_call><function=x>") is None
    assert tool_format("{{ '[TOOL_CALLS]' }}") == "mistral"
    assert tool_format("[TOOL_CALLS]name[ARGS]{}") is None
    assert tool_format("<|python_tag|>") == "llama3"
    assert tool_format("role == 'ipython' ... \"parameters\": ") == "llama3"
    assert tool_format("{{ messages }}") is None
    assert markers("hermes") == ("<tool_call>", "</tool_call>")
