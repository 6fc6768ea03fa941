"""The `decode` object: accepted, completed with defaults, or refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tenfold.errors import InvalidRequest, UnknownName
from tenfold.search.best_of_n import BestOfN
from tenfold.search.branches import Budget
from tenfold.search.options import parse_decode
from tenfold.search.params import json_schema
from tenfold.search.sample import Sample
from tenfold.search.strategy import STRATEGIES


def test_defaults() -> None:
    assert parse_decode({}).strategy == Sample()
    best = parse_decode({"strategy": "best_of_n"})
    assert (best.strategy, best.reward, best.return_candidates) == (BestOfN(n=8), "logprob", 1)


def test_everything_set() -> None:
    got = parse_decode(
        {
            "strategy": "best_of_n",
            "n": 64,
            "reward": "mine",
            "budget": {"tokens": 20000, "ms": 8000},
            "return_candidates": 4,
        }
    )
    assert got.strategy == BestOfN(n=64)
    assert (got.reward, got.budget, got.return_candidates) == ("mine", Budget(20000, 8000), 4)


@pytest.mark.parametrize(
    ("decode", "param", "says"),
    [
        ({"strategy": "best_off_n"}, "decode.strategy", "did you mean 'best_of_n'"),
        ({"strategy": 3}, "decode.strategy", "must be a string"),
        ({"strategy": "best_of_n", "m": 3}, "decode.m", "known here: n"),
        ({"strategy": "best_of_n", "n": 0}, "decode.n", "between 1 and 1024"),
        ({"strategy": "best_of_n", "n": 2.5}, "decode.n", "an integer"),
        ({"strategy": "best_of_n", "n": True}, "decode.n", "an integer"),
        ({"strategy": "best_of_n", "n": "8"}, "decode.n", "not '8'"),
        ({"strategy": "best_of_n", "reward": 1}, "decode.reward", "a string"),
        ({"strategy": "sample", "reward": "logprob"}, "decode.reward", "takes no reward"),
        ({"budget": 5}, "decode.budget", "must be an object"),
        ({"budget": {"tokens": 0}}, "decode.budget.tokens", "at least 1"),
        ({"budget": {"token": 1}}, "decode.budget.token", "did you mean 'tokens'"),
        ({"return_candidates": -1}, "decode.return_candidates", "between 1"),
    ],
)
def test_refusals_name_the_field(decode: dict[str, Any], param: str, says: str) -> None:
    with pytest.raises((InvalidRequest, UnknownName)) as e:
        parse_decode(decode)
    assert e.value.param == param
    assert says in str(e.value)


@pytest.mark.parametrize("strategy", ["sample", "best_of_n"])
def test_whole_floats_of_integers_become_integers(strategy: str) -> None:
    got = parse_decode(
        {
            "strategy": strategy,
            "n": 2.0,
            "return_candidates": 2.0,
            "budget": {"tokens": 90.0, "ms": 5},
        }
    )
    numbers = (got.strategy.n, got.return_candidates, got.budget.tokens)  # type: ignore[attr-defined]
    assert numbers == (2, 2, 90)
    assert all(type(number) is int for number in numbers)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400])
def test_numbers_that_are_none_are_refused(value: float) -> None:
    for decode in ({"n": value}, {"budget": {"ms": value}}):
        with pytest.raises(InvalidRequest):
            parse_decode(decode)


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_schemas_are_json_schemas_that_accept_the_defaults(name: str) -> None:
    cls = STRATEGIES.get(name)
    schema = json_schema(cls)
    Draft202012Validator.check_schema(schema)
    defaults = {k: p["default"] for k, p in schema["properties"].items() if "default" in p}
    Draft202012Validator(schema).validate(defaults)
    assert not Draft202012Validator(schema).is_valid({"no_such_field": 1})
    assert parse_decode({"strategy": name, **defaults}).strategy == cls()
