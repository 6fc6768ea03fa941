"""What candidates are doing, as the `decode` object of a chunk with an empty delta."""

from __future__ import annotations

from typing import Any

from tenfold.search.events import CheckpointEvent, TokensEvent
from tenfold.server.generation import scores_on_wire


def tokens_event(event: TokensEvent) -> dict[str, Any]:
    """A candidate's new text."""
    return {
        "event": "tokens",
        "candidate": event.candidate,
        "text": event.text,
        "tokens": len(event.token_ids),
    }


def checkpoint_event(event: CheckpointEvent) -> dict[str, Any]:
    """Who goes on, who is cut, and why."""
    return {
        "event": "checkpoint",
        "tokens": event.tokens,
        "alive": list(event.alive),
        "cut": list(event.cut),
        "scores": scores_on_wire(event.scores),
    }
