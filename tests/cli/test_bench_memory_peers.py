"""The comparison with mem0: counted right, and never a figure without mem0's environment."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tenfold.cli.benchmarks import memory as bench
from tenfold.cli.benchmarks import memory_locomo as locomo
from tenfold.cli.benchmarks import memory_peers as peers
from tenfold.errors import BackendUnavailable
from tenfold.memory.embedding import HashedWords
from tests.cli.test_bench_memory import locomo_file, silent, told

# A peer that finds, for each question, the turns in the order of their vectors' products.
STAND_IN = """
import json, sys
from pathlib import Path
import numpy as np
folder = Path(sys.argv[1])
job = json.loads((folder / "job.json").read_text())
texts = json.loads((folder / "texts.json").read_text())
vectors = np.load(folder / "vectors.npy", allow_pickle=False)
of = {text: vectors[row] for row, text in enumerate(texts)}
answers = {}
for c in job["conversations"]:
    turns = np.stack([of[t["text"]] for t in c["turns"]])
    answers[c["name"]] = [
        [c["turns"][i]["id"] for i in np.argsort(-(turns @ of[q]), kind="stable")[: job["k"]]]
        for q in c["questions"]
    ]
print(1.0)
told = {"version": "0", "bm25": False, "cpu_seconds": 0.0, "answers": answers}
(folder / "answers.json").write_text(json.dumps(told))
"""


@pytest.fixture
def peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The script of a peer whose environment is this one."""
    python = tmp_path / "peers" / "mem0" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv(peers.ENVIRONMENTS, str(tmp_path / "peers"))
    monkeypatch.setattr(peers, "SCRIPTS", tmp_path)
    script = tmp_path / "mem0_recall.py"
    script.write_text(STAND_IN)
    return script


@pytest.mark.usefixtures("peer")
def test_a_peer_gets_the_same_vectors_and_its_recall_is_counted_as_ours(tmp_path: Path) -> None:
    mine = told(tmp_path)
    found = peers.mem0(mine.conversations, mine.embedder, silent)
    embedder = HashedWords(64)
    at = 0
    for conversation in mine.conversations:
        turns = embedder.embed([t.text for t in conversation.turns])
        for question in conversation.questions:
            scores = turns @ embedder.embed([question.text])[0]
            order = (-scores).argsort(kind="stable")
            names = [conversation.turns[i].id for i in order]
            expected = [sum(e in names[:k] for e in question.evidence) for k in locomo.KS]
            assert found.recall[at].tolist() == expected  # one turn is the evidence
            at += 1
    assert found.recall.shape == (at, len(locomo.KS))
    assert peers.times_better(found.recall, found.recall) == 1.0
    json.dumps(found.told())


def test_without_the_environment_the_figure_is_absent_and_says_how_to_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(peers.ENVIRONMENTS, str(tmp_path / "nothing"))
    mine = told(tmp_path)
    ranked = locomo.ranked(mine, lambda _: bench.Fixed(), silent, "")
    found = bench.Found()
    bench._peers(mine, ranked, ranked, silent, found)
    assert found.figures == {}
    assert "make.py mem0" in found.absent["x_mem0_recall_at_10"]


def test_a_peer_that_fails_gives_no_figure_and_says_its_last_words(
    peer: Path, tmp_path: Path
) -> None:
    peer.write_text("raise SystemExit('no such model')")
    mine = told(tmp_path)
    with pytest.raises(BackendUnavailable, match="no such model"):
        peers.mem0(mine.conversations, mine.embedder, silent)


def test_the_real_mem0_searches_with_the_vectors_that_it_is_given(tmp_path: Path) -> None:
    if os.environ.get(peers.ENVIRONMENTS) is None and not (peers.ROOT / "build/peers").exists():
        pytest.skip("mem0 is a peer: python benchmarks/peers/make.py mem0")
    conversations = locomo.load(locomo_file(tmp_path))
    embedder = locomo.Once(HashedWords(64))
    found = peers.mem0(conversations, embedder, silent)
    assert found.version.startswith("2.")
    for conversation, rows in zip(conversations, (found.recall[:8], found.recall[8:]), strict=True):
        turns = embedder.embed([t.text for t in conversation.turns])
        for question, row in zip(conversation.questions, rows, strict=True):
            scores = turns @ embedder.embed([question.text])[0]
            right = [t.id in question.evidence for t in conversation.turns].index(True)
            if scores[right] > 0:  # mem0 cuts at a threshold of zero
                assert row[0] == float((scores > scores[right]).sum() < locomo.KS[0])
