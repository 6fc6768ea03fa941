"""The stores that the contract is tested on, and the small things every test of them needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tenfold.memory.sqlite import SqliteStore
from tenfold.memory.store import MemoryStore, Vectors
from tests.memory.postgres_server import shared_server

Opener = Callable[[], MemoryStore]  # opens the same store once more, as another process would


def sqlite_opener(folder: Path) -> Iterator[Opener]:
    opened: list[SqliteStore] = []

    def open_store() -> MemoryStore:
        opened.append(SqliteStore(folder / "tenants"))
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()


def postgres_opener(folder: Path) -> Iterator[Opener]:
    server = shared_server()
    from tenfold.memory.postgres.store import PostgresStore

    server.empty()
    address = server.address(keys=folder / "keys")
    opened: list[PostgresStore] = []

    def open_store() -> MemoryStore:
        opened.append(PostgresStore(address))
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()


OPENERS = {"sqlite": sqlite_opener, "postgres": postgres_opener}


@pytest.fixture(params=sorted(OPENERS))
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    yield from OPENERS[request.param](tmp_path)


@pytest.fixture
def store(opener: Opener) -> MemoryStore:
    return opener()


def unit_vectors(count: int, width: int = 16, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
