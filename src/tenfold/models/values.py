"""Numbers from a model folder's JSON files, each read with its range.

On the main path: `spec`, `rope`, `tokenizer` and `loading` read config.json and
generation_config.json through these, so that a wrong value is refused by file and field before
anything of its size is allocated. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tenfold.errors import CheckpointError

CONFIG = "config.json"
_HUGE = 2**1000  # whole numbers beyond it have no float


def integer(
    found: Mapping[str, Any], key: str, default: int | None = None, *, low: int = 1, high: int
) -> int:
    """A whole number of config.json. Raises KeyError if it is absent and has no default,
    CheckpointError unless it lies between `low` and `high`."""
    value = found.get(key)
    if value is None:
        if default is None:
            raise KeyError(key)
        value = default
    if not _whole(value) or not low <= value <= high:
        raise CheckpointError(
            f"{CONFIG}: {key} is {_shown(value)}",
            hint=f"it must be a whole number between {low} and {high}",
        )
    return int(value)


def number(
    found: Mapping[str, Any],
    key: str,
    default: float | None = None,
    *,
    above: float | None = None,
    low: float | None = None,
) -> float:
    """A finite number of config.json. Raises KeyError if it is absent and has no default,
    CheckpointError unless it is larger than `above` and at least `low`."""
    value = found.get(key)
    if value is None:
        if default is None:
            raise KeyError(key)
        value = default
    fits = is_number(value) and (above is None or value > above) and (low is None or value >= low)
    if not fits:
        least = f" above {above:g}" if above is not None else ""
        least += f" of at least {low:g}" if low is not None else ""
        raise CheckpointError(f"{CONFIG}: {key} is {_shown(value)}", hint=f"a number{least} is due")
    return float(value)


def token_ids(
    found: Mapping[str, Any], key: str, vocab_size: int, file: str = CONFIG
) -> tuple[int, ...]:
    """Token ids from a number, a list of numbers or nothing.

    Raises CheckpointError for what is not a number and for ids outside the vocabulary.
    """
    value = found.get(key)
    if value is None:
        return ()
    ids = value if isinstance(value, (list, tuple)) else (value,)
    for item in ids:
        if not _whole(item):
            raise CheckpointError(
                f"{file}: {key} is {_shown(value)}", hint="a token id or a list of ids is due"
            )
        if not 0 <= item < vocab_size:
            raise CheckpointError(
                f"{file}: {key} {_shown(item)} is outside the vocabulary of {vocab_size} tokens",
                hint=f"ids run from 0 to {vocab_size - 1}",
            )
    return tuple(int(i) for i in ids)


def is_number(value: Any) -> bool:
    """Is it a finite JSON number (true and false are none)?"""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < _HUGE if isinstance(value, int) else math.isfinite(value)


def _whole(value: Any) -> bool:
    return is_number(value) and (isinstance(value, int) or value.is_integer())


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**18 else "a huge number"
    return text if len(text) <= 60 else text[:57] + "..."
