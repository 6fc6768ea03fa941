"""Decode and prefill rates of the engine beside transformers, on the same random weights' shapes.

The two take turns with the same torch and the same number of threads, so that a machine that slows
down slows both; the figure is the median of the ratios of neighbouring runs. transformers has a
process of its own: two teams of OpenMP threads in one process would hold each other up.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch

from tenfold.engine.async_engine import AsyncEngine, in_passing_thread
from tenfold.engine.branch import EndOfText, Tokens
from tenfold.engine.building import make_executor
from tenfold.engine.engine import Engine
from tenfold.engine.settings import EngineSettings
from tenfold.models.decoder import Decoder
from tenfold.models.loading import random_model
from tenfold.models.spec import DecoderSpec
from tenfold.types import SamplingParams

LLAMA_125M: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "intermediate_size": 2048,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}
PROMPT = 128


class Silent:
    """A detokenizer for models without a vocabulary."""

    def __init__(self, prefix: Sequence[int] = ()) -> None:
        self.prefix = prefix

    def push(self, token_id: int) -> str:
        return ""

    def flush(self) -> str:
        return ""

    def copy(self) -> Silent:
        return self


class OurSide:
    """The public asynchronous engine on random weights, warm as a server's is."""

    def __init__(self, decoder: Decoder) -> None:
        settings = EngineSettings(kv_memory_mb=2048)
        executor = make_executor(decoder, settings)
        self._engine = AsyncEngine(Engine(executor, Silent, context_length=2048, settings=settings))
        self._loop = asyncio.Runner()
        self._vocab = decoder.spec.vocab_size
        self._salt = 0

    def close(self) -> None:
        """Stops the engine."""
        self._loop.run(self._engine.close())
        self._loop.close()

    def fresh_prompt(self, length: int) -> list[int]:
        """Tokens not used before, so that the prefix cache cannot help."""
        self._salt += 1
        generator = torch.Generator().manual_seed(self._salt)
        return torch.randint(3, self._vocab, (length,), generator=generator).tolist()

    def decode_rate(self, branches: int, new: int) -> float:
        """Tokens per second from everyone's first token to the last, one shared prompt."""
        return self._loop.run(self._decode(branches, new))

    async def _decode(self, n: int, new: int) -> float:
        engine = self._engine
        params = SamplingParams(seed=1, max_tokens=new, ignore_eos=True)
        root = await engine.start(self.fresh_prompt(PROMPT), params)
        branches = [root, *(await engine.fork(root, n - 1))] if n > 1 else [root]
        async for _ in engine.extend(branches, Tokens(1)):
            pass
        began = time.perf_counter()
        async for _ in engine.extend(branches, EndOfText()):
            pass
        rate = n * (new - 1) / (time.perf_counter() - began)
        await engine.drop(branches)
        return rate

    def ttft(self, prompt: Sequence[int]) -> float:
        """Seconds from the request to its first token."""
        return self._loop.run(self._first_token(prompt))

    async def _first_token(self, prompt: Sequence[int]) -> float:
        engine = self._engine
        began = time.perf_counter()
        branch = await engine.start(prompt, SamplingParams(max_tokens=1, ignore_eos=True))
        async for _ in engine.extend([branch], EndOfText()):
            pass
        seconds = time.perf_counter() - began
        await engine.drop([branch])
        return seconds

    def prefill_rate(self, length: int) -> float:
        """Prompt tokens per second up to the first sampled token."""
        return length / self.ttft(self.fresh_prompt(length))

    def prefix_cache_ratio(self, length: int = 512, cached: int = 480) -> float:
        """TTFT of a new prompt over that of one whose first `cached` tokens are cached."""
        cold = self.fresh_prompt(length)
        before = self._engine.stats().cached_tokens
        cold_seconds = self.ttft(cold)
        warm_seconds = self.ttft(cold[:cached] + self.fresh_prompt(length - cached))
        assert self._engine.stats().cached_tokens == before + cached
        return cold_seconds / warm_seconds


def _serve_transformers(pipe: Connection) -> None:
    """The peer's process: carries out (method, arguments) until told None."""
    peer = Transformers(LLAMA_125M)
    while (order := pipe.recv()) is not None:
        method, arguments = order
        pipe.send(getattr(peer, method)(*arguments))


class Peer:
    """Transformers in a process of its own."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve_transformers, args=(theirs,), daemon=True)
        self._process.start()

    def __call__(self, method: str, *arguments: int) -> float:
        """Runs one measurement over there."""
        self._pipe.send((method, arguments))
        rate: float = self._pipe.recv()
        return rate

    def close(self) -> None:
        """Ends the process."""
        self._pipe.send(None)
        self._process.join()


class Transformers:
    """Hugging Face transformers' `generate` on a random model of the same shape."""

    def __init__(self, config: dict[str, Any]) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        plain = {k: v for k, v in config.items() if k not in ("architectures", "model_type")}
        model: Any = LlamaForCausalLM(LlamaConfig(**plain))
        self._model = model.to(torch.bfloat16).eval()

    def decode_rate(self, n: int, new: int) -> float:
        """As `OurSide.decode_rate`: `generate` with n returned sequences of one prompt."""
        from transformers import StoppingCriteria

        times: list[float] = []

        class Clock(StoppingCriteria):
            def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
                times.append(time.perf_counter())
                return torch.zeros(input_ids.shape[0], dtype=torch.bool)

        ids = torch.randint(3, 1000, (1, PROMPT))
        with torch.inference_mode():
            self._model.generate(
                ids,
                do_sample=True,
                top_k=0,
                max_new_tokens=new,
                min_new_tokens=new,
                num_return_sequences=n,
                stopping_criteria=[Clock()],
                pad_token_id=0,
            )
        return n * (len(times) - 1) / (times[-1] - times[0])

    def prefill_rate(self, length: int) -> float:
        """Prompt tokens per second of one forward pass with the last position's logits."""
        ids = torch.randint(3, 1000, (1, length))
        with torch.inference_mode():
            began = time.perf_counter()
            self._model(ids, logits_to_keep=1)
            return length / (time.perf_counter() - began)


def paired(ours: Callable[[], float], theirs: Callable[[], float], runs: int) -> dict[str, float]:
    """Medians over `runs` interleaved pairs after one warm-up each."""
    ours(), theirs()
    pairs = [(ours(), theirs()) for _ in range(runs)]
    return {
        "ratio": statistics.median(a / b for a, b in pairs),
        "ours": statistics.median(a for a, _ in pairs),
        "theirs": statistics.median(b for _, b in pairs),
    }


def speed_figures(quick: bool) -> tuple[dict[str, float], dict[str, Any]]:
    """The figures against transformers and of the prefix cache, with the absolute rates."""
    runs, new = (2, 16) if quick else (7, 64)
    spec = DecoderSpec.from_hf(LLAMA_125M)
    ours = OurSide(in_passing_thread(lambda: random_model(spec, 0, torch.bfloat16)))
    theirs = Peer()
    rows = {
        "x_transformers_decode_b1": paired(
            lambda: ours.decode_rate(1, new), lambda: theirs("decode_rate", 1, new), runs
        ),
        "x_transformers_decode_b32_shared_prompt": paired(
            lambda: ours.decode_rate(32, new), lambda: theirs("decode_rate", 32, new), runs
        ),
        "x_transformers_prefill_512": paired(
            lambda: ours.prefill_rate(512), lambda: theirs("prefill_rate", 512), runs
        ),
    }
    figures = {name: row["ratio"] for name, row in rows.items()}
    ours.prefix_cache_ratio()
    figures["prefix_cache_ttft_ratio"] = statistics.median(
        ours.prefix_cache_ratio() for _ in range(runs)
    )
    ours.close()
    theirs.close()
    rates = {
        f"{name}_tokens_per_second": {"tenfold": row["ours"], "transformers": row["theirs"]}
        for name, row in rows.items()
    }
    return figures, {"model": "Llama-125M, random weights, bf16", "runs": runs, **rates}
