"""Tool calls in generated text: found, checked and taken out, whole or while the text streams.

On the main path: the server passes each answer's text through a `ToolCallStream` when the request
names tools. A call is reported once it is complete and valid; whatever looked like one but is not
comes out as plain content, unchanged. Pure; the formats are those Hermes/Qwen, Llama 3 and Mistral
templates teach.
"""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tenfold.types import ToolCall

ToolFormat = Literal["hermes", "llama3", "mistral"]

_DEPTH = 100  # deeper nesting than this is no call, and would exhaust the JSON reader
_SPACE = " \t\r\n"


@dataclass(frozen=True, slots=True)
class ContentDelta:
    """Text for the reader."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """One complete call; `index` counts the calls of this answer."""

    index: int
    call: ToolCall


@dataclass(frozen=True, slots=True)
class _Syntax:
    start: str  # what announces a call
    stop: str  # what ends it after its JSON; "" = nothing
    opening: str  # the JSON's first character
    bare: bool = False  # may a text begin with the JSON itself?
    separators: str = ""  # characters that may stand between bare calls


_SYNTAX: dict[ToolFormat, _Syntax] = {
    "hermes": _Syntax("<tool_call>", "</tool_call>", "{"),
    "llama3": _Syntax("<|python_tag|>", "", "{", bare=True, separators=";,"),
    "mistral": _Syntax("[TOOL_CALLS]", "", "["),
}


def tool_format(template: str) -> ToolFormat | None:
    """The format a chat template teaches its model, read from the template's text; None if none."""
    if "<tool_call>" in template:
        return None if "<function=" in template else "hermes"  # the other one is not JSON
    if "[TOOL_CALLS]" in template:
        return None if "[ARGS]" in template else "mistral"  # newer ones put the name outside
    if "<|python_tag|>" in template or ("ipython" in template and '"parameters"' in template):
        return "llama3"
    return None


def markers(form: ToolFormat) -> tuple[str, ...]:
    """Texts that may be special tokens and must survive decoding for calls to be found."""
    syntax = _SYNTAX[form]
    return tuple(m for m in (syntax.start, syntax.stop) if m)


def parse(
    text: str, form: ToolFormat, new_id: Callable[[], str] | None = None
) -> tuple[str, list[ToolCall]]:
    """(content without the calls, the calls) of a finished answer."""
    stream = ToolCallStream(form, new_id)
    deltas = [*stream.push(text), *stream.flush()]
    content = "".join(d.text for d in deltas if isinstance(d, ContentDelta))
    return content, [d.call for d in deltas if isinstance(d, ToolCallDelta)]


def call_id() -> str:
    """A fresh id of nine letters and digits, the one shape every template accepts."""
    return "".join(random.choices(string.ascii_letters + string.digits, k=9))


class ToolCallStream:
    """Separates content from calls while text arrives in pieces of any size.

    White space before a call is dropped, and after it where no text follows. `new_id` names the
    calls.
    """

    def __init__(self, form: ToolFormat, new_id: Callable[[], str] | None = None) -> None:
        self._syntax = _SYNTAX[form]
        self._new_id = new_id or call_id
        self._text = ""  # arrived and undecided
        self._space = ""  # white space that belongs to the content unless a call is next to it
        self._inside: str | None = None  # in a call: how it was announced ("" = bare JSON)
        self._json = _JsonEnd()
        self._begun = False  # something but white space has been decided
        self._calls = 0
        self._after_call = False  # nothing but white space since the last call
        self._out: list[ContentDelta | ToolCallDelta] = []

    def push(self, text: str) -> list[ContentDelta | ToolCallDelta]:
        """What is certain now and was not before."""
        self._text += text
        while self._step():
            pass
        return self._taken()

    def flush(self) -> list[ContentDelta | ToolCallDelta]:
        """The rest, at the end of the answer; an unfinished call comes out as content."""
        if self._inside is not None and not self._close(final=True):
            self._fail(len(self._text))
        self._content(self._text)
        if not self._after_call:
            self._emit("")
        self._text = self._space = ""
        return self._taken()

    def _taken(self) -> list[ContentDelta | ToolCallDelta]:
        out, self._out = self._out, []
        merged: list[ContentDelta | ToolCallDelta] = []
        for delta in out:
            last = merged[-1] if merged else None
            if isinstance(delta, ContentDelta) and isinstance(last, ContentDelta):
                merged[-1] = ContentDelta(last.text + delta.text)
            else:
                merged.append(delta)
        return merged

    def _step(self) -> bool:
        """Decide as much as possible; True if another step may decide more."""
        if self._inside is not None:
            return self._close(final=False)
        return self._find()

    def _find(self) -> bool:
        """Outside a call: pass content on up to the next announcement."""
        syntax = self._syntax
        bare = self._bare_start()
        if bare is not None:
            self._space += self._text[:bare]
            return self._enter("", self._text[bare:])
        at = self._text.find(syntax.start)
        if at >= 0:
            self._content(self._text[:at])
            return self._enter(syntax.start, self._text[at + len(syntax.start) :])
        kept = _overlap(self._text, syntax.start)
        decided = len(self._text) - kept
        if syntax.bare and not self._text.strip(_SPACE + syntax.separators):
            decided = 0  # nothing yet that could not stand before a bare call
        self._content(self._text[:decided])
        self._text = self._text[decided:]
        return False

    def _bare_start(self) -> int | None:
        """Where a bare call begins, if the text may begin with one."""
        if not self._syntax.bare or (self._begun and not self._after_call):
            return None
        between = _SPACE + (self._syntax.separators if self._after_call else "")
        rest = self._text.lstrip(between)
        return len(self._text) - len(rest) if rest.startswith("{") else None

    def _enter(self, announced: str, rest: str) -> bool:
        self._inside, self._text, self._json = announced, rest, _JsonEnd()
        return True

    def _close(self, final: bool) -> bool:
        """Inside a call: take it out if it is complete, give it up if it cannot become one."""
        syntax, text = self._syntax, self._text
        body = text.lstrip(_SPACE)
        offset = len(text) - len(body)
        if not body:
            return False
        if body[0] != syntax.opening:
            return self._fail(0)
        end = self._json.find(body)
        if end is None:
            return self._fail(len(text)) if self._json.broken else False
        calls = _calls(body[:end], strict=self._inside == "")
        if calls is None:
            return self._fail(offset + end)
        rest = body[end:]
        if syntax.stop:
            after = rest.lstrip(_SPACE)
            if after.startswith(syntax.stop):
                rest = after[len(syntax.stop) :]
            elif final and syntax.stop.startswith(after):
                rest = ""  # the stop tag itself ended the generation
            elif syntax.stop.startswith(after):
                return False
            else:
                return self._fail(offset + end)
        self._succeed(calls, rest)
        return True

    def _succeed(self, calls: list[tuple[str, str]], rest: str) -> None:
        for name, arguments in calls:
            call = ToolCall(self._new_id(), name, arguments)
            self._out.append(ToolCallDelta(self._calls, call))
            self._calls += 1
        self._space, self._inside, self._text = "", None, rest
        self._begun = self._after_call = True

    def _fail(self, length: int) -> bool:
        """Give the announcement and `length` characters behind it back as content."""
        assert self._inside is not None
        failed, self._inside = self._inside + self._text[:length], None
        self._begun = True
        self._emit(failed.rstrip(_SPACE))
        self._space = failed[len(failed.rstrip(_SPACE)) :]
        self._text = self._text[length:]
        return True

    def _content(self, text: str) -> None:
        """Pass text on, holding back the white space at its end."""
        solid = text.rstrip(_SPACE)
        if solid:
            self._begun = True
            self._emit(solid)
        self._space += text[len(solid) :]

    def _emit(self, text: str) -> None:
        whole = self._space + text
        self._space, self._after_call = "", False
        if whole:
            self._out.append(ContentDelta(whole))


class _JsonEnd:
    """Finds the end of the JSON value a growing text begins with; reads each character once."""

    def __init__(self) -> None:
        self.broken = False
        self._at = 0
        self._depth = 0
        self._quoted = False
        self._escaped = False

    def find(self, text: str) -> int | None:
        """Index behind the value; None if it is not complete (or `broken`: never will be)."""
        while self._at < len(text):
            char = text[self._at]
            self._at += 1
            if self._quoted:
                self._in_string(char)
            elif char == '"':
                self._quoted = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if self._depth == 0:
                    return self._end()
            if self._depth > _DEPTH:
                self.broken = True
                return None
        return None

    def _end(self) -> int:
        end, self._at = self._at, self._at - 1  # asked again, it answers again
        self._depth = 1
        return end

    def _in_string(self, char: str) -> None:
        if self._escaped:
            self._escaped = False
        elif char == "\\":
            self._escaped = True
        elif char == '"':
            self._quoted = False


def _overlap(text: str, mark: str) -> int:
    """Length of the longest end of `text` that `mark` begins with."""
    for size in range(min(len(text), len(mark) - 1), 0, -1):
        if mark.startswith(text[-size:]):
            return size
    return 0


def _calls(text: str, strict: bool) -> list[tuple[str, str]] | None:
    """(name, arguments as written) of the call or the list of calls; None if it is not that.

    `strict` calls need their arguments: a JSON answer with a "name" is no call.
    """
    try:
        value = json.loads(text)
        items = _elements(text) if isinstance(value, list) else [text]
        found = [_call(item, strict) for item in items]
    except ValueError:
        return None
    whole = [call for call in found if call is not None]
    return whole if whole and len(whole) == len(found) else None


def _elements(text: str) -> list[str]:
    """The elements of a valid JSON array, as written."""
    reader, at, items = json.JSONDecoder(), _skip(text, 1), []
    while text[at] != "]":
        _, end = reader.raw_decode(text, at)
        items.append(text[at:end])
        at = _skip(text, _skip(text, end) + (text[_skip(text, end)] == ","))
    return items


def _call(text: str, strict: bool) -> tuple[str, str] | None:
    """(name, arguments as written) of one valid JSON object; None if it is no call."""
    if not text.startswith("{"):
        return None
    reader, at = json.JSONDecoder(), _skip(text, 1)
    name, arguments = "", None if strict else "{}"
    while text[at] != "}":
        key, end = reader.raw_decode(text, at)
        start = _skip(text, _skip(text, end) + 1)
        value, end = reader.raw_decode(text, start)
        if key == "name" and isinstance(value, str):
            name = value
        elif key in ("arguments", "parameters"):
            arguments = _object(value, text[start:end])
            if arguments is None:
                return None
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at
    return (name, arguments) if name and arguments is not None else None


def _object(value: object, written: str) -> str | None:
    """Arguments as JSON text: an object, or an object some models write into a string."""
    if isinstance(value, dict):
        return written
    if isinstance(value, str):
        return value if isinstance(json.loads(value), dict) else None
    return None


def _skip(text: str, at: int) -> int:
    """The next index that is not white space."""
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at
