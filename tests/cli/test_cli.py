from __future__ import annotations

import dataclasses
import gzip
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tenfold.cli import arguments, bench, doctor
from tenfold.cli.evaluation import ResultFile, questions, summary
from tenfold.cli.generate import read_jsonl
from tenfold.cli.judges import Judge, NumberJudge
from tenfold.cli.main import COMMANDS, help_text, main, make_app
from tenfold.cli.output import printable
from tenfold.cli.rewards import final_number, function_reward, gsm8k_oracle
from tenfold.errors import InvalidRequest, UnknownName
from tenfold.rewards.base import Answer, RewardPrompt
from tenfold.types import Message


def tenfold(*argv: str, stdin: str = "", cwd: Path | None = None) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tenfold", *argv],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=100,
        cwd=cwd,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """The command in this process: quicker where its own process makes no difference."""
    try:
        main(list(argv))
        code = 0
    except SystemExit as e:
        code = int(e.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_help_lists_every_command() -> None:
    code, out, _ = tenfold("--help")
    assert code == 0
    assert out == help_text()
    assert all(f"  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself(name: str) -> None:
    module, line = COMMANDS[name]
    found = importlib.import_module(f"tenfold.cli.{module}")
    text = found.app.info.help if hasattr(found, "app") else found.command.__doc__
    assert (text or "").strip().splitlines()[0] == line
    result = CliRunner().invoke(make_app(name), [name, "--help"])
    assert result.exit_code == 0
    assert line in result.output


def test_errors_are_one_line_with_a_hint_and_exit_code_2() -> None:
    code, out, err = tenfold("generat", "x")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "unknown command 'generat'" in err
    assert "did you mean 'generate'" in err


def test_debug_shows_the_traceback() -> None:
    code, _, err = tenfold("generat", "--debug")
    assert code == 1
    assert "Traceback" in err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["generate", "hi", "--model", "no-such-model"], "unknown model"),
        (["generate", "hi", "--dtype", "int3"], "unknown dtype"),
        (["generate", "hi", "--decode", "n"], "KEY=VALUE"),
        (["generate", "hi", "--decode-json", "[1]"], "JSON object"),
        (["generate", "hi", "--decode-json", "{"], "not JSON"),
        (["generate", "--file", "/no/such/file"], "cannot be read"),
        (["score"], "nothing to score"),
        (["eval", "/no/such/file"], "cannot be read"),
        (["bench", "kernel"], "did you mean 'kernels'"),
        (["serve", "--preset", "fast"], "NAME=JSON"),
        (["serve", "--prot", "1"], "see `tenfold serve --help`"),
        (["eval"], "see `tenfold eval --help`"),
        (["serve", "--port", "99999"], "65535"),
        (["serve", "--max-batch-tokens", "8"], "max_batch_tokens must not be below"),
        (["serve", "--max-sequences", "0"], "max_sequences must be at least 1"),
        (["chat", "--facts", "/no/such/file"], "cannot be read"),
    ],
)
def test_bad_options(capsys: pytest.CaptureFixture[str], argv: list[str], words: str) -> None:
    code, _, err = run(capsys, *argv)
    assert code == 2
    assert words in err
    assert err.count("\n") == 1


def test_decode_object() -> None:
    decode = arguments.decode_object(
        "best_of_n", 4, "mine=m:f", ["budget.ms=80", "alpha=0.5", "mode=fast"], '{"n": 2}'
    )
    assert decode == {
        "strategy": "best_of_n",
        "n": 4,
        "reward": "mine",
        "budget": {"ms": 80},
        "alpha": 0.5,
        "mode": "fast",
    }
    with pytest.raises(InvalidRequest, match="is not an object"):
        arguments.decode_object(None, None, None, ["n.x=1"], '{"n": 2}')


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so it is 12. #### 1,234", "1234"),
        ("#### 5 and then #### 6", "6"),
        ("between 3 and 4.50 dollars", "4.5"),
        ("#### -7.0", "-7"),
        ("#### $18", "18"),
        ("100", "100"),
        ("nothing", None),
    ],
)
def test_final_number(text: str, number: str | None) -> None:
    assert final_number(text) == number


async def test_the_oracle_knows_only_its_questions() -> None:
    reward = gsm8k_oracle({"two and two?": "4"})
    assert "oracle" in reward.summary
    for asked, answer, score in (("two and two?", "#### 4", 1.0), ("two and two?", "5", 0.0)):
        session = reward.open(RewardPrompt((1,), (Message("user", asked),)))
        assert await session.score([Answer(answer)]) == [score]
    session = reward.open(RewardPrompt((1,), (Message("user", "else"),)))
    assert await session.score([Answer("4")]) == [0.0]


def test_function_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_reward.py").write_text(
        "def short(prompt, answer):\n    return -len(answer.text)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    reward = function_reward("short", "my_reward:short")
    assert reward.function(RewardPrompt((1,)), Answer("abc")) == -3
    for path, words in (("my_reward:long", "long"), ("nowhere:f", "nowhere"), ("f", "of the form")):
        with pytest.raises(InvalidRequest, match=words):
            function_reward("x", path)


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "doctor", "--json")
    assert code == 0
    report = json.loads(out)
    assert {b["op"] for b in report["backends"]} >= {"paged_attention", "kv_write"}
    picked = [b["op"] for b in report["backends"] if b["picked"]]
    assert len(picked) == len(set(picked)) > 0
    loaded, reason = report["native_library"]["loaded"], report["native_library"]["reason"]
    assert loaded == (reason is None)
    assert run(capsys, "doctor")[0] == 0


def test_doctor_says_aloud_that_the_native_library_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    why = "no C++ compiler was found"
    report = doctor.report()
    report["native_library"].update(loaded=False, reason=why)
    monkeypatch.setattr(doctor, "report", lambda: report)
    assert f"no native library: {why}" in run(capsys, "doctor")[1]


def test_bench_writes_an_envelope(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tenfold.cli import benchmarks

    module = type(sys)("tenfold.cli.benchmarks.kernels")
    module.run = lambda quick, report: benchmarks.Figures(  # type: ignore[attr-defined]
        {"good": 2.0, "bad": 1}, {"rows": 3}, {"good": ">= 1.5", "bad": "<= 0"}
    )
    monkeypatch.setitem(sys.modules, module.__name__, module)
    file = tmp_path / "figures.json"
    code, out, _ = run(capsys, "bench", "kernels", "--quick", "--json", str(file))
    assert code == 0
    assert "ok" in out
    assert "bounds missed: bad" in out
    assert run(capsys, "bench", "kernels", "--check")[0] == 1
    module.run = lambda quick, report: benchmarks.Figures({"a": 2.0}, {}, {"a": ">= 1"})  # type: ignore[attr-defined]
    code, out, _ = run(capsys, "bench", "kernels", "--check")
    assert (code, "all bounds kept" in out) == (0, True)
    module.run = lambda quick, report: benchmarks.Figures(  # type: ignore[attr-defined]
        {"a": 2.0}, {}, {"b": ">= 1"}, {"b": "no draft here"}
    )
    absent = tmp_path / "absent.json"
    code, out, _ = run(capsys, "bench", "kernels", "--check", "--json", str(absent))
    assert (code, "no draft here" in out) == (1, True)  # a bound that was not judged is not kept
    assert json.loads(absent.read_text())["settings"]["absent"] == {"b": "no draft here"}
    envelope = json.loads(file.read_text())
    assert list(envelope) == ["name", "machine", "figures", "settings"]
    assert envelope["figures"] == {"good": 2.0, "bad": 1}
    assert envelope["settings"] == {"quick": True, "rows": 3}
    machine = {"cpu", "cores", "isa", "memory_gb", "python", "torch", "commit"}
    assert set(envelope["machine"]) == machine
    assert "kernels" in run(capsys, "bench")[1]
    assert bench.holds(0, "<= 0")
    assert not bench.holds(1.2, ">= 1.3")


def gsm8k(folder: Path, count: int) -> Path:
    file = folder / "questions.jsonl"
    lines = ({"question": f"What is {i} and {i}?", "answer": f"#### {2 * i}"} for i in range(count))
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def gold(judge: Judge | None) -> str:
    assert isinstance(judge, NumberJudge)
    assert judge.verdict(f"so #### {judge.gold}.0")["right"]
    return judge.gold


def test_questions(tmp_path: Path) -> None:
    asked = questions(gsm8k(tmp_path, 5), limit=3)
    assert [(q.id, gold(q.judge)) for q in asked] == [(0, "0"), (1, "2"), (2, "4")]
    other = tmp_path / "other.jsonl"
    other.write_text('{"prompt": "a"}\n\n{"messages": [{"role": "user", "content": "b"}]}\n')
    assert [(q.text, q.judge) for q in questions(other)] == [("a", None), ("b", None)]
    for text, words in (
        ("", "no questions"),
        ("{", "line 1"),
        ("[]", "not an object"),
        ("{}", "no"),
    ):
        other.write_text(text + "\n")
        with pytest.raises(InvalidRequest, match=words):
            questions(other)


def test_json_lines_end_at_line_feeds_only(tmp_path: Path) -> None:
    odd = "a\u2028b\x85c"
    file = tmp_path / "in.jsonl"
    lines = (json.dumps({"prompt": odd, "id": i}, ensure_ascii=False) for i in range(2))
    file.write_bytes("\r\n".join(lines).encode())
    assert [(v["prompt"], v["id"]) for v in read_jsonl(file)] == [(odd, 0), (odd, 1)]
    file.write_bytes(gzip.compress(file.read_bytes()))
    assert len(list(read_jsonl(file))) == 2
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(InvalidRequest, match="cannot be read"):
        list(read_jsonl(file))
    with ResultFile(tmp_path / "r.jsonl", {}) as results:
        results.add(record(0, text=odd))
    assert ResultFile(tmp_path / "r.jsonl", {}).done[0]["text"] == odd


def test_a_model_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\r\n\tc é") == "a\ufffd[2Jb\ufffd\n\tc é"


def record(i: int, **more: Any) -> dict[str, Any]:
    return {"id": i, "tokens_generated": 10, "ms": 2.0, **more}


def test_results_survive_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with ResultFile(path, {"n": 1}) as file:
        file.add(record(0))
        file.add(record(3))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"id": 4, "te')  # a line cut short
    again = ResultFile(path, {"n": 1})
    assert set(again.done) == {0, 3}
    assert path.read_bytes() == whole
    with pytest.raises(InvalidRequest, match="other settings: n was 1, is 2"):
        ResultFile(path, {"n": 2})
    with pytest.raises(InvalidRequest, match=r"decode was null, is .*; n was 1, is null"):
        ResultFile(path, {"decode": {"k": 3}})
    assert ResultFile(path, {"n": 2}, restart=True).done == {}
    path.write_text("hello\n")
    with pytest.raises(InvalidRequest, match="not a results file"):
        ResultFile(path, {"n": 1})


def test_results_belong_to_their_questions(tmp_path: Path) -> None:
    asked = questions(gsm8k(tmp_path, 3))
    path = tmp_path / "r.jsonl"
    with ResultFile(path, {}) as file:
        for question in asked[:2]:
            file.add(record(question.id, asked=question.digest))
    again = ResultFile(path, {})
    again.check(questions(gsm8k(tmp_path, 5)))  # more questions of the same kind are welcome
    other = [dataclasses.replace(asked[0]), dataclasses.replace(asked[1], judge=NumberJudge("3"))]
    with pytest.raises(InvalidRequest, match="number 2 is now 'What is 1 and 1"):
        again.check(other)
    with pytest.raises(InvalidRequest, match="cannot be read"):
        ResultFile(tmp_path, {})
    absent = tmp_path / "absent" / "r.jsonl"
    with pytest.raises(InvalidRequest, match="cannot be written"), ResultFile(absent, {}):
        pass


def test_summary() -> None:
    found = summary(
        [record(0, right=True, right_candidates=1), record(1, right=False, right_candidates=0)]
    )
    assert (found["questions"], found["accuracy"], found["tokens_per_question"]) == (2, 0.5, 10)
    assert "accuracy" not in summary([record(0)])
    wrong = record(2, right=False, right_candidates=0, error="too long")
    found = summary([record(0, right=True, right_candidates=1), wrong])
    assert (found["errors"], found["accuracy"]) == (1, 0.5)


def test_unknown_strategy_is_named(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "generate", "hi", "-m", str(tiny_model), "--strategy", "best_of_m")
    assert code == 2
    assert "best_of_n" in err
    with pytest.raises(UnknownName):
        make_and_find()


def make_and_find() -> None:
    from tenfold.cli.benchmarks import find

    find("nothing")
