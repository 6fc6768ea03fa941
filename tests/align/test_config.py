from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tenfold.align.config import LoraOptions, MonitorOptions, config_of, read_config
from tenfold.errors import InvalidRequest, UnknownName

LEAST = {"data": "pairs.jsonl", "output": "run"}
YAML = """
data: pairs.jsonl
output: run
loss: {name: ipo, beta: 2e-1, per_token: false}
learning_rate: 5e-5     # YAML reads this as text
lora: {r: 4, targets: q_proj}
monitor: false
fix: normalised
"""
TOML = """
data = "pairs.jsonl"
output = "run"
learning_rate = 5e-5
fix = ["normalised"]
monitor = false
[loss]
name = "ipo"
beta = 0.2
per_token = false
[lora]
r = 4
targets = ["q_proj"]
"""
JSON = json.dumps(
    {
        **LEAST,
        "learning_rate": 5e-5,
        "loss": {"name": "ipo", "beta": 0.2, "per_token": False},
        "lora": {"r": 4, "targets": ["q_proj"]},
        "monitor": None,
        "fix": ["normalised"],
    }
)


def written(folder: Path, text: str, ending: str = "yaml") -> Path:
    path = folder / f"c.{ending}"
    path.write_text(text)
    return path


def test_yaml_toml_and_json_say_the_same(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    texts = {"yaml": YAML, "toml": TOML, "json": JSON}
    read = [read_config(written(tmp_path, text, end)) for end, text in texts.items()]
    assert read[0] == read[1] == read[2]
    assert read[0].learning_rate == 5e-5
    assert read[0].lora == LoraOptions(r=4, targets=("q_proj",))
    assert read[0].monitor is None
    assert read[0].make_loss().name == "ipo"


def test_what_is_not_said_has_its_default() -> None:
    chosen = config_of(LEAST)
    assert (chosen.model, chosen.loss, chosen.reference) == ("concierge", {"name": "dpo"}, "start")
    assert chosen.monitor == MonitorOptions()
    assert config_of({**LEAST, "lora": True}).lora == LoraOptions()
    assert config_of({**LEAST, "lora": False}).lora is None


def test_changes_are_laid_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, JSON, "json")
    changes = ["loss=dpo", "loss.beta=0.3", "lora.r=2", "output=other", "monitor.every=5"]
    chosen = read_config(path, changes)
    assert chosen.loss == {"name": "dpo", "beta": 0.3}
    assert chosen.lora == LoraOptions(r=2, targets=("q_proj",))
    assert (chosen.output, chosen.monitor) == ("other", MonitorOptions(every=5))


def test_a_configuration_survives_json() -> None:
    chosen = config_of({**LEAST, "lora": {"r": 3}, "fix": ["normalised"], "loss": "orpo"})
    assert config_of(json.loads(json.dumps(chosen.plain()))) == chosen


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown key": ({"lerning_rate": 1}, "did you mean 'learning_rate'", "lerning_rate"),
    "unknown inner key": ({"lora": {"rank": 2}}, "did you mean 'lora.r'", "rank"),
    "unknown loss": ({"loss": "dpoo"}, "did you mean 'dpo'", "loss"),
    "unknown parameter": ({"loss": {"name": "dpo", "gamma": 1}}, "known: beta", "loss.gamma"),
    "beta of nothing": ({"loss": {"name": "dpo", "beta": 0}}, "beta is 0", "loss.beta"),
    "no loss's name": ({"loss": {"beta": 1}}, "loss is", "loss"),
    "every of nothing": ({"monitor": {"every": 0}}, "monitor.every is 0", "monitor.every"),
    "other back end": ({"monitor": {"backend": "magic"}}, "ghost or split", "monitor.backend"),
    "text for a number": ({"batch": "many"}, "a whole number", "batch"),
    "half a pair": ({"batch": 1.5}, "a whole number", "batch"),
    "true for a number": ({"batch": True}, "a whole number", "batch"),
    "nan": ({"learning_rate": float("nan")}, "a number", "learning_rate"),
    "no rate": ({"learning_rate": 0}, "above 0", "learning_rate"),
    "no pair": ({"batch": 0}, "1 or more", "batch"),
    "warm for ever": ({"warmup": 1.0}, "below 1", "warmup"),
    "number for a text": ({"model": 3}, "text", "model"),
    "number for yes": ({"chat": 1}, "true or false", "chat"),
    "list for a group": ({"lora": [1]}, "a group of keys", "lora"),
    "no rank": ({"lora": {"r": 0}}, "lora.r is 0", "lora.r"),
    "no step": ({"steps": 0}, "steps is 0", "steps"),
    "rounded away": ({"lora": None, "dtype": "bfloat16"}, "rounded away", "dtype"),
    "useless reference": (
        {"loss": "simpo", "reference": "concierge"},
        "simpo has no reference",
        "reference",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_with_its_key(case: str, tmp_path: Path) -> None:
    changes, message, param = WRONG[case]
    with pytest.raises(InvalidRequest) as raised:
        config_of({**LEAST, **changes})
    assert message in str(raised.value)
    assert raised.value.param == param


def test_what_must_be_given_is_named() -> None:
    with pytest.raises(InvalidRequest, match="output is not given"):
        config_of({"data": "pairs.jsonl"})


@pytest.mark.parametrize(
    ("text", "ending"),
    [("{", "json"), ("a: [", "yaml"), ("a = ", "toml"), ("- a", "yaml"), ("", "yaml")],
)
def test_a_file_that_cannot_be_read_is_named(text: str, ending: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=rf"c\.{ending} (cannot be read|holds no settings)"):
        read_config(written(tmp_path, text, ending))


def test_errors_name_the_file_and_the_nearest_key(tmp_path: Path) -> None:
    path = written(tmp_path, json.dumps({**LEAST, "epoch": 2}), "json")
    with pytest.raises(UnknownName, match=r"c\.json: unknown key 'epoch' \(did you mean 'epochs'"):
        read_config(path)
    with pytest.raises(InvalidRequest, match="not of the form key=value"):
        read_config(path, ["steps"])
