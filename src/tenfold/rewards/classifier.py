"""A classifier folder as a reward: a model with one score at the last token of an answer.

The usual reward model of RLHF (2203.02155, §3.5; in transformers a `...ForSequenceClassification`
with one label), whole or as an adapter on a base. The prompt is read once a session, and of an
answer that has grown since the last look only the new tokens.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tenfold.engine.async_engine import in_passing_thread
from tenfold.errors import InvalidRequest, PromptTooLong
from tenfold.models.loading import LoadedModel, load_model
from tenfold.models.reference import PIECE, DenseCache, dense_attention, read
from tenfold.models.stepwise import Steps, stepwise
from tenfold.rewards.base import Answer, RewardPrompt, RewardSession
from tenfold.types import Message

_SUMMARY = "a classifier's score at the last token"
_MARK = "\ufffcanswer\ufffc"  # stands for an answer where the template is asked what follows one


class ClassifierReward:
    """Scores answers with a classifier of one label. Partial answers are scored as they stand.

    `load` is called when the first session opens. It computes in float32 unless the model was
    loaded otherwise.
    """

    partial_ok = True

    def __init__(self, name: str, load: Callable[[], LoadedModel], summary: str = _SUMMARY) -> None:
        self.name = name
        self.summary = summary
        self._load = load
        self._model: LoadedModel | None = None
        self._ending: tuple[int, ...] = ()
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"tenfold-{name}")

    @classmethod
    def of(cls, folder: str | Path, name: str = "", summary: str = _SUMMARY) -> ClassifierReward:
        """The reward of an embedded name, a folder or `hf:owner/name`; read on first use."""
        return cls(
            name or str(folder),
            lambda: in_passing_thread(lambda: load_model(folder, dtype=torch.float32)),
            summary,
        )

    def model(self) -> LoadedModel:
        """The classifier. Raises InvalidRequest for a model that scores nothing, CheckpointError or
        UnknownName for one that cannot be loaded, TemplateError for one without a chat template."""
        with self._lock:
            if self._model is None:
                model = self._load()
                _check(self.name, model)
                self._ending = _ending(model)
                self._model = model
        return self._model

    def open(self, prompt: RewardPrompt) -> RewardSession:
        """A session for one conversation. Raises InvalidRequest for a prompt that is no chat,
        PromptTooLong for one that leaves no room for an answer, and what `model` raises."""
        model = self.model()
        if not prompt.messages:
            raise InvalidRequest(
                f"reward {self.name!r} reads conversations; this prompt is plain text",
                param="messages",
                hint="ask with messages, or choose a reward that reads text, such as logprob",
            )
        ids = model.tokenizer.encode(model.require_chat_template().render(prompt.messages))
        room = model.spec.max_positions
        if len(ids) >= room:
            raise PromptTooLong(
                f"the prompt has {len(ids)} tokens; reward {self.name!r} reads {room} with the "
                "answer",
                param="messages",
                hint="shorten the conversation",
            )
        same = tuple(ids) == tuple(prompt.prompt_ids)
        return _Session(self.name, model, self._executor, tuple(ids), self._ending, same)


def _check(name: str, model: LoadedModel) -> None:
    labels = model.spec.num_labels
    if labels == 1:
        model.require_chat_template()
        return
    if labels:
        what, hint = f"has {labels} labels", "a reward has one: its score"
    else:
        what = "has no classification head (score.weight)"
        hint = (
            "give a ...ForSequenceClassification folder or an adapter of one; how likely a language"
            " model finds an answer is the reward logprob"
        )
    raise InvalidRequest(f"reward {name!r}: the model {what}", param="decode.reward", hint=hint)


def _ending(model: LoadedModel) -> tuple[int, ...]:
    """The tokens that the chat template writes after a whole answer."""
    chat = [Message("user", "a"), Message("assistant", _MARK)]
    text = model.require_chat_template().render(chat, add_generation_prompt=False)
    return tuple(model.tokenizer.encode(text.partition(_MARK)[2]))


@dataclass(frozen=True, slots=True)
class _Kept:
    """What was computed of one answer: keys and values by layer, [tokens, kv_heads, head_dim]."""

    ids: tuple[int, ...]
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


class _Grown:
    """An `Attend` for several answers at once, all behind the same prompt.

    `sizes` are the new tokens of each; `kept` what is known of those before them.
    """

    def __init__(
        self, prompt: DenseCache, kept: Sequence[_Kept | None], sizes: Sequence[int]
    ) -> None:
        self._prompt, self._kept, self._sizes = prompt, kept, sizes
        self.keys: list[list[Tensor]] = [[] for _ in sizes]  # by answer, then layer
        self.values: list[list[Tensor]] = [[] for _ in sizes]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of one layer; shapes as in `decoder.Attend`."""
        spec, begun = self._prompt.spec, self._prompt.layer(layer)
        out = []
        parts = zip(*(torch.split(x, list(self._sizes)) for x in (q, k, v)), strict=True)
        for i, (new_q, new_k, new_v) in enumerate(parts):
            old = self._kept[i]
            keys = new_k if old is None else torch.cat((old.keys[layer], new_k))
            values = new_v if old is None else torch.cat((old.values[layer], new_v))
            self.keys[i].append(keys)
            self.values[i].append(values)
            keys, values = torch.cat((begun[0], keys)), torch.cat((begun[1], values))
            past = len(keys) - len(new_k)
            scale, window = spec.attention_scale, spec.window(layer)
            out.append(dense_attention(new_q, keys, values, scale=scale, window=window, past=past))
        return torch.cat(out)


class _Session:
    def __init__(
        self, name: str, model: LoadedModel, executor: Executor, prompt_ids: tuple[int, ...],
        ending: tuple[int, ...], same_tokens: bool,
    ) -> None:  # fmt: skip
        self._name, self._model, self._executor = name, model, executor
        self._prompt_ids, self._ending, self._same = prompt_ids, ending, same_tokens
        self._prompt: DenseCache | None = None
        self._kept: dict[tuple[int, ...], _Kept] = {}  # of the answers that were scored last
        self.tokens = 0

    async def score(self, answers: Sequence[Answer]) -> list[float]:
        read_as = [self._tokens(a) for a in answers]
        return await stepwise(self._executor, self._scores(read_as))

    async def close(self) -> None:
        self._prompt = None
        self._kept = {}

    def _tokens(self, answer: Answer) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(tokens of what is said, tokens that end it). Raises PromptTooLong."""
        eos = self._model.tokenizer.eos_ids
        if self._same and answer.token_ids:
            ids = tuple(answer.token_ids)
            while ids and ids[-1] in eos:
                ids = ids[:-1]
        else:
            ids = tuple(self._model.tokenizer.encode(answer.text))
        ending = self._ending if answer.finished else ()
        size, room = len(self._prompt_ids) + len(ids) + len(ending), self._model.spec.max_positions
        if size > room:
            raise PromptTooLong(
                f"prompt and answer have {size} tokens; reward {self._name!r} reads {room}",
                param="messages",
                hint="allow fewer tokens, or shorten the conversation",
            )
        return ids, ending

    def _scores(
        self, answers: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]
    ) -> Steps[list[float]]:
        if self._prompt is None:
            self._prompt = DenseCache(self._model.spec)
            # All but the last token, which nothing said is scored by.
            for _ in read(self._model.decoder, self._prompt_ids[:-1], self._prompt):
                yield
            self.tokens += len(self._prompt_ids) - 1
        found: list[float] = []
        kept: dict[tuple[int, ...], _Kept] = {}
        while len(found) < len(answers):
            count, size = 0, 0
            known: list[_Kept | None] = []
            for ids, ending in answers[len(found) :]:
                old = self._longest(ids)
                fresh = len(ids) - len(old.ids if old else ()) + len(ending) + 1
                if count and size + fresh > 2 * PIECE:
                    break
                known.append(old)
                count, size = count + 1, size + fresh
            some = answers[len(found) : len(found) + count]
            scores, computed = self._read(some, known)
            found += scores
            kept |= {one.ids: one for one in computed}
            yield
        self._kept = kept
        return found

    def _longest(self, ids: tuple[int, ...]) -> _Kept | None:
        """What is known of the longest beginning of an answer."""
        sizes = sorted({len(known) for known in self._kept if known}, reverse=True)
        return next((self._kept[ids[:n]] for n in sizes if ids[:n] in self._kept), None)

    def _read(
        self, answers: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
        known: Sequence[_Kept | None],
    ) -> tuple[list[float], list[_Kept]]:  # fmt: skip
        """Scores of some answers, of which the new tokens are read in one pass."""
        decoder, begin = self._model.decoder, len(self._prompt_ids) - 1
        rows: list[list[int]] = []
        places: list[int] = []
        before: list[_Kept | None] = []
        for (ids, ending), old in zip(answers, known, strict=True):
            line = (self._prompt_ids[-1], *ids)  # what is kept begins with the prompt's last token
            done = min(len(old.keys[0]), len(line) - 1) if old else 0  # the last is read again
            rows.append([*line[done:], *ending])
            places += range(begin + done, begin + len(line) + len(ending))
            before.append(_cut(old, done) if old and done else None)
        assert self._prompt is not None
        grown = _Grown(self._prompt, before, [len(row) for row in rows])
        device = decoder.device
        flat = torch.tensor([i for row in rows for i in row], device=device)
        hidden = decoder.forward(flat, torch.tensor(places, device=device), grown)
        self.tokens += len(flat)
        ends = torch.tensor([len(row) for row in rows], device=device).cumsum(0) - 1
        scores: list[float] = decoder.classify(hidden[ends])[:, 0].tolist()
        computed = [
            _cut(_Kept(ids, tuple(keys), tuple(values)), 1 + len(ids))
            for (ids, _), keys, values in zip(answers, grown.keys, grown.values, strict=True)
        ]
        return scores, computed


def _cut(kept: _Kept, tokens: int) -> _Kept:
    """The first tokens of what was computed."""
    if len(kept.keys[0]) == tokens:
        return kept
    keys, values = (tuple(t[:tokens] for t in side) for side in (kept.keys, kept.values))
    return _Kept(kept.ids, keys, values)
