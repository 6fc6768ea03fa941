"""What sweeps of the learning rate show, and when they show nothing."""

import json
import sys

import pytest

from recipes.concierge.datafiles import DataError
from recipes.concierge.sweep import main, read_sweeps, regret


def test_regret():
    target = {0.5: 2.0, 1.0: 1.0, 2.0: 1.1, 4.0: 3.0}
    assert regret({1.0: 3.0, 2.0: 2.0}, target) == pytest.approx(0.1)
    with pytest.raises(DataError, match="lacks 8"):
        regret({8.0: 1.0}, target)
    with pytest.raises(DataError, match="edge of its sweep"):
        regret({1.0: 1.0}, {1.0: 1.0, 2.0: 2.0})


def test_budgets_are_not_mixed(tmp_path):
    path = tmp_path / "sweep.jsonl"
    rows = [("a", 1.0, 100), ("a", 2.0, 200), ("b", 2.0, 200)]
    entries = [{"name": n, "rate": r, "tokens": t, "loss": 1.0} for n, r, t in rows]
    path.write_text("".join(json.dumps(e) + "\n" for e in entries))
    assert read_sweeps(tmp_path) == {"a": {2.0: 1.0}, "b": {2.0: 1.0}}
    path.write_text("".join(json.dumps(e) + "\n" for e in [*entries[1:], entries[0]]))
    with pytest.raises(DataError, match=r"different --tokens \(a 100, b 200\)"):
        read_sweeps(tmp_path)


def test_without_sweeps_nothing_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sweep", "--work", str(tmp_path), "--record", "x"])
    assert main() == 2
