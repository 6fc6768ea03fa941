"""Rewards that only the command line makes: Python functions by path, and GSM8K's answer key."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from tenfold.errors import InvalidRequest
from tenfold.models.folders import embedded_names
from tenfold.rewards.base import Answer, FunctionReward, RewardPrompt

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_MARKED = re.compile(r"####\s*\$?(-?\d[\d,]*(?:\.\d+)?)")


def function_reward(name: str, path: str) -> FunctionReward:
    """`module:function` as a reward; modules of the working directory are found too.

    Raises InvalidRequest when the module or the function does not exist.
    """
    module_name, colon, function_name = path.partition(":")
    if not colon:
        raise InvalidRequest(
            f"--reward {path!r} is neither a folder nor of the form NAME=module:function"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        function = getattr(import_module(module_name), function_name)
    except (ImportError, AttributeError) as e:
        raise InvalidRequest(
            f"reward {name!r}: {e}",
            param="reward",
            hint="the module is looked for on PYTHONPATH and in the working directory",
        ) from e
    if not callable(function):
        raise InvalidRequest(f"reward {name!r}: {path} is not a function", param="reward")
    summary = (function.__doc__ or "a Python function").strip().splitlines()[0]
    return FunctionReward(name, function, summary)


def is_classifier(path: str) -> bool:
    """Whether a reward is given as a model: a folder, an embedded name or `hf:owner/name`."""
    return path.startswith("hf:") or path in embedded_names() or Path(path).expanduser().is_dir()


def final_number(text: str) -> str | None:
    """The number after the last `####`, else the last number; commas and trailing zeros dropped."""
    marked = _MARKED.findall(text)
    found = marked or _NUMBER.findall(text)
    if not found:
        return None
    number = str(found[-1]).replace(",", "")
    return number.rstrip("0").rstrip(".") if "." in number else number


def gsm8k_oracle(key: Mapping[str, str]) -> FunctionReward:
    """1 for the right final number. It reads the answer key (`question -> number`), so it measures
    what perfect selection would give; it cannot choose answers for users."""

    def right(prompt: RewardPrompt, answer: Answer) -> float:
        asked = prompt.messages[-1].content if prompt.messages else None
        return float(asked in key and final_number(answer.text) == key[asked or ""])

    return FunctionReward("gsm8k", right, "oracle: exact match with GSM8K's answer key")
