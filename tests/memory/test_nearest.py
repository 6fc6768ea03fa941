"""The graph of a large memory against the exact scan, with a threshold that a test can reach."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from tenfold.memory import nearest
from tenfold.memory.events import SHARED, NewEvent
from tenfold.memory.sqlite import SqliteStore
from tenfold.memory.store import Selection
from tests.memory.stores import unit_vectors

needs_usearch = pytest.mark.skipif(
    importlib.util.find_spec("usearch") is None and not os.environ.get("TENFOLD_REQUIRE_ALL"),
    reason="usearch is not installed",
)
COUNT, WIDTH = 1500, 32


@pytest.fixture
def store(tmp_path: Path):
    store = SqliteStore(tmp_path)
    yield store
    store.close()


def filled(store: SqliteStore, count: int = COUNT):
    """Half of the turns are ada's alone, the others are shared."""
    tenant, ids = store.tenant("acme"), []
    for at in range(0, count, 500):
        new = [
            NewEvent(f"turn {i}", scope=SHARED) if i % 2 else NewEvent(f"turn {i}")
            for i in range(at, min(at + 500, count))
        ]
        ids += [e.id for e in tenant.member("ada").append(new)]
    vectors = unit_vectors(count, WIDTH)
    for kind in ("turn", "window"):
        tenant.put_vectors(f"{kind}/1", kind, ids, vectors)
    return tenant, ids, vectors


def ready(tenant) -> None:
    """Asks for the graphs and waits until they are made."""
    tenant.member("ada").find("", unit_vectors(1, WIDTH)[0])
    for graph in tenant.lookup.cache.graphs.values():
        graph.wait()
        assert graph._index is not None


@needs_usearch
@pytest.mark.parametrize("member", ["ada", "bob"])
def test_the_graph_finds_what_the_scan_finds_with_the_same_cosines(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, member: str
):
    tenant, _, _ = filled(store)
    reader, shares = tenant.member(member), []
    queries = unit_vectors(20, WIDTH, seed=7)
    exact = [reader.find("", q, limit=20) for q in queries]
    monkeypatch.setattr(nearest, "THRESHOLD", 1000)
    ready(tenant)
    scans: list[str] = []
    monkeypatch.setattr("tenfold.memory.sqlite.lookup.cosines", lambda *a: scans.append("scan"))
    for query, scanned in zip(queries, exact, strict=True):
        found = reader.find("", query, limit=20)
        cosine = {e.id: c for e, c in zip(scanned.events, scanned.turn, strict=True)}
        ids = [e.id for e in found.events]
        shares.append(len(cosine.keys() & set(ids)) / len(cosine))
        for ulid, turn, window in zip(ids, found.turn, found.window, strict=True):
            assert turn == pytest.approx(window, abs=1e-6)
            assert turn == pytest.approx(cosine.get(ulid, turn), abs=1e-6)
    assert not scans
    assert np.mean(shares) >= 0.95


@needs_usearch
def test_what_comes_after_the_graph_is_found_and_what_is_erased_is_in_no_graph(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(nearest, "THRESHOLD", 1000)
    tenant, ids, vectors = filled(store)
    ready(tenant)
    ada = tenant.member("ada")
    (late,) = ada.append([NewEvent("late")])
    own = unit_vectors(1, WIDTH, seed=99)
    tenant.put_vectors("turn/1", "turn", [late.id], own)
    assert late.id in {e.id for e in ada.find("", own[0], limit=3).events}
    tenant.erase(Selection(ids=(ids[8],)))
    for graph in tenant.lookup.cache.graphs.values():
        assert graph._index is None  # nothing of it is kept
    assert ids[8] not in {e.id for e in ada.find("", vectors[8], limit=3).events}
    ready(tenant)
    for graph in tenant.lookup.cache.graphs.values():
        assert 9 not in graph._index  # its place in the log
        assert 10 in graph._index
    assert ids[8] not in {e.id for e in ada.find("", vectors[8], limit=3).events}
    assert {p.suffix for p in store.root.iterdir()} <= {".memory", ".memory-wal", ".memory-shm"}


@needs_usearch
def test_an_erasure_by_another_process_drops_the_graph_too(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(nearest, "THRESHOLD", 1000)
    tenant, ids, vectors = filled(store)
    ready(tenant)
    other = SqliteStore(store.root)
    other.tenant("acme").erase(Selection(ids=(ids[8],)))
    other.close()
    assert ids[8] not in {e.id for e in tenant.member("ada").find("", vectors[8]).events}
    ready(tenant)
    assert all(9 not in graph._index for graph in tenant.lookup.cache.graphs.values())


def test_without_usearch_all_are_scanned_and_status_says_so(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
):
    tenant, ids, vectors = filled(store, 60)
    assert tenant.status().notes == ()
    monkeypatch.setattr(nearest, "THRESHOLD", 50)
    monkeypatch.setattr(nearest, "installed", lambda: False)
    assert "pip install usearch" in tenant.status().notes[0]
    assert ids[7] in {e.id for e in tenant.member("ada").find("", vectors[7], limit=1).events}
