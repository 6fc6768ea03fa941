from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
import torch

from tenfold.errors import BackendUnavailable, UnknownName
from tenfold.kernels import backends, library, ops, plan_attention, registry

from .steps import make


@pytest.fixture
def op(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(registry, "_BACKENDS", {})
    monkeypatch.setattr(registry, "_LOADED", {})
    registry.register("add", "slow", lambda: lambda a, b: a + b)
    registry.register("add", "missing", lambda: pytest.fail("loaded"), absent=lambda: "no GPU")
    registry.register("add", "picky", lambda: picky, rank=5)
    return "add"


def picky(a: int, b: int) -> int | None:
    if a < 0:
        registry.decline(f"takes no negative numbers, not {a}")
        return None
    return 100 + a + b


def test_the_highest_rank_answers_unless_it_declines(op: str) -> None:
    assert registry.call(op, 1, 2) == 103
    assert registry.call(op, -1, 2) == 1
    assert registry.call(op, 1, 2, backend="slow") == 3


def test_a_named_backend_is_the_only_one_tried(op: str) -> None:
    with pytest.raises(BackendUnavailable, match="no negative numbers") as e:
        registry.call(op, -1, 2, backend="picky")
    assert "doctor" in str(e.value.hint)
    with pytest.raises(BackendUnavailable, match="missing: no GPU"):
        registry.call(op, 1, 2, backend="missing")
    with pytest.raises(UnknownName, match="'picky'"):
        registry.call(op, 1, 2, backend="pick")
    with pytest.raises(UnknownName):
        registry.call("subtract", 1, 2)


def test_reports_for_doctor(op: str) -> None:
    assert [(r.backend, r.available, r.reason, r.picked) for r in backends(op)] == [
        ("picky", True, None, True),
        ("missing", False, "no GPU", False),
        ("slow", True, None, False),
    ]


def test_a_backend_is_registered_once(op: str) -> None:
    with pytest.raises(ValueError, match="already"):
        registry.register(op, "slow", lambda: picky)


def test_every_operation_has_a_torch_reference() -> None:
    for name in ops():
        assert "reference" in [r.backend for r in backends(name)]


@pytest.mark.usefixtures("native")
def test_the_pool_survives_a_fork() -> None:
    library.set_threads(2)
    case = make([100, 200, 300])
    plan, out = plan_attention(case.step), torch.empty_like(case.q)
    want = plan(case.q, case.k_pool, case.v_pool)
    pid = os.fork()
    if pid == 0:
        # Nothing of torch's own threads in the child: they do not survive.
        signal.alarm(20)
        plan(case.q, case.k_pool, case.v_pool, out)
        os._exit(0 if bytes(out.numpy()) == bytes(want.numpy()) else 1)
    assert os.waitpid(pid, 0)[1] == 0
