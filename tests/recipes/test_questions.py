"""The held-out questions, and the examples that are drawn from them."""

import json
import random
from pathlib import Path

import pytest

from recipes.concierge.baselines import Baselines, draw_examples
from recipes.concierge.data import Lesson, draw_episode, enlarged
from recipes.concierge.examples import examples
from recipes.concierge.lexicon import lexicon
from recipes.concierge.questions import (
    about,
    draw,
    is_hard,
    questions,
    training_values,
    write,
)
from recipes.concierge.tokenizer import train_tokenizer
from tenfold.cli.held_out import FILE, HeldOut, HeldOutFile, read_held_out
from tenfold.rewards.facts import facts_of, parse_facts
from tenfold.server.examples import read_examples

from . import made_up_corpus as made_up

SHIPPED = Path(__file__).parents[2] / "src/tenfold/models/embedded/concierge"
CORPUS = made_up.corpus()
EPISODES = [draw_episode(CORPUS, Lesson.at(1.0), random.Random(i)) for i in range(300)]
WORDS = lexicon(CORPUS.train, [*made_up.OFFERS, *made_up.INFORMS], EPISODES)
TOKENIZER = train_tokenizer([m.text for e in EPISODES for m in e.messages], 1500)


def written(folder: Path) -> Path:
    baselines = Baselines(draw_examples(CORPUS, 0, 40))
    found, drawn = questions(CORPUS, TOKENIZER, WORDS, baselines, per_set=8, seed=3)
    head = {"about": about(CORPUS, drawn, 3), "lexicon": " ".join(sorted(WORDS))}
    write(folder / "questions.jsonl.gz", head, found)
    return folder / "questions.jsonl.gz"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("questions"))


@pytest.fixture(scope="module")
def asked(file: Path) -> HeldOutFile:
    return read_held_out(file)


def test_every_set_is_there(asked: HeldOutFile) -> None:
    assert asked.sets == ["short_seen", "short_unseen", "long_seen", "long_unseen", "lookup_3x4"]
    assert len(asked.of("long_seen")) == 8
    assert asked.about["sets"]["long_seen"]["questions"] == 8
    assert "CC BY-SA 4.0" in asked.about["source"]
    assert {q.kind for q in asked.of("short_seen")} <= {"offer", "inform", "confirm"}


def test_the_same_seed_gives_the_same_bytes(file: Path, tmp_path: Path) -> None:
    assert written(tmp_path).read_bytes() == file.read_bytes()


def test_every_reference_is_free_of_errors(asked: HeldOutFile) -> None:
    for question in asked.questions:
        verdict = asked.verifier(question).check(question.reference)
        assert verdict.required > 0
        assert verdict.slot_errors == 0
        values = {need.value.lower() for need in question.required}
        spans = {question.reference[a:b].lower() for a, b in question.starts}
        assert spans & values
        assert set(question.baselines) == {"nearest", "ngram"}


def test_no_value_of_training_is_asked_for(asked: HeldOutFile) -> None:
    known = training_values(CORPUS)
    assert "red millre" in known
    assert "thai" not in known  # a small category is the same everywhere
    assert not {n.value.lower() for q in asked.questions for n in q.required} & known


def hard(question: HeldOut) -> bool:
    required = [(n.record, n.slot, n.value) for n in question.required]
    return is_hard(facts_of(question.messages), required)


def test_hard_questions_are_among_the_long_ones(asked: HeldOutFile) -> None:
    assert any(hard(q) for name in ("long_seen", "long_unseen") for q in asked.of(name))


def test_the_shipped_questions() -> None:
    found = read_held_out(SHIPPED / FILE)
    for name in found.sets:
        some = found.of(name)
        assert 140 <= len(some) <= 160
        assert name[:4] != "long" or sum(map(hard, some)) >= len(some) / 3
        assert all(not found.verifier(q).check(q.reference).slot_errors for q in some)


def test_what_is_hard() -> None:
    facts = parse_facts("\n".join(f"R{n} is a bar. For R{n} the city is C{n}." for n in range(4)))
    assert is_hard(facts, [("R0", "city", "C0")])
    assert not is_hard(facts, [("R0", "city", "C0"), ("R1", "city", "C1")])
    assert not is_hard(facts, [("R0", "phone number", "1")])


def test_held_out_values_replace_those_of_dialogues() -> None:
    assert all(len(pool) >= 40 for name, pool in enlarged(CORPUS).items() if name == "city")
    assert enlarged(CORPUS)["cuisine"] == made_up.SMALL["cuisine"]
    texts = [m.text for e in draw(CORPUS, "short_seen", 20, random.Random(1)) for m in e.messages]
    assert texts
    assert not any("Blue Door" in text for text in texts)


def test_words_that_are_no_slips_are_known(asked: HeldOutFile) -> None:
    assert {"call", "about", "restaurant", "restaurants", "'s"} <= asked.lexicon
    assert "porto" not in asked.lexicon
    question = asked.of("lookup_3x4")[0]
    judge = asked.verifier(question)
    assert judge.check(f"{question.reference} That is a zorblatt.").invented == ("zorblatt",)


def test_examples_are_drawn_by_the_seed_alone(asked: HeldOutFile, tmp_path: Path) -> None:
    made = examples(asked, 1)
    assert made == examples(asked, 1)
    assert made != examples(asked, 2)
    known = [[m.content for m in q.messages] for q in asked.questions]
    assert all([m["content"] for m in one["messages"]] in known for one in made[:-1])
    assert [m["role"] for m in made[-1]["messages"]] == ["user"]
    (tmp_path / "examples.json").write_text(json.dumps(made), encoding="utf-8")
    assert read_examples(tmp_path) == made
