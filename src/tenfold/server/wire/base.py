"""What all wire types share: strict reading, and unknown fields refused with the nearest name."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError


class Wire(BaseModel):
    """A request body or a part of one: no coercion, no unknown fields, no infinities."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_fields_only(cls, data: Any) -> Any:
        """Speaks before pydantic does, because its message names no alternative."""
        if not isinstance(data, dict):
            return data
        known = {field.alias or name for name, field in cls.model_fields.items()}
        for key in data:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = (
                    f"did you mean '{near[0]}'?"
                    if near
                    else f"known here: {', '.join(sorted(known))}"
                )
                raise PydanticCustomError(
                    "unknown_field",
                    "unknown field '{field}' ({hint})",
                    {"field": key[:100], "hint": hint},
                )
        return data


class Answer(BaseModel):
    """A response body or a part of one. Fields never set are left out of the JSON."""

    model_config = ConfigDict(extra="forbid")

    def json_ready(self) -> dict[str, Any]:
        """The body as plain JSON values."""
        return self.model_dump(mode="json", exclude_unset=True)
