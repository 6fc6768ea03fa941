from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tenfold.align.pairs import read_pairs, words
from tenfold.errors import InvalidRequest
from tenfold.types import Message

ASKED = {"role": "user", "content": "What colour is the sky?"}
BLUE = {"role": "assistant", "content": "It is blue."}
GREEN = {"role": "assistant", "content": "It is green."}
SHAPES = {
    "plain": {
        "prompt": "The sky is",
        "chosen": " blue.",
        "rejected": " green.",
    },
    "plain, prompt implied": {"chosen": "The sky is blue.", "rejected": "The sky is green."},
    "chat": {"prompt": [ASKED], "chosen": [BLUE], "rejected": [GREEN]},
    "chat, prompt implied": {"chosen": [ASKED, BLUE], "rejected": [ASKED, GREEN]},
    "chat, prompt a column too": {
        "prompt": ASKED["content"],
        "chosen": [ASKED, BLUE],
        "rejected": [ASKED, GREEN],
    },
    "chat of two turns": {
        "prompt": [ASKED, BLUE, ASKED],
        "chosen": [BLUE, ASKED, GREEN],
        "rejected": [GREEN],
    },
}


def written(folder: Path, *rows: Any) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + "\n")
    return path


def plain(text: Any) -> Any:
    if isinstance(text, str):
        return text
    return [{"role": m.role, "content": m.content} for m in text]


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_are_read_as_trl_reads_them(shape: str, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl.data_utils")
    row = SHAPES[shape]
    theirs = trl.maybe_extract_prompt(dict(row))
    (pair,) = read_pairs(written(tmp_path, row))
    for name in ("prompt", "chosen", "rejected"):
        assert plain(getattr(pair, name)) == theirs[name]


def test_a_file_that_datasets_wrote_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    path = tmp_path / "d.jsonl"
    rows = [SHAPES["chat"], SHAPES["chat of two turns"]]
    datasets.Dataset.from_list(rows).to_json(path)
    assert [plain(p.rejected) for p in read_pairs(path)] == [r["rejected"] for r in rows]


def test_rows_are_lines_counted_from_one_and_blank_lines_count(tmp_path: Path) -> None:
    row = {**SHAPES["plain"], "kind": "colour"}
    path = tmp_path / "pairs.jsonl.gz"
    path.write_bytes(gzip.compress(("\n" + json.dumps(row) + "\n\n" + json.dumps(row)).encode()))
    assert [(p.row, p.kind) for p in read_pairs(path)] == [(2, "colour"), (4, "colour")]


def test_a_line_separator_within_a_text_is_no_new_row(tmp_path: Path) -> None:
    row = {**SHAPES["plain"], "chosen": "blue\u2028or so"}
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")
    assert read_pairs(path)[0].chosen == "blue\u2028or so"


def test_a_dialogue_is_cut_at_its_last_shared_turn_even_where_the_answers_begin_alike(
    tmp_path: Path,
) -> None:
    head = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Who are you?\n\nAssistant:"
    row = {"chosen": head + " I am a program.", "rejected": head + " I am a cook."}
    (pair,) = read_pairs(written(tmp_path, row))
    assert pair.prompt == head
    assert (pair.chosen, pair.rejected) == (" I am a program.", " I am a cook.")


def test_an_implied_prompt_ends_between_words(tmp_path: Path) -> None:
    row = {"chosen": "The leaf is grey.", "rejected": "The leaf is green."}
    (pair,) = read_pairs(written(tmp_path, row))
    assert (pair.prompt, pair.chosen, pair.rejected) == ("The leaf is", " grey.", " green.")


def test_texts_answer_a_chat_as_the_assistant_and_a_repeated_prompt_is_taken_out(
    tmp_path: Path,
) -> None:
    rows = (
        {"prompt": [ASKED], "chosen": "Blue.", "rejected": "Green."},
        {"prompt": [ASKED], "chosen": [ASKED, BLUE], "rejected": [ASKED, GREEN]},
    )
    first, second = read_pairs(written(tmp_path, *rows))
    assert first.chosen == (Message("assistant", "Blue."),)
    assert second.chosen == (Message("assistant", "It is blue."),)
    assert words(second.rejected) == "It is green."


def test_parts_of_text_are_joined(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "It is "}, {"type": "text", "text": "blue."}]
    row = {**SHAPES["chat"], "chosen": [{"role": "assistant", "content": parts}]}
    assert words(read_pairs(written(tmp_path, row))[0].chosen) == "It is blue."


GOOD = SHAPES["plain"]
BAD: dict[str, tuple[Any, str, str | None]] = {
    "no json": ("{", "row 2 is not JSON", "data"),
    "no object": ([1], "row 2 is not an object", "data"),
    "no chosen": ({"prompt": "a", "rejected": "b"}, "row 2 has no chosen", "chosen"),
    "null": ({**GOOD, "rejected": None}, "row 2 has no rejected", "rejected"),
    "number": ({**GOOD, "chosen": 3}, "row 2: chosen is a int", "chosen"),
    "mixed": ({**GOOD, "chosen": [BLUE]}, "row 2: one answer is a text", "rejected"),
    "empty": ({**GOOD, "rejected": " \n"}, "row 2: rejected is empty", "rejected"),
    "empty list": (
        {"prompt": [ASKED], "chosen": [], "rejected": [BLUE]},
        "row 2: chosen is empty",
        "chosen",
    ),
    "identical": ({**GOOD, "rejected": " blue."}, "row 2: chosen and rejected are the", "rejected"),
    "one continues the other": (
        {"chosen": "The sky", "rejected": "The sky is"},
        "row 2: chosen is empty",
        "chosen",
    ),
    "no shared prompt": ({"chosen": "a b", "rejected": "c d"}, "row 2: there is no pro", "prompt"),
    "unknown role": (
        {"prompt": [{"role": "robot", "content": "x"}], "chosen": [BLUE], "rejected": [GREEN]},
        r"row 2: prompt\[0\] is no chat message",
        None,
    ),
    "tool calls": (
        {
            "prompt": [ASKED],
            "chosen": [{"role": "assistant", "content": "", "tool_calls": [{}]}],
            "rejected": [GREEN],
        },
        r"row 2: chosen\[0\] holds tool calls",
        None,
    ),
    "an image": (
        {
            "prompt": [{"role": "user", "content": [{"type": "image"}]}],
            "chosen": [BLUE],
            "rejected": [GREEN],
        },
        r"row 2: prompt\[0\] holds a list, not text",
        None,
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_with_a_row_is_said_with_row_and_field(case: str, tmp_path: Path) -> None:
    row, message, param = BAD[case]
    with pytest.raises(InvalidRequest, match=message) as raised:
        read_pairs(written(tmp_path, GOOD, row))
    assert raised.value.param == param


def test_a_screening_can_read_what_training_refuses(tmp_path: Path) -> None:
    path = written(tmp_path, {**GOOD, "rejected": ""}, {**GOOD, "rejected": " blue."})
    assert [p.rejected for p in read_pairs(path, strict=False)] == ["", " blue."]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe", b"\x1f\x8bnot gzip"])
def test_a_file_without_pairs_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=r"pairs\.jsonl (holds no pairs|cannot be read)"):
        read_pairs(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_pairs(tmp_path / "none.jsonl")
