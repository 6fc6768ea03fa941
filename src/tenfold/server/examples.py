"""Conversations to start from, which a model folder may bring along for the playground."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

log = logging.getLogger("tenfold.server")

_MOST = 20
_LARGEST = 1024 * 1024  # bytes


def read_examples(folder: Path | None) -> list[dict[str, Any]]:
    """`examples.json` of a model folder: a list of `{"title": ..., "messages": [...]}`.

    A file of another shape is somebody else's and is passed over.
    """
    path = folder / "examples.json" if folder is not None else None
    if path is None or not path.is_file() or path.stat().st_size > _LARGEST:
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        log.warning("%s cannot be read: %s", path, e)
        return []
    if not isinstance(found, list) or not all(_is_example(one) for one in found):
        log.warning("%s is not a list of titled conversations", path)
        return []
    return found[:_MOST]


def _is_example(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"title", "messages"}
        and isinstance(value["title"], str)
        and isinstance(value["messages"], list)
        and all(isinstance(message, dict) for message in value["messages"])
    )
