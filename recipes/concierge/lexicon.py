"""Ordinary words of answers: with them the verifier doubts words that nobody uses.

They are a dictionary for the judge. No model reads it, so it may hold what held-out dialogues say.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from string import ascii_lowercase

from tenfold.rewards.lexing import lex
from tenfold.rewards.records import plural

from .dialogues import Dialogue
from .episodes import Episode
from .facts import FLAG_WORDS
from .schemas import LONG_SCHEMAS, UNSEEN_SCHEMAS
from .template_rules import HOLE

COMMON = 3  # a word of people that is rarer may be a slip of the keyboard
STARTS = 20  # the same for words in capitals, which are names unless many sentences begin so
RARE, OFTEN = 60, 50  # a slip is said at most so often, what was meant so many times as often
ENDS = ("s", "d", "r", "n", "y", "e")
_CUT = re.compile(r"\{\d+\}")


def ordinary(text: str) -> list[tuple[str, bool]]:
    """Return the words of ``text`` but for capitals inside a sentence, and which are lower case."""
    found = []
    for token in lex(text):
        lower = text[token.start].islower()
        if not token.typed and token.key != "'s" and (lower or _starts(text, token.start)):
            found.append((token.key, lower))
    return found


def _starts(text: str, at: int) -> bool:
    return re.search(r"(?:^|[.?!:]\s*)\W*$", text[:at]) is not None


def outside_values(episode: Episode) -> list[str]:
    """Return the answers of ``episode`` with its values cut out."""
    texts = []
    for message in episode.messages:
        if message.role == "assistant":
            text = message.text
            for start, end in sorted(message.values, reverse=True):
                text = f"{text[:start]}_{text[end:]}"
            texts.append(text)
    return texts


def lexicon(
    dialogues: Iterable[Dialogue], templates: Iterable[str], composed: Iterable[Episode]
) -> set[str]:
    """Return what the assistants of ``dialogues`` say at least three times, all words of
    ``templates`` and of ``composed`` answers, and those for slots and nouns.

    Words that are mostly a value's are left out ("moderate"), and so are likely slips of the
    keyboard: an answer that holds one is to be doubted.
    """
    lower: Counter[str] = Counter()
    first: Counter[str] = Counter()
    inside: Counter[str] = Counter()
    for dialogue in dialogues:
        for turn in dialogue.turns:
            if turn.speaker == "system":
                for word, is_lower in ordinary(_CUT.sub("_", turn.text)):
                    (lower if is_lower else first)[word] += 1
                for hole in turn.stated:
                    inside.update(t.key for t in lex(dialogue.values[hole].text))
    found = {w for w, n in lower.items() if n >= COMMON}
    found |= {w for w, n in first.items() if n >= STARTS}
    cut = [text for episode in composed for text in outside_values(episode)]
    cut += [HOLE.sub("_", text) for text in templates]
    own = Counter(word for text in cut for word, _ in ordinary(text))
    said = lower + first + own
    kept = {w for w in found | own.keys() if said[w] > inside[w]}
    return {w for w in kept if w in own or not _slip(w, said)} | _slot_words() | {"'s"}


def _slip(word: str, said: Mapping[str, int]) -> bool:
    """Tell whether a rare word is one key away from a common one, unless an ending makes it so."""
    if len(word) < 4 or said[word] > RARE:
        return False
    return any(
        said.get(near, 0) >= OFTEN * said[word]
        and not any({word, near} == {short, short + end} for short in (word, near) for end in ENDS)
        for near in _one_key_away(word)
    )


def _one_key_away(word: str) -> set[str]:
    parts = [(word[:i], word[i:]) for i in range(len(word) + 1)]
    near = {a + b[1:] for a, b in parts if b}
    near |= {a + b[1] + b[0] + b[2:] for a, b in parts if len(b) > 1}
    near |= {a + c + b for a, b in parts for c in ascii_lowercase}
    near |= {a + c + b[1:] for a, b in parts if b for c in ascii_lowercase}
    return near - {word}


def _slot_words() -> set[str]:
    texts = [words for forms in FLAG_WORDS.values() for words in forms]
    for noun, schema in (*LONG_SCHEMAS.items(), *UNSEEN_SCHEMAS.items()):
        texts += [noun, plural(noun), *(slot.words for slot in schema.slots)]
    return {t.key for text in texts for t in lex(text) if not t.typed}
