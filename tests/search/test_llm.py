"""The front of the stack on a real, tiny checkpoint: against transformers, and bad input."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tenfold import LLM, BestOfN, Completion, SamplingParams
from tenfold.engine.settings import EngineSettings
from tenfold.errors import InvalidRequest, PromptTooLong, UnknownName
from tenfold.rewards.logprob import token_logprobs
from tenfold.types import Constraint
from tests.tiny_checkpoint import save_tiny_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def llm(folder: Path) -> Iterator[LLM]:
    with LLM(str(folder), settings=EngineSettings(block_size=8, kv_memory_mb=64)) as llm:
        yield llm


GREEDY = SamplingParams(temperature=0, max_tokens=30)


@pytest.mark.filterwarnings("ignore")  # transformers' own
def test_greedy_text_is_what_transformers_generates(llm: LLM, folder: Path) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompts = ["the cat", "hello there", "a", "sat on the mat, " * 6]
    tokenizer = llm._llm.model.tokenizer
    for prompt, ours in zip(prompts, llm.generate(prompts, GREEDY), strict=True):
        ids = torch.tensor([tokenizer.encode_prompt(prompt)])
        out = theirs.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=30,
            eos_token_id=1,
            pad_token_id=1,
        )
        assert list(ours.token_ids) == out[0, ids.shape[1] :].tolist()


def test_logprobs_are_the_models(llm: LLM) -> None:
    done = llm.generate("the cat", SamplingParams(seed=3, max_tokens=20, logprobs=2))[0]
    model = llm._llm.model
    prompt = model.tokenizer.encode_prompt("the cat")
    want = token_logprobs(model.decoder, prompt, done.token_ids)
    assert [p.logprob for p in done.logprobs] == pytest.approx(want, abs=1e-4)
    assert all(len(p.top) == 2 and p.top[0][1] >= p.top[1][1] for p in done.logprobs)


def test_best_of_n_prefers_the_likelier(llm: LLM) -> None:
    params = SamplingParams(seed=5, max_tokens=12)
    chat = [{"role": "user", "content": "hello"}]
    plain = llm.chat(chat, params)
    best = llm.chat(chat, params, strategy=BestOfN(n=8))
    scores = llm.score(chat, [plain.text, best.text])
    assert best.score is not None
    assert best.score >= sum(p.logprob for p in plain.logprobs) / len(plain.logprobs)
    assert len(scores) == 2


def test_a_schema_is_followed(llm: LLM) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "maximum": 99}, "ok": {"type": "boolean"}},
        "required": ["n", "ok"],
        "additionalProperties": False,
    }
    params = SamplingParams(seed=1, max_tokens=120, constraint=Constraint("json_schema", schema))
    done = llm.chat([{"role": "user", "content": "json"}], params, strategy=BestOfN(n=3))
    assert set(json.loads(done.text)) == {"n", "ok"}


def test_stop_strings_and_reasons(llm: LLM) -> None:
    free = llm.generate("the cat", GREEDY)[0]
    assert len(free.text) > 6
    stop = free.text[3:5]
    cut = llm.generate("the cat", SamplingParams(temperature=0, max_tokens=30, stop=(stop,)))[0]
    assert cut.text == free.text[: free.text.index(stop)]
    assert (cut.finish_reason, cut.stop_text) == ("stop", stop)
    assert isinstance(cut, Completion)


def test_bad_input_is_named(llm: LLM) -> None:
    with pytest.raises(PromptTooLong, match="the context holds 256"):
        llm.generate("x" * 5000)
    with pytest.raises(InvalidRequest, match="no messages"):
        llm.chat([])
    with pytest.raises(UnknownName, match="did you mean 'logprob'"):
        llm.score([{"role": "user", "content": "a"}], ["b"], reward="logprobs")
    with pytest.raises(InvalidRequest, match="cannot be used"):
        llm.generate("x", SamplingParams(constraint=Constraint("regex", "(")))
    with pytest.raises(UnknownName, match="executor"):
        LLM(str(llm._llm.model.folder), settings=EngineSettings(executor="cudaa"))


def test_a_crowd_of_prompts_in_little_memory(folder: Path) -> None:
    params = [SamplingParams(seed=i, max_tokens=24, ignore_eos=True) for i in range(12)]
    with LLM(str(folder), dtype="float32") as roomy:
        want = [roomy.generate(f"the cat {i}", p)[0].text for i, p in enumerate(params)]
    tight = EngineSettings(block_size=4, kv_blocks=24, max_context=80)
    with LLM(str(folder), dtype="float32", settings=tight) as llm:
        requests = [llm._llm.text_request(f"the cat {i}", p) for i, p in enumerate(params)]
        results = llm._run_all(requests, None, "logprob", None)
        assert llm.stats().preemptions > 0
    assert [r.completions[0].text for r in results] == want
