"""One small registry for everything that can be chosen by name (strategies, rewards, ...).

Entries are lazy: a factory is called when the entry is first asked for. Packages outside
tenfold add theirs through entry points of the registry's group, read on the first look-up and
never before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from tenfold.errors import UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to lazily made objects; a name can be taken once."""

    def __init__(self, kind: str, *, group: str | None = None, param: str | None = None) -> None:
        self.kind = kind
        self.param = param
        self._group = group
        self._factories: dict[str, Callable[[], T]] = {}
        self._made: dict[str, T] = {}

    def register(self, name: str, factory: Callable[[], T]) -> None:
        """Adds an entry; raises ValueError when the name is taken."""
        if name in self._factories:
            raise ValueError(f"{self.kind} {name!r} is already registered")
        self._factories[name] = factory

    def get(self, name: str) -> T:
        """The entry called `name`; raises UnknownName with the known names and the nearest."""
        self._load_entry_points()
        if name not in self._factories:
            raise UnknownName(self.kind, name, self._factories, param=self.param)
        if name not in self._made:
            self._made[name] = self._factories[name]()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        self._load_entry_points()
        return iter(sorted(self._factories))

    def __contains__(self, name: object) -> bool:
        self._load_entry_points()
        return name in self._factories

    def copy(self) -> Registry[T]:
        """A registry that can grow without changing this one (a server adds its own rewards)."""
        other: Registry[T] = Registry(self.kind, group=self._group, param=self.param)
        other._factories = dict(self._factories)
        return other

    def _load_entry_points(self) -> None:
        if self._group is None:
            return
        group, self._group = self._group, None
        for point in entry_points(group=group):
            self.register(point.name, point.load)
