"""What `tenfold eval` reads and writes: questions, and a results file that survives a crash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from tenfold.cli.generate import read_jsonl
from tenfold.cli.judges import FactsJudge, Judge, NumberJudge
from tenfold.cli.rewards import final_number
from tenfold.errors import InvalidRequest

_SAMPLES, _SAMPLE = 64, 2**16  # pieces of a weight file that are hashed, and their bytes


@dataclass(frozen=True, slots=True)
class Question:
    """One line of the file, with a judge where the line says what is right."""

    id: int
    text: str
    item: dict[str, Any]
    judge: Judge | None = None

    @property
    def digest(self) -> str:
        """Stands for what is asked and what is right, in the results."""
        key = None if self.judge is None else self.judge.key
        return hashlib.sha256(json.dumps([self.item, key]).encode()).hexdigest()[:16]


def questions(file: Path, limit: int | None = None, only: str | None = None) -> list[Question]:
    """The questions of a JSONL file, or those of the set `only` in a file that has sets.

    Raises InvalidRequest for a line that asks nothing, UnknownName for a set that is not there.
    """
    from tenfold.cli.held_out import begins_held_out

    items = read_jsonl(file)
    first = next(items, None)
    items = chain(() if first is None else (first,), items)
    if first is not None and begins_held_out(first):
        return _held_out(items, file, limit, only)
    if only is not None:
        raise InvalidRequest(f"{file} has no sets", param="set", hint="leave --set out")
    found = []
    for number, item in enumerate(items):
        if limit is not None and number >= limit:
            break
        if isinstance(item.get("question"), str):
            number_judge = None
            if "####" in str(item.get("answer")) and (gold := final_number(str(item["answer"]))):
                number_judge = NumberJudge(gold)
            asked = {"prompt": item["question"]}
            found.append(Question(number, item["question"], asked, number_judge))
        elif isinstance(item.get("prompt"), str) or isinstance(item.get("messages"), list):
            messages = item.get("messages") or [{"content": item.get("prompt")}]
            last = messages[-1]
            text = str(last.get("content")) if isinstance(last, dict) else ""
            found.append(Question(number, text, item))
        else:
            raise InvalidRequest(
                f"{file}, object {number + 1} has no question, prompt or messages",
                hint='GSM8K\'s format is {"question": ..., "answer": "... #### 42"}',
            )
    if not found:
        raise InvalidRequest(f"{file} holds no questions")
    return found


def _held_out(
    items: Iterator[dict[str, Any]], file: Path, limit: int | None, only: str | None
) -> list[Question]:
    """Questions whose required values are known, judged by the verifier."""
    from tenfold.cli.held_out import parse_held_out

    all_of_them = parse_held_out(items, str(file))
    number = {q.id: i for i, q in enumerate(all_of_them.questions)}
    found = []
    for q in all_of_them.choose(limit, only):
        messages = [{"role": m.role, "content": m.content} for m in q.messages]
        judge = FactsJudge(q, all_of_them.verifier(q))
        found.append(
            Question(number[q.id], q.messages[-1].content or "", {"messages": messages}, judge)
        )
    return found


class ResultFile:
    """Results by question, appended line by line; the first line holds the run's settings.

    A line that a crash left unfinished is cut off. Raises InvalidRequest, saying what differs, when
    the file was written with other settings.
    """

    def __init__(self, path: Path, settings: dict[str, Any], *, restart: bool = False) -> None:
        self.path = path
        self.done: dict[int, dict[str, Any]] = {}
        self._settings = settings
        self._file: TextIO | None = None
        if restart:
            path.unlink(missing_ok=True)
        if path.exists():
            self._read()

    def _read(self) -> None:
        try:
            data = self.path.read_bytes()
        except OSError as e:
            raise InvalidRequest(
                f"{self.path} cannot be read: {e.strerror}", hint="choose another --out"
            ) from None
        whole = data[: data.rfind(b"\n") + 1]
        try:
            records = [json.loads(line) for line in whole.decode("utf-8").split("\n") if line]
            before = records[0]["settings"] if records else self._settings
            self.done = {int(r["id"]): r for r in records[1:]}
        except (ValueError, KeyError, TypeError):
            raise InvalidRequest(
                f"{self.path} is not a results file", hint="choose another --out"
            ) from None
        if before != self._settings:
            raise InvalidRequest(
                f"{self.path} was written with other settings: "
                + "; ".join(_differences(before, self._settings)),
                hint=_ANEW,
            )
        if len(whole) < len(data):
            with self.path.open("r+b") as f:
                f.truncate(len(whole))

    def check(self, asked: Sequence[Question]) -> None:
        """Raises InvalidRequest if a result answers another question than is asked now."""
        for question in asked:
            record = self.done.get(question.id)
            if record is not None and record.get("asked") != question.digest:
                raise InvalidRequest(
                    f"{self.path} answers other questions: number {question.id + 1} is now "
                    f"{question.text[:60]!r}",
                    hint=_ANEW,
                )

    def __enter__(self) -> ResultFile:
        try:
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as e:
            raise InvalidRequest(
                f"{self.path} cannot be written: {e.strerror}", hint="choose another --out"
            ) from None
        if self._file.tell() == 0:
            self._write({"settings": self._settings})
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._file is not None
        self._file.close()

    def add(self, record: dict[str, Any]) -> None:
        """Appends a result; it is in the file when this returns."""
        self._write(record)
        self.done[int(record["id"])] = record

    def _write(self, value: dict[str, Any]) -> None:
        assert self._file is not None, "enter the file before adding to it"
        self._file.write(json.dumps(value, ensure_ascii=False) + "\n")
        self._file.flush()


_ANEW = "choose another --out, or --restart to begin anew"


def _differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    """What two settings do not have in common, as "sampling.seed was 0, is 1"."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in sorted({*before, *now}):
            inner = f"{name}.{key}" if name else str(key)
            yield from _differences(before.get(key), now.get(key), inner)
    elif before != now:
        yield f"{name or 'they'} was {json.dumps(before)}, is {json.dumps(now)}"


def fingerprint(folder: Path) -> str:
    """Stands for a model's or an adapter's content: its JSON and jinja files, and the header and
    evenly spread samples of its weights, so that it takes a moment for any size."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix not in (".json", ".jinja", ".safetensors") or not path.is_file():
            continue
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as f:
            if path.suffix != ".safetensors" or size <= _SAMPLES * _SAMPLE:
                digest.update(f.read())
                continue
            for i in range(_SAMPLES):
                f.seek((size - _SAMPLE) * i // (_SAMPLES - 1))
                digest.update(f.read(_SAMPLE))
    return digest.hexdigest()[:16]


def summary(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of a run: how many, how many right, what they cost."""
    count = len(records)
    figures: dict[str, Any] = {"questions": count}
    figures["errors"] = sum("error" in r for r in records)
    judged = [r for r in records if "right" in r]
    if judged:
        figures["right"] = sum(r["right"] for r in judged)
        figures["accuracy"] = figures["right"] / len(judged)
        figures["any_returned_candidate_right"] = sum(
            r["right_candidates"] > 0 for r in judged
        ) / len(judged)
    if facts := [r for r in judged if "slot_errors" in r]:
        figures["slot_error_rate"] = slot_error_rate(facts)
        figures["sets"] = {
            name: {
                "questions": len(rows),
                "slot_error_rate": slot_error_rate(rows),
                "accuracy": sum(r["right"] for r in rows) / len(rows),
            }
            for name in dict.fromkeys(r["set"] for r in facts)
            if (rows := [r for r in facts if r["set"] == name])
        }
    tokens = sum(r["tokens_generated"] for r in records)
    figures["tokens_generated"] = tokens
    figures["tokens_per_question"] = tokens / max(1, count)
    figures["ms_per_question"] = sum(r["ms"] for r in records) / max(1, count)
    return figures


def slot_error_rate(records: Sequence[Mapping[str, Any]]) -> float:
    """Missing, wrong and invented values over required ones."""
    errors, required = (sum(int(r[key]) for r in records) for key in ("slot_errors", "required"))
    return errors / max(1, required)
