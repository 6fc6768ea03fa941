"""Pairs as token ids, and batches of them: chosen rows first, then rejected, padded on the right.

The prompt's tokens are exactly those that the engine would be given, so training and serving see
the same context; an answer never merges with the prompt's last token. An answer ends with the
model's end of text, and what a chat template writes after it is left out: no model generates it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tenfold.align.pairs import Pair, Text
from tenfold.errors import InvalidRequest, PromptTooLong, TenfoldError
from tenfold.models.chat_template import ChatTemplate
from tenfold.models.folders import locate
from tenfold.models.lora import Adapter, is_adapter
from tenfold.models.tokenizer import Tokenizer
from tenfold.types import Message

_WINDOW = 16  # batches whose rows are sorted together


class EncodedPair(NamedTuple):
    """Token ids of a pair; the answers end with the end of text."""

    row: int
    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Of prompt and longer answer together."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


@dataclass(frozen=True, slots=True)
class PairBatch:
    """`rows` pairs as [2 * pairs, tokens]: the chosen answers' rows, then the rejected ones'."""

    ids: Tensor
    attention: Tensor  # 1 where there is a token
    answer: Tensor  # bool: the answer's tokens, its end of text too
    rows: list[int]  # of the file

    def to(self, device: torch.device | str) -> PairBatch:
        """The same on a device."""
        ids, attention, answer = (t.to(device) for t in (self.ids, self.attention, self.answer))
        return PairBatch(ids, attention, answer, self.rows)

    def since(self, start: int) -> PairBatch:
        """The columns from a place on."""
        ids, attention, answer = (t[:, start:] for t in (self.ids, self.attention, self.answer))
        return PairBatch(ids, attention, answer, self.rows)

    def __len__(self) -> int:
        return len(self.rows)


class PairEncoder:
    """Tokens of pairs for one model.

    `template` is needed for messages, and for texts if `chat` says that a text is what a user says.
    Raises InvalidRequest for a tokenizer without an end of text.
    """

    def __init__(
        self, tokenizer: Tokenizer, template: ChatTemplate | None = None, *, chat: bool = False
    ) -> None:
        self.tokenizer, self.template, self.chat = tokenizer, template, chat
        named = tokenizer.named_id("eos_token")
        if named is None and not tokenizer.eos_ids:
            raise InvalidRequest(
                "the tokenizer names no end of text: answers would never end",
                param="model",
                hint="add eos_token to tokenizer_config.json",
            )
        self.end = min(tokenizer.eos_ids) if named is None else named

    @classmethod
    def of(cls, model: str | Path, *, chat: bool = False) -> PairEncoder:
        """For a model by name, folder or `hf:owner/name`; an adapter's is its base's."""
        home = locate(model)
        while is_adapter(home) and not (home / "tokenizer.json").is_file():
            home = Adapter.base_of(home)
        return cls(Tokenizer.from_folder(home), ChatTemplate.from_folder(home), chat=chat)

    def __call__(self, pair: Pair) -> EncodedPair:
        """Raises InvalidRequest, naming the row, where prompt and answers do not fit together."""
        try:
            prompt, answers = self._texts(pair)
        except TenfoldError as e:
            raise InvalidRequest(f"row {pair.row}: {e.message}", param="data", hint=e.hint) from e
        # A chat template writes its own beginning of text.
        start = self.tokenizer.encode if self._chats(pair) else self.tokenizer.encode_prompt
        ids = start(prompt)
        if not ids:
            raise InvalidRequest(
                f"row {pair.row}: the prompt has no tokens", param="prompt", hint="write one"
            )
        whole = [start(prompt + a) for a in answers]
        if all(w[: len(ids)] == ids for w in whole):
            rest = [w[len(ids) :] for w in whole]
        else:  # both apart, so that what they share stays shared
            rest = [self._apart(a) for a in answers]
        chosen, rejected = (self._ended(r) for r in rest)
        if chosen == rejected:
            raise InvalidRequest(
                f"row {pair.row}: chosen and rejected are the same tokens",
                param="rejected",
                hint="the tokenizer cannot tell them apart: take the row out",
            )
        return EncodedPair(pair.row, tuple(ids), tuple(chosen), tuple(rejected))

    def _chats(self, pair: Pair) -> bool:
        return self.chat or not isinstance(pair.prompt, str)

    def _texts(self, pair: Pair) -> tuple[str, list[str]]:
        """The prompt's text and what follows it, for each of the answers."""
        if isinstance(pair.prompt, str) and not self.chat:
            return pair.prompt, [str(pair.chosen), str(pair.rejected)]
        if self.template is None:
            raise InvalidRequest(
                "the pair is a chat and the model has no chat template",
                hint="put a chat_template.jinja into the model's folder, or give plain texts",
            )
        said = _messages(pair.prompt, "user")
        prompt, answers = self.template.render(said), []
        for answer in (pair.chosen, pair.rejected):
            chat = [*said, *_messages(answer, "assistant")]
            text = self.template.render(chat, add_generation_prompt=False)
            if not text.startswith(prompt):
                raise InvalidRequest(
                    "the chat template writes the prompt otherwise once there is an answer",
                    hint="correct the template so that an answer only adds to the prompt",
                )
            answers.append(text[len(prompt) :])
        return prompt, answers

    def _apart(self, answer: str) -> list[int]:
        """An answer's own tokens; the line before it keeps pieces from getting a space in front."""
        line = self.tokenizer.encode("\n")
        whole = self.tokenizer.encode("\n" + answer)
        if whole[: len(line)] == line:
            return whole[len(line) :]
        return self.tokenizer.encode(answer)

    def _ended(self, ids: list[int]) -> list[int]:
        for place in range(len(ids) - 1, -1, -1):
            if ids[place] in self.tokenizer.eos_ids:
                # Text behind an end is another turn's, unless it is a template's line feed.
                tail = self.tokenizer.decode(ids[place + 1 :])
                return [*ids, self.end] if tail.strip() else ids[: place + 1]
        return [*ids, self.end]


def _messages(text: Text, role: Literal["user", "assistant"]) -> tuple[Message, ...]:
    return (Message(role, text),) if isinstance(text, str) else text


def encode(pairs: Iterable[Pair], encoder: PairEncoder) -> list[EncodedPair]:
    """Tokens of each pair."""
    return [encoder(pair) for pair in pairs]


def within(
    encoded: Sequence[EncodedPair], limit: int, *, drop: bool = False
) -> tuple[list[EncodedPair], list[int]]:
    """The pairs of at most `limit` tokens, and the rows of the others.

    Raises PromptTooLong unless `drop` says that the others are to be left out.
    """
    kept = [e for e in encoded if e.tokens <= limit]
    over = [e for e in encoded if e.tokens > limit]
    if over and not (drop and kept):
        first, most = over[0], max(e.tokens for e in over)
        raise PromptTooLong(
            f"row {first.row} has {first.tokens} tokens (prompt {len(first.prompt)}, chosen"
            f" {len(first.chosen)}, rejected {len(first.rejected)}) and the limit is {limit};"
            f" {len(over)} of {len(encoded)} rows are longer, the longest {most}",
            param="max_tokens",
            hint="raise max_tokens if the model's context allows, or leave such rows out knowingly"
            " with too_long: drop",
        )
    return kept, [e.row for e in over]


def collate(encoded: Sequence[EncodedPair], pad: int = 0) -> PairBatch:
    """One batch; `pad` fills the rows, and nothing ever looks at it."""
    rows = [(e.prompt, answer) for side in ("chosen", "rejected")
            for e, answer in ((e, getattr(e, side)) for e in encoded)]  # fmt: skip
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.full((len(rows), width), pad)
    attention, counted = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    for place, (prompt, answer) in enumerate(rows):
        whole = len(prompt) + len(answer)
        ids[place, :whole] = torch.tensor([*prompt, *answer])
        attention[place, :whole] = 1
        counted[place, len(prompt) : whole] = True
    return PairBatch(ids, attention, counted, [e.row for e in encoded])


def plan(lengths: Sequence[int], size: int, seed: int) -> list[list[int]]:
    """Batches of places for one epoch: in random order, but rows of like length lie together.

    Rows are shuffled, sorted by length within windows of 16 batches, and the batches shuffled.
    Each place occurs once; the same seed gives the same batches.
    """
    drawn = random.Random(seed)
    order = list(range(len(lengths)))
    drawn.shuffle(order)
    batches = []
    for start in range(0, len(order), size * _WINDOW):
        window = sorted(order[start : start + size * _WINDOW], key=lambda i: lengths[i])
        batches += [window[i : i + size] for i in range(0, len(window), size)]
    drawn.shuffle(batches)
    return batches
