"""Made-up turns: seeded words with the frequencies of speech (Zipf's law), and made-up vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from tenfold.memory.events import SHARED, Event, NewEvent
from tenfold.memory.store import Tenant, Vectors

WIDTH = 384  # of MiniLM's vectors
CONVERSATION = 300  # turns
VOCABULARY = 30_000  # made-up words
_BATCH = 500


def made_up(count: int, seed: int = 0, words: Sequence[str] = ()) -> Iterator[str]:
    """Texts of 8 to 40 words; the n-th word occurs in proportion to 1/n.

    Words are made up too if none are given. They are the same for every seed, so that questions
    have the words of the turns.
    """
    words, rng = words or _words(VOCABULARY), np.random.default_rng(seed)
    shares = np.cumsum(1 / np.arange(1, len(words) + 1))
    for _ in range(count):
        drawn = rng.random(rng.integers(8, 41)) * shares[-1]
        yield " ".join(words[i] for i in np.searchsorted(shares, drawn))


def real_words(folder: Path) -> list[str]:
    """English words from an encoder's folder: what its tokenizer has whole, in its order.

    That is roughly the order of how frequent they are. A made-up word is five tokens to it, and
    embedding a question of such words takes three times as long as one that people ask.
    """
    from tenfold.models.tokenizer import Tokenizer

    vocabulary = Tokenizer.from_folder(folder).backend.get_vocab()
    known = sorted(vocabulary, key=vocabulary.__getitem__)
    return [w for w in known if w.isascii() and w.isalpha() and len(w) > 1]


@lru_cache(maxsize=1)
def _words(count: int) -> list[str]:
    """Words of 2 to 10 letters."""
    letters = np.random.default_rng(0).choice(list("etaoinshrdlucmfwypvbgkqjxz"), (count, 10))
    return ["".join(row[: 2 + i % 9]) for i, row in enumerate(letters)]


def unit_vectors(count: int, seed: int = 0, width: int = WIDTH) -> Vectors:
    """Random directions [count, width]."""
    vectors = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def fill(tenant: Tenant, texts: Sequence[str], deriver: str) -> list[Event]:
    """Writes shared turns in conversations of CONVERSATION, with made-up vectors.

    Nothing waits afterwards: what else would be derived takes no part in a search.
    """
    member = tenant.member("speaker")
    events: list[Event] = []
    for at in range(0, len(texts), _BATCH):
        events += member.append(
            [
                NewEvent(text, conversation=f"c{i // CONVERSATION}", scope=SHARED)
                for i, text in enumerate(texts[at : at + _BATCH], at)
            ]
        )
        ids = [e.id for e in events[at : at + _BATCH]]
        for seed, kind in enumerate(("turn", "window")):
            tenant.put_vectors(deriver, kind, ids, unit_vectors(len(ids), 2 * at + seed))
        tenant.put([], done=ids)
    return events
