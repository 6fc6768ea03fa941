"""LoCoMo's conversations and questions, and how well memory finds their evidence.

The data (snap-research/LoCoMo, CC BY-NC 4.0) is read by path and never kept in the repository.
Every figure leaves the conversation in question out of the learning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenfold.cli.benchmarks import Report
from tenfold.errors import InvalidRequest
from tenfold.memory.embedding import Embedder, query_vector
from tenfold.memory.events import SHARED, Event, Kind, NewEvent
from tenfold.memory.features import features
from tenfold.memory.fusion import Judged, fit
from tenfold.memory.memory import Memory
from tenfold.memory.query import read_query
from tenfold.memory.retrieval import POOL, Fixed, Ranker, Weighted, candidates
from tenfold.memory.store import Selection, Tenant, Vectors

CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}
KS = (5, 10, 20)
AT_10 = KS.index(10)
READER = "reader"  # a member who said nothing
RESAMPLES = 10_000
Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the ids of the turns that answer it."""

    text: str
    category: int
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns in order, and questions about them."""

    name: str
    turns: tuple[Event, ...]  # the text is "Speaker: text [image: caption]"
    questions: tuple[Question, ...]


def load(path: Path) -> list[Conversation]:
    """The conversations of a LoCoMo file; questions without known evidence are left out.

    Raises InvalidRequest for what is no such file.
    """
    try:
        return [_conversation(sample) for sample in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise InvalidRequest(
            f"{path} is no LoCoMo file: {type(e).__name__} {e}",
            param="locomo",
            hint="locomo10.json of snap-research/LoCoMo, or a part of it",
        ) from None


def _conversation(sample: Mapping[str, Any]) -> Conversation:
    talk, name = sample["conversation"], sample["sample_id"]
    sessions = [k for k, v in talk.items() if re.fullmatch(r"session_\d+", k) and v]
    turns: list[Event] = []
    for session in sorted(sessions, key=lambda k: int(k.split("_")[1])):
        when = datetime.strptime(talk[f"{session}_date_time"], "%I:%M %p on %d %B, %Y")
        at = when.replace(tzinfo=UTC)
        turns += [_turn(t, name, at, len(turns) + i) for i, t in enumerate(talk[session], 1)]
    known = {t.id for t in turns}
    questions = []
    for asked in sample["qa"]:
        named = {
            f"D{int(session)}:{int(turn)}"
            for written in asked["evidence"]
            for session, turn in re.findall(r"D:?(\d+):(\d+)", written)
        }
        if evidence := tuple(sorted(named & known)):
            questions.append(Question(asked["question"], asked["category"], evidence))
    return Conversation(name, tuple(turns), tuple(questions))


def _turn(turn: Mapping[str, str], conversation: str, when: datetime, place: int) -> Event:
    text = f"{turn['speaker']}: {turn['text']}"
    if caption := turn.get("blip_caption"):
        text += f" [image: {caption}]"
    return Event(
        id=turn["dia_id"],
        author=turn["speaker"],
        role="user",
        text=text,
        subject=turn["speaker"],
        to="",
        conversation=conversation,
        sequence=place,
        kind=Kind.OBSERVATION,
        scope=SHARED,
        valid_at=when,
        recorded_at=when,
    )


class Once:
    """An embedder that keeps what it embedded, so that each question is embedded once.

    Questions are embedded as a search does it, which may be another way than that of the turns.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._vectors: dict[str, Vectors] = {}
        self._queries: dict[str, Vectors] = {}
        self.name, self.width = embedder.name, embedder.width

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of unit length [texts, width]."""
        fresh = list(dict.fromkeys(t for t in texts if t not in self._vectors))
        if fresh:
            self._vectors |= zip(fresh, self._embedder.embed(fresh), strict=True)
        return np.stack([self._vectors[t] for t in texts])

    def embed_query(self, text: str) -> Vectors:
        """A question's vector [width]."""
        if text not in self._queries:
            self._queries[text] = query_vector(self._embedder, text)
        return self._queries[text]


class Told:
    """Conversations told to one tenant by their speakers, each turn shared with all.

    Who speaks is the event's author; its text does not repeat the name. Vectors are of "Speaker:
    text [image: caption]", which is what memory makes of the two.
    """

    def __init__(
        self,
        tenant: Tenant,
        conversations: Sequence[Conversation],
        embedder: Embedder,
        report: Report,
    ) -> None:
        self.tenant, self.embedder = tenant, Once(embedder)
        self.conversations = tuple(conversations)
        self._turn_of: dict[str, str] = {}
        for conversation in conversations:
            self._tell(conversation)
        memory = self.memory(Fixed())
        total, done = len(self._turn_of), 0
        while count := memory.derive(128):
            done += count
            report("embedding LoCoMo", done / total)

    def _tell(self, conversation: Conversation) -> None:
        for turn in conversation.turns:
            new = NewEvent(
                turn.text.removeprefix(f"{turn.author}: "),
                conversation=conversation.name,
                scope=SHARED,
                valid_at=turn.valid_at,
                key=f"{conversation.name} {turn.id}",
            )
            (event,) = self.tenant.member(turn.author).append([new])
            self._turn_of[event.id] = turn.id

    def memory(self, ranker: Ranker) -> Memory:
        """The reader's memory with a ranker."""
        return Memory(self.tenant, READER, embedder=self.embedder, ranker=ranker)

    def search(self, memory: Memory, conversation: Conversation, question: Question) -> list[str]:
        """Ids of the events that a search shows, best first."""
        selection = Selection(conversation=conversation.name)
        return [hit.event.id for hit in memory.search(question.text, max(KS), selection)]

    def answers(self, question: Question, shown: Sequence[str]) -> list[str]:
        """Those of the shown events that are evidence."""
        return [ulid for ulid in shown if self._turn_of[ulid] in question.evidence]

    def recall(self, question: Question, shown: Sequence[str]) -> list[float]:
        """The share of the evidence among the first of the shown, for each of KS."""
        turns = [self._turn_of[ulid] for ulid in shown]
        return [sum(e in turns[:k] for e in question.evidence) / len(question.evidence) for k in KS]

    def judged(self, conversation: Conversation, question: Question) -> Judged:
        """The features of a question's candidates as `search` meets them, and which are right."""
        query = read_query(question.text)
        vector = self.embedder.embed_query(question.text)
        within = Selection(conversation=conversation.name)
        found = candidates(self.tenant.member(READER), query, vector, within)
        first = Fixed().reasons(found, query, 0).parts.sum(axis=1)
        chosen = np.argsort(-first, kind="stable")[:POOL].astype(np.int64)
        right = [self._turn_of[found.events[i].id] in question.evidence for i in chosen]
        return Judged(features(found, query, chosen), np.array(right, dtype=np.bool_))


@dataclass(frozen=True, slots=True)
class Ranked:
    """What a search showed for every question, and its recall [questions, KS]."""

    shown: tuple[tuple[str, ...], ...]
    recall: Numbers


def ranked(
    told: Told, ranker_of: Callable[[int], Ranker], report: Report, stage: str, only: int = -1
) -> Ranked:
    """Searches for every question with the ranker of its conversation; of one only if not -1."""
    shown, recall = [], []
    chosen = [(n, c) for n, c in enumerate(told.conversations) if only in (-1, n)]
    total = sum(len(c.questions) for _, c in chosen)
    for number, conversation in chosen:
        memory = told.memory(ranker_of(number))
        for question in conversation.questions:
            shown.append(tuple(told.search(memory, conversation, question)))
            recall.append(told.recall(question, shown[-1]))
        report(stage, len(shown) / total)
    return Ranked(tuple(shown), np.array(recall).reshape(-1, len(KS)))


def learnt(told: Told, report: Report) -> list[Weighted]:
    """For each conversation, weights learnt from the questions of all the other ones."""
    judged: list[list[Judged]] = []
    for conversation in told.conversations:
        judged.append([told.judged(conversation, q) for q in conversation.questions])
        report("LoCoMo's candidates", len(judged) / len(told.conversations))
    rankers = []
    for number in range(len(judged)):
        others = [j for n, rows in enumerate(judged) if n != number for j in rows]
        rankers.append(Weighted(fit(others), name=f"without-{number}"))
    return rankers


def interval(values: Numbers, seed: int = 0) -> tuple[float, float]:
    """95 % limits of the mean, by bootstrap over questions; of paired gains it is paired."""
    rng = np.random.default_rng(seed)
    size = len(values)
    means = [values[rng.integers(0, size, size)].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
