from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.engine.stopping import StopStrings


def whole_text(text, stops):
    """What may be shown, and the stop string, found in the whole text at once."""
    hits = [(text.find(s) + len(s), text.find(s), s) for s in stops if s in text]
    if not hits:
        return text, None
    _, start, stop = min(hits)
    return text[:start], stop


def pieces(text, cuts):
    marks = [0, *sorted(c % (len(text) + 1) for c in cuts), len(text)]
    return [text[a:b] for a, b in pairwise(marks)]


# A small alphabet makes overlaps between stop strings and text common.
small = st.text("abA\u00e9", max_size=30)
some_stops = st.lists(st.text("abA\u00e9", min_size=1, max_size=5), max_size=4)


@given(small, some_stops, st.lists(st.integers(0, 100), max_size=30))
def test_every_chunking_gives_what_the_whole_text_gives(text, stops, cuts):
    watcher = StopStrings(stops)
    shown, found = "", None
    for piece in pieces(text, cuts):
        emit, found = watcher.push(piece)
        shown += emit
        expected = whole_text(text, stops)[0]
        assert expected.startswith(shown)  # nothing of a stop string is ever shown
    assert watcher.matched == found
    shown += watcher.flush()
    assert (shown, found) == whole_text(text, stops)


@given(small, some_stops)
def test_holds_back_only_what_may_begin_a_stop_string(text, stops):
    watcher = StopStrings(stops)
    seen = shown = ""
    for character in text:
        emit, found = watcher.push(character)
        seen, shown = seen + character, shown + emit
        if found is None and (held := seen[len(shown) :]):
            assert any(s.startswith(held) for s in stops)


@given(small, small, small, some_stops)
def test_a_copy_goes_its_own_way(first, left, right, stops):
    watcher = StopStrings(stops)
    before, _ = watcher.push(first)
    other = watcher.copy()
    for branch, text in ((watcher, left), (other, right)):
        after, found = branch.push(text)
        assert (before + after + branch.flush(), found) == whole_text(first + text, stops)


def test_the_first_to_be_complete_ends_the_text():
    assert StopStrings(["abcd", "bc"]).push("xabcd") == ("xa", "bc")
    assert StopStrings(["bc", "abc"]).push("xabcd") == ("x", "abc")  # both end at c: the longer


def test_text_after_a_stop_string_is_dropped():
    watcher = StopStrings(["\n"])
    assert watcher.push("one\ntwo") == ("one", "\n")
    assert watcher.push("three") == ("", "\n")
    assert watcher.flush() == ""


def test_without_stop_strings_everything_passes():
    assert StopStrings([]).push("abc") == ("abc", None)


def test_an_empty_stop_string_is_refused():
    with pytest.raises(ValueError, match="empty"):
        StopStrings(["a", ""])
