"""Write the held-out questions that are shipped with the model, and what simpler methods answer.

``python -m recipes.concierge.questions --work build/concierge --out FOLDER`` writes
``questions.jsonl.gz``, the same bytes for the same data and seed. ``tenfold eval concierge`` and
``tenfold bench concierge`` read it, and nothing else, so they need no training data.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
import logging
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tenfold.cli.held_out import FILE
from tenfold.errors import InvalidRequest
from tenfold.rewards.facts import GUEST, Facts, Requirement, facts_of
from tenfold.rewards.verifier import FactsVerifier
from tenfold.types import as_messages

from .baselines import EPISODES, Baselines, draw_examples
from .checkpoint import load_tokenizer
from .data import TEMPLATES, Corpus, DataError, Lesson, draw_episode, held_out_episode, load_corpus
from .dialogues import Dialogue
from .episodes import Episode, Message
from .lexicon import lexicon
from .schemas import LONG_SCHEMAS, UNSEEN_SCHEMAS
from .templates import load_templates
from .tokenizer import MAX_POSITIONS
from .values import POOL_SPLIT_SIZE

log = logging.getLogger(__name__)
SEED = 29
PER_SET = 150
ROOM = 300  # tokens kept free for the answer
DRAWS = 6  # conversations looked at for each question that is kept
HARD_SHARE = 0.4  # of the long sets
# name in the file -> (set of data.SETS, shares of the kinds of answers)
SETS: dict[str, tuple[str, dict[str, float]]] = {
    "short_seen": ("short_seen", {"offer": 0.34, "inform": 0.33, "confirm": 0.33}),
    "short_unseen": ("short_unseen", {"offer": 0.34, "inform": 0.33, "confirm": 0.33}),
    "long_seen": (
        "long_seen",
        {"options": 0.28, "compare": 0.24, "multi": 0.16, "recap": 0.16, "itinerary": 0.16},
    ),
    "long_unseen": (
        "long_unseen",
        {"options": 0.28, "compare": 0.24, "multi": 0.16, "recap": 0.16, "itinerary": 0.16},
    ),
    "lookup_3x4": (
        "lookup",
        {"value": 0.4, "two": 0.12, "reverse": 0.12, "list": 0.12, "recap": 0.12, "compare": 0.12},
    ),
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A held-out conversation up to an answer, with the answer; ``noun`` is what it is about."""

    chat: list[dict[str, str]]
    answer: Message
    noun: str
    hard: bool


def is_hard(facts: Facts, required: Sequence[tuple[str, str, str]]) -> bool:
    """Tell whether there are five records, or three besides those asked about that hold a slot
    which is asked for."""
    records = [r for r in facts.records if r.name != GUEST]
    asked = {name for name, _, _ in required}
    slots = {slot for _, slot, _ in required if slot}
    others = [r for r in records if r.name not in asked and slots & {s for s, _ in r.fields}]
    return len(records) >= 5 or len(others) >= 3


def training_values(corpus: Corpus) -> set[str]:
    """Return, in lower case, the values of pools that were split, as far as only training has them.

    Small categories ("Italian") are the same everywhere.
    """
    split = [n for n, pool in corpus.pools.items() if pool != corpus.held_pools[n]]
    values = {v.lower() for n in split for v in corpus.pools[n]}
    schemas = (*LONG_SCHEMAS.values(), *UNSEEN_SCHEMAS.values())
    shared = {v.lower() for schema in schemas for slot in schema.slots for v in slot.choices}
    return values - shared - {v.lower() for pool in corpus.held_pools.values() for v in pool}


def about_noun(facts: Facts, required: Sequence[tuple[str, str, str]]) -> str:
    """Return the noun of the first record that is asked about, or of the first one."""
    nouns = {r.name: r.noun for r in facts.records if r.name != GUEST}
    return next((nouns[n] for n, _, _ in required if n in nouns), next(iter(nouns.values()), ""))


def candidates(
    episode: Episode, fits: Callable[[Sequence[Mapping[str, str]], Message], bool]
) -> list[Candidate]:
    """Return the answers of an episode that its conversation determines and that ``fits`` takes."""
    chat, found = episode.chat(), []
    for position, message in enumerate(episode.messages):
        if message.role == "assistant" and message.kind and message.required:
            before = chat[:position]
            if fits(before, message):
                facts = facts_of(as_messages(before))
                noun = about_noun(facts, message.required)
                found.append(Candidate(before, message, noun, is_hard(facts, message.required)))
    return found


class Fit:
    """What a question must be like; counts why others are not."""

    def __init__(self, tokenizer: Tokenizer, words: set[str], known: set[str]) -> None:
        self.tokenizer, self.words, self.known = tokenizer, words, known
        self.refused: Counter[str] = Counter()

    def __call__(self, chat: Sequence[Mapping[str, str]], answer: Message) -> bool:
        """Tell whether the true answer is judged free of errors, there is room for one, and no
        value of training occurs."""
        why = self._why_not(chat, answer)
        self.refused[why] += 1
        return not why

    def _why_not(self, chat: Sequence[Mapping[str, str]], answer: Message) -> str:
        values = {value.lower() for _, _, value in answer.required}
        if values & self.known:
            return "a value of training"
        tokens = sum(len(self.tokenizer.encode(m["content"]).ids) + 2 for m in chat) + 2
        if tokens > MAX_POSITIONS - ROOM or len(self.tokenizer.encode(answer.text).ids) > ROOM:
            return "too long"
        required = [Requirement(*r) for r in answer.required]
        messages = as_messages(list(chat))
        try:
            if not FactsVerifier(messages, required, self.words).check(answer.text).slot_errors:
                return ""
            known = FactsVerifier(messages, required).check(answer.text).slot_errors
        except InvalidRequest:
            return "no facts"
        return "the reference errs" if known else "a rare word"


def draw(corpus: Corpus, name: str, count: int, rng: random.Random) -> Iterator[Episode]:
    """Yield up to ``count`` held-out episodes; no dialogue of people gives two."""
    if not name.startswith("short"):
        for _ in range(count):
            episode = held_out_episode(corpus, name, rng)
            if episode is not None:
                yield episode
        return
    dialogues: list[Dialogue] = list(corpus.seen if name == "short_seen" else corpus.unseen)
    rng.shuffle(dialogues)
    for dialogue in dialogues[:count]:
        alone = dataclasses.replace(corpus, seen=[dialogue], unseen=[dialogue])
        episode = held_out_episode(alone, name, rng)
        if episode is not None:
            yield episode


def choose(
    episodes: Sequence[list[Candidate]], count: int, shares: Mapping[str, float], hard: float
) -> list[Candidate]:
    """Choose at most one answer of each episode: kinds by their shares, then nouns evenly, and of
    each kind at least ``hard`` in the hard setting."""
    chosen: list[Candidate] = []
    used: set[int] = set()
    nouns: Counter[str] = Counter()

    def take(kind: str, most: int, fits: Callable[[Candidate], bool]) -> None:
        offered: dict[str, list[tuple[int, Candidate]]] = defaultdict(list)
        for number, found in enumerate(episodes):
            first = next((c for c in found if c.answer.kind == kind and fits(c)), None)
            if first is not None and number not in used:
                offered[first.noun].append((number, first))
        for _ in range(most):
            left = [noun for noun, rows in offered.items() if rows]
            if not left:
                return
            noun = min(left, key=lambda n: (nouns[n], n))
            number, candidate = offered[noun].pop(0)
            used.add(number)
            nouns[noun] += 1
            chosen.append(candidate)

    # Rare kinds first: an episode that has several kinds is kept for them.
    for kind in sorted(shares, key=lambda k: sum(c.answer.kind == k for e in episodes for c in e)):
        before, most = len(chosen), round(shares[kind] * count)
        take(kind, round(most * hard), lambda c: c.hard)
        take(kind, most - (len(chosen) - before), lambda c: True)
    for kind in shares:  # where one kind has too few, the others fill up
        take(kind, count - len(chosen), lambda c: True)
    return chosen[:count]


def question(
    number: int, name: str, candidate: Candidate, answers: Mapping[str, str]
) -> dict[str, Any]:
    """Return a question as the file has it."""
    return {
        "id": f"{name}-{number:03d}",
        "set": name,
        "kind": candidate.answer.kind,
        "messages": candidate.chat,
        "required": [list(r) for r in candidate.answer.required],
        "reference": candidate.answer.text,
        "starts": [list(span) for span in candidate.answer.values],
        "baselines": dict(answers),
    }


def dictionary(corpus: Corpus, templates: Path) -> set[str]:
    """Return the lexicon of a corpus and its templates."""
    mined = load_templates(templates)
    rng, lesson = random.Random("lexicon"), Lesson.at(1.0)
    episodes = (draw_episode(corpus, lesson, rng) for _ in range(3000))
    texts = [t for counts in (mined.train, mined.unseen) for key in counts.values() for t in key]
    composed = [e for e in episodes if e.family != "human"]
    return lexicon([*corpus.train, *corpus.seen, *corpus.unseen], texts, composed)


def questions(
    corpus: Corpus, tokenizer: Tokenizer, words: set[str], baselines: Baselines,
    per_set: int = PER_SET, seed: int = SEED,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:  # fmt: skip
    """Return the questions of all sets, and counts of what was drawn and refused."""
    found, drawn = [], {}
    for name, (source, shares) in SETS.items():
        rng = random.Random(f"questions-{seed}-{name}")
        fit = Fit(tokenizer, words, training_values(corpus))
        episodes = [candidates(e, fit) for e in draw(corpus, source, DRAWS * per_set, rng)]
        chosen = choose(episodes, per_set, shares, HARD_SHARE if name.startswith("long") else 0.0)
        rng.shuffle(chosen)
        found += [
            question(number, name, one, baselines.answers(one.chat))
            for number, one in enumerate(chosen)
        ]
        drawn[name] = {
            "questions": len(chosen),
            "kinds": dict(sorted(Counter(c.answer.kind for c in chosen).items())),
            "nouns": dict(sorted(Counter(c.noun for c in chosen).items())),
            "hard": sum(c.hard for c in chosen),
            "required": sum(len(c.answer.required) for c in chosen),
            "answers_looked_at": fit.refused.total(),
            "refused": {why: n for why, n in sorted(fit.refused.items()) if why},
        }
        log.info("%s: %s", name, drawn[name])
    return found, drawn


def about(corpus: Corpus, drawn: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Say what the file is and where it comes from."""
    train = {service for dialogue in corpus.train for service in dialogue.services}
    unseen = {service for dialogue in corpus.unseen for service in dialogue.services}
    return {
        "what": "Held-out questions of tenfold's concierge: conversations up to an answer, what it "
        "must state, a true answer, and what simpler methods answer.",
        "source": "Schema-Guided Dialogue dataset, google-research-datasets, CC BY-SA 4.0; values "
        "replaced; long and lookup sets composed from its values and templates",
        "licence": "CC BY-SA 4.0",
        "drawn": f"recipes/concierge/questions.py, seed {seed}; {DRAWS} conversations looked at "
        "for each question kept; kept are those whose true answer the verifier finds free of "
        "errors, at most one of a conversation, kinds by fixed shares, nouns evenly",
        "held_out": "Dialogues and values of pools of at least "
        f"{POOL_SPLIT_SIZE} were kept from training, and templates from its composed answers "
        "and its human turns; 'unseen' sets are about services that training never saw.",
        "unseen_services": sorted(unseen - train),
        "hard": "five records, or three besides those asked about that hold a slot asked for",
        "baselines": "nearest: the most alike training answer with the values replaced; ngram: a "
        f"4-gram model of training answers; both from {EPISODES} training conversations",
        "lexicon": "words that assistants of the dataset say at least three times, and those of "
        "composed answers, without words that are mostly values",
        "sets": dict(drawn),
    }


def write(path: Path, head: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the file, the same bytes for the same content."""
    lines = (json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in (head, *rows))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode(), 9, mtime=0))


def main() -> int:
    """Write the file and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="the model's folder")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        corpus = load_corpus(options.work)
        tokenizer = load_tokenizer(options.work / "tokenizer")
    except DataError as error:
        log.error("%s", error)
        return 2
    words = dictionary(corpus, options.work / TEMPLATES)
    baselines = Baselines(draw_examples(corpus, options.seed))
    found, drawn = questions(corpus, tokenizer, words, baselines, seed=options.seed)
    head = {"about": about(corpus, drawn, options.seed), "lexicon": " ".join(sorted(words))}
    write(options.out / FILE, head, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
