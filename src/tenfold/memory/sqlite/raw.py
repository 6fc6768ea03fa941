"""The bytes of a tenant's files, as they lie on the disk.

A process that closes any handle of a file loses all its POSIX locks on it, SQLite's included: a
plain open and close here could let another process damage the database. So handles are shared by
everything in this process that has the file open, and closed when the last of them is done.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

_CHUNK = 1 << 26

_lock = threading.Lock()
_handles: dict[tuple[int, int], tuple[int, int]] = {}  # device and inode -> handle, holders


class RawFiles:
    """Reads whole files; `close` comes after the last connection to them is closed."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, int], int] = {}

    def read(self, path: Path) -> bytes:
        """The file's bytes; none where there is no file."""
        try:
            handle = self._handle(path)
        except FileNotFoundError:
            return b""
        parts = []
        place = 0
        while part := os.pread(handle, _CHUNK, place):
            parts.append(part)
            place += len(part)
        return b"".join(parts)

    def close(self) -> None:
        with _lock:
            for key in self._held:
                handle, holders = _handles.pop(key)
                if holders > 1:
                    _handles[key] = handle, holders - 1
                else:
                    os.close(handle)
            self._held.clear()

    def _handle(self, path: Path) -> int:
        with _lock:
            found = path.stat()
            key = found.st_dev, found.st_ino
            if key not in self._held:
                handle, holders = _handles.get(key) or (os.open(path, os.O_RDONLY), 0)
                _handles[key] = handle, holders + 1
                self._held[key] = handle
            return self._held[key]
