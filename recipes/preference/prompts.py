"""Prompts to sample answers to: three parts that share no dialogue, no large pool's value, no
template.

``guide`` is for what steers answers (reward model, policy), ``judge`` for what only judges them;
both come from the concierge's training split. ``held`` are the concierge's shipped held-out
questions, which no training sees.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from recipes.concierge.data import TEMPLATES, Corpus, Lesson, load_corpus
from recipes.concierge.episodes import Episode, Limits, human_episode
from recipes.concierge.longform import long_episode
from recipes.concierge.lookups import lookup_episode
from recipes.concierge.questions import Candidate, Fit, candidates
from recipes.concierge.templates import Bank, load_templates
from recipes.concierge.values import POOL_SPLIT_SIZE
from tenfold.cli.held_out import HeldOutFile, drawn, read_held_out, shipped

PARTS = ("guide", "judge", "held")
SEEDS = {"guide": 41, "judge": 43}
TRIES = 8
SHARES = {"long": 0.6, "lookup": 0.22, "human": 0.18}
COMPOSED = {"long": 0.2, "lookup": 0.8}  # of prompts that nothing is sampled for
HELD_SETS = {
    "long_seen": 100,
    "long_unseen": 50,
    "lookup_3x4": 40,
    "short_seen": 40,
    "short_unseen": 30,
}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation up to an answer, what that must state, and a right answer."""

    id: str
    family: str
    kind: str
    messages: list[dict[str, str]]
    required: list[tuple[str, str, str]]
    reference: str
    starts: list[tuple[int, int]]


def part_of(text: str) -> str:
    """The training part a dialogue's id, a value or a template belongs to: two of three guide."""
    digest = hashlib.sha256(f"preference:{text.lower()}".encode()).digest()
    return "judge" if digest[0] % 3 == 0 else "guide"


def corpus_of(work: Path, part: str) -> Corpus:
    """The training split of the concierge's corpus, as far as it is of this part.

    Small pools ("Italian", "2") are shared, as training and evaluation of the concierge share them.
    """
    corpus = load_corpus(work)
    mined = load_templates(work / TEMPLATES)
    own = {
        key: Counter({text: n for text, n in texts.items() if part_of(text) == part})
        for key, texts in mined.train.items()
    }
    pools = {
        name: [v for v in pool if part_of(v) == part] if len(pool) >= POOL_SPLIT_SIZE else pool
        for name, pool in corpus.pools.items()
    }
    return dataclasses.replace(
        corpus,
        train=[d for d in corpus.train if part_of(d.id) == part],
        pools=pools,
        banks={"train": Bank(dataclasses.replace(mined, train=own), "train")},
    )


def training_prompts(
    corpus: Corpus, part: str, tokenizer: Tokenizer, shares: Mapping[str, float] = SHARES
) -> Iterator[Prompt]:
    """Endless prompts of a part, always the same ones; one of each conversation."""
    lexicon = set(held_out_questions().lexicon)
    fit = Fit(tokenizer, lexicon, set())
    number = 0
    while True:
        kind = "" if shares is SHARES else "composed-"
        rng = random.Random(f"preference-{kind}{SEEDS[part]}-{number}")
        number += 1
        family = rng.choices(list(shares), list(shares.values()))[0]
        found: list[Candidate] = []
        for _ in range(TRIES):  # in one family, or those that seldom fit would be rare
            episode = _episode(corpus, family, rng)
            found = candidates(episode, fit) if episode else []
            if found:
                break
        if not found:
            continue
        weights = [min(6, len(c.answer.required)) for c in found]
        one = rng.choices(found, weights)[0]
        yield Prompt(
            f"{part}-{number:06d}", family, one.answer.kind, one.chat,
            list(one.answer.required), one.answer.text, list(one.answer.values),
        )  # fmt: skip


def _episode(corpus: Corpus, family: str, rng: random.Random) -> Episode | None:
    if family == "long":
        hard = rng.random() < 0.3
        limits = Limits(4, 5, 4) if hard else Limits(3, 6, 4)
        return long_episode(corpus.banks["train"], corpus.pools, limits, rng)
    if family == "lookup":
        return lookup_episode(corpus.pools, Limits(4, 6, 8), 0.5, rng)
    return human_episode(rng.choice(corpus.train), corpus.pools, Lesson.at(1.0).limits, rng)


def held_out_questions() -> HeldOutFile:
    """The concierge's shipped questions, with the lexicon that lets the verifier doubt words."""
    return read_held_out(shipped("concierge"))


def held_prompts() -> Iterator[Prompt]:
    """Held-out questions by lot, the sets in turns, so that a beginning is a fair sample."""
    asked = held_out_questions()
    columns = [drawn(asked.of(name), count) for name, count in HELD_SETS.items()]
    rounds = max(map(len, columns))
    for i in range(rounds):
        for column in columns:
            if i < len(column):
                q = column[i]
                yield Prompt(
                    q.id, q.set, q.kind,
                    [{"role": m.role, "content": m.content or ""} for m in q.messages],
                    [(r.record, r.slot, r.value) for r in q.required], q.reference,
                    list(q.starts),
                )  # fmt: skip


def as_json(prompt: Prompt) -> dict[str, Any]:
    """A prompt as the files have it."""
    return dataclasses.asdict(prompt)
