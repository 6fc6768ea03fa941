"""Which embedder a memory is opened with: the one that its vectors are of, loaded when needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from tenfold.errors import InvalidRequest, TenfoldError
from tenfold.memory.embedding import Embedder, HashedWords, MiniLM, minilm_folder, query_vector
from tenfold.memory.store import StoreError, Tenant, Vectors

DEFAULT = "minilm"  # where a memory has no vectors yet
WORDS = HashedWords()
LABELS: Mapping[str, str] = {"minilm": MiniLM.name, "words": WORDS.name}


class Deferred:
    """An embedder that is made at the first text: what needs no vectors does not wait for it.

    Raises StoreError where it cannot be made, so that no event is marked as failed for that.
    """

    def __init__(self, name: str, make: Callable[[], Embedder]) -> None:
        self.name = name
        self._make = make
        self._made: Embedder | None = None
        self._lock = threading.Lock()

    def _embedder(self) -> Embedder:
        with self._lock:
            if self._made is None:
                try:
                    self._made = self._make()
                except TenfoldError as e:
                    raise StoreError(
                        f"{self.name} cannot be loaded: {e.message}", hint=e.hint
                    ) from None
            return self._made

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self._embedder().width

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of unit length [texts, width]."""
        return self._embedder().embed(texts)

    def embed_query(self, text: str) -> Vectors:
        """A query's vector [width]."""
        return query_vector(self._embedder(), text)


def check_name(name: str, option: str) -> None:
    """Raises InvalidRequest for what is no embedder's name; "" is that of what is there."""
    if name not in ("", "none", *LABELS):
        raise InvalidRequest(
            f"there is no embedder {name!r}", param=option, hint=f"{', '.join(LABELS)}, none"
        )


def fitting_name(tenant: Tenant, name: str = "", *, option: str, anew: bool = False) -> str:
    """The name of the embedder that a tenant is opened with: this one, or that of its vectors.

    `option` is what names it where it was called from. With `anew`, for a rebuild, another one than
    that of the vectors is fine. Raises InvalidRequest for one that the vectors are not of.
    """
    check_name(name, option)
    there = tenant.embedder().partition("/")[0]
    names = {label: known for known, label in LABELS.items()}
    name = name or names.get(there, "" if there else DEFAULT)
    if name != "none" and not anew and there and LABELS.get(name) != there:
        own = f"{option} {names[there]}" if there in names else "open it in Python with that one"
        asked = f", not of {LABELS[name]!r}" if name else ", which is none of ours"
        raise InvalidRequest(
            f"the memory of tenant {tenant.name!r} has vectors of {there!r}{asked}",
            param=option,
            hint=f"{own}; or rebuild the memory: `tenfold memory rebuild --embedder"
            f" {name or DEFAULT}`",
        )
    return name or DEFAULT


def fitting(tenant: Tenant, name: str = "", *, option: str, anew: bool = False) -> Embedder | None:
    """The embedder of `fitting_name`; None for none. Its weights are loaded at the first text.

    Raises MissingExtra where it is not installed.
    """
    name = fitting_name(tenant, name, option=option, anew=anew)
    if name == "none":
        return None
    if name == "words":
        return WORDS
    minilm_folder()  # says at once where it is missing
    return Deferred(MiniLM.name, MiniLM)
