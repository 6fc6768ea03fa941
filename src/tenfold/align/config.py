"""What a preference training is told, read from YAML, TOML or JSON and checked before it starts."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tenfold.align.fixes import check_fixes
from tenfold.align.losses import Loss, check_reference, make_loss
from tenfold.errors import InvalidRequest, MissingExtra, UnknownName

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LoraOptions:
    """Low-rank adapters (LoRA, 2106.09685) instead of all weights."""

    r: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: tuple[str, ...] = ("all-linear",)  # module names; all-linear leaves the head out


@dataclass(frozen=True, slots=True)
class MonitorOptions:
    """What is measured of gradient entanglement while training."""

    every: int = 10  # optimizer steps
    backend: Literal["ghost", "split", "sketch"] = "ghost"
    layers: bool = True
    realised: bool = False  # a forward pass more on measured steps: the change that came about
    tokens: tuple[int, ...] = ()  # rows whose tokens are held against each other


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """A preference training. Paths are relative to where the command is run.

    Raises InvalidRequest or UnknownName, naming the key, for what cannot be.
    """

    data: str
    output: str
    model: str = "concierge"  # an embedded name, a folder or hf:owner/name
    reference: str | None = "start"  # or a model: gains are measured from it
    eval_data: str | None = None
    loss: Mapping[str, Any] = field(default_factory=lambda: {"name": "dpo"})
    fix: Mapping[str, Any] = field(default_factory=dict)  # names, or each with its options
    lora: LoraOptions | None = field(default_factory=LoraOptions)  # null: all weights are trained
    epochs: float = 1.0
    steps: int | None = None  # instead of epochs
    batch: int = 8  # pairs in one forward pass
    accumulation: int = 1  # such batches in one optimizer step
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 5e-5
    schedule: Literal["cosine", "linear", "constant"] = "linear"
    warmup: float = 0.1  # share of all steps
    weight_decay: float = 0.0
    clip: float = 1.0  # largest norm of the gradient; 0 = off
    max_tokens: int | None = None  # of prompt and answer; default: the model's context
    too_long: Literal["refuse", "drop"] = "refuse"
    chat: bool = False  # a prompt that is plain text is what a user says
    dtype: Literal["float32", "bfloat16"] = "float32"  # of weights that are not trained
    autocast: bool = False  # forward passes in bfloat16, trained weights in float32
    device: str = "auto"
    seed: int = 0
    eval_every: int = 100  # steps; also before the first and after the last
    checkpoint_every: int = 50  # steps
    monitor: MonitorOptions | None = field(default_factory=MonitorOptions)

    def __post_init__(self) -> None:
        def need(ok: bool, key: str, valid: str) -> None:
            if not ok:
                value = self
                for part in key.split("."):
                    value = getattr(value, part)
                raise InvalidRequest(f"{key} is {value!r}", param=key, hint=f"valid: {valid}")

        for key in ("batch", "accumulation", "checkpoint_every"):
            need(getattr(self, key) >= 1, key, "1 or more")
        need(self.steps is None or self.steps >= 1, "steps", "1 or more")
        need(self.epochs > 0, "epochs", "above 0")
        need(self.learning_rate > 0, "learning_rate", "above 0")
        need(0 <= self.warmup < 1, "warmup", "a share of all steps: 0 or more, below 1")
        need(self.weight_decay >= 0, "weight_decay", "0 or more")
        need(self.clip >= 0, "clip", "0 (off) or more")
        need(self.max_tokens is None or self.max_tokens >= 2, "max_tokens", "2 or more")
        need(self.eval_every >= 0, "eval_every", "0 (only first and last) or more")
        if self.monitor is not None:
            need(self.monitor.every >= 1, "monitor.every", "1 or more; monitor: null is off")
        if self.lora is not None:
            need(self.lora.r >= 1, "lora.r", "1 or more")
            need(self.lora.alpha > 0, "lora.alpha", "above 0")
            need(0 <= self.lora.dropout < 1, "lora.dropout", "0 or more, below 1")
        elif self.dtype == "bfloat16":
            raise InvalidRequest(
                "weights in bfloat16 cannot be trained: small steps would be rounded away",
                param="dtype",
                hint="dtype: float32 with autocast: true, or lora",
            )
        self.make_loss()
        check_fixes(self.fix)
        if self.reference not in (None, "start") and not self.make_loss().referenced:
            check_reference(self.make_loss(), referenced=True)

    def make_loss(self) -> Loss:
        """The loss with its parameters."""
        parameters = {k: v for k, v in self.loss.items() if k != "name"}
        return make_loss(self.loss["name"], **parameters)

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        found: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return found


def read_config(path: str | Path, changes: Iterable[str] = ()) -> TrainingConfig:
    """The configuration in a .yaml, .toml or .json file with `key=value` changes laid over it.

    Raises InvalidRequest naming file and key, UnknownName with the nearest known key, MissingExtra
    for YAML where no reader of it is installed.
    """
    path = Path(path)
    values = _read(path)
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key:
            raise InvalidRequest(f"{change!r} is not of the form key=value", param="set")
        target, (*outer, last) = values, key.split(".")
        for part in outer:
            inner = target.get(part)
            if isinstance(inner, str) and part == "loss":
                inner = {"name": inner}
            target[part] = target = dict(inner) if isinstance(inner, Mapping) else {}
        target[last] = _literal(text)
    try:
        return config_of(values)
    except InvalidRequest as e:
        e.message = f"{path}: {e.message}"
        e.args = (e.message,)
        raise


def config_of(values: Mapping[str, Any]) -> TrainingConfig:
    """The configuration that a mapping describes; raises as `read_config`."""
    return _build(TrainingConfig, values, "")


def _read(path: Path) -> dict[str, Any]:
    hint = "key: value lines in YAML, or TOML or JSON by the file's ending"
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            found: Any = tomllib.loads(text)
        elif path.suffix == ".json":
            found = json.loads(text)
        else:
            found = _yaml(text)
    except (OSError, ValueError) as e:
        raise InvalidRequest(f"{path} cannot be read: {e}", param="config", hint=hint) from None
    if not isinstance(found, dict):
        raise InvalidRequest(f"{path} holds no settings", param="config", hint=hint)
    return found


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise MissingExtra(
            "no reader of YAML is installed",
            hint='pip install "tenfold[train]", or write the configuration as .toml or .json',
        ) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise ValueError(" ".join(str(e).split())) from None


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _build(kind: type[T], values: Any, where: str) -> T:
    if not isinstance(values, Mapping):
        raise _wrong(where.rstrip("."), values, "a group of keys")
    hints = get_type_hints(kind)
    for key in values:
        if key not in hints:
            raise UnknownName("key", f"{where}{key}", [where + k for k in hints], param=str(key))
    for name in ("data", "output") if kind is TrainingConfig else ():
        if name not in values:
            raise InvalidRequest(f"{name} is not given", param=name, hint=f"{name}: a path")
    return kind(**{k: _value(hints[k], v, where + k) for k, v in values.items()})


def _value(hint: Any, value: Any, key: str) -> Any:
    """A value as the field's type has it; numbers may be text, since YAML reads 5e-5 as such."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (UnionType, Union):
        if value is None or value is False:
            return None
        return _value(next(a for a in arguments if a is not NoneType), value, key)
    if origin is Literal:
        if value not in arguments:
            raise _wrong(key, value, " or ".join(map(str, arguments)))
        return value
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_value(arguments[0], item, f"{key}[{i}]") for i, item in enumerate(items))
    if is_dataclass(hint):
        return _build(hint, {} if value is True else value, f"{key}.")  # type: ignore[arg-type]
    if origin is not None:
        return _fix(value, key) if key == "fix" else _loss(value, key)
    return _scalar(hint, value, key)


def _scalar(hint: type, value: Any, key: str) -> Any:
    if hint is bool or hint is str:
        if not isinstance(value, hint):
            raise _wrong(key, value, "true or false" if hint is bool else "text")
        return value
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
        if abs(number) < float("inf") and (hint is float or number == int(number)):
            return hint(number)
    except (TypeError, ValueError):
        pass
    raise _wrong(key, value, "a whole number" if hint is int else "a number")


def _loss(value: Any, key: str) -> dict[str, Any]:
    """`dpo`, or `{name: dpo, beta: 0.2}`."""
    if isinstance(value, str):
        return {"name": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise _wrong(key, value, "a loss's name, or a group with name and parameters")
    return {
        k: v if k == "name" or isinstance(v, bool) else _scalar(float, v, f"{key}.{k}")
        for k, v in value.items()
    }


def _fix(value: Any, key: str) -> dict[str, Any]:
    """`normalised`, `[shared_mask, normalised]`, or `{auto_lambda: {every: 5}}`."""
    if isinstance(value, str):
        return {value: {}}
    if isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
        return {name: {} for name in value}
    groups = list(value.values()) if isinstance(value, Mapping) else [value]
    if all(v is None or isinstance(v, Mapping) for v in groups):
        return {str(name): dict(options or {}) for name, options in (value or {}).items()}
    raise _wrong(key, value, "names of fixes, or each with a group of its options")


def _wrong(key: str, value: Any, valid: str) -> InvalidRequest:
    return InvalidRequest(f"{key} is {value!r}", param=key, hint=f"valid: {valid}")
