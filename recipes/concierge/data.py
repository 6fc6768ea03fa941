"""Prepare the corpus and draw training episodes from it, deterministically by seed and index.

``python -m recipes.concierge.data --out build/concierge`` reads the dialogues below TENFOLD_DATA
once and writes ``corpus.json.gz`` and ``templates.json.gz``; everything after needs only these.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .datafiles import DataError, data_folder, read_prepared, verify, write_prepared
from .dialogues import (
    Dialogue,
    Record,
    Turn,
    Value,
    collect_pools,
    keep_required_needs,
    read_dialogues,
)
from .episodes import Episode, Limits, human_episode
from .longform import long_episode
from .lookups import general_episode, lookup_episode
from .templates import (
    Bank,
    held_turns,
    intents_of,
    load_templates,
    mine,
    read_splits,
    report,
    save_templates,
)
from .values import POOL_SPLIT_SIZE, split_pool

log = logging.getLogger(__name__)
CORPUS, TEMPLATES = "corpus.json.gz", "templates.json.gz"


@dataclass(slots=True)
class Corpus:
    """Dialogues to train on, two held-out sets, and pools of values for training and evaluation."""

    train: list[Dialogue]
    seen: list[Dialogue]
    unseen: list[Dialogue]
    pools: dict[str, list[str]]
    held_pools: dict[str, list[str]]
    banks: dict[str, Bank] = field(default_factory=dict)


def build_corpus(splits: dict[str, list[dict[str, Any]]]) -> Corpus:
    """Read the human dialogues; ``unseen`` dialogues use a service that training never saw."""
    folder = data_folder()
    train = list(read_dialogues(folder, "train"))
    keep_templates_out(train, splits)
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


def keep_templates_out(train: list[Dialogue], splits: dict[str, list[dict[str, Any]]]) -> None:
    """Make unusable what assistants of ``train`` say as a template that is kept for evaluation."""
    intents = intents_of(splits)
    raws = {raw["id"]: raw for raw in splits["train"]}
    for dialogue in train:
        for position in held_turns(raws[dialogue.id], intents):
            if dialogue.turns[position].speaker == "system":
                dialogue.turns[position].usable = False


def save_corpus(corpus: Corpus, path: Path) -> None:
    """Write the corpus as gzipped JSON."""
    write_prepared(dataclasses.asdict(dataclasses.replace(corpus, banks={})), path)


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


def load_corpus(work: Path) -> Corpus:
    """Read the corpus and the templates of a work folder; raise DataError where one is missing."""
    raw = read_prepared(work / CORPUS)
    parts = {part: [_dialogue(d) for d in raw[part]] for part in ("train", "seen", "unseen")}
    mined = load_templates(work / TEMPLATES)
    banks = {part: Bank(mined, part) for part in ("train", "held", "unseen")}
    return Corpus(**parts, pools=raw["pools"], held_pools=raw["held_pools"], banks=banks)


@dataclass(frozen=True, slots=True)
class Lesson:
    """The mixture at one point of the curriculum: shares of the families and the limits of each.

    What is left is for look-ups, ``composed`` of which ask for more than a value or two.
    """

    repeats: float
    human: float
    long: float
    general: float
    composed: float
    limits: Limits

    @classmethod
    def at(cls, progress: float) -> Lesson:
        """Return the mixture at ``progress`` in [0, 1]: look-up first, few records, then all."""
        if progress < 0.02:
            return cls(0.1, 0.0, 0.0, 0.0, 0.05, Limits(1, 4, 10))
        if progress < 0.06:
            return cls(0.03, 0.2, 0.1, 0.02, 0.1, Limits(2, 4, 10))
        if progress < 0.15:
            return cls(0.02, 0.3, 0.2, 0.03, 0.25, Limits(3, 5, 10))
        return cls(0.02, 0.4, 0.32, 0.03, 0.4, Limits(4, 6, 10))


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
    if draw < lesson.general + lesson.human + lesson.long:
        limits = lesson.limits
        hard = rng.random() < 0.3  # five records take room: fewer answers then
        fit = Limits(limits.records if hard else min(3, limits.records), limits.fields, 4)
        return long_episode(corpus.banks["train"], corpus.pools, fit, rng)
    return lookup_episode(corpus.pools, lesson.limits, lesson.composed, rng)


SETS = ("lookup", "short_seen", "short_unseen", "long_seen", "long_unseen")


def enlarged(corpus: Corpus) -> dict[str, list[str]]:
    """Return the held-out pools, small ones repeated: dialogues keep the values of small pools,
    and the tenth that is held out of a large one must not pass for small."""
    return {
        name: pool * (POOL_SPLIT_SIZE // len(pool) + 1)
        if pool and len(pool) < POOL_SPLIT_SIZE and pool != corpus.pools[name]
        else pool
        for name, pool in corpus.held_pools.items()
    }


def held_out_episode(corpus: Corpus, name: str, rng: random.Random) -> Episode | None:
    """Return a held-out episode of a set of SETS, with held-out values; None where it is unfit.

    ``lookup`` has three records of four slots, ``short`` sets are human dialogues, ``long`` ones
    are composed from held-out templates; ``unseen`` means services that training never saw.
    """
    if name == "lookup":
        return lookup_episode(corpus.held_pools, Limits(3, 4, 8), 0.2, rng, exact=True)
    if name.startswith("long"):
        bank = corpus.banks["unseen" if name == "long_unseen" else "held"]
        limits = Limits(4, 5, 4) if rng.random() < 0.3 else Limits(3, 6, 4)
        return long_episode(bank, corpus.held_pools, limits, rng)
    dialogue = rng.choice(corpus.seen if name == "short_seen" else corpus.unseen)
    episode = human_episode(dialogue, enlarged(corpus), Limits(3, 5, 8), rng)
    return episode if episode and any(m.values for m in episode.messages) else None


def held_out_episodes(corpus: Corpus, name: str, count: int, rng: random.Random) -> list[Episode]:
    """Return ``count`` held-out episodes of a set."""
    episodes: list[Episode] = []
    while len(episodes) < count:
        episode = held_out_episode(corpus, name, rng)
        if episode is not None:
            episodes.append(episode)
    return episodes


def main() -> int:
    """Prepare the corpus and the templates, and say what is in them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for corpus and templates")
    parser.add_argument(
        "--allow-other-data", action="store_true", help="go on with other dialogues knowingly"
    )
    options = parser.parse_args()
    out: Path = options.out
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if not options.allow_other_data:
            verify(data_folder())
        splits = read_splits()
        corpus, mined = build_corpus(splits), mine(splits)
    except DataError as error:
        log.error("%s", error)
        return 2
    save_corpus(corpus, out / CORPUS)
    save_templates(mined, out / TEMPLATES)
    log.info(
        "train %d, seen %d, unseen %d dialogues",
        len(corpus.train),
        len(corpus.seen),
        len(corpus.unseen),
    )
    log.info("unseen services: %s", sorted({s for d in corpus.unseen for s in d.services}))
    report(mined)
    return 0


if __name__ == "__main__":
    sys.exit(main())
