"""The memory benchmark: its parts find what they count, and it says why a figure is absent."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tenfold.cli.benchmarks import memory as bench
from tenfold.cli.benchmarks import memory_isolation as isolation
from tenfold.cli.benchmarks import memory_locomo as locomo
from tenfold.cli.benchmarks import memory_soundness as soundness
from tenfold.cli.benchmarks.memory_feedback import taught
from tenfold.cli.benchmarks.memory_made_up import fill, made_up, unit_vectors
from tenfold.cli.benchmarks.memory_speed import ingest_rate, search_times
from tenfold.cli.main import main
from tenfold.errors import InvalidRequest, TenfoldError
from tenfold.memory.embedding import HashedWords
from tenfold.memory.memory import Memory
from tenfold.memory.retrieval import Fixed
from tenfold.memory.sqlite import SqliteStore

THINGS = ("lantern", "canoe", "violin", "orchid", "telescope", "beehive", "kimono", "anvil")


def silent(stage: str, done: float) -> None:
    """Nobody looks."""


def locomo_file(folder: Path, conversations: int = 2) -> Path:
    """In the format of LoCoMo, made up here: each turn names one thing, each question asks it."""
    samples = []
    for number in range(conversations):
        things = [f"{t}{number}" for t in THINGS]
        talk: dict[str, object] = {"speaker_a": "Ann", "speaker_b": "Ben"}
        for session in (1, 2):
            talk[f"session_{session}_date_time"] = f"1:5{session} pm on {session} May, 2023"
            talk[f"session_{session}"] = [
                {
                    "speaker": ("Ann", "Ben")[i % 2],
                    "dia_id": f"D{session}:{i + 1}",
                    "text": f"I finally bought the {thing}.",
                    **({"blip_caption": "a shop"} if i == 0 else {}),
                }
                for i, thing in enumerate(things[4 * (session - 1) : 4 * session])
            ]
        qa = [
            {
                "question": f"Who bought the {thing}?",
                "category": 1 + i % 5,
                "evidence": [f"D{1 + i // 4}:{i % 4 + 1}"],
            }
            for i, thing in enumerate(things)
        ]
        qa.append({"question": "What is unknown?", "category": 1, "evidence": ["D9:9"]})
        samples.append({"sample_id": f"conv-{number}", "conversation": talk, "qa": qa})
    file = folder / "locomo.json"
    file.write_text(json.dumps(samples))
    return file


def told(folder: Path) -> locomo.Told:
    tenant = SqliteStore(folder / "store").tenant("locomo")
    return locomo.Told(tenant, locomo.load(locomo_file(folder)), HashedWords(64), silent)


def test_locomo_is_read_with_times_captions_and_known_evidence_only(tmp_path: Path) -> None:
    first, second = locomo.load(locomo_file(tmp_path))
    assert [len(first.turns), len(first.questions), first.name] == [8, 8, "conv-0"]
    assert first.turns[0].text == "Ann: I finally bought the lantern0. [image: a shop]"
    assert first.turns[4].valid_at.isoformat() == "2023-05-02T13:52:00+00:00"
    assert second.questions[5].evidence == ("D2:2",)


@pytest.mark.parametrize("text", ["", "[1]", '[{"conversation": {}}]', "{"])
def test_a_file_that_is_no_locomo_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(InvalidRequest, match="no LoCoMo file"):
        locomo.load(file)


def test_recall_is_the_share_of_evidence_among_the_first(tmp_path: Path) -> None:
    both = told(tmp_path)
    ids = {turn: ulid for ulid, turn in both._turn_of.items()}
    others = [ids[f"D2:{i}"] for i in (1, 2, 3, 4)]
    shown = [ids["D1:1"], *others, ids["D1:2"]]
    question = locomo.Question("?", 1, ("D1:1", "D1:2", "D1:3"))
    assert both.recall(question, shown) == [1 / 3, 2 / 3, 2 / 3]


def test_the_store_finds_the_turn_that_has_the_word_and_not_another_conversations(
    tmp_path: Path,
) -> None:
    both = told(tmp_path)
    result = locomo.ranked(both, lambda _: Fixed(), silent, "")
    assert result.recall.shape == (16, 3)
    assert result.recall[:, 0].mean() == 1.0
    by_id = {e.id: e.conversation for e in both.memory(Fixed()).history()}
    for number, shown in enumerate(result.shown):
        assert {by_id[i] for i in shown} == {f"conv-{number // 8}"}
    alone = locomo.ranked(both, lambda _: Fixed(), silent, "", only=1)
    assert alone.shown == result.shown[8:]


def test_weights_for_a_conversation_are_learnt_without_it(tmp_path: Path) -> None:
    both = told(tmp_path)
    rankers = locomo.learnt(both, silent)
    from tenfold.memory.fusion import fit

    other = [both.judged(both.conversations[1], q) for q in both.conversations[1].questions]
    assert rankers[0].weights == fit(other)
    assert rankers[1].weights != rankers[0].weights


def test_the_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(1).normal(3, 2, 400)
    low, high = locomo.interval(values)
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.03)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.03)


def test_feedback_of_the_conversation_left_out_is_not_learnt_from(tmp_path: Path) -> None:
    both = told(tmp_path)
    fixed = locomo.ranked(both, lambda _: Fixed(), silent, "")
    result = taught(both, fixed, shuffled=False, report=silent)
    assert [one.feedback for one in result.learnt] == [8, 8]
    assert result.gains.shape == (16,)
    member = both.tenant.member("feedback without conv-0")
    asked = {e.text for e in member.history() if e.kind == "feedback"}
    assert asked == {q.text for q in both.conversations[1].questions}


def test_made_up_turns_share_their_words_with_made_up_questions() -> None:
    turns = Counter(w for text in made_up(300, seed=0) for w in text.split())
    asked = [w for text in made_up(100, seed=9) for w in text.split()]
    assert np.mean([w in turns for w in asked]) > 0.6
    (_, first), (_, tenth) = turns.most_common(10)[0], turns.most_common(10)[9]
    assert 4 < first / tenth < 25  # by Zipf's law 10
    assert list(made_up(3, seed=5)) == list(made_up(3, seed=5))
    assert set(" ".join(made_up(9, words=["to", "be"])).split()) == {"to", "be"}


def test_a_filled_memory_has_vectors_and_nothing_waits(tmp_path: Path) -> None:
    tenant = SqliteStore(tmp_path).tenant("t")
    events = fill(tenant, list(made_up(620)), "hashed-words-384")
    assert tenant.status().waiting == 0
    found = tenant.member("other").find("nothing", unit_vectors(1)[0], limit=1000)
    assert len(found.events) == len(events) == 620
    np.testing.assert_allclose(found.turn.max(), 1.0, atol=1e-5)  # the first turn's own vector


def test_speeds_are_of_what_was_asked(tmp_path: Path) -> None:
    stages: list[str] = []
    times = search_times(
        tmp_path, 40, 5, HashedWords(384), lambda stage, done: stages.append(stage)
    )
    assert 0 < times.p50 <= times.p95
    assert "searches among 40 turns" in stages
    assert ingest_rate(tmp_path, ["a", "b", "c"], 2) > 0
    assert len(list(SqliteStore(tmp_path).tenant("by-2").member("speaker").history())) == 3


def test_a_killed_writer_loses_nothing_and_a_loss_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = soundness.killed_writers(tmp_path, 2, seed=3)
    assert counts.acknowledged > 5
    assert (counts.rounds, counts.lost, counts.undead, counts.half) == (2, 0, 0, 0)
    real = soundness._killed_after

    def boasting(folder: Path, seed: int, seconds: float) -> dict[str, set[str]]:
        said = real(folder, seed, seconds)
        return {**said, "kept": said["kept"] | {"0" * 26}}

    monkeypatch.setattr(soundness, "_killed_after", boasting)
    assert soundness.killed_writers(tmp_path, 1, seed=4).lost == 1


def test_erased_words_are_nowhere_and_a_trace_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = soundness.erase_at_random(tmp_path / "a", 40, 8, 2, silent)
    assert (clean.residue, clean.erasures) == (0, 8)
    assert clean.events >= 8
    real = Memory.erase

    def hoarding(self: Memory, selection):  # type: ignore[no-untyped-def]
        self.kept = [e.text for e in self.get(*selection.ids)]  # type: ignore[attr-defined]
        return real(self, selection)

    monkeypatch.setattr(Memory, "erase", hoarding)
    assert soundness.erase_at_random(tmp_path / "b", 40, 8, 2, silent).residue > 0


def test_a_probe_that_finds_nothing_at_all_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tenfold.memory.sqlite.tenant import SqliteTenant

    monkeypatch.setattr(SqliteTenant, "verify_erasure", lambda self, probes: [])
    with pytest.raises(TenfoldError, match="did not find"):
        soundness.erase_at_random(tmp_path, 20, 2, 1, silent)


def test_random_calls_return_what_the_model_allows(tmp_path: Path) -> None:
    played = isolation.play(tmp_path, 250, silent, seed=1)
    assert played.calls == 250
    assert played.returned > 100
    assert played.refused > 5
    assert (played.leaks, played.missing) == (0, 0)


def test_random_calls_count_a_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tenfold.memory.sqlite.visibility import Clause, Viewer

    monkeypatch.setattr(Viewer, "sees", lambda self: Clause("TRUE"))
    assert isolation.play(tmp_path, 150, silent, seed=1).leaks > 0


def test_restated_statements_do_not_grow_and_different_ones_stay_apart(tmp_path: Path) -> None:
    repeated = soundness.restate(tmp_path, 30)
    assert repeated.before == repeated.after == 30
    assert repeated.facts_before == repeated.facts_after


def test_growth_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundness, "RESTATED", (lambda text: f"{text} Then {hash(text)} more.",))
    assert soundness.restate(tmp_path, 10).after == 20


TINY = replace(
    bench.QUICK, questions=3, large=60, ingested=20, kills=1, erased_from=20, erasures=2, looks=1,
    calls=60, statements=6, guests=2,
)  # fmt: skip


def test_the_benchmark_has_every_key_or_says_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "SMALL", 40)
    figures = bench.measure(
        TINY, silent, locomo=locomo_file(tmp_path), data=None, embedder=HashedWords(384)
    )
    assert set(bench.BOUNDS) == (set(figures.figures) | set(figures.absent)) & set(bench.BOUNDS)
    assert figures.figures["locomo_recall_at_10"] == 100.0
    assert figures.figures["lost_events"] == 0
    assert "only 60 turns" in figures.absent["query_p95_ms_100k"]
    assert figures.figures["guest_memory_ser_off"] > 0.5
    json.dumps(dict(figures.settings))
    found = bench.Found()
    bench._locomo(None, TINY, HashedWords(384), silent, found)
    assert "--locomo FILE" in found.absent["locomo_recall_at_10"]


def test_a_locomo_file_is_for_the_memory_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "kernels", "--locomo", "x.json"])
    assert ended.value.code == 2
    assert "has no option --locomo" in capsys.readouterr().err
