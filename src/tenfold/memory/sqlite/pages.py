"""What lies in a database file beside its rows: free space in pages, and terms in index segments.

SQLite's file format, section 1.6, and FTS5's leaf pages (fts5_index.c). With secure_delete what is
deleted is zeroed; but when a page of an index is split, copies of the moved cells stay behind in
its free space, and are found by no query (measured with SQLite 3.40).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

_BTREE = (2, 5, 10, 13)  # interior index, interior table, leaf index, leaf table
_HEADER = struct.Struct(">HHH")  # first free block, cells, where their content begins
_BLOCK = struct.Struct(">HH")  # the next free block, this one's length
# Three letters or digits in a row, or two letters beyond ASCII: shorter pieces identify nothing.
_TEXT = re.compile(rb"[0-9A-Za-z]{3,}|(?:[\xc3-\xf4][\x80-\xbf]{1,3}){2,}")


def leftovers(database: bytes) -> Iterator[bytes]:
    """Texts in the free space of a database's pages."""
    for gap in _free_space(database):
        rest = gap.strip(b"\0")  # most free space is all zero: no need to look closer
        if len(rest) > 2:
            yield from _TEXT.findall(rest)


def segment_terms(page: bytes) -> list[bytes]:
    """The terms of a leaf page of an FTS5 segment, also of those whose rows are all deleted."""
    end = int.from_bytes(page[2:4])
    terms: list[bytes] = []
    footer, offset, last = end, 0, b""
    while footer < len(page):
        step, footer = _varint(page, footer)
        offset += step
        at, shared = offset, 0
        if terms:
            shared, at = _varint(page, at)
        length, at = _varint(page, at)
        last = last[:shared] + page[at : at + length]
        terms.append(last)
    return terms


def index_levels(structure: bytes) -> int:
    """How many levels of segments an index has, from its structure record (row 10)."""
    newer = structure[4:8] == b"\xff\x00\x00\x01"  # what secure-delete of SQLite 3.42 writes
    return _varint(structure, 8 if newer else 4)[0]


def is_segment_leaf(page_id: int) -> bool:
    """Whether a row of an FTS5 data table is a leaf page with terms."""
    return page_id > 10 and not page_id >> 31 & 0b111111


def _free_space(database: bytes) -> Iterator[bytes]:
    if len(database) < 100:
        return
    size = int.from_bytes(database[16:18])
    size = 65536 if size == 1 else size
    for start in range(0, len(database), size):
        head = start + (100 if start == 0 else 0)
        if database[head] not in _BTREE:
            continue
        block, cells, content = _HEADER.unpack_from(database, head + 1)
        first = head + (12 if database[head] in (2, 5) else 8) + 2 * cells
        if first <= start + (content or 65536) <= start + size:
            yield database[first : start + (content or 65536)]
        while block:
            after, length = _BLOCK.unpack_from(database, start + block)
            yield database[start + block + 4 : start + block + length]
            block = after if after > block else 0


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A big-endian number of seven bits a byte and the place after it."""
    value = 0
    for place in range(at, at + 9):
        value = value << 7 | data[place] & 0x7F
        if data[place] < 0x80:
            return value, place + 1
    return value, at + 9
