"""tenfold: a serving engine whose answers get better while they are being generated.

Public names are imported lazily, so that `import tenfold` costs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenfold.engine.async_engine import AsyncEngine as AsyncEngine
    from tenfold.errors import TenfoldError as TenfoldError
    from tenfold.memory.memory import Memory as Memory
    from tenfold.models.loading import load_model as load_model
    from tenfold.search.best_of_n import BestOfN as BestOfN
    from tenfold.search.llm import LLM as LLM
    from tenfold.search.sample import Sample as Sample
    from tenfold.types import Completion as Completion
    from tenfold.types import Message as Message
    from tenfold.types import SamplingParams as SamplingParams

__version__ = "0.1.0"

_HOME = {
    "LLM": "tenfold.search.llm",
    "AsyncEngine": "tenfold.engine.async_engine",
    "SamplingParams": "tenfold.types",
    "Completion": "tenfold.types",
    "Message": "tenfold.types",
    "Sample": "tenfold.search.sample",
    "BestOfN": "tenfold.search.best_of_n",
    "Memory": "tenfold.memory.memory",
    "load_model": "tenfold.models.loading",
    "TenfoldError": "tenfold.errors",
}
__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    try:
        module = _HOME[name]
    except KeyError:
        raise AttributeError(f"module 'tenfold' has no attribute {name!r}") from None
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
