"""How much two answers have in common, by their tokens alone: microseconds a pair.

Both measures run one machine word (of any length) a token instead of a table of all pairs of
tokens: the longest common subsequence after Hyyrö (2004), the edit distance after Myers (1999).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Overlap:
    """What two token sequences share; all are numbers of tokens."""

    chosen: int
    rejected: int
    common: int  # the longest common subsequence
    prefix: int
    suffix: int  # after the prefix
    edits: int  # insertions, deletions and substitutions between the two

    @property
    def distance(self) -> float:
        """Edits over the longer answer's length, 0 (identical) to 1."""
        return self.edits / max(self.chosen, self.rejected, 1)

    @property
    def shared(self) -> float:
        """Share of both answers' tokens that are in the common subsequence, 0 to 1."""
        return 2 * self.common / max(self.chosen + self.rejected, 1)

    @property
    def kept(self) -> float:
        """Share of the chosen answer's tokens that the rejected one has too: common / |w|.

        What <g_w, g_l> / |g_w|^2 would be if shared tokens had the same gradient, all of one
        length, and any two others were orthogonal.
        """
        return self.common / max(self.chosen, 1)


def overlap(chosen: Sequence[Hashable], rejected: Sequence[Hashable]) -> Overlap:
    """Compares two answers' tokens."""
    prefix, suffix = ends(chosen, rejected)
    a, b = (side[prefix : len(side) - suffix] for side in (chosen, rejected))
    alike = prefix + suffix
    return Overlap(
        len(chosen), len(rejected), alike + common_tokens(a, b), prefix, suffix, edits(a, b)
    )


def ends(a: Sequence[Hashable], b: Sequence[Hashable]) -> tuple[int, int]:
    """Tokens of the common prefix, and of the common suffix after it."""
    shorter = min(len(a), len(b))
    prefix = next((i for i in range(shorter) if a[i] != b[i]), shorter)
    left = shorter - prefix
    return prefix, next((i for i in range(left) if a[-1 - i] != b[-1 - i]), left)


def common_tokens(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence."""
    *_, last = common_rows(a, b)
    return len(a) - last.bit_count()


def common_rows(a: Sequence[Hashable], b: Sequence[Hashable]) -> Iterator[int]:
    """Row j of the longest common subsequence's table, j = 0 to |b|, as bits.

    Bit i - 1 is 0 where the length grows from a[:i - 1] to a[:i] beside b[:j].
    """
    places, every = _places(a), (1 << len(a)) - 1
    row = every
    yield row
    for token in b:
        met = row & places.get(token, 0)
        row = ((row + met) | (row - met)) & every
        yield row


def edits(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Fewest insertions, deletions and substitutions that make `b` of `a` (Levenshtein)."""
    if not a:
        return len(b)
    places, every, last = _places(a), (1 << len(a)) - 1, 1 << (len(a) - 1)
    up, down, found = every, 0, len(a)  # where the column's steps are +1 and -1
    for token in b:
        equal = places.get(token, 0)
        steep = equal | down
        equal = (((equal & up) + up) ^ up) | equal
        more, less = down | (every & ~(equal | up)), up & equal
        found += bool(more & last) - bool(less & last)
        more, less = (more << 1 | 1) & every, (less << 1) & every
        up, down = less | (every & ~(steep | more)), more & steep
    return found


def _places(tokens: Sequence[Hashable]) -> dict[Hashable, int]:
    found: dict[Hashable, int] = {}
    for place, token in enumerate(tokens):
        found[token] = found.get(token, 0) | 1 << place
    return found
