"""Encode conversations as token rows and pack several into each row of a batch."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

from .data import Corpus, Lesson, draw_episode
from .episodes import Episode

POOL_EPISODES = 320  # conversations drawn at once and packed together
START_WEIGHT = 4.0  # the first token of a value decides which value: it counts more
END_WEIGHT = 2.0  # of an answer: to stop, or to go on with the next record


@dataclass(slots=True)
class Row:
    """One conversation: tokens, which of them an assistant says, and where its values start.

    ``turns`` are those of ``starts`` whose value was not among the two before it, so that a record
    is turned to or its value looked up; ``ends`` are the last tokens of answers.
    """

    tokens: list[int]
    answer: list[bool]
    starts: list[int]
    turns: list[int]
    ends: list[int]
    family: str
    records: int
    slots: int


@dataclass(slots=True)
class Batch:
    """Packed conversations: tokens, documents (0 is padding) and weights [rows, length].

    ``starts`` are (row, place) of first tokens of values, ``sizes`` the (records, slots) of each.
    """

    tokens: torch.Tensor
    documents: torch.Tensor
    weights: torch.Tensor
    starts: torch.Tensor
    sizes: list[tuple[int, int]]


def value_start(text: str, start: int, end: int) -> int:
    """Return the first character of a value that must be looked up (``$`` need not be)."""
    return next((i for i in range(start, end) if text[i].isalnum()), start)


def encode(tokenizer: Tokenizer, episode: Episode) -> Row:
    """Encode an episode as the chat template renders it."""
    tokens, answer, starts = [tokenizer.token_to_id("<|bos|>")], [False], list[int]()
    turns, ends = list[int](), list[int]()
    end = tokenizer.token_to_id("<|end|>")
    for message in episode.messages:
        encoding = tokenizer.encode(message.text, add_special_tokens=False)
        offset = len(tokens) + 1
        said = list[str]()
        for first, last in sorted(message.values):
            token = encoding.char_to_token(value_start(message.text, first, last))
            if token is not None:
                starts.append(offset + token)
                if message.text[first:last] not in said[-2:]:  # not "For A ... For A ..."
                    turns.append(offset + token)
            said.append(message.text[first:last])
        tokens += [tokenizer.token_to_id(f"<|{message.role}|>"), *encoding.ids, end]
        spoken = message.role == "assistant"
        answer += [False] + [spoken] * (len(encoding.ids) + 1)
        ends += [len(tokens) - 1] if spoken else []
    return Row(tokens, answer, starts, turns, ends, episode.family, episode.records, episode.slots)


def repeat_row(vocabulary: int, rng: random.Random) -> Row:
    """Return random tokens said twice: the barest lesson in copying."""
    half = [rng.randrange(6, vocabulary) for _ in range(rng.randint(8, 40))]
    spoken = [False] * (len(half) + 1) + [True] * len(half)
    return Row([1, *half, *half], spoken, [], [], [], "repeat", 0, 0)


def pack(rows: Iterable[Row], length: int) -> list[list[Row]]:
    """Gather rows into lists of at most ``length`` tokens: longest first, into the fullest fit."""
    packed: list[list[Row]] = []
    free: list[int] = []
    for row in sorted(rows, key=lambda row: -len(row.tokens)):
        size = len(row.tokens)
        fits = [i for i, left in enumerate(free) if left >= size]
        if fits:
            best = min(fits, key=free.__getitem__)
            packed[best].append(row)
            free[best] -= size
        else:
            packed.append([row])
            free.append(length - size)
    return packed


def collate(packed: list[list[Row]], length: int, prompt_weight: float) -> Batch:
    """Lay packed rows out; answers count 1, values and ends more, a fourth of the prompt less."""
    tokens = torch.zeros(len(packed), length, dtype=torch.long)
    documents = torch.zeros(len(packed), length, dtype=torch.long)
    weights = torch.zeros(len(packed), length)
    starts, sizes = [], []
    for i, rows in enumerate(packed):
        begin = 0
        for number, row in enumerate(rows, 1):
            end = begin + len(row.tokens)
            tokens[i, begin:end] = torch.tensor(row.tokens)
            documents[i, begin:end] = number
            sparse = prompt_weight * (torch.arange(len(row.tokens)) % 4 == (i + number) % 4)
            weights[i, begin:end] = torch.where(torch.tensor(row.answer), 1.0, sparse)
            weights[i, begin] = 0  # nothing before it
            places = [begin + start for start in row.starts]
            weights[i, [begin + turn for turn in row.turns]] *= START_WEIGHT
            weights[i, [begin + end for end in row.ends]] *= END_WEIGHT
            starts += [(i, place) for place in places]
            sizes += [(row.records, row.slots)] * len(places)
            begin = end
    places = torch.tensor(starts, dtype=torch.long).reshape(-1, 2)
    return Batch(tokens, documents, weights, places, sizes)


class EpisodeStream:
    """An endless, resumable stream of batches: a pool depends on seed, number and lesson only."""

    def __init__(
        self, corpus: Corpus, tokenizer: Tokenizer, seed: str, rows: int, length: int
    ) -> None:
        self.corpus, self.tokenizer, self.seed = corpus, tokenizer, seed
        self.rows, self.length = rows, length
        self.pool, self.position, self.pool_progress = -1, 0, 0.0
        self._batches: list[list[list[Row]]] = []

    def state(self) -> dict[str, float]:
        """Return where the stream stands."""
        return {"pool": self.pool, "position": self.position, "pool_progress": self.pool_progress}

    def restore(self, state: dict[str, float]) -> None:
        """Go back to where ``state`` was taken."""
        self.pool, self.pool_progress = int(state["pool"]), float(state["pool_progress"])
        self._batches = self._draw_pool() if self.pool >= 0 else []
        self.position = int(state["position"])

    def _draw_pool(self) -> list[list[list[Row]]]:
        rng = random.Random(f"{self.seed}-{self.pool}")
        lesson = Lesson.at(self.pool_progress)
        vocabulary = self.tokenizer.get_vocab_size()
        rows = []
        while len(rows) < POOL_EPISODES:
            if rng.random() < lesson.repeats:
                rows.append(repeat_row(vocabulary, rng))
                continue
            row = encode(self.tokenizer, draw_episode(self.corpus, lesson, rng))
            if len(row.tokens) <= self.length:
                rows.append(row)
        packed = pack(rows, self.length)
        rng.shuffle(packed)
        whole = len(packed) - len(packed) % self.rows  # the rest would make a batch of odd shape
        return [packed[i : i + self.rows] for i in range(0, whole, self.rows)]

    def next(self, progress: float, prompt_weight: float) -> Batch:
        """Return the next batch; a new pool takes the lesson at ``progress``."""
        if self.position >= len(self._batches):
            self.pool, self.position, self.pool_progress = self.pool + 1, 0, progress
            self._batches = self._draw_pool()
        packed = self._batches[self.position]
        self.position += 1
        return collate(packed, self.length, prompt_weight)
