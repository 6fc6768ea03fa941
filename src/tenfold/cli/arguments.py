"""Options that several commands share, and how they become a model and decode options."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenfold.errors import InvalidRequest

if TYPE_CHECKING:
    from tenfold.registry import Registry
    from tenfold.rewards.base import Reward
    from tenfold.search.llm import AsyncLLM
    from tenfold.search.options import DecodeOptions
    from tenfold.types import SamplingParams

Model = Annotated[str, typer.Option("--model", "-m", help="embedded name, folder or hf:owner/name")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16")]
Adapters = Annotated[list[str] | None, typer.Option("--adapter", help="LoRA folder; repeatable")]
Executor = Annotated[str, typer.Option(help="auto or torch")]
KvMemory = Annotated[int, typer.Option("--kv-memory-mb", help="memory for the KV cache")]
MaxBatchTokens = Annotated[
    int | None, typer.Option("--max-batch-tokens", help="tokens in one step; default 2048")
]
MaxSequences = Annotated[
    int | None, typer.Option("--max-sequences", help="sequences in one step; default 256")
]
MaxContext = Annotated[int | None, typer.Option(help="shorten the model's context")]
NoPrefixCache = Annotated[bool, typer.Option("--no-prefix-cache", help="forget between requests")]

StrategyName = Annotated[str | None, typer.Option("--strategy", help="sample, best_of_n, ...")]
Candidates = Annotated[int | None, typer.Option("--n", help="candidates")]
RewardName = Annotated[
    str | None,
    typer.Option("--reward", help="a name, a classifier's folder, or NAME=module:function"),
]
DecodePairs = Annotated[
    list[str] | None,
    typer.Option("--decode", help="KEY=VALUE of the strategy, such as budget.ms=800; repeatable"),
]
DecodeJson = Annotated[str | None, typer.Option("--decode-json", help="the decode object as JSON")]

Temperature = Annotated[float | None, typer.Option(help="0 = greedy")]
TopP = Annotated[float | None, typer.Option(help="nucleus")]
MaxTokens = Annotated[int | None, typer.Option(help="longest answer")]
Seed = Annotated[int | None, typer.Option(help="the same seed, the same answer")]
AsJson = Annotated[bool, typer.Option("--json", help="for programs")]


def decode_object(
    strategy: str | None,
    n: int | None,
    reward: str | None,
    pairs: Sequence[str] | None,
    text: str | None,
) -> dict[str, Any]:
    """The `decode` object that the options describe; later ones win over `--decode-json`."""
    decode: dict[str, Any] = {}
    if text is not None:
        decode = parse_object(text, "--decode-json")
    for pair in pairs or ():
        key, value = split_pair(pair, "--decode", "KEY=VALUE")
        *path, last = key.split(".")
        target = decode
        for part in path:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise InvalidRequest(f"--decode {pair}: {part} is not an object", param=key)
        target[last] = _value(value)
    given = {"strategy": strategy, "n": n, "reward": reward and reward.partition("=")[0]}
    decode.update({k: v for k, v in given.items() if v is not None})
    return decode


def parse_object(text: str, option: str) -> dict[str, Any]:
    """A JSON object; raises InvalidRequest naming the option."""
    try:
        value = json.loads(text)
    except ValueError as e:
        raise InvalidRequest(f"{option} is not JSON: {e}", param=option) from None
    if not isinstance(value, dict):
        raise InvalidRequest(f"{option} must be a JSON object", param=option)
    return value


def split_pair(text: str, option: str, form: str) -> tuple[str, str]:
    """The two sides of `=`; raises InvalidRequest when there is none."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InvalidRequest(f"{option} {text!r} is not of the form {form}", param=option)
    return key, value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text  # a bare word is a string


@dataclass(frozen=True, slots=True)
class Load:
    """Which model, and how its engine is set up."""

    model: str = "concierge"
    dtype: str = "auto"
    adapters: tuple[str, ...] = ()
    executor: str = "auto"
    kv_memory_mb: int = 1024
    max_context: int | None = None
    prefix_cache: bool = True
    max_batch_tokens: int | None = None  # None: the engine's own
    max_sequences: int | None = None

    def llm(self) -> AsyncLLM:
        """Loads the model and starts its engine."""
        from tenfold.engine.settings import EngineSettings
        from tenfold.search.llm import AsyncLLM

        known = ("auto", "float32", "bfloat16", "float16")
        if self.dtype not in known:
            raise InvalidRequest(
                f"unknown dtype {self.dtype!r}", param="dtype", hint=f"known: {', '.join(known)}"
            )
        sizes = {"max_batch_tokens": self.max_batch_tokens, "max_sequences": self.max_sequences}
        more: dict[str, Any] = {k: v for k, v in sizes.items() if v is not None}
        settings = EngineSettings(
            executor=self.executor,
            kv_memory_mb=self.kv_memory_mb,
            max_context=self.max_context,
            prefix_cache=self.prefix_cache,
            **more,
        )
        dtype: Any = self.dtype
        return AsyncLLM.load(self.model, dtype=dtype, adapters=self.adapters, settings=settings)


def add_reward(rewards: Registry[Reward], text: str | None) -> None:
    """Registers `NAME=module:function`, or a classifier's folder as `NAME=FOLDER` or under its own
    name; another bare name is left to be looked up."""
    if text is None or text in rewards:
        return
    from tenfold.cli.rewards import function_reward, is_classifier
    from tenfold.rewards.classifier import ClassifierReward

    name, equals, path = text.partition("=")
    if not equals and not is_classifier(text):
        return
    if is_classifier(path or text):
        reward = ClassifierReward.of(path or text, name=name)
        rewards.register(name, lambda: reward)
        reward.model()  # one that cannot be loaded is said now, as is a path below
        return
    name, path = split_pair(text, "--reward", "NAME=module:function")
    rewards.register(name, lambda: function_reward(name, path))
    rewards.get(name)  # a path that cannot be imported is said now, not at the first request


def options(llm: AsyncLLM, decode: dict[str, Any]) -> DecodeOptions:
    """Reads the decode object; raises InvalidRequest or UnknownName for what is wrong in it."""
    from tenfold.search.options import parse_decode

    chosen = parse_decode(decode)
    if chosen.reward is not None:
        llm.rewards.get(chosen.reward)
    return chosen


def sampling(base: SamplingParams, **given: Any) -> SamplingParams:
    """The model's own defaults with what was given."""
    return replace(base, **{k: v for k, v in given.items() if v is not None})
