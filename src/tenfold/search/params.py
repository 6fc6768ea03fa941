"""Strategy parameters: declared once on the dataclass, read as JSON Schema and as validation."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import MISSING, Field, field, fields
from typing import Any, TypeVar

from tenfold.errors import InvalidRequest

T = TypeVar("T")


def param(
    default: Any,
    doc: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] | None = None,
    kind: str | None = None,
) -> Any:
    """A dataclass field with a range and a sentence for users.

    `kind` is a JSON Schema type and only needed where the default is None.
    """
    meta = {"doc": doc, "minimum": minimum, "maximum": maximum, "choices": choices, "kind": kind}
    return field(default=default, metadata=meta)


def _json_type(f: Field[Any]) -> str:
    if f.metadata["kind"]:
        return str(f.metadata["kind"])
    # bool before int: True is an int in Python, a boolean in JSON.
    for python, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string")):
        if isinstance(f.default, python):
            return name
    raise TypeError(f"parameter {f.name} needs a kind")


def json_schema(cls: Any) -> dict[str, Any]:
    """The JSON Schema of a strategy's parameters."""
    properties: dict[str, Any] = {}
    for f in fields(cls):
        assert f.default is not MISSING, f"{cls.__name__}.{f.name} needs a default"
        entry: dict[str, Any] = {"type": _json_type(f), "description": f.metadata["doc"]}
        if f.default is not None:
            entry["default"] = f.default
        for key, schema_key in (("minimum",) * 2, ("maximum",) * 2, ("choices", "enum")):
            if f.metadata[key] is not None:
                entry[schema_key] = f.metadata[key]
        properties[f.name] = entry
    return {"type": "object", "properties": properties, "additionalProperties": False}


def check_value(f: Field[Any], value: Any, where: str) -> None:
    """Raises InvalidRequest unless `value` fits the field's type and range."""
    kind = _json_type(f)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    number = number and abs(value) < 2**63  # neither infinite nor NaN, in every integer type
    fits = {
        "integer": number and value == int(value),
        "number": number,
        "boolean": isinstance(value, bool),
        "string": isinstance(value, str),
    }[kind]
    low, high, choices = (f.metadata[k] for k in ("minimum", "maximum", "choices"))
    if fits and number:
        fits = (low is None or value >= low) and (high is None or value <= high)
    if fits and choices:
        fits = value in choices
    if not fits and not (value is None and f.default is None):
        valid = f"one of {', '.join(choices)}" if choices else _range_text(kind, low, high)
        raise InvalidRequest(f"{where} must be {valid}, not {value!r}", param=where)


def _range_text(kind: str, low: float | None, high: float | None) -> str:
    text = {"integer": "an integer", "number": "a number", "boolean": "true or false"}.get(
        kind, "a string"
    )
    if low is not None and high is not None:
        return f"{text} between {low:g} and {high:g}"
    return f"{text} of at least {low:g}" if low is not None else text


def build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """An instance of the dataclass `cls` from JSON values.

    Raises InvalidRequest naming the unknown key (with the nearest known one) or the bad value;
    `where` is the dotted prefix of `param`.
    """
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            listed = ", ".join(sorted(known)) or "none"
            hint = (f"did you mean {near[0]!r}? " if near else "") + f"known here: {listed}"
            raise InvalidRequest(f"unknown field {where}.{key}", param=f"{where}.{key}", hint=hint)
        check_value(known[key], value, f"{where}.{key}")
    return cls(**{key: _cast(known[key], value) for key, value in values.items()})


def _cast(f: Field[Any], value: Any) -> Any:
    # JSON's integers include 2.0, Python's do not.
    return int(value) if isinstance(value, float) and _json_type(f) == "integer" else value
