"""Answers of simpler methods: what the model must beat.

``nearest`` gives the answer of the training conversation that is most like the question, with its
values replaced; ``ngram`` lets a 4-gram model of such answers without values write one.
"""

from __future__ import annotations

import itertools
import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .data import Corpus, Lesson, draw_episode
from .delexical import Part, Place, Prompt, delexicalise, fill
from .episodes import Episode

EPISODES = 6000
TRIED = 20  # neighbours among which the first is taken whose values are all there
ORDER = 4
LONGEST = 200  # tokens of an n-gram answer
WEIGHTS = {"request": 1.0, "slots": 3.0, "facts": 0.3, "rules": 1.2, "count": 1.0}
START, END = "<start>", "<end>"
_WORDS = re.compile(r"[a-z']+|\?")
_TOKENS = re.compile(r"\s?[\w'-]+|\s?[^\w\s]|\s")


@dataclass(frozen=True, slots=True)
class Example:
    """A training answer without its values, and what its conversation looked like."""

    features: Mapping[str, float]
    about: str  # the kind of answer and the noun
    parts: tuple[Part, ...]


def examples_of(episodes: Iterable[Episode]) -> list[Example]:
    """Return every answer that the conversation before it determines."""
    found = []
    for episode in episodes:
        chat = episode.chat()
        for position, message in enumerate(episode.messages):
            if message.role == "assistant" and message.kind and message.required:
                prompt = Prompt.of(chat[:position])
                parts = delexicalise(message.text, message.values, message.required, prompt)
                noun = prompt.records[0].noun if prompt.records else ""
                about = f"{message.kind} {noun}"
                found.append(Example(features(prompt), about, tuple(parts)))
    return found


def draw_examples(corpus: Corpus, seed: int, episodes: int = EPISODES) -> list[Example]:
    """Draw training conversations as the last stage of the curriculum does."""
    rng, lesson = random.Random(f"baselines-{seed}"), Lesson.at(1.0)
    return examples_of(draw_episode(corpus, lesson, rng) for _ in range(episodes))


def features(prompt: Prompt) -> dict[str, float]:
    """Return weighted words of the last request, and the slots and nouns of facts and rules."""
    request = prompt.request
    known = {r.name for r in prompt.facts.records}
    slots = sorted({slot for r in prompt.facts.records for slot, _ in r.fields})
    values = {v for r in prompt.facts.records for _, v in r.fields}
    for value in sorted(known | values, key=lambda v: (-len(v), v)):
        mark = " _name_ " if value in known else " _value_ "
        request = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", mark, request, flags=re.IGNORECASE)
    words = ["^", *re.findall(r"_\w+_|[a-z']+|\?|\d", request.lower())]
    found: dict[str, float] = {}
    for word in [*words, *map(" ".join, itertools.pairwise(words))]:
        found[f"r {word}"] = WEIGHTS["request"]
    lower = prompt.request.lower()
    for slot in slots:
        if re.search(rf"\b{re.escape(slot)}", lower):
            found[f"s {slot}"] = WEIGHTS["slots"]
    for record in prompt.facts.records:
        found[f"n {record.noun}"] = WEIGHTS["facts"]
        found |= {f"f {record.noun} {slot}": WEIGHTS["facts"] for slot, _ in record.fields}
    for line in prompt.facts.instructions:
        for rule in re.split(r"(?<=\.)\s+", line):
            found[f"i {rule}"] = WEIGHTS["rules"]
            found |= {f"i {word}": WEIGHTS["rules"] for word in _WORDS.findall(rule.lower())}
    found[f"c {min(prompt.asked_records, 6)}"] = WEIGHTS["count"]
    return found


class Nearest:
    """Finds the training examples most like a question, by the cosine of weighted features."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples
        seen = Counter(f for e in examples for f in e.features)
        self.rarity = {f: math.log(len(examples) / n) for f, n in seen.items()}
        self.index: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for number, example in enumerate(examples):
            weights = self._weigh(example.features)
            length = math.sqrt(sum(w * w for w in weights.values())) or 1.0
            for feature, weight in weights.items():
                self.index[feature].append((number, weight / length))

    def _weigh(self, found: Mapping[str, float]) -> dict[str, float]:
        return {f: w * self.rarity[f] for f, w in found.items() if self.rarity.get(f)}

    def find(self, prompt: Prompt, count: int = TRIED) -> list[Example]:
        """Return the nearest examples, of equals and where none is like it the first drawn."""
        scores: dict[int, float] = defaultdict(float)
        for feature, weight in self._weigh(features(prompt)).items():
            for number, other in self.index.get(feature, ()):
                scores[number] += weight * other
        best = sorted(scores, key=lambda number: (-scores[number], number))[:count]
        return [self.examples[number] for number in best] or list(self.examples[:count])

    def answer(self, prompt: Prompt) -> str:
        """Return the nearest answer all of whose values can be replaced; where none of the first
        few is like that, the one that lacks fewest, without the sentences that lack any."""
        filled = [fill(example.parts, prompt) for example in self.find(prompt)]
        said = [(missing, text) for text, missing in filled if text]
        return min(said, key=lambda item: item[0])[1] if said else ""


class NGram:
    """A back-off model of the answers of one kind about one noun, decoded greedily."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.counts: dict[str, dict[tuple[Part, ...], Counter[Part]]] = {}
        for example in examples:
            counts = self.counts.setdefault(example.about, defaultdict(Counter))
            tokens = [*[START] * (ORDER - 1), *tokens_of(example.parts), END]
            for at in range(ORDER - 1, len(tokens)):
                for back in range(1, ORDER):
                    counts[tuple(tokens[at - back : at])][tokens[at]] += 1

    def answer(self, about: str, prompt: Prompt) -> str:
        """Take the likeliest token until the end. Passed over is what the conversation lacks, a
        value that was said before, and what would say the same four tokens again."""
        counts = self.counts.get(about, {})
        tokens: list[Part] = [START] * (ORDER - 1)
        seen: set[tuple[Part, ...]] = set()
        while len(tokens) < LONGEST:
            token = self._next(counts, tokens, seen, prompt)
            if token == END:
                break
            tokens.append(token)
            seen.add(tuple(tokens[-ORDER:]))
        return fill([t for t in tokens if t != START], prompt)[0]

    def _next(
        self,
        counts: Mapping[tuple[Part, ...], Counter[Part]],
        tokens: Sequence[Part],
        seen: set[tuple[Part, ...]],
        prompt: Prompt,
    ) -> Part:
        for back in reversed(range(1, ORDER)):
            following = counts.get(tuple(tokens[-back:]), Counter[Part]())
            for token in sorted(following, key=lambda t: (-following[t], str(t))):
                if isinstance(token, Place):
                    if not prompt.holds(token) or (token.slot and token in tokens):
                        continue
                elif token != END and (*tokens[1 - ORDER :], token) in seen:
                    continue
                return token
        return END


def tokens_of(parts: Sequence[Part]) -> list[Part]:
    """Split the text around the places into words, marks and spaces."""
    found: list[Part] = []
    for part in parts:
        found += [part] if isinstance(part, Place) else _TOKENS.findall(part)
    return found


class Baselines:
    """Both methods, made from the same examples."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.nearest = Nearest(examples)
        self.ngram = NGram(examples)

    def answers(self, chat: Sequence[Mapping[str, str]]) -> dict[str, str]:
        """Return the answer of each method to a conversation that ends with a request."""
        prompt = Prompt.of(chat)
        about = self.nearest.find(prompt, 1)[0].about
        return {"nearest": self.nearest.answer(prompt), "ngram": self.ngram.answer(about, prompt)}
