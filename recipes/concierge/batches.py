"""Encode episodes as token rows and gather them into batches of about equal length."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

from .data import Corpus, draw_episode, lesson_at
from .episodes import Episode

POOL_ROWS = 256  # rows drawn at once and sorted by length, so that batches waste little padding

START_WEIGHT = 3.0  # the first token of a value decides which value: it counts more


@dataclass(slots=True)
class Row:
    """A token row; ``answer`` marks assistant tokens, ``starts`` the first tokens of values."""

    tokens: list[int]
    answer: list[bool]
    starts: list[int]
    family: str
    records: int
    slots: int


@dataclass(slots=True)
class Batch:
    """Right-padded rows: tokens and weights [rows, length], value starts as flat positions."""

    tokens: torch.Tensor
    weights: torch.Tensor
    starts: torch.Tensor
    rows: list[Row]


def value_start(text: str, start: int, end: int) -> int:
    """Return the first character of a value that must be looked up (``$`` need not be)."""
    return next((i for i in range(start, end) if text[i].isalnum()), start)


def encode(tokenizer: Tokenizer, episode: Episode) -> Row:
    """Encode an episode as the chat template renders it."""
    tokens, answer, starts = [tokenizer.token_to_id("<|bos|>")], [False], []
    end = tokenizer.token_to_id("<|end|>")
    for message in episode.messages:
        encoding = tokenizer.encode(message.text, add_special_tokens=False)
        offset = len(tokens) + 1
        for first, last in message.values:
            token = encoding.char_to_token(value_start(message.text, first, last))
            if token is not None:
                starts.append(offset + token)
        tokens += [tokenizer.token_to_id(f"<|{message.role}|>"), *encoding.ids, end]
        spoken = message.role == "assistant"
        answer += [False] + [spoken] * (len(encoding.ids) + 1)
    return Row(tokens, answer, starts, episode.family, episode.records, episode.slots)


def repeat_row(vocabulary: int, rng: random.Random) -> Row:
    """Return random tokens said twice: the barest lesson in copying."""
    half = [rng.randrange(6, vocabulary) for _ in range(rng.randint(8, 40))]
    return Row(
        [1, *half, *half], [False] * (len(half) + 1) + [True] * len(half), [], "repeat", 0, 0
    )


def collate(rows: list[Row], prompt_weight: float) -> Batch:
    """Pad on the right; answers count 1, value starts more, a fourth of the prompt less."""
    length = max(len(row.tokens) for row in rows)
    tokens = torch.zeros(len(rows), length, dtype=torch.long)
    weights = torch.zeros(len(rows), length)
    starts = []
    for i, row in enumerate(rows):
        tokens[i, : len(row.tokens)] = torch.tensor(row.tokens)
        weights[i, : len(row.tokens)] = torch.where(
            torch.tensor(row.answer),
            1.0,
            prompt_weight * (torch.arange(len(row.tokens)) % 4 == i % 4),
        )
        weights[i, row.starts] *= START_WEIGHT
        starts += [(i, s) for s in row.starts]
    return Batch(tokens, weights, torch.tensor(starts, dtype=torch.long).reshape(-1, 2), rows)


class EpisodeStream:
    """An endless, resumable stream of batches: a pool depends on seed, number and lesson only."""

    def __init__(
        self, corpus: Corpus, tokenizer: Tokenizer, seed: int, batch_tokens: int, max_length: int
    ) -> None:
        self.corpus, self.tokenizer, self.seed = corpus, tokenizer, seed
        self.batch_tokens, self.max_length = batch_tokens, max_length
        self.pool, self.position, self.pool_progress = -1, 0, 0.0
        self._batches: list[list[Row]] = []

    def state(self) -> dict[str, float]:
        """Return where the stream stands."""
        return {"pool": self.pool, "position": self.position, "pool_progress": self.pool_progress}

    def restore(self, state: dict[str, float]) -> None:
        """Go back to where ``state`` was taken."""
        self.pool, self.pool_progress = int(state["pool"]), float(state["pool_progress"])
        self._batches = self._draw_pool() if self.pool >= 0 else []
        self.position = int(state["position"])

    def _draw_pool(self) -> list[list[Row]]:
        rng = random.Random(f"{self.seed}-{self.pool}")
        lesson = lesson_at(self.pool_progress)
        vocabulary = self.tokenizer.get_vocab_size()
        rows = []
        while len(rows) < POOL_ROWS:
            if rng.random() < lesson.repeats:
                rows.append(repeat_row(vocabulary, rng))
                continue
            row = encode(self.tokenizer, draw_episode(self.corpus, lesson, rng))
            if len(row.tokens) <= self.max_length:
                rows.append(row)
        rows.sort(key=lambda row: len(row.tokens))
        batches = list(self._cut(rows))
        rng.shuffle(batches)
        return batches

    def _cut(self, rows: list[Row]) -> Iterator[list[Row]]:
        batch: list[Row] = []
        for row in rows:  # ascending length: the next row sets the padded length
            if batch and len(row.tokens) * (len(batch) + 1) > self.batch_tokens:
                yield batch
                batch = []
            batch.append(row)
        yield batch

    def next(self, progress: float, prompt_weight: float) -> Batch:
        """Return the next batch; a new pool takes the lesson at ``progress``."""
        if self.position >= len(self._batches):
            self.pool, self.position, self.pool_progress = self.pool + 1, 0, progress
            self._batches = self._draw_pool()
        rows = self._batches[self.position]
        self.position += 1
        return collate(rows, prompt_weight)
