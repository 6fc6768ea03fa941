"""Questions whose answers are known, as a model's recipe ships them beside it.

`tenfold eval NAME` asks them and `tenfold bench NAME` measures on them. The file is JSONL, gzipped
or not: a first object with what it is and the lexicon, then one question each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tenfold.cli.generate import read_jsonl
from tenfold.errors import InvalidRequest, UnknownName
from tenfold.models.folders import locate
from tenfold.rewards.facts import Requirement
from tenfold.rewards.verifier import FactsVerifier
from tenfold.types import Message, as_messages

FILE = "questions.jsonl.gz"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A conversation that training has not seen, and what its answer must state.

    `starts` are the spans of the values in `reference`, in characters; `baselines` holds what
    simpler methods answer, by their names.
    """

    id: str
    set: str
    kind: str
    messages: tuple[Message, ...]
    required: tuple[Requirement, ...]
    reference: str
    starts: tuple[tuple[int, int], ...]
    baselines: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class HeldOutFile:
    """All questions of a file, and the ordinary words that are no invented names."""

    about: Mapping[str, Any]
    lexicon: frozenset[str]
    questions: tuple[HeldOut, ...]

    @property
    def sets(self) -> list[str]:
        """The names of the sets, in the order of the file."""
        return list(dict.fromkeys(q.set for q in self.questions))

    def of(self, name: str, count: int | None = None) -> list[HeldOut]:
        """The questions of a set, or `count` of them; none where the set does not exist."""
        return drawn([q for q in self.questions if q.set == name], count)

    def choose(self, limit: int | None = None, only: str | None = None) -> list[HeldOut]:
        """Questions of one set or of all; under a limit, equally many of each set as far as they
        go. Raises UnknownName."""
        if only is not None and only not in self.sets:
            raise UnknownName("set", only, self.sets, param="set")
        names = self.sets if only is None else [only]
        if limit is None:
            return [q for q in self.questions if q.set in names]
        columns = [self.of(name, limit) for name in names]
        rounds = ([c[i] for c in columns if i < len(c)] for i in range(limit))
        return [q for turn in rounds for q in turn][:limit]

    def verifier(self, question: HeldOut) -> FactsVerifier:
        """What judges answers to a question: it knows what must be stated. Raises InvalidRequest
        for a question without facts."""
        try:
            return FactsVerifier(question.messages, question.required, self.lexicon)
        except InvalidRequest as e:
            raise InvalidRequest(f"question {question.id}: {e.message}", hint=_AGAIN) from None


def drawn(questions: Sequence[HeldOut], count: int | None) -> list[HeldOut]:
    """`count` of the questions by lot, always the same; a larger draw holds every smaller one."""
    if count is None:
        return list(questions)
    lot = {q.id: hashlib.sha256(q.id.encode()).digest() for q in questions}
    return sorted(questions, key=lambda q: lot[q.id])[:count]


def shipped(name: str) -> Path:
    """The file of questions in a model's folder. Raises InvalidRequest when it has none."""
    file = locate(name) / FILE
    if not file.is_file():
        raise InvalidRequest(
            f"model {name!r} comes without held-out questions",
            hint=f"its recipe writes them to {FILE} in its folder; `tenfold eval concierge --model "
            "NAME` asks another model the concierge's",
        )
    return file


def read_held_out(file: Path) -> HeldOutFile:
    """Reads and checks a file; raises InvalidRequest with the object that is wrong."""
    return parse_held_out(read_jsonl(file), str(file))


def begins_held_out(item: Mapping[str, Any]) -> bool:
    """Whether a file that begins with this object holds questions of this kind."""
    return "about" in item and "lexicon" in item


def parse_held_out(items: Iterable[Mapping[str, Any]], source: str) -> HeldOutFile:
    """The questions in the objects of a file called `source`."""
    objects = iter(items)
    head = next(objects, {})
    if not begins_held_out(head):
        raise _wrong(source, 1, 'its first object is not {"about": ..., "lexicon": ...}')
    about, lexicon = _of(dict, head, "about", source, 1), _of(str, head, "lexicon", source, 1)
    found = tuple(_question(item, source, number) for number, item in enumerate(objects, 2))
    if not found:
        raise InvalidRequest(f"{source} holds no questions", hint=_AGAIN)
    if len({q.id for q in found}) < len(found):
        raise InvalidRequest(f"{source}: two questions have the same id", hint=_AGAIN)
    return HeldOutFile(about, frozenset(lexicon.split()), found)


def _question(item: Mapping[str, Any], source: str, number: int) -> HeldOut:
    def text(key: str) -> str:
        return _of(str, item, key, source, number)

    required = _of(list, item, "required", source, number)
    if not all(_is_row(r, str, 3) for r in required):
        raise _wrong(source, number, "required holds no [record, slot, value] of texts")
    reference = text("reference")
    starts = item.get("starts", [])
    if not isinstance(starts, list) or not all(
        _is_row(s, int, 2) and 0 <= s[0] < s[1] <= len(reference) for s in starts
    ):
        raise _wrong(source, number, "starts holds no [begin, end] inside reference")
    baselines = item.get("baselines", {})
    if not isinstance(baselines, dict) or not all(isinstance(v, str) for v in baselines.values()):
        raise _wrong(source, number, "baselines does not map names to answers")
    messages = _of(list, item, "messages", source, number)
    if not messages or not all(
        isinstance(m, dict) and isinstance(m.get("content"), str) for m in messages
    ):
        raise _wrong(source, number, "messages holds no conversation")
    try:
        chat = tuple(as_messages(messages))
    except InvalidRequest as e:
        raise _wrong(source, number, e.message) from None
    return HeldOut(
        id=text("id"),
        set=text("set"),
        kind=text("kind"),
        messages=chat,
        required=tuple(Requirement(*r) for r in required),
        reference=reference,
        starts=tuple((s[0], s[1]) for s in starts),
        baselines=baselines,
    )


def _is_row(value: Any, of: type, length: int) -> bool:
    return (
        isinstance(value, list) and len(value) == length and all(isinstance(v, of) for v in value)
    )


def _of(kind: type[T], item: Mapping[str, Any], key: str, source: str, number: int) -> T:
    value = item.get(key)
    if not isinstance(value, kind):
        what = {"str": "a text", "list": "a list", "dict": "an object"}
        raise _wrong(source, number, f"{key} is not {what[kind.__name__]}")
    return value


def _wrong(source: str, number: int, what: str) -> InvalidRequest:
    return InvalidRequest(f"{source}, object {number}: {what}", hint=_AGAIN)


_AGAIN = "copy the file again, or have the model's recipe write it anew"
