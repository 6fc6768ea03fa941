"""Held-out questions: reading them, `tenfold eval` on them, and `tenfold bench concierge`."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tenfold.cli.benchmarks import Figures
from tenfold.cli.evaluation import questions, summary
from tenfold.cli.held_out import FILE, read_held_out, shipped
from tenfold.cli.judges import FactsJudge
from tenfold.errors import InvalidRequest, TenfoldError, UnknownName
from tenfold.models import folders
from tenfold.server.catalog import Catalog
from tenfold.server.settings import ServerSettings

from .held_out_questions import objects, write_questions
from .test_cli import gsm8k, record, run

SHIPPED = Path(folders.__file__).parent / "embedded" / "concierge"


@pytest.fixture
def embedded(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root of embedded models: a tiny concierge with questions, and its draft."""
    root = tmp_path / "embedded"
    for name in ("concierge", "concierge-draft"):
        shutil.copytree(tiny_model, root / name)
    write_questions(root / "concierge" / FILE)
    monkeypatch.setattr(folders, "embedded_root", lambda: root)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return root


def test_reading(tmp_path: Path) -> None:
    asked = read_held_out(write_questions(tmp_path / FILE))
    assert asked.sets == ["short_seen", "short_unseen", "long_seen", "long_unseen", "lookup_3x4"]
    assert "reach" in asked.lexicon
    question = asked.of("short_seen")[0]
    (begin, end), (need,) = question.starts[0], question.required
    assert question.reference[begin:end] == need.value == "408-971-8523"
    assert asked.verifier(question).check(question.reference).slot_errors == 0
    assert asked.verifier(question).check("You can reach it.").slot_errors == 1
    assert asked.of("nothing") == []


def test_choosing_spreads_over_the_sets_and_grows(tmp_path: Path) -> None:
    asked = read_held_out(write_questions(tmp_path / FILE))
    assert [q.set for q in asked.choose(5)] == asked.sets
    chosen = [[q.id for q in asked.choose(n)] for n in range(1, 12)]
    assert all(set(a) <= set(b) for a, b in itertools.pairwise(chosen))
    assert len(chosen[-1]) == 9
    assert {q.set for q in asked.choose(only="lookup_3x4")} == {"lookup_3x4"}
    with pytest.raises(UnknownName, match="did you mean 'long_seen'"):
        asked.choose(only="long_sen")


def without(key: str) -> Callable[[list[dict[str, Any]]], object]:
    return lambda items: items[1].pop(key)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda items: items.clear(), "first object"),
        (lambda items: items.pop(0), "first object"),
        (lambda items: items.__setitem__(slice(1, None), []), "holds no questions"),
        (lambda items: items.append(items[1]), "same id"),
        (lambda items: items[0].update(lexicon=["a"]), "lexicon is not a text"),
        (without("id"), "object 2: id is not a text"),
        (without("messages"), "object 2: messages is not a list"),
        (lambda items: items[1].update(messages=["hi"]), "no conversation"),
        (lambda items: items[1].update(messages=[{"content": "hi"}]), "has no 'role'"),
        (without("required"), "object 2: required is not a list"),
        (lambda items: items[2].update(required=[["Azit", "city"]]), "object 3: required"),
        (lambda items: items[1].update(starts=[[30, 4000]]), "object 2: starts"),
        (lambda items: items[1].update(baselines=["x"]), "object 2: baselines"),
    ],
)
def test_a_bad_file_is_named(
    tmp_path: Path, damage: Callable[[list[dict[str, Any]]], object], words: str
) -> None:
    items = objects()
    damage(items)
    file = write_questions(tmp_path / FILE, items)
    with pytest.raises(InvalidRequest, match=words) as caught:
        read_held_out(file)
    assert caught.value.hint
    file.write_bytes(b"\x1f\x8b broken")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_held_out(file)


def test_a_model_without_questions(embedded: Path) -> None:
    with pytest.raises(TenfoldError, match="'concierge-draft' comes without held-out") as caught:
        shipped("concierge-draft")
    assert FILE in (caught.value.hint or "")


def test_held_out_questions_are_questions_like_others(tmp_path: Path) -> None:
    file = write_questions(tmp_path / "q.jsonl")
    asked = questions(file)
    assert [q.id for q in asked] == list(range(9))
    assert asked[0].text == "What is the phone number of Blue Door?"
    assert isinstance(asked[0].judge, FactsJudge)
    found = asked[0].judge.verdict("You can reach it at 408-971-8523.")
    assert (found["right"], found["set"], found["required"]) == (True, "short_seen", 1)
    assert {q.id for q in questions(file, limit=4)} <= set(range(9))
    other = objects()
    other[1]["required"][0][2] = "1"
    assert questions(write_questions(file, other))[0].digest != asked[0].digest
    with pytest.raises(InvalidRequest, match="has no sets"):
        questions(gsm8k(tmp_path, 2), only="short_seen")


def test_summary_by_set() -> None:
    rows = [
        record(i, right=not e, right_candidates=0, required=2, slot_errors=e, set=name)
        for i, (name, e) in enumerate([("a", 0), ("a", 1), ("b", 3)])
    ]
    found = summary(rows)
    assert found["slot_error_rate"] == pytest.approx(4 / 6)
    assert found["sets"]["a"] == {"questions": 2, "slot_error_rate": 0.25, "accuracy": 0.5}
    assert found["sets"]["b"]["slot_error_rate"] == 1.5


def test_eval_of_an_embedded_model(embedded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["eval", "concierge", "--max-tokens", "4"]
    code, out, err = run(capsys, *argv, "--limit", "5", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["questions"] == 5
    every = ["short_seen", "short_unseen", "long_seen", "long_unseen", "lookup_3x4"]
    assert list(found["sets"]) == every
    assert found["results"] == "concierge.results.jsonl"
    before = Path(found["results"]).read_text()
    code, out, err = run(capsys, *argv)  # goes on with the rest
    assert code == 0, err
    assert Path(found["results"]).read_text().startswith(before)
    assert "slot error rate" in out
    assert "lookup_3x4" in out
    code, out, err = run(capsys, *argv, "--set", "long_seen", "--json")
    assert json.loads(out)["questions"] == 2
    code, _, err = run(capsys, "eval", "concierge-draft")
    assert code == 2
    assert "without held-out questions" in err


def test_a_folder_of_the_same_name_is_no_file(embedded: Path) -> None:
    from tenfold.cli.evaluate import _source

    Path("concierge").mkdir()
    assert _source(Path("concierge")) == embedded / "concierge" / FILE


def test_a_second_embedded_model_goes_by_its_name(
    embedded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tenfold.models.loading import load_model

    assert folders.embedded_names() == ["concierge", "concierge-draft"]
    assert load_model("concierge-draft").name == "concierge-draft"
    code, _, err = run(capsys, "generate", "hi", "--model", "concierge-draft", "--max-tokens", "2")
    assert code == 0, err
    served = Catalog("concierge-draft", 512, ServerSettings())  # a server lists what it serves
    assert {m.id.partition("@")[0] for m in served.entries()} == {"concierge-draft"}


def test_bench_needs_questions(embedded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (embedded / "concierge" / FILE).unlink()
    code, _, err = run(capsys, "bench", "concierge", "--quick")
    assert code == 2
    assert "without held-out questions" in err


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """The shipped concierge on the small file, as its own draft."""
    from tenfold.cli.benchmarks.concierge import Plan, measure

    folder = tmp_path_factory.mktemp("questions")
    file = write_questions(folder / FILE)
    plan = Plan(questions=2, prompts=2, samples=8, drafted=1)
    stages: list[tuple[str, float]] = []
    found = measure("concierge", str(SHIPPED), plan, lambda *s: stages.append(s), file)
    assert {name for name, _ in stages} >= {"value starts", "greedy answers", "draft acceptance"}
    assert all(0 <= done <= 1 for _, done in stages)
    return found


def test_every_figure_is_there_or_says_why(measured: Figures) -> None:
    assert set(measured.bounds) == set(measured.figures) & set(measured.bounds) | set(
        measured.absent
    )
    assert set(measured.absent) <= {
        *("lr_transfer_regret", "partial_final_corr_25", "partial_final_corr_50"),
        "score_length_corr",
    }
    json.dumps(measured.settings)
    assert measured.settings["temperature"] == 0.7
    assert measured.settings["value_starts"] == 2
    for key in ("values", "with_repeated_names"):  # the answers of these questions hold no names
        accuracy = measured.settings[f"value_start_accuracy_{key}"]
        assert accuracy == measured.figures["value_start_accuracy"]
    assert set(measured.settings["ser_beside_baselines"]) == {"concierge", "nearest", "ngram"}


def test_a_model_accepts_all_of_its_own_proposals(measured: Figures) -> None:
    assert measured.figures["draft_acceptance"] == pytest.approx(1.0, abs=1e-6)
    assert measured.settings["draft_acceptance_greedy"] == pytest.approx(1.0, abs=1e-6)


def test_a_reference_ends_as_an_answer_does(tmp_path: Path) -> None:
    from tenfold.cli.benchmarks.concierge_teacher import reference_tokens
    from tenfold.models.loading import load_model

    question = read_held_out(write_questions(tmp_path / FILE)).questions[0]
    model = load_model("concierge", dtype="float32")
    prompt, answer = reference_tokens(model, question)
    assert prompt
    assert model.tokenizer.decode(answer[:-1]) == question.reference
    assert {answer[-1]} == model.tokenizer.eos_ids


def test_a_draft_that_is_missing_or_speaks_otherwise_is_no_figure(tiny_model: Path) -> None:
    from tenfold.cli.benchmarks import concierge as bench

    for draft, words in (("no-such-model", "unknown model"), (str(tiny_model), "vocabulary")):
        found = bench.Found()
        plan = bench.Plan(questions=1, prompts=1, samples=1, drafted=1)
        bench._draft_acceptance(str(SHIPPED), draft, [], plan, lambda *_: None, found)
        assert words in found.absent["draft_acceptance"]


def test_the_recorded_sweep(tmp_path: Path) -> None:
    from tenfold.cli.benchmarks import concierge as bench

    file = tmp_path / bench.SWEEP
    for text, absent in ((None, "no sweep"), ("{", "holds no"), ('{"sweep": {}}', "holds no")):
        if text is not None:
            file.write_text(text)
        found = bench.Found()
        bench._lr_transfer(file, found)
        assert absent in found.absent["lr_transfer_regret"]
    sweep = {"lr_transfer_regret": 0.004, "sweep": {"0.001": 2.1}, "command": "python -m sweep"}
    file.write_text(json.dumps(sweep))
    found = bench.Found()
    bench._lr_transfer(file, found)
    assert found.figures == {"lr_transfer_regret": 0.004}
    assert found.settings["lr_transfer_regret"] == "recorded by python -m sweep"
