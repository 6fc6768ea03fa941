"""What is sealed, and under which keys: AES-256-GCM for content, BLAKE2b for names and words.

What came from several events is sealed under all their keys together, so that destroying one of
them is enough. Names keep one key for good, because rows are looked up by them; words have one for
each segment of the log, which is replaced when anything in the segment is erased.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

from tenfold.memory.postgres.keys import Keys
from tenfold.memory.store import StoreError

_NONCE = 12


class Vault:
    """Seals and opens what one tenant keeps."""

    def __init__(self, keys: Keys) -> None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self.keys = keys
        self._cipher = AESGCM
        self._does_not_fit = InvalidTag

    def name(self, name: str) -> bytes:
        """A keyed hash of a name (16 bytes), empty for an empty one."""
        if not name:
            return b""
        return hashlib.blake2b(name.encode(), key=self.keys.names, digest_size=16).digest()

    def joint(self, sequences: Sequence[int]) -> bytes | None:
        """The key of what came from these events; None where one of theirs was destroyed."""
        keys = [self.keys.of(sequence) for sequence in sequences]
        if None in keys:
            return None
        if len(keys) == 1:
            return keys[0]
        return hashlib.blake2b(b"".join(k for k in keys if k), digest_size=32).digest()

    def seal(self, what: str, sequences: Sequence[int], content: bytes) -> bytes:
        """Ciphertext of something from events; `what` says what it is, and must fit to open it.

        Raises StoreError where a key was destroyed meanwhile.
        """
        key = self.joint(sequences)
        if key is None:
            raise StoreError(
                "something here was derived from an event that another process erased meanwhile",
                hint="repeat the call",
            )
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher(key).encrypt(nonce, content, what.encode())

    def open(self, what: str, sequences: Sequence[int], sealed: bytes) -> bytes | None:
        """The content; None where a key was destroyed. Raises StoreError where it does not fit."""
        key = self.joint(sequences)
        if key is None:
            return None
        try:
            return self._cipher(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], what.encode())
        except self._does_not_fit:
            if None in [self.keys.of(sequence) for sequence in sequences]:
                return None  # destroyed between the two looks
            raise StoreError(
                f"a {what} from event {sequences[0]} of the log does not open with its key",
                hint="the row was changed by hand, or the key file belongs to another state of the"
                " database; restore both from the same time",
            ) from None


def mark(key: bytes, *parts: str) -> bytes:
    """A keyed hash (16 bytes) that is the same for the same parts."""
    return hashlib.blake2b("\0".join(parts).encode(), key=key, digest_size=16).digest()


def term(key: bytes, stem: str) -> int:
    """A word of the text index, as 64 bits."""
    digest = hashlib.blake2b(stem.encode(), key=key, digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
