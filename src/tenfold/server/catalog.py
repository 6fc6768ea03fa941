"""Names on the wire: the model, and its presets as virtual models."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from tenfold.errors import InvalidRequest, UnknownName
from tenfold.search.options import parse_decode
from tenfold.server.settings import ServerSettings
from tenfold.server.wire.catalog import Model, ModelNotes
from tenfold.types import SamplingParams

_SHARED = ("budget",)  # parts of a decode object that mean the same under every strategy


@dataclass(frozen=True, slots=True)
class Preset:
    """A decode object and sampling values under a name."""

    name: str
    decode: Mapping[str, Any]
    sampling: Mapping[str, Any]

    @classmethod
    def read(cls, name: str, values: Mapping[str, Any], default_reward: str) -> Preset:
        """Raises InvalidRequest, naming the preset, for values no request could use."""
        decode = dict(values)
        sampling = decode.pop("sampling", None) or {}
        known = {f.name for f in fields(SamplingParams)}
        try:
            parse_decode(decode, default_reward=default_reward)
            for key in sampling:
                if key not in known:
                    raise UnknownName("sampling value", key, known)
            SamplingParams(**sampling)
        except InvalidRequest as e:
            raise InvalidRequest(
                f"preset {name!r}: {e.message}", param=f"presets.{name}", hint=e.hint
            ) from None
        return cls(name, decode, sampling)

    def under(self, decode: Mapping[str, Any] | None) -> dict[str, Any]:
        """The request's decode object laid over this one, key by key.

        Another strategy than the preset's keeps only what strategies share: `n` of one is not `n`
        of the next.
        """
        own = dict(decode or {})
        mine = dict(self.decode)
        if own.get("strategy", mine.get("strategy")) != mine.get("strategy"):
            mine = {k: v for k, v in mine.items() if k in _SHARED}
        merged = {**mine, **own}
        budgets = (mine.get("budget"), own.get("budget"))
        if all(isinstance(b, Mapping) for b in budgets):
            merged["budget"] = {**mine["budget"], **own["budget"]}
        return merged


class Catalog:
    """The model's id, its virtual models, and who is meant by a request's `model`."""

    def __init__(
        self,
        name: str,
        context_length: int,
        settings: ServerSettings,
        examples: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.name = name
        self._context_length = context_length
        self._created = int(time.time())
        self._examples = [dict(e) for e in settings.examples or examples]
        self._presets = {
            f"{name}@{key}": Preset.read(key, values, settings.default_reward)
            for key, values in settings.presets.items()
        }

    def find(self, model: str | None) -> tuple[str, Preset | None]:
        """The model's id and preset; no name means the model itself. Raises UnknownName."""
        if model is None or model == self.name:
            return self.name, None
        if model not in self._presets:
            raise UnknownName("model", model, [self.name, *self._presets], param="model")
        return model, self._presets[model]

    def entries(self) -> list[Model]:
        """The models as GET /v1/models lists them, the real one first."""
        return [self.entry(i) for i in (self.name, *self._presets)]

    def entry(self, model: str) -> Model:
        """One model. Raises UnknownName."""
        name, preset = self.find(model)
        decode = None
        if preset is not None:
            decode = dict(preset.decode)
            if preset.sampling:
                decode["sampling"] = dict(preset.sampling)
        notes = ModelNotes(
            context_length=self._context_length, examples=self._examples, preset=decode
        )
        return Model(
            id=name, object="model", created=self._created, owned_by="tenfold", tenfold=notes
        )
