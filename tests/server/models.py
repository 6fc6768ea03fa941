"""Models for the server's tests: a byte tokenizer, a tiny decoder, and an engine on a script."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenizers import AddedToken, decoders, pre_tokenizers
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE

from tenfold.engine.branch import Branch, Capabilities, Delta, EndOfText, Tokens, Until
from tenfold.engine.stats import EngineStats
from tenfold.errors import Overloaded
from tenfold.models.chat_template import ChatTemplate
from tenfold.models.loading import LoadedModel, random_model
from tenfold.models.spec import DecoderSpec
from tenfold.models.tokenizer import Tokenizer
from tenfold.types import FinishReason, Occupancy, SamplingParams, TokenLogprob

CONTEXT = 2048
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TOOL_TEMPLATE = (
    "{% if tools %}Answer with <tool_call>{...}</tool_call>: {{ tools | tojson }}{% endif %}"
    + TEMPLATE
)
SPECIAL = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|developer|>"]


def byte_tokenizer() -> Tokenizer:
    """256 tokens of one byte each, and the special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(t, special=True) for t in SPECIAL])
    return Tokenizer(backend, config={"eos_token": "<|end|>"})


def tiny_model(template: str = TEMPLATE, **generation: Any) -> LoadedModel:
    """A random decoder that can embed, score and generate nonsense."""
    tokenizer = byte_tokenizer()
    spec = DecoderSpec.from_hf(
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": tokenizer.vocab_size,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": CONTEXT,
            "rms_norm_eps": 1e-5,
        }
    )
    return LoadedModel(
        name="tiny",
        spec=spec,
        decoder=random_model(spec),
        tokenizer=tokenizer,
        chat_template=ChatTemplate(template),
        generation=generation,
    )


@dataclass
class Script:
    """What a scripted engine does. `answers[i]` is candidate i's text (the last one repeats)."""

    answers: Sequence[str] = ("Hello there, friend.",)
    per_step: int = 4  # tokens a delta
    delay_s: float = 0.0  # between deltas
    fail_after: int | None = None  # deltas, then `error`
    error: Callable[[], Exception] = lambda: RuntimeError("secret internals")
    hang: bool = False  # say nothing, for ever
    full: bool = False  # refuse to start
    prompts: list[tuple[tuple[int, ...], SamplingParams]] = field(default_factory=list)


class ScriptedEngine:
    """The four verbs on a script. Every live branch holds one block per 16 tokens."""

    context_length = CONTEXT
    alive = True
    capabilities = Capabilities(True, True, True, True)

    def __init__(self, tokenizer: Tokenizer, script: Script) -> None:
        self.tokenizer = tokenizer
        self.script = script
        self.live: dict[int, Branch] = {}
        self.generated = 0
        self.prompt_tokens = 0
        self.began = time.monotonic()
        self._next = 0

    async def start(self, prompt_ids: Sequence[int], params: SamplingParams) -> Branch:
        if self.script.full:
            raise Overloaded("KV memory is full", hint="try again in a moment")
        self.script.prompts.append((tuple(prompt_ids), params))
        self.prompt_tokens += len(prompt_ids)
        return self._branch(tuple(prompt_ids), params, 0)

    async def fork(self, branch: Branch, n: int) -> list[Branch]:
        return [self._branch(branch.prompt_ids, branch.params, i + 1) for i in range(n)]

    def _branch(self, ids: tuple[int, ...], params: SamplingParams, candidate: int) -> Branch:
        self._next += 1
        branch = Branch(self._next, candidate, ids, params)
        self.live[branch.id] = branch
        return branch

    async def extend(self, branches: Sequence[Branch], until: Until) -> AsyncGenerator[Delta, None]:
        room = {b.id: until.count if isinstance(until, Tokens) else 10**6 for b in branches}
        assert isinstance(until, Tokens | EndOfText)
        deltas = 0
        while live := [b for b in branches if not b.finished and room[b.id] > 0]:
            if self.script.hang:
                await asyncio.sleep(3600)
            await asyncio.sleep(self.script.delay_s)
            for branch in live:
                if self.script.fail_after is not None and deltas >= self.script.fail_after:
                    raise self.script.error()
                deltas += 1
                delta = self._grow(branch, min(self.script.per_step, room[branch.id]))
                room[branch.id] -= len(delta.token_ids)
                yield delta

    def _grow(self, branch: Branch, count: int) -> Delta:
        answers = self.script.answers
        text = answers[min(branch.candidate, len(answers) - 1)]
        ids = [*self.tokenizer.encode(text), next(iter(self.tokenizer.eos_ids))]
        at = len(branch.output_ids)
        limit = branch.params.max_tokens or 10**6
        new = ids[at : min(at + count, limit)]
        done = [*branch.output_ids, *new]
        reason: FinishReason | None = None
        if len(done) == len(ids):
            reason = "stop"
        elif len(done) >= limit:
            reason = "length"
        raw = b"".join(self.tokenizer.token_bytes(i) for i in done if i < 256)
        whole = raw.decode("utf-8", errors="ignore")
        added = whole[len(branch.text) :]
        wanted = branch.params.logprobs
        top = () if not wanted else tuple((i, -1.0 - i) for i in range(wanted))
        logprobs = tuple(TokenLogprob(i, -0.5 - 0.01 * branch.candidate, top) for i in new)
        branch.output_ids += new
        branch.logprobs += logprobs
        branch.text = whole
        branch.finish_reason = reason
        self.generated += len(new)
        return Delta(branch, tuple(new), added, logprobs, reason)

    async def drop(self, branches: Sequence[Branch]) -> None:
        for branch in branches:
            self.live.pop(branch.id, None)

    def occupancy(self) -> Occupancy:
        return Occupancy(1000, len(self.live), 0, 16, len(self.live), 0, 0)

    def stats(self) -> EngineStats:
        return EngineStats(
            executor="script",
            dtype="float32",
            occupancy=self.occupancy(),
            prompt_tokens=self.prompt_tokens,
            cached_tokens=0,
            generated_tokens=self.generated,
            dropped_tokens=0,
            steps=0,
            preemptions=0,
            tokens_per_second=0.0,
            uptime_s=time.monotonic() - self.began,
        )

    async def close(self) -> None:
        return None
