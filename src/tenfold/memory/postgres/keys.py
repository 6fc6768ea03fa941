"""A tenant's key file: a key for every event, two for every segment of the text index.

The file is the one thing that has to be forgotten for good, so it is small, written in place and
fixed in its layout: a header, then for each segment two index keys and SEGMENT event keys of 32
bytes. A place that was never written is zero, one that was destroyed is all ones.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

from tenfold.memory.events import new_id
from tenfold.memory.postgres.schema import SEGMENT
from tenfold.memory.store import StoreError

SIZE = 32
MAGIC = b"tFk1"
_HEADER = 128  # magic, identity, the key of names, how many erasures are done, spare
_IDENTITY, _NAMES, _ERASURES = 16, 32, 64  # where they begin
_BLOCK = (2 + SEGMENT) * SIZE
_NEVER, _DESTROYED = bytes(SIZE), b"\xff" * SIZE


class Keys:
    """The key file of a tenant, open. Writers hold the tenant's write lock in the database."""

    def __init__(self, path: Path, identity: bytes) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            raise StoreError(
                f"the key file {path} of this memory is missing; without it nothing can be read",
                hint="copy or mount it from where the memory was made, or name its folder with"
                " ?keys=FOLDER in the address",
            ) from None
        except OSError as e:
            raise StoreError(f"the key file {path} cannot be opened: {e.strerror}") from None
        header = os.pread(self._file, _HEADER, 0)
        if header[:4] != MAGIC or header[_IDENTITY : _IDENTITY + 16] != identity:
            os.close(self._file)
            raise StoreError(f"{path} is damaged, or the key file of another memory")
        self.names = header[_NAMES : _NAMES + SIZE]
        self.closed = False

    def erasures(self) -> int:
        """How many erasures have destroyed keys here."""
        return int.from_bytes(os.pread(self._file, 8, _ERASURES))

    def make(self, sequences: Sequence[int]) -> None:
        """New keys for events that are about to be written; on the disk when it returns."""
        for sequence in sequences:
            os.pwrite(self._file, secrets.token_bytes(SIZE), _place(sequence))
        if sequences:
            os.fsync(self._file)

    def make_index(self, segment: int, generation: int) -> bytes:
        """A new key for a segment's words; the one of the generation before stays for now."""
        key = secrets.token_bytes(SIZE)
        os.pwrite(self._file, key, _index_place(segment, generation))
        os.fsync(self._file)
        return key

    def of(self, sequence: int) -> bytes | None:
        """An event's key, None where it was destroyed. Raises StoreError where it is missing."""
        key = os.pread(self._file, SIZE, _place(sequence))
        if key == _DESTROYED:
            return None
        if len(key) < SIZE or key == _NEVER:
            raise StoreError(
                f"{self.path.name} has no key for event {sequence} of the log: the file is older"
                " than the database",
                hint="restore the newest copy of the key file",
            )
        return key

    def of_index(self, segment: int, generation: int) -> bytes:
        """The key of a segment's words, whatever it is now."""
        return os.pread(self._file, SIZE, _index_place(segment, generation))

    def destroyed(self, last: int) -> list[int]:
        """Events up to `last` whose keys were destroyed."""
        return [s for s in range(1, last + 1)
                if os.pread(self._file, SIZE, _place(s)) == _DESTROYED]  # fmt: skip

    def destroy(self, sequences: Iterable[int]) -> None:
        """Overwrites events' keys where they lie; gone from the file when it returns."""
        for sequence in sequences:
            os.pwrite(self._file, _DESTROYED, _place(sequence))
        os.fsync(self._file)

    def destroy_index(self, generations: Iterable[tuple[int, int]], erasures: int) -> None:
        """Overwrites index keys (segment, generation), and notes how many erasures are done."""
        for segment, generation in generations:
            os.pwrite(self._file, _DESTROYED, _index_place(segment, generation))
        os.pwrite(self._file, erasures.to_bytes(8), _ERASURES)
        os.fsync(self._file)

    def size(self) -> int:
        """Bytes of the file."""
        return os.fstat(self._file).st_size

    def contents(self) -> bytes:
        """All of it."""
        return os.pread(self._file, self.size(), 0)

    def close(self) -> None:
        """Closes the file; harmless when called twice."""
        if not self.closed:
            self.closed = True
            os.close(self._file)


def create(path: Path, identity: bytes) -> None:
    """Makes the key file of a new tenant, whole or not at all, for its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    header = bytearray(_HEADER)
    header[:4] = MAGIC
    header[_IDENTITY : _IDENTITY + 16] = identity
    header[_NAMES : _NAMES + SIZE] = secrets.token_bytes(SIZE)
    half = path.with_name(f".{path.name}.{new_id()}")
    handle = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, header)
        os.fsync(handle)
        os.rename(half, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        os.close(handle)


def shred(path: Path) -> None:
    """Overwrites a key file and removes it; does nothing where there is none."""
    try:
        handle = os.open(path, os.O_WRONLY)
    except FileNotFoundError:
        return
    try:
        size = os.fstat(handle).st_size
        for place in range(0, size, _BLOCK):
            os.pwrite(handle, b"\xff" * min(_BLOCK, size - place), place)
        os.fsync(handle)
    finally:
        os.close(handle)
    path.unlink(missing_ok=True)


def _place(sequence: int) -> int:
    segment, slot = divmod(sequence, SEGMENT)
    return _HEADER + segment * _BLOCK + (2 + slot) * SIZE


def _index_place(segment: int, generation: int) -> int:
    return _HEADER + segment * _BLOCK + generation % 2 * SIZE
