"""Memory in SQLite: one file per tenant, no server, nothing to install."""

from tenfold.memory.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
