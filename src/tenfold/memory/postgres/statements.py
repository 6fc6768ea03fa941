"""Statements that several modules send: many rows at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tenfold.memory.postgres.database import Transaction


def insert(
    db: Transaction, table: str, columns: Mapping[str, str], rows: Sequence[Sequence[Any]]
) -> None:
    """Writes rows in one statement; `columns` are their names and types.

    COPY would be faster, but Postgres has none into tables with row-level security.
    """
    if not rows:
        return
    arrays = ", ".join(f"?::{kind}[]" for kind in columns.values())
    db.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT * FROM unnest({arrays})",
        [list(column) for column in zip(*rows, strict=True)],
    )
