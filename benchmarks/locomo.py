"""Rankings on LoCoMo, learnt with one conversation left out, on an index in memory.

python benchmarks/locomo.py FILE [--levers] [--weights]

The data (snap-research/LoCoMo, CC BY-NC 4.0) is read by path and never kept in the repository.
Vectors are cached under ~/.cache/tenfold/locomo by the hash of what was embedded.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sqlite3
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from tenfold.cli.benchmarks.memory_locomo import (
    CATEGORIES,
    Conversation,
    Question,
    interval,
    load,
)
from tenfold.memory.embedding import Embedder, MiniLM
from tenfold.memory.events import Event
from tenfold.memory.features import FEATURES, features
from tenfold.memory.fusion import Judged, fit
from tenfold.memory.query import Query, read_query
from tenfold.memory.retrieval import POOL, Fixed, Ranker, Weighted, rank
from tenfold.memory.store import Found, Vectors

KS = (5, 10, 20, 50)
# Features by what they are about, in the order in which they are added one by one.
LEVERS = {
    "the recipe's features": ["lexical", "lexical_before", "lexical_after", "turn", "window"],
    "+ ranks": ["lexical_rank", "window_rank"],
    "+ wider neighbours": ["lexical_far", "covered_around"],
    "+ who speaks": ["author_named", "another_named", "first_person"],
    "+ questions and answers": ["asks", "answers"],
    "+ form": ["long", "opening"],
    "+ asked for": ["time_asked", "number_asked"],
    "+ named times": ["in_time", "soon_after"],
}
CACHE = Path.home() / ".cache" / "tenfold" / "locomo"


def embed(embedder: Embedder, texts: Sequence[str]) -> Vectors:
    """Vectors of the texts, from the cache when these very texts were embedded before."""
    digest = hashlib.sha256("\0".join([embedder.name, *texts]).encode()).hexdigest()[:32]
    file = CACHE / f"{digest}.npy"
    if file.exists():
        return np.load(file)
    vectors = embedder.embed(texts)
    CACHE.mkdir(parents=True, exist_ok=True)
    np.save(file, vectors)
    return vectors


def windows(turns: Sequence[Event]) -> list[str]:
    """Each turn after the one before it."""
    texts = [t.text for t in turns]
    return [texts[0], *(f"{a}\n{b}" for a, b in pairwise(texts))]


class Index:
    """One conversation, searched like a store does: FTS5 with porter, exact cosines."""

    def __init__(self, turns: Sequence[Event], turn: Vectors, window: Vectors) -> None:
        self.turns, self.turn, self.window = tuple(turns), turn, window
        self._db = sqlite3.connect(":memory:")
        self._db.execute("create virtual table t using fts5(x, tokenize='porter unicode61')")
        self._db.executemany("insert into t(rowid, x) values(?, ?)",
                             [(i, t.text) for i, t in enumerate(turns)])  # fmt: skip

    def find(self, text: str, vector: Vectors, *, limit: int = 200) -> Found:
        """`limit` turns of each kind and the neighbours of lexical matches."""
        lexical = np.zeros(len(self.turns))
        words = re.findall(r"[^\W_]+", text)
        query = " OR ".join(f'"{w}"' for w in words)
        sql = "select rowid, -bm25(t) from t where t match ? order by bm25(t) limit ?"
        rows = self._db.execute(sql, (query, limit)).fetchall() if words else []
        for row, score in rows:
            lexical[row] = score
        turn, window = self.turn @ vector, self.window @ vector
        matched = {row for row, _ in rows}
        chosen = matched | {r + d for r in matched for d in (-1, 1)}
        for cosines in (turn, window):
            chosen |= set(np.argsort(-cosines)[:limit].tolist())
        kept = sorted((r for r in chosen if 0 <= r < len(self.turns)),
                      key=lambda r: (-lexical[r], r))  # fmt: skip
        place = {row: i for i, row in enumerate(kept)}
        return Found(
            events=tuple(self.turns[r] for r in kept),
            lexical=lexical[kept],
            turn=turn[kept].astype(np.float64),
            window=window[kept].astype(np.float64),
            before=np.array([place.get(r - 1, -1) for r in kept], dtype=np.int64),
        )


@dataclass(frozen=True, slots=True)
class Run:
    """What one way to rank found: recall at each of KS and MRR [questions, 5]."""

    name: str
    values: np.ndarray
    query_ms: float = float("nan")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with what the index found, and what is known of the candidates."""

    conversation: int
    question: Question
    query: Query
    found: Found
    chosen: np.ndarray
    judged: Judged


def ask(
    conversations: Sequence[Conversation], embedder: Embedder, *, all_words: bool = False
) -> list[Asked]:
    """Every question's candidates; with `all_words` stop words are searched for too."""
    asked = []
    for number, c in enumerate(conversations):
        turn = embed(embedder, [t.text for t in c.turns])
        index = Index(c.turns, turn, embed(embedder, windows(c.turns)))
        vectors = embed(embedder, [q.text for q in c.questions])
        for question, vector in zip(c.questions, vectors, strict=True):
            query = read_query(question.text)
            words = question.text if all_words else " ".join(query.keywords)
            found = index.find(words, vector)
            first = Fixed().reasons(found, query, 0).parts.sum(axis=1)
            chosen = np.argsort(-first, kind="stable")[:POOL]
            evidence = np.array([found.events[i].id in question.evidence for i in chosen])
            judged = Judged(features(found, query, chosen), evidence)
            asked.append(Asked(number, question, query, found, chosen, judged))
    return asked


def recalls(question: Question, ids: Sequence[str]) -> list[float]:
    places = [ids.index(e) if e in ids else np.inf for e in question.evidence]
    return [*(float(np.mean([p < k for p in places])) for k in KS), 1 / (1 + min(places))]


def ranked(name: str, asked: Sequence[Asked], rankers: Sequence[Ranker]) -> Run:
    """Ranks every question by the ranker of its conversation, through `rank` itself."""
    values, times = [], []
    for a in asked:
        began = time.thread_time()
        hits = rank(a.found, a.query, rankers[a.conversation], limit=max(KS))
        times.append(time.thread_time() - began)
        values.append(recalls(a.question, [h.event.id for h in hits]))
    return Run(name, np.array(values), float(np.median(times)) * 1e3)


def learnt(asked: Sequence[Asked], names: Collection[str] = FEATURES) -> list[Weighted]:
    """For each conversation, weights of these features learnt on all the other ones."""
    kept = np.array([n in names for n in FEATURES])
    rankers: list[Weighted] = []
    for held_out in range(1 + max(a.conversation for a in asked)):
        others = [Judged(a.judged.features * kept, a.judged.evidence)
                  for a in asked if a.conversation != held_out]  # fmt: skip
        rankers.append(Weighted(fit(others), name=f"without {held_out}"))
    return rankers


def table(asked: Sequence[Asked], runs: Sequence[Run]) -> str:
    category = np.array([a.question.category for a in asked])
    lines = [
        "| ranking | R@5 | R@10 | R@20 | R@50 | MRR | R@10 multi/temp/open/single/adv"
        " | R@10 over the first | ranking ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        means = 100 * run.values.mean(axis=0)
        by = [100 * run.values[category == c, 1].mean() for c in CATEGORIES]
        low, high = interval(100 * (run.values - runs[0].values)[:, 1])
        lines.append(
            f"| {run.name} | {' | '.join(f'{m:.1f}' for m in means)}"
            f" | {'/'.join(f'{b:.1f}' for b in by)} | {low:+.1f} to {high:+.1f}"
            f" | {run.query_ms:.1f} |"
        )
    return "\n".join(lines)


def tried(name: str, asked: Sequence[Asked], rankers: Sequence[Weighted]) -> Run:
    """As `ranked`, from the features at hand."""
    values = []
    for a in asked:
        weights = rankers[a.conversation].weights
        scores = a.judged.features @ np.array([weights[n] for n in FEATURES])
        best = a.chosen[np.argsort(-scores, kind="stable")[: max(KS)]]
        values.append(recalls(a.question, [a.found.events[i].id for i in best]))
    return Run(name, np.array(values))


def main() -> None:
    parser = argparse.ArgumentParser(description="Rankings on LoCoMo, one conversation left out.")
    parser.add_argument("file", type=Path, help="locomo10.json or a part of it")
    parser.add_argument("--levers", action="store_true", help="also the groups, one after another")
    parser.add_argument("--weights", action="store_true", help="print weights learnt on all of it")
    options = parser.parse_args()
    conversations = load(options.file)
    one = [Fixed()] * len(conversations)
    runs = [ranked("fixed, all words", ask(conversations, MiniLM(), all_words=True), one)]
    asked = ask(conversations, MiniLM())
    runs.append(ranked("fixed, keywords", asked, one))
    runs.append(ranked("learnt", asked, learnt(asked)))
    print(f"{len(conversations)} conversations, {len(asked)} questions")
    print(table(asked, runs), flush=True)
    category = np.array([a.question.category for a in asked])
    gains = 100 * (runs[-1].values - runs[0].values)[:, 1]
    for c, name in CATEGORIES.items():
        low, high = interval(gains[category == c])
        print(f"{name}: R@10 gained by learning {low:+.1f} to {high:+.1f}")
    if options.weights:
        for name, weight in fit([a.judged for a in asked]).items():
            print(f'    "{name}": {weight:.3f},', flush=True)
    if options.levers:
        so_far: list[str] = []
        for name, group in LEVERS.items():
            so_far += group
            runs.append(tried(f"learnt, {name}", asked, learnt(asked, so_far)))
            print(table(asked, [runs[0], runs[-1]]).splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
