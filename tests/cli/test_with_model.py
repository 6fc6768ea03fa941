"""Commands against a tiny random model: what they print and that they survive what they must."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from tenfold.cli.arguments import Load
from tenfold.cli.conversation import Conversation
from tenfold.memory import Memory
from tenfold.memory.events import Kind
from tenfold.types import SamplingParams

from .test_cli import gsm8k, run, tenfold


def test_generate_text_and_json(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["-m", str(tiny_model), "--max-tokens", "8", "--seed", "3"]
    code, out, err = run(capsys, "generate", "hello", *common)
    assert code == 0, err
    code, text, err = run(
        capsys, "generate", "hello", *common, "--strategy", "best_of_n", "--n", "3", "--json"
    )
    assert code == 0, err
    value = json.loads(text)
    assert len(value["candidates"]) == 3
    assert value["strategy"] == "best_of_n"
    # Candidate 0 of best_of_n is what sample gives with the same seed.
    first = next(c for c in value["candidates"] if c["candidate"] == 0)
    assert out.rstrip("\n") == first["text"].rstrip("\n")


def test_generate_jsonl_keeps_the_order(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"p{i}", "id": i}) + "\n" for i in range(5)))
    code, out, err = run(
        capsys, "generate", "--file", str(file), "-m", str(tiny_model), "--max-tokens", "4"
    )
    assert code == 0, err
    assert [json.loads(line)["id"] for line in out.splitlines()] == list(range(5))
    with file.open("a") as f:
        f.write(json.dumps({"prompt": "long " * 2000}) + "\n")
    code, _, err = run(capsys, "generate", "--file", str(file), "-m", str(tiny_model))
    assert code == 2
    assert "in.jsonl, object 6: the text has" in err


def test_score(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(
        capsys, "score", "yes", "no", "--prompt", "well?", "-m", str(tiny_model), "--json"
    )
    assert code == 0, err
    assert len(json.loads(out)["scores"]) == 2


def test_chat_over_a_pipe(tiny_model: Path, tmp_path: Path) -> None:
    saved = tmp_path / "chat.json"
    lines = [
        "/help",
        "/system be kind",
        "hello",
        "/strategy best_of_n n=2",
        "and again",
        "/set temperature=0",
        "not answered",
        "/set temperature=0.5 max_tokens=5",
        "/set heat=3",
        "/facts The door is blue.",
        "/strategy nonsense",
        "/stats",
        "/nonsense",
        f"/save {saved}",
        "/reset",
        "/quit",
        "not reached",
    ]
    code, out, err = tenfold(
        "chat", str(tiny_model), "--max-tokens", "6", stdin="\n".join(lines) + "\n"
    )
    assert code == 0, err
    assert "Traceback" not in err
    for words in (
        "/strategy [NAME",
        "best_of_n n=2",
        "at temperature 0 all candidates are the same: /set",
        "2 candidates at temperature 0",
        "temperature=0.5 top_p=1.0 max_tokens=5",
        "unknown setting 'heat'",
        "facts: The door is blue.",
        "unknown strategy 'nonsense'",
        "KV blocks",
    ):
        assert words in " ".join(out.split()), out
    messages = json.loads(saved.read_text())["messages"]
    assert messages[0]["content"] == "be kind\n\nThe door is blue."
    roles = [m["role"] for m in messages]
    assert roles == ["system", "user", "assistant", "user", "assistant"]


def test_a_chat_with_a_memory_is_told_what_an_earlier_one_was(tmp_path: Path) -> None:
    with contextlib.closing(Memory.open(tmp_path, embedder="words")) as memory:
        memory.add("Hello.")
        memory.derive()
    said = []
    for line in ("My check in date is May 3rd.", "What is my check in date?"):
        argv = ["chat", "concierge", "--memory", str(tmp_path), "--temperature", "0"]
        code, out, err = tenfold(*argv, stdin=line + "\n")
        assert code == 0, err
        said.append(out)
    assert "told from memory" not in said[0]
    assert "May 3rd" in said[1]
    assert "told from memory: 1 event" in said[1]
    with contextlib.closing(Memory.open(tmp_path, embedder="words")) as memory:
        kept = [e for e in memory.history() if e.kind is Kind.OBSERVATION]
        assert [e.role for e in kept] == ["user", "user", "assistant", "user", "assistant"]
        assert len({e.conversation for e in kept[1:]}) == 2
    code, _, err = tenfold(
        "chat", "concierge", "--memory", str(tmp_path), "--memory-form", "poem", stdin=""
    )
    assert code == 2
    assert "poem" in err


def test_eval_resumes_after_being_killed(tiny_model: Path, tmp_path: Path) -> None:
    file, out = gsm8k(tmp_path, 40), tmp_path / "out.jsonl"
    argv = ["eval", str(file), "-m", str(tiny_model), "-o", str(out), "--concurrency", "1"]
    argv += ["--max-tokens", "40", "--json", "--decode-json", '{"strategy": "best_of_n", "n": 4}']
    victim = subprocess.Popen(
        [sys.executable, "-m", "tenfold", *argv], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    until = time.monotonic() + 60
    while time.monotonic() < until and victim.poll() is None:
        if out.exists() and out.read_bytes().count(b"\n") >= 4:
            break
        time.sleep(0.02)
    victim.send_signal(signal.SIGKILL)
    _, err = victim.communicate()
    before = out.read_text().splitlines() if out.exists() else []
    assert len(before) >= 4, err.decode()
    code, text, err_text = tenfold(*argv)
    assert code == 0, err_text
    found = json.loads(text)
    assert found["questions"] == 40
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted(r["id"] for r in lines[1:]) == list(range(40))
    assert out.read_text().splitlines()[: len(before) - 1] == before[:-1]


def test_eval_with_the_oracle_says_so(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["eval", str(gsm8k(tmp_path, 3)), "-m", str(tiny_model), "--max-tokens", "6"]
    code, out, err = run(capsys, *argv, "--strategy", "best_of_n", "--n", "2", "--reward", "gsm8k")
    assert code == 0, err
    assert "perfect selection" in out


def test_eval_goes_on_after_a_question_that_is_too_long(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = gsm8k(tmp_path, 3)
    long = json.dumps({"question": "why " * 2000, "answer": "#### 1"}) + "\n"
    file.write_text(long + file.read_text())
    argv = ["eval", str(file), "-m", str(tiny_model), "--max-tokens", "4"]
    for _ in range(2):  # the second run finds everything answered
        code, out, err = run(capsys, *argv, "--json")
        assert code == 0, err
        found = json.loads(out)
        assert (found["questions"], found["errors"]) == (4, 1)
        assert "question 1: the text has" in err.replace("\n", " ")
    assert "errors" in run(capsys, *argv)[1]
    lines = [json.loads(line) for line in Path(found["results"]).read_text().splitlines()]
    failed = [r for r in lines if "error" in r]
    assert [(r["id"], r["right"]) for r in failed] == [(0, False)]


def test_eval_goes_on_after_a_prompt_without_facts(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["eval", str(gsm8k(tmp_path, 2)), "-m", str(tiny_model), "--max-tokens", "4"]
    chosen = ("--strategy", "best_of_n", "--n", "2", "--reward", "facts")
    code, out, err = run(capsys, *argv, *chosen, "--json")
    assert code == 0, err
    assert json.loads(out)["errors"] == 2
    assert "hold no facts" in err.replace("\n", " ")


def test_eval_resumes_only_with_the_same_model(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    argv = ["eval", str(gsm8k(tmp_path, 2)), "-m", str(model), "--max-tokens", "4"]
    assert run(capsys, *argv, "--limit", "1")[0] == 0
    assert run(capsys, *argv)[0] == 0
    code, _, err = run(capsys, *argv, "--adapter", str(tiny_model))
    assert code == 2
    assert "adapters was []" in err
    weights = model / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(data)
    code, _, err = run(capsys, *argv)
    assert code == 2
    assert "model.content was" in err
    assert run(capsys, *argv, "--restart")[0] == 0


def test_eval_keeps_off_the_questions(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = gsm8k(tmp_path, 2)
    before = file.read_text()
    argv = ["eval", str(file), "-m", str(tiny_model), "-o", str(file), "--restart"]
    code, _, err = run(capsys, *argv)
    assert (code, "holds the questions" in err) == (2, True)
    assert file.read_text() == before


def test_a_terminal_shows_growing_candidates_in_one_line(tiny_model: Path) -> None:
    screen = io.StringIO()

    async def talk() -> None:
        llm = Load(str(tiny_model)).llm()
        try:
            out = Console(file=screen, force_terminal=True, width=80)
            decode = {"strategy": "best_of_n", "n": 2}
            await Conversation(llm, SamplingParams(max_tokens=5), decode, out).answer("hello")
        finally:
            await llm.close()

    asyncio.run(talk())
    counting, _, rest = screen.getvalue().partition("after ")
    assert counting.count("\r\x1b[2K") == counting.count(" tokens") + 1 > 3
    assert "\n" not in counting
    assert " cut:" in rest
