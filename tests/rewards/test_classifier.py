"""Classifier folders as rewards: the scores of transformers, whatever was read before."""

from __future__ import annotations

import asyncio
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from tenfold import LLM, BestOfN
from tenfold.errors import InvalidRequest, PromptTooLong
from tenfold.models.folders import embedded_root
from tenfold.models.loading import load_model
from tenfold.rewards import classifier
from tenfold.rewards.base import Answer, RewardPrompt
from tenfold.rewards.classifier import ClassifierReward
from tenfold.types import Message, SamplingParams

CHAT = (
    Message("system", "Blue Door is a restaurant. For Blue Door the city is Porto."),
    Message("user", "Where is Blue Door?"),
)
TEXTS = [
    "Blue Door is in Porto.",
    "It is in Lisbon, I think.",
    "",
    "Blue Door is in Porto now, yes.",
]
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """An adapter of the concierge with random changes, and PEFT's unmerged model of it."""
    folder = tmp_path_factory.mktemp("scorer")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import peft
        import transformers

        base = transformers.AutoModelForSequenceClassification.from_pretrained(
            embedded_root() / "concierge", num_labels=1, dtype=torch.float32
        )
        settings = peft.LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8, target_modules=TARGETS)
        model = peft.get_peft_model(base, settings).eval()
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_" in name or "modules_to_save" in name:
                    weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)
        model.save_pretrained(folder)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = "concierge"
    path.write_text(json.dumps(config))
    return folder, model


def prompt_of(folder: str | Path = "concierge") -> RewardPrompt:
    model = load_model(folder)
    ids = model.tokenizer.encode(model.require_chat_template().render(CHAT))
    return RewardPrompt(tuple(ids), CHAT)


def by_transformers(model: Any, text: str, finished: bool) -> float:
    loaded = load_model("concierge")
    rendered = loaded.require_chat_template().render(CHAT) + text + ("<|end|>" if finished else "")
    with torch.no_grad():
        return float(model(input_ids=torch.tensor([loaded.tokenizer.encode(rendered)])).logits)


def scores(session: Any, answers: list[Answer]) -> list[float]:
    return asyncio.run(session.score(answers))


@pytest.mark.parametrize("finished", [True, False])
def test_scores_are_those_of_transformers_with_an_unmerged_adapter(
    scored: tuple[Path, Any], finished: bool
) -> None:
    folder, model = scored
    session = ClassifierReward.of(folder).open(prompt_of())
    found = scores(session, [Answer(t, finished=finished) for t in TEXTS])
    expected = [by_transformers(model, t, finished) for t in TEXTS]
    assert max(expected) - min(expected) > 0.1  # or nothing would be tested
    assert found == pytest.approx(expected, abs=1e-4)


def test_answers_that_grow_are_scored_as_if_read_at_once(scored: tuple[Path, Any]) -> None:
    reward, prompt = ClassifierReward.of(scored[0]), prompt_of()
    tokenizer = load_model("concierge").tokenizer
    whole = [tuple(tokenizer.encode(t)) for t in TEXTS if t]
    growing = reward.open(prompt)
    read = []
    for n in (2, 4, 100):
        answers = [Answer("", ids[:n], finished=n == 100) for ids in whole]
        answers.append(Answer("", whole[0][:n] + whole[1][:1], finished=False))  # a fork
        before = growing.tokens
        found = scores(growing, answers)
        read.append(growing.tokens - before)
        assert found == pytest.approx(scores(reward.open(prompt), answers), abs=1e-5)
    assert read[1] < sum(min(4, len(ids)) for ids in whole) + 5  # only what is new, and a seam each
    again = growing.tokens
    scores(growing, [Answer("", whole[0], finished=True)])
    assert growing.tokens - again == 2  # the last token and the one that ends the answer


def test_tokens_of_a_model_that_spells_otherwise_are_not_taken_for_own_ones(
    scored: tuple[Path, Any],
) -> None:
    reward, prompt = ClassifierReward.of(scored[0]), prompt_of()
    foreign = RewardPrompt((5, 6, 7), CHAT)
    answer = Answer(TEXTS[0], (9, 9, 9))
    expected = scores(reward.open(prompt), [Answer(TEXTS[0])])
    assert scores(reward.open(foreign), [answer]) == pytest.approx(expected, abs=1e-5)


def test_many_answers_are_read_in_several_passes(
    scored: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reward, prompt = ClassifierReward.of(scored[0]), prompt_of()
    at_once = scores(reward.open(prompt), [Answer(t) for t in TEXTS])
    monkeypatch.setattr(classifier, "PIECE", 3)
    assert scores(reward.open(prompt), [Answer(t) for t in TEXTS]) == pytest.approx(
        at_once, abs=1e-5
    )


def test_a_causal_model_is_refused_with_what_to_do() -> None:
    with pytest.raises(InvalidRequest, match="no classification head") as found:
        ClassifierReward.of("concierge").open(prompt_of())
    assert "logprob" in (found.value.hint or "")


def test_plain_text_and_what_does_not_fit_are_refused(scored: tuple[Path, Any]) -> None:
    reward = ClassifierReward.of(scored[0])
    with pytest.raises(InvalidRequest, match="plain text"):
        reward.open(RewardPrompt((1, 5, 6)))
    long = (Message("user", "Porto " * 1100),)
    with pytest.raises(PromptTooLong, match="1024"):
        reward.open(RewardPrompt((1,), long))
    with pytest.raises(PromptTooLong, match="answer"):
        scores(reward.open(prompt_of()), [Answer("Porto " * 1020)])


def test_after_close_a_session_reads_the_prompt_anew(scored: tuple[Path, Any]) -> None:
    session = ClassifierReward.of(scored[0]).open(prompt_of())
    first = scores(session, [Answer(TEXTS[0])])
    asyncio.run(session.close())
    asyncio.run(session.close())
    assert scores(session, [Answer(TEXTS[0])]) == pytest.approx(first, abs=1e-6)


def test_a_classifier_chooses_and_does_not_answer(scored: tuple[Path, Any]) -> None:
    with pytest.raises(InvalidRequest, match="classifier"):
        LLM(str(scored[0]))
    with LLM("concierge", dtype="float32") as llm:
        reward = ClassifierReward.of(scored[0], name="mine")
        llm.asynchronous.rewards.register("mine", lambda: reward)
        params = SamplingParams(temperature=1.0, max_tokens=24, seed=5)
        best = llm.chat(CHAT, params, strategy=BestOfN(n=4), reward="mine")
        assert best.score == pytest.approx(
            by_transformers(scored[1], best.text, best.finish_reason == "stop"), abs=1e-4
        )
        assert llm.score(CHAT, TEXTS, reward="mine") == pytest.approx(
            [by_transformers(scored[1], t, True) for t in TEXTS], abs=1e-4
        )
