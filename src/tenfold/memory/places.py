"""Where memories are: a folder of SQLite files, or a database in Postgres, by what it is called."""

from __future__ import annotations

from pathlib import Path

from tenfold.errors import InvalidRequest
from tenfold.memory.store import MemoryStore

SCHEMES = ("postgresql", "postgres")


def open_store(place: str | Path) -> MemoryStore:
    """The store in a folder, or at an address such as `postgresql://USER@HOST/DATABASE`.

    Raises InvalidRequest for what is no address, MissingExtra without the driver of the database,
    StoreError where it cannot be reached.
    """
    if is_address(place):
        from tenfold.memory.postgres.store import PostgresStore

        return PostgresStore(str(place))
    from tenfold.memory.sqlite import SqliteStore

    return SqliteStore(Path(place).expanduser())


def is_address(place: str | Path) -> bool:
    """Whether it is a database's address; raises InvalidRequest for a Path, and one mistyped."""
    scheme, colon, rest = str(place).partition(":")
    if not colon or scheme not in SCHEMES:
        return False
    if isinstance(place, Path):
        raise InvalidRequest(
            "a Path cannot hold the address of a database: it loses a slash",
            param="folder",
            hint="give the address as a string",
        )
    if not rest.startswith("//"):
        raise InvalidRequest(
            "the address of a database begins with postgresql://",
            param="folder",
            hint=f"two slashes after {scheme}:, or ./{scheme}:... for a folder of that name",
        )
    return True


def shown(place: str | Path) -> str:
    """What a message may call the place: an address without its password."""
    if is_address(place):
        from tenfold.memory.postgres.address import parse

        return str(parse(str(place)))
    return str(place)
