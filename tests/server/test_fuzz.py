"""The OpenAPI description held against the server: what comes back is always documented."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tenfold.engine.async_engine import AsyncEngine
from tenfold.search.llm import AsyncLLM
from tenfold.server.app import create_app
from tenfold.server.body import parse_json
from tenfold.server.errors import Refusal
from tenfold.server.settings import MemorySettings, ServerSettings

from .models import Script, ScriptedEngine, tiny_model

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

CHECKS = [
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
    content_type_conformance,
]
OPERATIONS = [
    "POST /v1/chat/completions",
    "POST /v1/completions",
    "POST /v1/embeddings",
    "POST /v1/score",
    "POST /v1/memory/events",
    "POST /v1/memory/search",
    "POST /v1/memory/erase",
    "GET /v1/memory/events",
    "GET /v1/memory/facts",
    "GET /v1/memory/audit",
    "GET /v1/memory/status",
    "POST /v1/memory/consolidate",
    "POST /v1/memory/feedback",
    "POST /v1/memory/learn",
    "DELETE /v1/memory/learn",
    "GET /v1/memory/retention",
    "GET /v1/memory/timeline",
    "GET /v1/memory/timeline/facts",
    "GET /v1/memory/lineage/{event_id}",
    "POST /v1/memory/erase/preview",
    "GET /v1/models",
    "GET /v1/models/{model_id}",
    "GET /v1/strategies",
    "GET /v1/stats",
    "GET /health",
    "GET /metrics",
]
QUERIED = (
    "GET /v1/memory/events",
    "GET /v1/memory/facts",
    "GET /v1/memory/timeline",
    "GET /v1/memory/timeline/facts",
)
BOUNDED = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    model = tiny_model()
    engine = cast(AsyncEngine, ScriptedEngine(model.tokenizer, Script()))
    memory = MemorySettings(tmp_path_factory.mktemp("memories"), embedder="words")
    app = create_app(AsyncLLM(model, engine), ServerSettings(memory=memory))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    yield {r.ok().label: r.ok() for r in schema.get_all_operations()}
    app.state.context.close()
    assert engine.occupancy().blocks_used == 0
    assert model.chat_template is not None
    model.chat_template.close()


@pytest.mark.parametrize(
    ("name", "mode"),
    [(name, GenerationMode.POSITIVE) for name in OPERATIONS]
    # The others take no input that could be wrong.
    + [
        (name, GenerationMode.NEGATIVE)
        for name in OPERATIONS
        if (name.startswith("POST") or name in QUERIED) and name != "POST /v1/memory/learn"
    ],
)
def test_whatever_is_sent_is_answered_as_documented(
    operations: dict[str, Any], name: str, mode: GenerationMode
) -> None:
    operation = operations[name]

    @BOUNDED
    @given(case=operation.as_strategy(generation_mode=mode))
    def answered_as_documented(case: Any) -> None:
        case.call_and_validate(checks=CHECKS)

    answered_as_documented()


# Fields that mostly turn a request away before it reaches the engine, and those that make it long.
LEFT_OUT = (
    "model",
    "decode",
    "speculative",
    "tools",
    "tool_choice",
    "min_tokens",
    "max_completion_tokens",
    "chat_template_kwargs",
    "top_logprobs",
    "suffix",
    "best_of",
    "echo",
)
GENERATING = ["POST /v1/chat/completions", "POST /v1/completions"]


@pytest.fixture(scope="module")
def real_operations(real_llm: AsyncLLM) -> Iterator[dict[str, Any]]:
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(real_llm))
    yield {r.ok().label: r.ok() for r in schema.get_all_operations()}
    stats = real_llm.stats().occupancy
    assert stats.running == stats.waiting == stats.blocks_used == 0


@pytest.mark.parametrize("name", GENERATING)
def test_the_real_engine_survives_whatever_is_sent(
    real_operations: dict[str, Any], name: str
) -> None:
    operation = real_operations[name]
    statuses: list[int] = []

    @settings(BOUNDED, max_examples=40)
    @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
    def answered_as_documented(case: Any) -> None:
        for field in LEFT_OUT:
            case.body.pop(field, None)
        case.body |= {"max_tokens": 4, "n": min(case.body.get("n") or 1, 3)}
        response = case.call_and_validate(checks=CHECKS)
        statuses.append(response.status_code)

    answered_as_documented()
    assert statuses.count(200) >= len(statuses) // 4, statuses


def test_every_operation_is_fuzzed(operations: dict[str, Any]) -> None:
    assert sorted(operations) == sorted(OPERATIONS)


@given(st.binary() | st.text().map(str.encode))
def test_no_body_breaks_the_reader(body: bytes) -> None:
    with contextlib.suppress(Refusal):
        json.dumps(parse_json(body), ensure_ascii=False, allow_nan=False).encode()
