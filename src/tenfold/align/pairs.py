"""Preference pairs from a file of JSON lines, with TRL's column names.

A line is `{"prompt": ..., "chosen": ..., "rejected": ...}`: texts, or lists of chat messages. Where
there is no prompt, both answers begin with it and what they share is taken for it.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tenfold.errors import InvalidRequest
from tenfold.types import Message

Text: TypeAlias = str | tuple[Message, ...]

_TURN = "\n\nAssistant:"  # what HH's dialogues write before an answer
_ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt and two answers to it; `row` is the line of the file, from 1.

    A plain text is completed as it stands; messages go through the model's chat template.
    """

    row: int
    prompt: Text
    chosen: Text
    rejected: Text
    kind: str = ""  # the file's column `kind`, for counts apart


def words(text: Text) -> str:
    """A text as it is, or the contents of messages, a line each."""
    return text if isinstance(text, str) else "\n".join(m.content or "" for m in text)


def read_pairs(path: str | Path, *, strict: bool = True) -> list[Pair]:
    """The pairs of a file of JSON lines, which may be gzipped; other columns are ignored.

    Raises InvalidRequest naming row and field for a file that cannot be read, a field that is
    missing or of another type and, unless `strict` is off, for answers that are empty or identical.
    """
    path = Path(path)
    pairs = [as_pair(path, row, value) for row, value in _lines(path)]
    if not pairs:
        raise InvalidRequest(f"{path} holds no pairs", param="data", hint="one JSON object a line")
    if strict:
        for pair in pairs:
            check_pair(pair, path)
    return pairs


def check_pair(pair: Pair, path: str | Path = "data") -> None:
    """Raises InvalidRequest for an answer that is empty, or that equals the other."""
    where = f"{path}, row {pair.row}"
    look = f"take the row out; `tenfold train screen {path}` lists all such rows"
    for name, answer in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        if not words(answer).strip():
            raise InvalidRequest(f"{where}: {name} is empty", param=name, hint=look)
    if pair.chosen == pair.rejected:
        raise InvalidRequest(
            f"{where}: chosen and rejected are the same: no preference can be learnt from it",
            param="rejected",
            hint=look,
        )


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as e:
        raise InvalidRequest(
            f"{path} cannot be read: {e}", param="data", hint="JSON lines in UTF-8, .gz or not"
        ) from None
    for row, line in enumerate(text.split("\n"), 1):  # JSON may hold U+2028 and its like
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise InvalidRequest(f"{path}, row {row} is not JSON: {e}", param="data") from None
        if not isinstance(value, Mapping):
            raise InvalidRequest(
                f"{path}, row {row} is not an object",
                param="data",
                hint='a row is {"prompt": ..., "chosen": ..., "rejected": ...}',
            )
        yield row, value


def as_pair(path: str | Path, row: int, item: Mapping[str, Any]) -> Pair:
    """A row in TRL's form as a Pair; `path` is what errors name. Raises InvalidRequest."""
    where = f"{path}, row {row}"
    chosen, rejected = (_text(item, name, where) for name in ("chosen", "rejected"))
    kind = str(item.get("kind") or "")
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise InvalidRequest(
            f"{where}: one answer is a text and the other a list of messages", param="rejected"
        )
    prompt = _text(item, "prompt", where) if item.get("prompt") is not None else None
    if prompt is None or (isinstance(prompt, str) and not isinstance(chosen, str)):
        # Some data sets repeat the question in a column; the messages hold all of it.
        return Pair(row, *_split(chosen, rejected, where), kind)
    if isinstance(prompt, str):
        return Pair(row, prompt, chosen, rejected, kind)
    chosen, rejected = _messages_after(prompt, chosen), _messages_after(prompt, rejected)
    return Pair(row, prompt, chosen, rejected, kind)


def _messages_after(prompt: tuple[Message, ...], answer: Text) -> Text:
    """The answer as messages, without the prompt that it may repeat."""
    if isinstance(answer, str):
        return (Message("assistant", answer),)
    return answer[len(prompt) :] if answer[: len(prompt)] == prompt else answer


def _split(chosen: Text, rejected: Text, where: str) -> tuple[Text, Text, Text]:
    """(prompt, chosen, rejected) of answers that both begin with their prompt."""
    length = _shared(chosen, rejected)
    if length == 0:
        raise InvalidRequest(
            f"{where}: there is no prompt, and the two answers do not begin with the same one",
            param="prompt",
            hint='add "prompt"',
        )
    return chosen[:length], chosen[length:], rejected[length:]


def _shared(chosen: Text, rejected: Text) -> int:
    """How much of both is their prompt: whole messages, or characters."""
    alike = (a == b for a, b in zip(chosen, rejected, strict=False))
    shortest = min(len(chosen), len(rejected))
    length = next((place for place, same in enumerate(alike) if not same), shortest)
    if not isinstance(chosen, str) or length == shortest:
        return length
    common = chosen[:length]
    turn = common.rfind(_TURN)
    if turn >= 0:  # a dialogue: the answers' own first words may be alike
        return turn + len(_TURN)
    while common and not common[-1].isspace():  # no word is cut
        common = common[:-1]
    return len(common.rstrip())


def _text(item: Mapping[str, Any], name: str, where: str) -> Text:
    value = item.get(name)
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return tuple(_message(m, f"{where}: {name}[{i}]") for i, m in enumerate(value))
    raise InvalidRequest(
        f"{where} has no {name}" if value is None else f"{where}: {name} is {_kind(value)}",
        param=name,
        hint=f"{name} is a text or a list of messages; columns here: {', '.join(map(str, item))}",
    )


def _message(value: Any, where: str) -> Message:
    if not isinstance(value, Mapping) or value.get("role") not in _ROLES:
        raise InvalidRequest(
            f"{where} is no chat message",
            hint='a message is {"role": "user", "content": "..."}; roles: ' + ", ".join(_ROLES),
        )
    content = value.get("content")
    if isinstance(content, list):  # OpenAI's parts
        parts = [p.get("text") if isinstance(p, Mapping) else None for p in content]
        if all(isinstance(p, str) for p in parts):
            content = "".join(p for p in parts if p)
    if not isinstance(content, str) or value.get("tool_calls"):
        raise InvalidRequest(
            f"{where} holds {'tool calls' if value.get('tool_calls') else _kind(content)}",
            hint="only text content is read: write the call out as the model would",
        )
    return Message(value["role"], content)


def _kind(value: Any) -> str:
    return "null" if value is None else f"a {type(value).__name__}, not text"
