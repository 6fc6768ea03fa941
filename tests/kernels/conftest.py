from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tenfold.kernels import library


@pytest.fixture
def native() -> Iterator[None]:
    """The native library, as it was left for the next test."""
    reason = library.absent()
    if reason and os.environ.get("TENFOLD_REQUIRE_ALL"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    yield
    library.set_isa(None)
    library.set_threads(2)
