"""POST /v1/embeddings and POST /v1/score."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence

from fastapi import Request as HttpRequest
from fastapi import Response
from fastapi.responses import JSONResponse

from tenfold.errors import InvalidRequest, UnknownName
from tenfold.rewards.base import Answer
from tenfold.search.llm import Scores
from tenfold.search.strategy import Request
from tenfold.server.context import Context
from tenfold.server.generation import finite, usage_of
from tenfold.server.lifetime import while_connected
from tenfold.server.messages import chat_prompt, to_messages
from tenfold.server.wire import embeddings as wire
from tenfold.server.wire.completions import as_prompts
from tenfold.types import Usage


async def embeddings(ctx: Context, body: wire.EmbeddingsRequest, http: HttpRequest) -> Response:
    """One vector per input."""
    model = ctx.catalog.find(body.model)[0]
    if body.dimensions is not None:
        raise InvalidRequest(
            "vectors of this model cannot be shortened", param="dimensions", hint="leave it out"
        )
    inputs = await ctx.prepare(lambda: _inputs(ctx, body))
    seconds = ctx.settings.max_ms / 1000

    async def work() -> list[list[float]]:
        async with ctx.admission.place(seconds):
            return await ctx.llm.embed(inputs)

    vectors = await while_connected(http.receive, work(), seconds)
    tokens = sum(len(ids) for ids in inputs)
    answer = wire.EmbeddingsResponse(
        object="list",
        data=[
            wire.Embedding(
                object="embedding",
                index=i,
                embedding=_packed(v) if body.encoding_format == "base64" else v,
            )
            for i, v in enumerate(vectors)
        ],
        model=model,
        usage=wire.EmbeddingsUsage(prompt_tokens=tokens, total_tokens=tokens),
    )
    return JSONResponse(answer.json_ready())


def _inputs(ctx: Context, body: wire.EmbeddingsRequest) -> list[list[int]]:
    given = as_prompts(body.input)
    _count(len(given), ctx.settings.max_inputs, "input")
    vocabulary = ctx.llm.model.spec.vocab_size
    inputs = []
    for one in given:
        if isinstance(one, str):
            ctx.llm.check_size(one, "input")
            ids = ctx.llm.model.tokenizer.encode_prompt(one)
        else:
            ids = one
        if one == "" or not ids:
            raise InvalidRequest("an input is empty", param="input")
        if any(not 0 <= i < vocabulary for i in ids):
            raise InvalidRequest(
                "input holds token ids outside the vocabulary",
                param="input",
                hint=f"ids run from 0 to {vocabulary - 1}",
            )
        inputs.append(ids)
    return inputs


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")


def _count(given: int, most: int, param: str) -> None:
    if given > most:
        raise InvalidRequest(
            f"{given} entries in {param}; this server takes {most} at once", param=param
        )


async def score(ctx: Context, body: wire.ScoreRequest, http: HttpRequest) -> Response:
    """One score per candidate answer."""
    model = ctx.catalog.find(body.model)[0]
    name = body.reward or ctx.settings.default_reward
    if name not in ctx.llm.rewards:
        raise UnknownName("reward", name, ctx.llm.rewards, param="reward")
    _count(len(body.candidates), ctx.settings.max_inputs, "candidates")
    prompt = await chat_prompt(ctx, to_messages(body.messages), ctx.llm.model.default_params())
    answers = await ctx.prepare(lambda: ctx.llm.read_answers(prompt, body.candidates))
    seconds = ctx.settings.max_ms / 1000
    work = _scores(ctx, prompt, answers, name, seconds)
    scores = await while_connected(http.receive, work, seconds)
    answer = wire.ScoreResponse(
        object="list",
        data=[
            wire.Score(object="score", index=i, score=finite(value))
            for i, value in enumerate(scores.values)
        ],
        model=model,
        usage=usage_of(Usage(prompt=scores.prompt_tokens + scores.reward_tokens)),
    )
    return JSONResponse(answer.json_ready())


async def _scores(
    ctx: Context, prompt: Request, answers: Sequence[Answer], reward: str, seconds: float
) -> Scores:
    async with ctx.admission.place(seconds):
        return await ctx.llm.score_answers(prompt, answers, reward)
