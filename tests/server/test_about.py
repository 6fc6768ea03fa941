from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tenfold.errors import InvalidRequest
from tenfold.server.app import create_app
from tenfold.server.examples import read_examples
from tenfold.server.settings import ServerSettings

from .conftest import Scripted, ask, client_of
from .models import Script

CHAT = "/v1/chat/completions"


async def test_models_and_their_presets(scripted: Scripted) -> None:
    example = {"title": "Breakfast", "messages": [{"role": "user", "content": "When?"}]}
    async with client_of(scripted(), ServerSettings(examples=(example,))) as http:
        listed = (await http.get("/v1/models")).json()
        one = (await http.get("/v1/models/tiny@best")).json()
    assert [m["id"] for m in listed["data"]] == ["tiny", "tiny@best"]
    assert listed["data"][0]["tenfold"] == {
        "context_length": 2048,
        "examples": [example],
        "preset": None,
    }
    assert one["tenfold"]["preset"] == {"strategy": "best_of_n", "n": 8}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ('[{"title": "A", "messages": [{"role": "user", "content": "x"}]}]', 1),
        ("[" * 9000, 0),
        ('{"title": "A"}', 0),
        ('[{"title": 1, "messages": []}]', 0),
        ("\\xff", 0),
        (None, 0),
    ],
)
def test_a_model_folder_brings_examples(tmp_path: Path, text: str | None, count: int) -> None:
    if text is not None:
        (tmp_path / "examples.json").write_text(text, encoding="utf-8")
    assert len(read_examples(tmp_path)) == count
    assert read_examples(None) == []


async def decoded(http: Any, **body: Any) -> Any:
    return (await http.post(CHAT, json=ask() | body)).json()


async def test_a_preset_is_a_strategy_under_a_name(scripted: Scripted) -> None:
    presets = {
        "best": {"strategy": "best_of_n", "n": 3, "budget": {"tokens": 5000}},
        "wild": {"sampling": {"temperature": 1.5, "top_k": 7, "stop": ["x"]}},
    }
    llm = scripted(Script(answers=["a", "b"]))
    async with client_of(llm, ServerSettings(presets=presets)) as http:
        plain = await decoded(http, model="tiny@best")
        other_n = await decoded(http, model="tiny@best", decode={"n": 2, "budget": {"ms": 9000}})
        sample = await decoded(http, model="tiny@best", decode={"strategy": "sample"}, n=2)
        wild = await decoded(http, model="tiny@wild", temperature=0.5)
    assert plain["model"] == "tiny@best"
    assert plain["decode"]["preset"] == "best"
    assert plain["decode"]["params"] == {"n": 3}
    assert other_n["decode"]["params"] == {"n": 2}
    assert other_n["decode"]["budget"] == {"tokens": 5000, "ms": 9000}
    assert sample["decode"]["strategy"] == "sample"
    assert len(sample["choices"]) == 2
    assert wild["decode"]["sampling"] == {"temperature": 0.5, "top_k": 7}
    params = llm.engine.script.prompts[-1][1]
    assert (params.temperature, params.top_k, params.stop) == (0.5, 7, ("x",))


@pytest.mark.parametrize(
    "preset",
    [{"strategy": "bset_of_n"}, {"n": 0}, {"sampling": {"temprature": 1}}, {"foo": 1}],
)
def test_a_preset_that_cannot_work_stops_the_start(
    scripted: Scripted, preset: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest, match="preset 'p'"):
        create_app(scripted(), ServerSettings(presets={"p": preset}))


async def test_strategies_describe_themselves(scripted: Scripted) -> None:
    async with client_of(scripted()) as http:
        listed = (await http.get("/v1/strategies")).json()
    by_id = {s["id"]: s for s in listed["data"]}
    assert listed["data"][0]["id"] == "sample"
    assert by_id["best_of_n"]["needs"] == ["reward"]
    for strategy in listed["data"]:
        jsonschema.Draft202012Validator.check_schema(strategy["params"])
    assert by_id["best_of_n"]["params"]["properties"]["n"]["default"] == 8
    rewards = {reward["id"]: reward for reward in listed["rewards"]}
    assert rewards.keys() == {"concierge-rm", "facts", "logprob"}
    assert all(reward["summary"] and reward["partial_ok"] for reward in rewards.values())


async def test_health_tells_of_a_dead_engine(scripted: Scripted) -> None:
    llm = scripted()
    llm.engine.alive = False  # type: ignore[misc]  # the scripted engine has a plain attribute
    async with client_of(llm) as http:
        answer = await http.get("/health")
    assert answer.status_code == 503
    assert "restart the server" in answer.json()["error"]["message"]


async def test_stats_and_health(scripted: Scripted) -> None:
    async with client_of(scripted()) as http:
        await http.post(CHAT, json=ask())
        stats = (await http.get("/v1/stats")).json()
        health = (await http.get("/health")).json()
    assert stats["tokens"]["generated"] == 21
    assert stats["kv"] == {
        "blocks_total": 1000,
        "blocks_used": 0,
        "blocks_cached": 0,
        "block_size": 16,
    }
    assert health == {"status": "ok", "model": "tiny", "version": health["version"]}


async def test_metrics_are_readable_and_count(scripted: Scripted) -> None:
    async with client_of(scripted()) as http:
        for _ in range(3):
            await http.post(CHAT, json=ask())
        await http.post(CHAT, json=ask(foo=1))
        await http.get("/made/up/path")
        text = (await http.get("/metrics")).text
    samples = {
        (s.name, *sorted(s.labels.items())): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }
    model = ("model_name", "tiny")
    assert samples["tenfold_generation_tokens_total", model] == 63
    assert samples["tenfold_num_requests_running", model] == 0
    assert samples["tenfold_kv_cache_usage_perc", model] == 0
    assert samples[("tenfold_time_to_first_token_seconds_count",)] == 3
    assert samples["tenfold_request_success_total", ("finished_reason", "stop")] == 3
    ok = ("tenfold_http_requests_total", ("path", CHAT), ("status", "200"))
    assert samples[ok] == 3
    refused = ("tenfold_http_requests_total", ("path", CHAT), ("status", "400"))
    assert samples[refused] == 1
    assert ("tenfold_http_requests_total", ("path", "other"), ("status", "404")) in samples


async def test_checkpoint_defaults_hold_until_said_otherwise(scripted: Scripted) -> None:
    from .models import tiny_model

    llm = scripted(of=tiny_model(temperature=0.6, top_k=20))
    async with client_of(llm) as http:
        await http.post(CHAT, json=ask())
        await http.post(CHAT, json=ask(top_k=0, logit_bias={"65": -100}, stop=["a", "b"], seed=3))
    (_, first), (_, second) = llm.engine.script.prompts
    assert (first.temperature, first.top_k) == (0.6, 20)
    assert (second.temperature, second.top_k) == (0.6, 0)
    assert dict(second.logit_bias) == {65: -100}
    assert (second.stop, second.seed) == (("a", "b"), 3)
    llm.model.chat_template.close()


async def test_the_operators_limits(scripted: Scripted) -> None:
    llm = scripted(Script(answers=["abcdefghij"]))
    settings = ServerSettings(max_tokens=4, max_n=2, max_budget_tokens=50, max_ms=5000)
    async with client_of(llm, settings) as http:
        clamped = await decoded(http)
        text = (await http.post("/v1/completions", json={"prompt": "a"})).json()
        assert text["choices"][0]["text"] == "abcd"
        for body, param, limit in (
            ({"max_tokens": 5}, "max_tokens", "4"),
            ({"min_tokens": 5}, "min_tokens", "4"),
            ({"n": 3}, "n", "2"),
            ({"model": "tiny@best"}, "decode.n", "2"),
            ({"decode": {"budget": {"tokens": 51}}}, "decode.budget.tokens", "50"),
            ({"decode": {"budget": {"ms": 5001}}}, "decode.budget.ms", "5000"),
        ):
            error = (await decoded(http, **body))["error"]
            assert error["param"] == param
            assert f"at most {limit}" in error["message"]
    assert clamped["choices"][0]["message"]["content"] == "abcd"
    assert clamped["choices"][0]["finish_reason"] == "length"


async def test_the_description_documents_every_error(scripted: Scripted) -> None:
    async with client_of(scripted()) as http:
        description = (await http.get("/openapi.json")).json()
    assert "HTTPValidationError" not in description["components"]["schemas"]
    for path, operations in description["paths"].items():
        for operation in operations.values():
            responses = operation["responses"]
            assert "422" not in responses
            for status in ("400", "401", "500") + (
                ("413", "429") if "requestBody" in operation else ()
            ):
                schema = responses[status]["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorResponse"}, path
