"""Kernel operations: signatures, memory layouts, backends and how one is picked."""
