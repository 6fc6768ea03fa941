"""Every store of the contract as a fixture, and the server of those of Postgres."""

from tests.memory.postgres_server import address, server
from tests.memory.stores import opener, store

__all__ = ["address", "opener", "server", "store"]
