"""How other memories find LoCoMo's evidence, with the very same vectors and questions.

mem0 runs in an environment of its own (`python benchmarks/peers/make.py mem0`), as a process that
is handed every vector: what differs is how it searches. Without the environment there is no figure.
Whole recall is compared, with the adversarial questions, as tenfold's own figure has them.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tenfold.cli.benchmarks import Report
from tenfold.cli.benchmarks.memory_locomo import AT_10, KS, Conversation, Numbers, Once
from tenfold.errors import BackendUnavailable

ROOT = Path(__file__).resolve().parents[4]
SCRIPTS = ROOT / "benchmarks" / "peers"
ENVIRONMENTS = "TENFOLD_PEERS"  # names another folder of environments than build/peers
HOW_TO_MAKE = "python benchmarks/peers/make.py mem0"
LAST_WORDS = 5  # lines of a peer's errors that are told


@dataclass(frozen=True, slots=True)
class Peer:
    """What a peer found: its recall [questions, KS], in the order of the conversations."""

    version: str
    recall: Numbers
    bm25: bool  # whether its own keyword leg was there
    cpu_seconds: float

    def told(self) -> dict[str, Any]:
        """For the settings of a report; recall in percent."""
        means = (100 * self.recall.mean(axis=0)).tolist()
        return {
            "version": self.version,
            "recall": dict(zip(map(str, KS), means, strict=True)),
            "infer": False,
            "threshold": 0.0,
            "bm25_leg": self.bm25,
            "cpu_seconds": self.cpu_seconds,
        }


def python_of(name: str) -> Path:
    """The peer's interpreter. Raises BackendUnavailable, with the line that makes it."""
    folder = Path(os.environ.get(ENVIRONMENTS) or ROOT / "build" / "peers") / name
    python = folder / "bin" / "python"
    script = SCRIPTS / f"{name}_recall.py"
    if not python.exists() or not script.exists():
        raise BackendUnavailable(
            f"{name} is not here to compare with: no {folder if script.exists() else script}",
            hint=f"in tenfold's repository: {HOW_TO_MAKE}",
        )
    return python


def mem0(conversations: Sequence[Conversation], embedder: Once, report: Report) -> Peer:
    """What mem0 finds. Raises BackendUnavailable where it is missing or fails."""
    python = python_of("mem0")
    with tempfile.TemporaryDirectory(prefix="tenfold-peer-") as name:
        folder = Path(name)
        _hand_over(folder, conversations, embedder)
        _run([str(python), str(SCRIPTS / "mem0_recall.py"), name], report)
        told = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
    return Peer(
        version=told["version"],
        recall=recall(conversations, told["answers"]),
        bm25=told["bm25"],
        cpu_seconds=told["cpu_seconds"],
    )


def recall(
    conversations: Sequence[Conversation], answers: Mapping[str, Sequence[Sequence[str]]]
) -> Numbers:
    """The share of each question's evidence among the first of its answers [questions, KS]."""
    rows = [
        [sum(turn in found[:k] for turn in asked.evidence) / len(asked.evidence) for k in KS]
        for conversation in conversations
        for asked, found in zip(conversation.questions, answers[conversation.name], strict=True)
    ]
    return np.array(rows).reshape(-1, len(KS))


def times_better(ours: Numbers, peer: Numbers) -> float:
    """Our recall among the first ten, as so many times the peer's."""
    return float(ours[:, AT_10].mean() / peer[:, AT_10].mean())


def _hand_over(folder: Path, conversations: Sequence[Conversation], embedder: Once) -> None:
    job = [
        {
            "name": c.name,
            "turns": [{"id": t.id, "text": t.text} for t in c.turns],
            "questions": [q.text.strip() for q in c.questions],  # mem0 strips a query
        }
        for c in conversations
    ]
    said = [t.text for c in conversations for t in c.turns]
    asked = [q.text.strip() for c in conversations for q in c.questions]
    texts = list(dict.fromkeys([*said, *asked]))
    whole = {"k": max(KS), "conversations": job}
    (folder / "job.json").write_text(json.dumps(whole), encoding="utf-8")
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    np.save(folder / "vectors.npy", embedder.embed(texts), allow_pickle=False)


def _run(command: Sequence[str], report: Report) -> None:
    """Runs a peer, which prints the share that is done; raises BackendUnavailable if it fails."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, encoding="utf-8"
        ) as process:
            for line in process.stdout or ():
                report("mem0 on LoCoMo", float(line))
        if process.returncode:
            errors.seek(0)
            raise BackendUnavailable(
                f"mem0 failed with {process.returncode}: {' | '.join(deque(errors, LAST_WORDS))}",
                hint=f"make it anew: {HOW_TO_MAKE} --anew",
            )
