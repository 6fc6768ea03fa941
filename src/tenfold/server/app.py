"""The ASGI application: routes, and the layers every request passes.

From the outside in: `edge` (headers, Host, last resort), CORS, API keys, FastAPI's routing, `body`
(limits, strict JSON), the wire types, and one function an endpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.middleware.cors import CORSMiddleware

from tenfold import __version__
from tenfold.search.llm import AsyncLLM
from tenfold.server import about, errors, memory
from tenfold.server.auth import ApiKeys
from tenfold.server.body import json_route
from tenfold.server.chat import chat_completion
from tenfold.server.completions import completion
from tenfold.server.context import Context
from tenfold.server.edge import Edge
from tenfold.server.embeddings import embeddings, score
from tenfold.server.settings import ServerSettings
from tenfold.server.wire import answers, catalog
from tenfold.server.wire.chat import ChatRequest
from tenfold.server.wire.completions import CompletionRequest
from tenfold.server.wire.embeddings import (
    EmbeddingsRequest,
    EmbeddingsResponse,
    ScoreRequest,
    ScoreResponse,
)

STATIC = Path(__file__).parent / "static"
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def create_app(llm: AsyncLLM, settings: ServerSettings | None = None) -> FastAPI:
    """The application for one loaded model. Raises InvalidRequest for presets that cannot work."""
    chosen = settings or ServerSettings()
    ctx = Context.of(llm, chosen)
    # No Swagger page: its scripts come from elsewhere, which the CSP forbids.
    app = FastAPI(
        title="tenfold",
        version=__version__,
        summary="OpenAI-compatible serving with per-request decoding strategies",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.context = ctx
    errors.install(app)
    router = APIRouter(route_class=json_route(chosen))
    _generating(router, ctx)
    _describing(router, ctx)
    memory.routes(router, ctx)
    app.include_router(router)
    _playground(app, chosen.static_folder or STATIC)
    app.openapi = _described(app, keys=bool(chosen.api_keys))  # type: ignore[method-assign]
    if chosen.api_keys:
        app.add_middleware(ApiKeys, keys=chosen.api_keys)
    if chosen.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(chosen.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["X-Request-Id", "Retry-After"],
        )
    app.add_middleware(Edge, metrics=ctx.metrics, allowed_hosts=chosen.allowed_hosts)
    return app


def _streamable(model: type[Any]) -> dict[int | str, dict[str, Any]]:
    event = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
    stream = {"text/event-stream": {"schema": event}}
    ok = {"model": model, "content": stream, "description": "The answer, whole or as events"}
    return {200: ok, **errors.GENERATES}


def _generating(router: APIRouter, ctx: Context) -> None:
    """The operations that use the model."""

    @router.post("/v1/chat/completions", responses=_streamable(answers.ChatCompletion))
    async def create_chat_completion(body: ChatRequest, request: Request) -> Response:
        """Answer a conversation; `decode` chooses the strategy."""
        return await chat_completion(ctx, body, request)

    @router.post("/v1/completions", responses=_streamable(answers.TextCompletion))
    async def create_completion(body: CompletionRequest, request: Request) -> Response:
        """Continue one or several plain prompts."""
        return await completion(ctx, body, request)

    @router.post(
        "/v1/embeddings", responses={200: {"model": EmbeddingsResponse}, **errors.GENERATES}
    )
    async def create_embeddings(body: EmbeddingsRequest, request: Request) -> Response:
        """Mean-pooled, normalised hidden states of texts."""
        return await embeddings(ctx, body, request)

    @router.post("/v1/score", responses={200: {"model": ScoreResponse}, **errors.GENERATES})
    async def create_score(body: ScoreRequest, request: Request) -> Response:
        """Score given answers to a conversation with a reward."""
        return await score(ctx, body, request)


def _describing(router: APIRouter, ctx: Context) -> None:
    """The operations that only look."""

    def ok(model: type[Any]) -> dict[int | str, dict[str, Any]]:
        return {200: {"model": model}, **errors.READS}

    @router.get("/v1/models", responses=ok(catalog.ModelList))
    async def list_models() -> Response:
        """The model and its presets, which are virtual models."""
        return JSONResponse(about.models(ctx).json_ready())

    @router.get("/v1/models/{model_id:path}", responses=ok(catalog.Model))
    async def retrieve_model(model_id: str) -> Response:
        """One model."""
        return JSONResponse(ctx.catalog.entry(model_id).json_ready())

    @router.get("/v1/strategies", responses=ok(catalog.StrategyList))
    async def list_strategies() -> Response:
        """Decoding strategies with their parameters, and rewards."""
        return JSONResponse(about.strategies(ctx).json_ready())

    @router.get("/v1/stats", responses=ok(catalog.Stats))
    async def read_stats() -> Response:
        """What the engine is doing."""
        return JSONResponse(about.stats(ctx).json_ready())

    @router.head("/health", include_in_schema=False)
    @router.get("/health", responses=ok(catalog.Health))
    async def read_health() -> Response:
        """Whether the server is up."""
        return JSONResponse(about.health(ctx).json_ready())

    plain = {"content": {"text/plain": {"schema": {"type": "string"}}}}

    @router.get("/metrics", responses={200: plain, **errors.READS}, response_class=Response)
    async def read_metrics() -> Response:
        """Prometheus metrics."""
        return Response(ctx.metrics.text(), headers={"Content-Type": _TEXT})


def _playground(app: FastAPI, folder: Path) -> None:
    """Serves the page at `/`.

    File by file rather than by one mount at the root, which would also swallow requests to known
    addresses with a wrong method.
    """
    if not (folder / "index.html").is_file():
        return

    def serve(path: Path) -> Callable[[], Response]:
        return lambda: FileResponse(path)

    for path in sorted(folder.iterdir()):
        if path.is_dir():
            app.mount(f"/{path.name}", StaticFiles(directory=path))
        elif not path.name.startswith("."):
            _look(app, f"/{path.name}", serve(path))
    _look(app, "/", serve(folder / "index.html"))


def _look(app: FastAPI, address: str, answer: Callable[[], Response]) -> None:
    app.add_api_route(address, answer, methods=["GET", "HEAD"], include_in_schema=False)


def _described(app: FastAPI, *, keys: bool) -> Callable[[], dict[str, Any]]:
    """The OpenAPI description without the framework's own validation errors, which never occur."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            description = describe()
            for operations in description["paths"].values():
                for operation in operations.values():
                    operation["responses"].pop("422", None)
            for name in ("HTTPValidationError", "ValidationError"):
                description["components"]["schemas"].pop(name, None)
            if keys:
                bearer = {"type": "http", "scheme": "bearer"}
                description["components"]["securitySchemes"] = {"key": bearer}
                description["security"] = [{"key": []}]
            app.openapi_schema = description
        return app.openapi_schema

    return openapi
