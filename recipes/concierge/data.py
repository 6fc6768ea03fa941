"""Prepare the corpus and draw training episodes from it, deterministically by seed and index.

``python -m recipes.concierge.data --out build/concierge`` reads the dialogues below TENFOLD_DATA
once and writes ``corpus.json.gz``; everything after that needs only this file.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
import logging
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .dialogues import (
    DataError,
    Dialogue,
    Record,
    Turn,
    Value,
    collect_pools,
    data_folder,
    keep_required_needs,
    read_dialogues,
)
from .episodes import Episode, Limits, human_episode
from .lookups import general_episode, lookup_episode
from .values import split_pool

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Corpus:
    """Dialogues to train on, two held-out sets, and pools of values for training and evaluation."""

    train: list[Dialogue]
    seen: list[Dialogue]
    unseen: list[Dialogue]
    pools: dict[str, list[str]]
    held_pools: dict[str, list[str]]


def build_corpus() -> Corpus:
    """Read the human dialogues; ``unseen`` dialogues use a service that training never saw."""
    folder = data_folder()
    train = list(read_dialogues(folder, "train"))
    known = {service for dialogue in train for service in dialogue.services}
    held = [*read_dialogues(folder, "dev"), *read_dialogues(folder, "test")]
    keep_required_needs([*train, *held])
    pools = collect_pools(train)
    return Corpus(
        train,
        [d for d in held if set(d.services) <= known],
        [d for d in held if not set(d.services) & known],
        {name: split_pool(pool, held_out=False) for name, pool in pools.items()},
        {name: split_pool(pool, held_out=True) for name, pool in pools.items()},
    )


def save_corpus(corpus: Corpus, path: Path) -> None:
    """Write the corpus as gzipped JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as out:
        json.dump(dataclasses.asdict(corpus), out)


def _pairs(pairs: list[list[Any]]) -> list[tuple[str, Any]]:
    return [(first, second) for first, second in pairs]


def _turn(raw: dict[str, Any]) -> Turn:
    acts = {act: _pairs(pairs) for act, pairs in raw["acts"].items()}
    return Turn(**{**raw, "acts": acts, "needs": _pairs(raw["needs"])})


def _dialogue(raw: dict[str, Any]) -> Dialogue:
    return Dialogue(
        raw["id"],
        raw["services"],
        [_turn(turn) for turn in raw["turns"]],
        [Value(**value) for value in raw["values"]],
        [
            Record(
                r["turn"],
                r["noun"],
                r["name"],
                _pairs(r["fields"]),
                _pairs(r["flags"]),
            )
            for r in raw["records"]
        ],
    )


def load_corpus(path: Path) -> Corpus:
    """Read a corpus written by ``save_corpus``; raise DataError where there is none."""
    if not path.is_file():
        raise DataError(
            f"{path} does not exist: run python -m recipes.concierge.data --out {path.parent}"
        )
    with gzip.open(path, "rt", encoding="utf-8") as source:
        raw = json.load(source)
    parts = {part: [_dialogue(d) for d in raw[part]] for part in ("train", "seen", "unseen")}
    return Corpus(**parts, pools=raw["pools"], held_pools=raw["held_pools"])


@dataclass(frozen=True, slots=True)
class Lesson:
    """The mixture at one point of the curriculum: shares of the families and the limits of each."""

    repeats: float
    human: float
    general: float
    composed: float
    limits: Limits


def lesson_at(progress: float) -> Lesson:
    """Return the mixture at ``progress`` in [0, 1]: look-up first, few records, then all."""
    if progress < 0.06:
        return Lesson(0.15, 0.0, 0.0, 0.0, Limits(1, 3, 10))
    if progress < 0.14:
        return Lesson(0.05, 0.1, 0.0, 0.05, Limits(1, 5, 10))
    if progress < 0.3:
        return Lesson(0.0, 0.2, 0.02, 0.1, Limits(2, 3, 10))
    if progress < 0.52:
        return Lesson(0.0, 0.3, 0.04, 0.15, Limits(3, 4, 10))
    if progress < 0.68:
        return Lesson(0.03, 0.35, 0.05, 0.2, Limits(3, 5, 10))
    return Lesson(0.03, 0.45, 0.05, 0.2, Limits(4, 6, 10))


def draw_episode(corpus: Corpus, lesson: Lesson, rng: random.Random) -> Episode:
    """Draw one training episode other than a repeat (those are made of tokens, see batches.py)."""
    draw = rng.random()
    if draw < lesson.general:
        return general_episode(corpus.pools, rng)
    if draw < lesson.general + lesson.human:
        for _ in range(20):
            episode = human_episode(rng.choice(corpus.train), corpus.pools, lesson.limits, rng)
            if episode is not None:
                return episode
    return lookup_episode(corpus.pools, lesson.limits, lesson.composed, rng)


def held_out_episodes(
    corpus: Corpus, family: str, count: int, seed: int, records: int = 3
) -> list[Episode]:
    """Return held-out episodes: human ``seen``, ``unseen``, or ``lookup`` with held-out values."""
    rng = random.Random(f"{family}-{seed}-{records}")
    episodes: list[Episode] = []
    while len(episodes) < count:
        if family == "lookup":
            episodes.append(lookup_episode(corpus.held_pools, Limits(records, 5, 8), 0.2, rng))
            continue
        dialogue = rng.choice(corpus.seen if family == "seen" else corpus.unseen)
        episode = human_episode(dialogue, corpus.held_pools, Limits(records, 5, 8), rng)
        if episode is not None and any(m.values for m in episode.messages):
            episodes.append(episode)
    return episodes


def main() -> int:
    """Build the corpus and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for corpus.json.gz")
    out = parser.parse_args().out
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        corpus = build_corpus()
    except DataError as error:
        log.error("%s", error)
        return 2
    save_corpus(corpus, out / "corpus.json.gz")
    log.info(
        "train %d, seen %d, unseen %d dialogues",
        len(corpus.train),
        len(corpus.seen),
        len(corpus.unseen),
    )
    log.info("unseen services: %s", sorted({s for d in corpus.unseen for s in d.services}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
