"""What all tests share: one torch thread (tests are many and small), and what may be missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data, or a skip that says how to get it."""
    folder = os.environ.get("TENFOLD_DATA")
    if not folder:
        pytest.skip("TENFOLD_DATA is not set: tests on real data are left out")
    return Path(folder)


def require_program(name: str) -> str:
    """The path of a program a test needs; skips without it, fails where CI demands everything."""
    path = shutil.which(name)
    if path is None:
        message = f"{name} is not installed"
        if os.environ.get("TENFOLD_REQUIRE_ALL") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return path
