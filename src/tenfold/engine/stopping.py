"""Stop strings over text that arrives in pieces.

The text is cut where the first stop string becomes complete, as if it were read one character at a
time; when two become complete at the same character the longer one counts. The outcome is therefore
the same however the text is cut into pieces, and no piece is held back longer than necessary.
"""

from __future__ import annotations

from collections.abc import Iterable


class StopStrings:
    """Watches one answer's text for stop strings and holds back what may become part of one."""

    __slots__ = ("_held", "_matched", "_stops")

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = tuple(dict.fromkeys(stops))
        if not all(self._stops):
            raise ValueError("a stop string must not be empty")
        self._held = ""  # the end of the text so far that begins a stop string; not yet emitted
        self._matched: str | None = None

    @property
    def matched(self) -> str | None:
        """The stop string that ended the text, or None while it goes on."""
        return self._matched

    def push(self, text: str) -> tuple[str, str | None]:
        """Take the next piece; returns what may be shown now and the stop string found, if any.

        Text after a stop string is dropped, in this call and in every later one.
        """
        if self._matched is not None:
            return "", self._matched
        if not self._stops:
            return text, None
        text = self._held + text
        found: tuple[int, int, str] | None = None
        for stop in self._stops:
            start = text.find(stop)
            if start >= 0:
                # Least (end, start): complete first, and the longer one of two that end together.
                candidate = (start + len(stop), start, stop)
                found = candidate if found is None else min(found, candidate)
        if found is not None:
            _, start, self._matched = found
            self._held = ""
            return text[:start], self._matched
        cut = len(text) - self._possible_beginning(text)
        self._held = text[cut:]
        return text[:cut], None

    def flush(self) -> str:
        """The text held back, once it is known that no more will come."""
        held, self._held = self._held, ""
        return held

    def copy(self) -> StopStrings:
        """An independent watcher in the same state, for a forked branch."""
        other = StopStrings(self._stops)
        other._held, other._matched = self._held, self._matched
        return other

    def _possible_beginning(self, text: str) -> int:
        """Length of the longest end of `text` with which a stop string begins."""
        longest = max(map(len, self._stops)) - 1
        for length in range(min(longest, len(text)), 0, -1):
            end = text[-length:]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0
