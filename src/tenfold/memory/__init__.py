"""Long-term memory (2410.15665): what was said is kept verbatim, found again, and can be erased.

An append-only log of events is the only source of truth. Everything else (text index, vectors,
facts, summaries, learnt weights) is derived from it by versioned functions, carries the ids of the
events it came from, and can be rebuilt or erased with them. No language model is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenfold.memory.asynchronous import AsyncMemory as AsyncMemory
    from tenfold.memory.events import NewEvent as NewEvent
    from tenfold.memory.events import Scope as Scope
    from tenfold.memory.memory import Memory as Memory
    from tenfold.memory.store import Selection as Selection

_HOME = {
    "Memory": "tenfold.memory.memory",
    "AsyncMemory": "tenfold.memory.asynchronous",
    "NewEvent": "tenfold.memory.events",
    "Scope": "tenfold.memory.events",
    "Selection": "tenfold.memory.store",
}
__all__ = [*_HOME]


def __getattr__(name: str) -> Any:  # lazy, so that a part of the room costs no other part
    if name not in _HOME:
        raise AttributeError(f"module 'tenfold.memory' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
