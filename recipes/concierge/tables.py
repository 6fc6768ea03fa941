"""Tables of what the training data consists of, in Markdown."""

from __future__ import annotations

import random
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer

from tenfold.rewards.facts import GUEST, facts_of
from tenfold.types import as_messages

from .batches import encode
from .data import SETS, Corpus, Lesson, draw_episode
from .dialogues import Dialogue
from .episodes import Episode
from .longform_phrases import GENERIC, PLAIN
from .questions import draw, training_values
from .templates import Mined
from .values import hash_bucket

STAGES = (0.0, 0.03, 0.1, 1.0)  # a place in each part of the curriculum
EPISODES, HELD_EPISODES = 1500, 400
Rows = Sequence[Sequence[object]]


def table(heads: Sequence[str], rows: Rows) -> str:
    """Write a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def quantiles(numbers: Sequence[int]) -> list[int]:
    """Return the 10th, 50th and 90th percentile."""
    if len(numbers) < 2:
        return [*numbers] * 3
    cuts = statistics.quantiles(numbers, n=10, method="inclusive")
    return [round(cuts[0]), round(cuts[4]), round(cuts[8])]


def drawn(corpus: Corpus, progress: float, count: int) -> list[Episode]:
    """Draw training conversations of a stage."""
    rng, lesson = random.Random(f"statistics-{progress}"), Lesson.at(progress)
    return [draw_episode(corpus, lesson, rng) for _ in range(count)]


def dialogue_table(corpus: Corpus) -> str:
    """Count the dialogues and turns of each part."""
    rows = []
    for name, dialogues in (
        ("training", corpus.train),
        ("held out, services seen", corpus.seen),
        ("held out, services never seen", corpus.unseen),
    ):
        turns = [turn for d in dialogues for turn in d.turns]
        usable = sum(t.usable for t in turns if t.speaker == "system")
        rows.append((name, len(dialogues), len(turns), usable))
    return table(("part", "dialogues", "turns", "assistant turns that can be learned"), rows)


def services(dialogues: Iterable[Dialogue]) -> set[str]:
    """Return the services that dialogues are about."""
    return {service for dialogue in dialogues for service in dialogue.services}


def template_table(mined: Mined) -> str:
    """Count distinct templates by noun and role, those held out of training after the plus."""
    roles = sorted({key.role for counts in (mined.train, mined.unseen) for key in counts})
    found: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for part, counts in (("", mined.train), (" (unseen)", mined.unseen)):
        for key, texts in counts.items():
            for text in texts:
                held = not part and hash_bucket(text) == 0
                found[f"{key.noun or 'any noun'}{part}", key.role]["held" if held else "all"] += 1
    rows = []
    for noun in sorted({noun for noun, _ in found}, key=lambda n: (n.endswith(")"), n)):
        cells = [found[noun, role] for role in roles]
        rows.append(
            (noun, *(f"{c['all']} + {c['held']}" if c["held"] else c["all"] or "" for c in cells))
        )
    return table(("noun", *roles), rows)


def mixture_table(corpus: Corpus, tokenizer: Tokenizer) -> str:
    """Measure the families of conversations at each stage."""
    rows: list[tuple[object, ...]] = []
    for progress, until in zip(STAGES, ("2 %", "6 %", "15 %", "the end"), strict=True):
        episodes = drawn(corpus, progress, EPISODES // 3)
        lengths = defaultdict(list)
        for episode in episodes:
            lengths[episode.family].append(len(encode(tokenizer, episode).tokens))
        cells = [
            f"{len(n) / len(episodes):.0%}, {statistics.fmean(n):.0f} tokens" if n else ""
            for n in (lengths[family] for family in ("lookup", "human", "long", "general"))
        ]
        mean = statistics.fmean(n for numbers in lengths.values() for n in numbers)
        rows.append((f"until {until}", f"{Lesson.at(progress).repeats:.0%}", *cells, f"{mean:.0f}"))
    heads = ("tokens seen", "repeats", "look-ups", "human", "long", "general", "mean tokens")
    return table(heads, rows)


def lengths_by_kind(episodes: Iterable[Episode], tokenizer: Tokenizer) -> dict[str, list[int]]:
    """Return the lengths of answers in tokens; answers that nothing determines are "free"."""
    found: dict[str, list[int]] = defaultdict(list)
    for episode in episodes:
        for message in episode.messages:
            if message.role == "assistant":
                kind = message.kind or "free"
                kind = f"{kind} (long)" if episode.family == "long" else kind
                found[kind].append(len(tokenizer.encode(message.text).ids))
    return dict(sorted(found.items()))


def size_table(episodes: Sequence[Episode]) -> str:
    """Count records, slots and distractors by family."""
    rows = []
    for family in ("lookup", "human", "long"):
        chosen = [e for e in episodes if e.family == family]
        others = [n for e in chosen for n in distractors(e)]
        records = Counter(min(e.records, 6) for e in chosen)
        spread = ", ".join(f"{n}: {c / len(chosen):.0%}" for n, c in sorted(records.items()))
        slots = statistics.fmean(e.slots for e in chosen)
        hard = sum(n >= 3 for n in others) / max(1, len(others))
        rows.append(
            (family, spread, f"{slots:.1f}", f"{statistics.fmean(others):.1f}", f"{hard:.0%}")
        )
    heads = ("family", "records in the facts", "mean slots", "mean distractors", ">= 3 distractors")
    return table(heads, rows)


def distractors(episode: Episode) -> list[int]:
    """Return, for each value asked for, how many other records hold the same slot."""
    records = facts_of(as_messages(episode.chat()[:1])).records
    held = [{slot for slot, _ in r.fields} for r in records if r.name != GUEST]
    return [
        sum(slot in slots for slots in held) - 1
        for message in episode.messages
        for owner, slot, _ in message.required
        if slot and owner != GUEST and any(slot in slots for slots in held)
    ]


def pool_table(corpus: Corpus) -> str:
    """Count the values of each pool."""
    rows = [
        (name, len(pool), len(corpus.held_pools[name]))
        for name, pool in corpus.pools.items()
        if pool != corpus.held_pools[name]
    ]
    shared = [f"{n} ({len(p)})" for n, p in corpus.pools.items() if p == corpus.held_pools[n]]
    text = table(("pool", "training", "held out"), rows)
    return f"{text}\n\nSmall pools, the same for both: {', '.join(shared)}."


def said(dialogue: Dialogue) -> tuple[str, ...]:
    """Return what is said in a dialogue, without its values."""
    return tuple(re.sub(r"\{\d+\}", "_", turn.text) for turn in dialogue.turns)


def overlap_table(corpus: Corpus, mined: Mined) -> str:
    """Count what of the held-out sets occurs in training."""
    ours = {text for counts in mined.train.values() for text in counts}
    train = {t for t in ours if hash_bucket(t)}
    unseen = {text for counts in mined.unseen.values() for text in counts}
    known = training_values(corpus)
    names = {n: set(p) & set(corpus.held_pools[n]) for n, p in corpus.pools.items()}
    split = [n for n, p in corpus.pools.items() if p != corpus.held_pools[n]]
    texts = set(map(said, corpus.train))  # each split numbers its dialogues anew
    rows: list[tuple[object, ...]] = [
        ("held-out dialogues", len(corpus.seen) + len(corpus.unseen),
         sum(said(d) in texts for d in (*corpus.seen, *corpus.unseen))),
        ("held-out values of pools that were split",
         sum(len(corpus.held_pools[n]) for n in split), sum(len(names[n]) for n in split)),
        ("held-out templates (composed answers)", len(ours - train), len((ours - train) & train)),
        ("templates of services never seen", len(unseen), len(unseen & train)),
    ]  # fmt: skip
    for name in SETS:
        rng = random.Random(f"statistics-{name}")
        values = [
            value.lower()
            for episode in draw(corpus, name, HELD_EPISODES, rng)
            for message in episode.messages
            for _, _, value in message.required
        ]
        rows.append((f"values required by {name}", len(values), sum(v in known for v in values)))
    return table(("what", "number", "also in training"), rows)


def plain_share(episodes: Iterable[Episode]) -> float:
    """Return the share of slots in long answers that are said as the facts say them or in a
    sentence of ours, the rest being said in the words of a human template."""
    forms = [form.split("{w}") for form in (PLAIN, *GENERIC)]
    plain = total = 0
    for episode in episodes:
        for message in episode.messages:
            for owner, words, value in message.required if episode.family == "long" else ():
                if words:
                    total += 1
                    said = (
                        f"{a}{words}{b}".replace("{name}", owner).replace("{v}", value).rstrip(".")
                        for a, b in forms
                    )
                    plain += any(text in message.text for text in said)
    return plain / max(1, total)
