"""The preference recipes: branches, adapters, changed answers, groups and pairs of them."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from recipes.preference.branches import lay_out
from recipes.preference.groups import Grader, Group
from recipes.preference.low_rank import Scorer, save_adapter
from recipes.preference.negatives import CHANGES, Changer, places
from recipes.preference.objective import (
    HELPERS,
    Weights,
    accuracy,
    choose,
    loss_of,
    spoken,
    target,
)
from recipes.preference.pairs import held_row, pairs_of, policy_pairs, prompt_ids, write_held
from recipes.preference.prompts import PARTS, part_of
from recipes.preference.reward_model import Plan, Run
from tenfold.align.pairs import read_pairs
from tenfold.cli.benchmarks.preference_models import FILE
from tenfold.cli.benchmarks.preference_models import read_pairs as read_held
from tenfold.cli.held_out import read_held_out, shipped
from tenfold.models.folders import locate
from tenfold.models.loading import load_model
from tenfold.models.reference import reference_scores
from tenfold.rewards.facts import Requirement, facts_of
from tenfold.rewards.verifier import FactsVerifier
from tenfold.types import as_messages

FACTS = (
    "Blue Door is a restaurant. For Blue Door the city is Porto. For Blue Door the phone number is "
    "408-971-8523. For Blue Door the rating is 4.2.\n"
    "Red Barn is a restaurant. For Red Barn the city is Lisbon. For Red Barn the phone number is "
    "212-555-0100. For Red Barn the rating is 3.9."
)
MESSAGES = [
    {"role": "system", "content": FACTS},
    {"role": "user", "content": "What is the city of Red Barn?"},
    {"role": "assistant", "content": "For Red Barn the city is Lisbon."},
    {"role": "user", "content": "Tell me everything about Blue Door."},
]
REQUIRED = [
    ["Blue Door", "city", "Porto"],
    ["Blue Door", "phone number", "408-971-8523"],
    ["Blue Door", "rating", "4.2"],
]
REFERENCE = (
    "For Blue Door the city is Porto. For Blue Door the phone number is 408-971-8523. "
    "For Blue Door the rating is 4.2."
)
SAMPLES = [
    REFERENCE,
    "For Blue Door the city is Lisbon. For Blue Door the rating is 4.2.",
    "For Blue Door the city is Porto. The phone number is 408-971-8523.",
]
VALUES = {"city": ["Porto", "Faro"], "phone number": ["999-111-2222"], "rating": ["1.1"]}
OTHERS = ["For Old Mill the price is $12."]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(locate("concierge") / "tokenizer.json"))


@pytest.fixture(scope="module")
def row(tokenizer: Tokenizer) -> dict:  # type: ignore[type-arg]
    verifier = verifier_of()
    samples = []
    for text in SAMPLES:
        v = verifier.check(text)
        samples.append(
            {
                "text": text,
                "ids": [*tokenizer.encode(text, add_special_tokens=False).ids, 2],
                "finished": True,
                "missing": len(v.missing),
                "wrong": len(v.wrong),
                "invented": len(v.invented),
            }
        )
    return {
        "id": "guide-1", "family": "lookup", "kind": "recap", "messages": MESSAGES,
        "required": REQUIRED, "reference": REFERENCE, "samples": samples,
        "prompt_ids": prompt_ids(tokenizer, MESSAGES),
    }  # fmt: skip


@pytest.fixture(scope="module")
def group(row: dict, tokenizer: Tokenizer) -> Group:  # type: ignore[type-arg]
    return Grader(tokenizer, frozenset(), VALUES, OTHERS).group(row, 10, random.Random(1))


def verifier_of() -> FactsVerifier:
    return FactsVerifier(as_messages(MESSAGES), [Requirement(*r) for r in REQUIRED])


@pytest.mark.parametrize("kind", CHANGES)
def test_every_change_makes_an_error_of_its_kind_and_nothing_else_does(kind: str) -> None:
    required = [Requirement(*r) for r in REQUIRED]
    facts = facts_of(as_messages(MESSAGES))
    said = "\n".join(m["content"] for m in MESSAGES)
    verifier = verifier_of()
    changer = Changer(facts, required, verifier, VALUES, said, [MESSAGES[2]["content"]], OTHERS)
    for seed in range(12):
        changed = changer.change(REFERENCE, kind, random.Random(seed))
        assert changed is not None
        verdict = verifier.check(changed)
        if kind == "missing":
            assert verdict.missing
            assert not verdict.wrong + verdict.invented
        elif kind == "invented":
            assert verdict.invented
        elif kind.startswith("wrong"):
            assert len(places(REFERENCE, required)) == 3
            assert verdict.wrong or verdict.missing
            own = {"Porto", "408-971-8523", "4.2"}
            other = {"Lisbon", "212-555-0100", "3.9"}
            new = [v for v in own | other if changed.count(v) > REFERENCE.count(v)]
            assert len(new) == 1
            assert set(new) <= (other if kind == "wrong_record" else own)


def test_branches_are_read_as_if_each_answer_were_alone(group: Group) -> None:
    scorer = Scorer("concierge", 4, 0, HELPERS)
    with torch.no_grad():
        for change in scorer.trained().values():
            change.add_(
                0.02 * torch.randn(change.shape, generator=torch.Generator().manual_seed(1))
            )
        answers = [spoken(a) for a in group.answers]
        together = scorer(lay_out(group.prompt_ids, answers))[0].split([len(a) for a in answers])
        for answer, found in zip(answers, together, strict=True):
            alone = scorer(lay_out(group.prompt_ids, [answer]))[0]
            torch.testing.assert_close(found, alone, atol=1e-4, rtol=1e-4)


def test_the_adapter_scores_in_tenfold_what_it_scored_in_training(
    group: Group, tmp_path: Path
) -> None:
    scorer = Scorer("concierge", 4, 0, HELPERS)
    with torch.no_grad():
        for change in scorer.trained().values():  # in bfloat16, as it is stored
            noise = torch.randn(change.shape, generator=torch.Generator().manual_seed(2))
            change.copy_((change + 0.02 * noise).bfloat16().float())
        answer = spoken(group.answers[0])
        expected = scorer(lay_out(group.prompt_ids, [answer]))[0]
    save_adapter(scorer, tmp_path / "rm")
    decoder = load_model(tmp_path / "rm", dtype=torch.float32).decoder
    found = reference_scores(decoder, torch.tensor([*group.prompt_ids, *answer]))[:, 0]
    torch.testing.assert_close(found[len(group.prompt_ids) :], expected, atol=1e-4, rtol=1e-4)


def test_a_group_keeps_no_double_and_marks_where_errors_begin(group: Group) -> None:
    assert len({tuple(a.ids) for a in group.answers if a.kind in ("sample", "reference")}) == 3
    for answer in group.answers:
        if answer.kind in ("wrong_record", "wrong_slot", "invented"):
            original = group.answers[answer.original]
            assert answer.ids[: answer.begins] == original.ids[: answer.begins]
            assert answer.ids[answer.begins] != original.ids[answer.begins]
            assert target(answer) < target(original)


def test_pairs_are_better_over_worse_and_policy_pairs_are_the_trainers(
    group: Group,
    row: dict,
    tmp_path: Path,  # type: ignore[type-arg]
) -> None:
    pairs = pairs_of(group, random.Random(0))
    assert {kind for kind, _, _ in pairs} >= {"sample", "graded", "missing", "invented"}
    assert all(group.answers[b].errors < group.answers[w].errors for _, b, w in pairs)
    file = tmp_path / "policy.jsonl"
    file.write_text("".join(json.dumps(p) + "\n" for p in policy_pairs(row)))
    (best,) = read_pairs(file)
    assert best.kind == "best_worst"
    assert best.chosen[0].content == REFERENCE  # type: ignore[union-attr]


def test_what_training_begins_with_learns_and_goes_on_after_a_kill(
    group: Group, tmp_path: Path
) -> None:
    plan = Plan(0.0, 2, 1e-2, 6, 1, 3, 50)
    run = Run(plan, [group, group, group], [], tmp_path)
    losses = []
    for _ in range(12):
        entry = run.one_step(0.0)
        losses.append(sum(v for k, v in entry.items() if k != "rate"))
        run.step += 1
    assert sum(losses[-3:]) < sum(losses[:3])
    run.save()
    again = Run(plan, [group, group, group], [], tmp_path)
    assert again.step == 12
    assert again.one_step(0.0) == pytest.approx(run.one_step(0.0), rel=1e-4)
    found = accuracy(again.scorer, [group])
    assert set(found.pairs) >= {"sample", "graded"}


def test_chosen_answers_come_with_what_they_are_changes_of(group: Group) -> None:
    for seed in range(5):
        chosen = choose(group, 5, random.Random(seed))
        assert len(set(chosen)) == len(chosen)
        originals = {group.answers[i].original for i in chosen} - {-1}
        assert originals <= set(chosen)
    parts = loss_of(Scorer("concierge", 2, 0, HELPERS), group, range(len(group.answers)), Weights())
    assert set(parts) == {"value", "last", "pairs", "beside", "running", "error"}


def test_the_held_out_file_is_read_as_it_was_written(
    row: dict,
    group: Group,
    tmp_path: Path,
    tokenizer: Tokenizer,  # type: ignore[type-arg]
) -> None:
    question = read_held_out(shipped("concierge")).questions[0]
    write_held([{**row, "id": question.id}], tmp_path)
    about, (held,) = read_held(tmp_path / FILE)
    assert about["licence"] == "CC BY-SA 4.0"
    assert held.question == question
    assert sum(about["counts"].values()) == len(held.pairs)
    for kind, better, worse in held.pairs:
        if kind == "partial":
            assert not held.answers[better].finished
            assert held.answers[better].text != held.answers[worse].text
        else:
            assert held.verified[better] > held.verified[worse]
    lines = gzip.decompress((tmp_path / FILE).read_bytes()).decode().splitlines()
    assert len(lines) == 2
    assert held_row(group, tokenizer)["pairs"]


def test_parts_share_nothing_and_cover_everything() -> None:
    parts = [part_of(f"value {i}") for i in range(600)]
    assert set(parts) == set(PARTS) - {"held"}
    assert 0.25 < parts.count("judge") / 600 < 0.42
    assert part_of("Porto") == part_of("porto")
