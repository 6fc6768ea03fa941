"""The front of the stack: a model, its engine, strategies and rewards behind one object.

`AsyncLLM` is what the server stands on; `LLM` is the same for scripts, without async.

    from tenfold import LLM, BestOfN
    llm = LLM("concierge")
    print(llm.chat([{"role": "user", "content": "Hello"}], strategy=BestOfN(n=8)).text)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

from tenfold.engine.async_engine import AsyncEngine, in_passing_thread
from tenfold.engine.settings import EngineSettings
from tenfold.engine.stats import EngineStats
from tenfold.errors import InvalidRequest, PromptTooLong
from tenfold.models.loading import DtypeName, LoadedModel, load_model
from tenfold.models.reference import embed
from tenfold.models.stepwise import stepwise
from tenfold.registry import Registry
from tenfold.rewards.base import REWARDS, Answer, Reward
from tenfold.rewards.logprob import LogprobReward
from tenfold.search.branches import Branches, Budget
from tenfold.search.events import Event, ResultEvent
from tenfold.search.options import DecodeOptions
from tenfold.search.sample import Sample
from tenfold.search.strategy import Request, Strategy
from tenfold.types import Completion, Message, SamplingParams, as_messages

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of given answers, and the tokens the reward's model read for them."""

    values: tuple[float, ...]
    prompt_tokens: int
    reward_tokens: int


class AsyncLLM:
    """A loaded model and its engine. Requests from many tasks share one batch."""

    def __init__(
        self, model: LoadedModel, engine: AsyncEngine, rewards: Registry[Reward] | None = None
    ) -> None:
        self.model = model
        self.engine = engine
        self.rewards = (rewards or REWARDS).copy()
        # One thread for texts that are only read: they cannot crowd out anything else.
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="tenfold-read")
        if "logprob" not in self.rewards:
            self.rewards.register("logprob", lambda: LogprobReward(model.decoder, self._reading))

    @classmethod
    def load(
        cls,
        name: str,
        *,
        dtype: DtypeName = "auto",
        device: str = "cpu",
        adapters: Sequence[str] = (),
        settings: EngineSettings | None = None,
    ) -> AsyncLLM:
        """Loads an embedded model by name, a folder, or `hf:owner/name`, and starts its engine.

        Raises InvalidRequest for a classifier, which scores answers and gives none.
        """
        model = in_passing_thread(
            lambda: load_model(name, dtype=dtype, device=device, adapters=adapters)
        )
        if model.spec.num_labels:
            raise InvalidRequest(
                f"model {model.name!r} is a classifier: it scores answers and gives none",
                param="model",
                hint=f"load the model that answers, and let this one choose: --reward {name}",
            )
        return cls(model, AsyncEngine.for_model(model, settings))

    @property
    def context_length(self) -> int:
        return self.engine.context_length

    def chat_request(
        self,
        messages: Sequence[Message | Mapping[str, Any]],
        params: SamplingParams,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> Request:
        """Renders the chat template. Raises InvalidRequest for an empty conversation, TemplateError
        for a template that fails, PromptTooLong when no room is left for an answer."""
        chat = as_messages(messages)
        if not chat:
            raise InvalidRequest("there are no messages", param="messages")
        template = self.model.require_chat_template()
        if "developer" not in template.source:
            # OpenAI's newer name of the system role; most templates know only the older one.
            chat = [replace(m, role="system") if m.role == "developer" else m for m in chat]
        text = template.render(
            chat, tools=list(tools) if tools else None, variables=template_kwargs
        )
        self.check_size(text, "messages")
        ids = self.model.tokenizer.encode(text)
        return self._request(ids, params, tuple(chat), "messages")

    def text_request(self, prompt: str | Sequence[int], params: SamplingParams) -> Request:
        """A plain completion of text or of token ids."""
        if isinstance(prompt, str):
            self.check_size(prompt, "prompt")
            ids = self.model.tokenizer.encode_prompt(prompt)
        else:
            ids = list(prompt)
            if any(not 0 <= i < self.model.spec.vocab_size for i in ids):
                raise InvalidRequest(
                    "prompt holds token ids outside the vocabulary",
                    param="prompt",
                    hint=f"ids run from 0 to {self.model.spec.vocab_size - 1}",
                )
        return self._request(ids, params, (), "prompt")

    def check_size(self, text: str, param: str) -> None:
        """Raises PromptTooLong for a text that does not fit even in the longest of tokens: to count
        the tokens of one that is megabytes long would take seconds."""
        least = -(-len(text.encode("utf-8", "surrogatepass")) // self._longest_token)
        if least > self.context_length:
            raise PromptTooLong(
                f"the text has at least {least} tokens; the context holds {self.context_length}",
                param=param,
                hint="shorten it",
            )

    @cached_property
    def _longest_token(self) -> int:
        return max(map(len, self.model.tokenizer.all_token_bytes), default=1)

    def _request(
        self, ids: list[int], params: SamplingParams, messages: tuple[Message, ...], param: str
    ) -> Request:
        if not ids:
            raise InvalidRequest("the prompt is empty", param=param)
        if len(ids) >= self.context_length:
            raise PromptTooLong(
                f"the prompt has {len(ids)} tokens; the context holds {self.context_length} "
                "including the answer",
                param=param,
                hint="shorten the prompt",
            )
        return Request(tuple(ids), params, messages)

    async def stream(self, request: Request, options: DecodeOptions) -> AsyncGenerator[Event, None]:
        """The strategy's events. Closing the iterator early frees the request's KV blocks."""
        reward = self.rewards.get(options.reward) if options.reward else None
        branches = Branches(
            self.engine, request.reward_prompt, reward=reward, budget=options.budget
        )
        async with branches, aclosing(options.strategy.run(branches, request)) as events:
            async for event in events:
                yield event

    async def generate(self, request: Request, options: DecodeOptions) -> ResultEvent:
        """The strategy's result."""
        last: Event | None = None
        async with aclosing(self.stream(request, options)) as events:
            async for event in events:
                last = event
        assert isinstance(last, ResultEvent), "a strategy ends with a ResultEvent"
        return last

    async def score(self, request: Request, texts: Sequence[str], reward: str) -> Scores:
        """Scores given answers to a request. Raises UnknownName for an unknown reward, and what
        `read_answers` raises."""
        loop = asyncio.get_running_loop()
        answers = await loop.run_in_executor(self._reading, self.read_answers, request, texts)
        return await self.score_answers(request, answers, reward)

    def read_answers(self, request: Request, texts: Sequence[str]) -> list[Answer]:
        """Given answers as tokens. Raises PromptTooLong for one that does not fit."""
        answers: list[Answer] = []
        for i, text in enumerate(texts):
            self.check_size(text, f"candidates.{i}")
            ids = tuple(self.model.tokenizer.encode(text))
            size = len(request.prompt_ids) + len(ids)
            if size > self.context_length:
                raise PromptTooLong(
                    f"prompt and candidate have {size} tokens; the context holds "
                    f"{self.context_length}",
                    param=f"candidates.{i}",
                    hint="shorten one of them",
                )
            answers.append(Answer(text, ids))
        return answers

    async def score_answers(
        self, request: Request, answers: Sequence[Answer], reward: str
    ) -> Scores:
        """Scores answers that were read before. Raises UnknownName for an unknown reward."""
        session = self.rewards.get(reward).open(request.reward_prompt)
        try:
            values = await session.score(answers)
        finally:
            await session.close()
        return Scores(tuple(values), len(request.prompt_ids), session.tokens)

    async def embed(self, inputs: Sequence[Sequence[int]]) -> list[list[float]]:
        """Mean-pooled, L2-normalised final hidden states, one vector per input."""
        vectors: list[list[float]] = []
        for ids in inputs:
            if not 0 < len(ids) <= self.context_length:
                raise PromptTooLong(
                    f"an input has {len(ids)} tokens; between 1 and {self.context_length} fit",
                    param="input",
                )
            vectors.append(await stepwise(self._reading, embed(self.model.decoder, ids)))
        return vectors

    def stats(self) -> EngineStats:
        """The engine's counters and present state."""
        return self.engine.stats()

    async def close(self) -> None:
        """Stops the engine; requests under way end with EngineError."""
        self._reading.shutdown(wait=False, cancel_futures=True)
        await self.engine.close()


class LLM:
    """A model for scripts: load, chat, generate, score; strategies choose among candidates."""

    def __init__(
        self,
        model: str = "concierge",
        *,
        dtype: DtypeName = "auto",
        device: str = "cpu",
        adapters: Sequence[str] = (),
        settings: EngineSettings | None = None,
    ) -> None:
        # Loaded first: a model that cannot be had leaves no thread behind.
        self._llm = AsyncLLM.load(
            model, dtype=dtype, device=device, adapters=adapters, settings=settings
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="tenfold-llm", daemon=True
        )
        self._thread.start()

    def chat(
        self,
        messages: Sequence[Message | Mapping[str, Any]],
        params: SamplingParams | None = None,
        *,
        strategy: Strategy | None = None,
        reward: str = "logprob",
        budget: Budget | None = None,
    ) -> Completion:
        """The best answer to a conversation."""
        request = self._llm.chat_request(messages, params or self.default_params())
        return self._run_all([request], strategy, reward, budget)[0].completions[0]

    def generate(
        self,
        prompts: str | Sequence[str],
        params: SamplingParams | None = None,
        *,
        strategy: Strategy | None = None,
        reward: str = "logprob",
        budget: Budget | None = None,
    ) -> list[Completion]:
        """The best completion of each prompt; all prompts are decoded in one batch."""
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        requests = [self._llm.text_request(t, params or self.default_params()) for t in texts]
        return [r.completions[0] for r in self._run_all(requests, strategy, reward, budget)]

    def score(
        self,
        messages: Sequence[Message | Mapping[str, Any]],
        candidates: Sequence[str],
        reward: str = "logprob",
    ) -> list[float]:
        """One score per candidate answer."""
        request = self._llm.chat_request(messages, self.default_params())
        return list(self._wait(self._llm.score(request, candidates, reward)).values)

    @property
    def asynchronous(self) -> AsyncLLM:
        """The front that it runs on: the model, the engine, how a prompt is rendered."""
        return self._llm

    def default_params(self) -> SamplingParams:
        """The checkpoint's own generation defaults."""
        return self._llm.model.default_params()

    def stats(self) -> EngineStats:
        """The engine's counters and present state."""
        return self._llm.stats()

    def close(self) -> None:
        """Stops the engine and its thread."""
        if self._loop.is_closed():
            return
        self._wait(self._llm.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _run_all(
        self,
        requests: Sequence[Request],
        strategy: Strategy | None,
        reward: str,
        budget: Budget | None,
    ) -> list[ResultEvent]:
        chosen = strategy or Sample()
        options = DecodeOptions(
            chosen, reward if "reward" in chosen.needs else None, budget or Budget()
        )

        async def everything() -> list[ResultEvent]:
            return await asyncio.gather(*(self._llm.generate(r, options) for r in requests))

        return self._wait(everything())

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
