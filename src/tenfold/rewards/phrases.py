"""Phrases to find in texts: a tree of token keys, each phrase with what it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Generic, NamedTuple, TypeVar

from tenfold.rewards.lexing import Token

T = TypeVar("T")


@dataclass(slots=True)
class _Node(Generic[T]):
    next: dict[str, _Node[T]] = field(default_factory=dict)
    meanings: list[T] = field(default_factory=list)


class Found(NamedTuple, Generic[T]):
    """Tokens `start` to `end` are a phrase."""

    start: int
    end: int
    meanings: list[T]


class PhraseTree(Generic[T]):
    """Phrases and their meanings; a phrase may have several."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def add(self, phrase: Sequence[str], meaning: T) -> None:
        """Adds a meaning to a phrase, given by the keys of its tokens; none is harmless."""
        node = self._root
        for key in phrase:
            node = node.next.setdefault(key, _Node())
        if phrase and meaning not in node.meanings:
            node.meanings.append(meaning)

    def find(self, tokens: Sequence[Token]) -> list[Found[T]]:
        """The phrases in a text, in order. Where two overlap the longer one is meant."""
        found: list[Found[T]] = []
        for start in range(len(tokens)):
            node: _Node[T] | None = self._root.next.get(tokens[start].key)
            at, best = start + 1, None
            while node is not None:
                if node.meanings:
                    best = Found(start, at, node.meanings)
                if at == len(tokens):
                    break
                node = node.next.get(tokens[at].key)
                at += 1
            if best is not None:
                found.append(best)
        return _without_overlaps(found)

    def unfinished(self, tokens: Sequence[Token]) -> int:
        """How many tokens at the end may be the beginning of a longer phrase."""
        for start in range(max(0, len(tokens) - 12), len(tokens)):
            node: _Node[T] | None = self._root
            for token in tokens[start:]:
                node = node.next.get(token.key) if node is not None else None
            if node is not None and node.next:
                return len(tokens) - start
        return 0


def _without_overlaps(found: list[Found[T]]) -> list[Found[T]]:
    if all(a.end <= b.start for a, b in pairwise(found)):
        return found
    chosen: list[Found[T]] = []
    taken: set[int] = set()
    for phrase in sorted(found, key=lambda f: (f.start - f.end, f.start)):
        if taken.isdisjoint(range(phrase.start, phrase.end)):
            chosen.append(phrase)
            taken.update(range(phrase.start, phrase.end))
    return sorted(chosen)
