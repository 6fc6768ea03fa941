"""Every store of the contract as a fixture."""

from tests.memory.stores import opener, store

__all__ = ["opener", "store"]
