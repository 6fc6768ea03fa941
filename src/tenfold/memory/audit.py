"""What is rotten in a memory: junk, duplicates, loops, secrets, stale facts, planted instructions.

A report names events by id and never holds their text, so that it can be shown and kept.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from tenfold.memory.derive.duplicates import Clusters
from tenfold.memory.derive.facts import Fact
from tenfold.memory.derive.sources import learnt
from tenfold.memory.derive.wording import words
from tenfold.memory.events import Event, Kind
from tenfold.memory.secrets import find_secrets

EXAMPLES = 20  # ids shown of each kind of rot
_SHINGLE = 5  # words
_RESTATED = 0.8  # share of an event's shingles that earlier events have
_LONG = 40  # words of a text that is restated rather than said again, such as a boot file
_LOOP = 0.6  # share of an observation's shingles that one recall has
_INSIDE = 0.9  # share of a recall's shingles that one observation has
_EMPTY_WORDS = """
ok okay k thanks thank you thx ty hi hello hey yo bye goodbye good morning afternoon evening
night day cool nice great awesome perfect sure alright right got it i see understood welcome
you're are wow lol haha hm hmm um uh ah oh yes yeah yep well so much very a lot no problem
worries np cheers see later there done sounds will do of course please everyone all again too
have one ciao
"""
_EMPTY = frozenset(_EMPTY_WORDS.split())
# One such word among the empty ones, or the text says something: "no", "yes", "a lot".
_TALK_WORDS = """
ok okay thanks thank thx ty hi hello hey bye goodbye morning evening night cool nice great awesome
perfect alright understood welcome wow lol haha hm hmm um uh ah oh np cheers ciao
"""
_TALK = frozenset(_TALK_WORDS.split())
_ORDERS = (
    (
        "override",
        r"\b(?:ignore|disregard|forget|override|bypass)\s+(?:(?:all|any|the|your|my|of|these|those"
        r"|every)\s+)*(?:previous|prior|above|earlier|preceding|existing|system|safety)\s+"
        r"(?:instructions?|prompts?|rules?|messages?|guidelines?|directions?|policies)\b"
        r"|\b(?:ignore|disregard)\s+(?:everything|all|anything)\s+(?:that\s+)?"
        r"(?:(?:was|is|has been)\s+)?(?:said\s+|written\s+)?(?:above|before|so far)\b",
    ),
    (
        "role change",
        r"\byou are (?:now|no longer)\s+(?:an?\s+|the\s+)?(?:\w+\s+)?(?:DAN\b|AI\b|assistant\b"
        r"|model\b|chatbot|bot\b|administrator|admin\b|root\b|developer|jailbroken|unrestricted|evil)"
        r"|\b(?:pretend|act)\s+(?:to be|as if you (?:are|were|have)|as though you)\b[^.\n]{0,40}"
        r"\b(?:no (?:rules|restrictions|limits)|unrestricted|AI|assistant|system)\b",
    ),
    (
        "prompt theft",
        r"\b(?:reveal|print|show|repeat|output|leak|tell me)\b[^.\n]{0,30}\b(?:your|the)\s+"
        r"(?:system|hidden|initial|secret|original)\s+(?:prompt|instructions?|message)\b",
    ),
    (
        "chat markup",
        r"<\|(?:im_start|im_end|system|assistant|user|endoftext|eot_id|start_header_id)\|>"
        r"|\[/?INST\]|<</?SYS>>"
        r"|(?:^|\n)[ \t]*(?:### *)?system[ \t]*(?:prompt|message)?\s*:\s*you\b",
    ),
    (
        "exfiltration",
        r"\b(?:send|post|forward|upload|e-?mail|exfiltrate)\b[^.\n]{0,60}\b(?:passwords?|api keys?"
        r"|credentials|secrets|tokens|conversation history|system prompt|memor(?:y|ies))\b"
        r"[^.\n]{0,40}\bto\b\s+(?:https?://|\S+@\S+|this (?:url|address|server|webhook))",
    ),
    (
        "order to the assistant",
        r"\b(?:from now on|always|whenever (?:the|a) user asks[^.\n]{0,40}),?\s+"
        r"(?:you\s+(?:must|will|should|shall)|the assistant (?:must|should|will))\b",
    ),
    (
        "concealment",
        r"\b(?:do not|don't|never)\s+(?:tell|inform|mention|reveal)\b[^.\n]{0,30}"
        r"\b(?:the user|anyone about these)\b",
    ),
)
_INSTRUCTIONS = tuple((kind, re.compile(order, re.IGNORECASE)) for kind, order in _ORDERS)


@dataclass(frozen=True, slots=True)
class Share:
    """How many of how many events, and the ids of some."""

    count: int
    of: int
    examples: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """0 to 1; of no events 0."""
        return self.count / self.of if self.of else 0.0


@dataclass(frozen=True, slots=True)
class Finding:
    """A kind of thing at `start` to `end` of an event's text."""

    event: str
    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Pair:
    """An event and the one that it repeats: its cluster's leader, or a recall."""

    event: str
    of: str


@dataclass(frozen=True, slots=True)
class Stale:
    """An ended fact, made by `events`, that was last recalled without what ended it."""

    events: tuple[str, ...]
    predicate: str
    recall: str


@dataclass(frozen=True, slots=True)
class Report:
    """The state of a memory. `events` are those that are derived from."""

    events: int
    empty_talk: Share
    restated: Share  # long texts that earlier events hold already: boot files, pasted prompts
    duplicated: Share
    duplicates: tuple[Pair, ...]
    loops: tuple[Pair, ...]
    secrets: tuple[Finding, ...]
    instructions: tuple[Finding, ...]
    stale: tuple[Stale, ...]
    waiting: tuple[str, ...]
    failed: Mapping[str, str]

    @property
    def junk(self) -> float:
        """The share of events that say nothing, or nothing that was not there: 0 to 1."""
        return (self.empty_talk.count + self.restated.count) / self.events if self.events else 0.0

    def as_dict(self) -> dict[str, object]:
        """Plain lists, numbers and ids."""
        return {**asdict(self), "failed": dict(self.failed), "junk": self.junk}


def audit(
    events: Sequence[Event],
    facts: Iterable[Fact] = (),
    *,
    waiting: Iterable[str] = (),
    failed: Mapping[str, str] | None = None,
    pause: Callable[[], None] = lambda: None,
) -> Report:
    """Looks through events, recalls among them, and the facts that were made of them.

    `waiting` and `failed` are events whose derivations are missing, and why: the store knows.
    `pause` is called for each event, several times: what it raises ends a long audit.
    """

    def each(some: Iterable[Event]) -> Iterator[Event]:
        for event in some:
            pause()
            yield event

    heard = learnt(events)
    worded = {event.id: words(event.text) for event in each(events)}
    empty = [e.id for e in heard if is_empty_talk(e.text)]
    restated = _restated(each(heard), worded)
    clusters = Clusters()
    rows = [row for e in each(heard) if (row := clusters.add(e)) is not None]
    pairs = [Pair(row.events[0], row.events[1]) for row in rows]
    examples = [pair.event for pair in pairs]
    return Report(
        events=len(heard),
        empty_talk=Share(len(empty), len(heard), tuple(empty[:EXAMPLES])),
        restated=Share(len(restated), len(heard), tuple(restated[:EXAMPLES])),
        duplicated=Share(len(pairs), len(heard), tuple(examples[:EXAMPLES])),
        duplicates=tuple(pairs),
        loops=tuple(find_loops(events, pause)),
        secrets=tuple(
            Finding(e.id, s.kind, s.start, s.end)
            for e in each(events)
            for s in find_secrets(e.text)
        ),
        instructions=tuple(f for e in each(events) for f in find_instructions(e)),
        stale=tuple(_stale(events, facts)),
        waiting=tuple(waiting),
        failed=dict(failed or {}),
    )


def is_empty_talk(text: str) -> bool:
    """Whether a text is a greeting, thanks or a nod and nothing else.

    "Yes" and "no" may answer a question, and are no empty talk.
    """
    said = re.findall(r"[\w']+", text.lower().replace("’", "'"))
    return len(said) < 8 and not _TALK.isdisjoint(said) and _EMPTY.issuperset(said)


def find_instructions(event: Event) -> list[Finding]:
    """Where a text gives orders to whoever reads it out of memory: to be shown as data, marked."""
    found: list[Finding] = []
    for kind, pattern in _INSTRUCTIONS:
        for match in pattern.finditer(event.text):
            if not any(match.start() < f.end and f.start < match.end() for f in found):
                found.append(Finding(event.id, kind, *match.span()))
    return sorted(found, key=lambda f: f.start)


def find_loops(events: Iterable[Event], pause: Callable[[], None] = lambda: None) -> list[Pair]:
    """Observations that say what a recall before them had said: each with the recall most alike.

    Compared by runs of five words: most of the observation is in the recall, or nearly all of the
    recall in the observation. Texts of fewer words than that are not judged.
    """
    recalls: dict[str, int] = {}  # how many shingles each has
    having: dict[tuple[str, ...], list[str]] = defaultdict(list)
    loops: list[Pair] = []
    for event in sorted(events, key=lambda e: e.sequence):
        pause()
        own = _shingles(words(event.text))
        if event.kind is Kind.RECALL:
            recalls[event.id] = len(own)
            for shingle in own:
                having[shingle].append(event.id)
            continue
        if event.kind is not Kind.OBSERVATION or len(own) < 2:
            continue
        shared: dict[str, int] = defaultdict(int)
        for shingle in own:
            for recall in having.get(shingle, ()):
                shared[recall] += 1
        most = max(shared, key=lambda r: (shared[r], r), default="")
        alike = shared[most] if most else 0
        if alike >= _LOOP * len(own) or (most and alike >= max(2, _INSIDE * recalls[most])):
            loops.append(Pair(event.id, most))
    return loops


def _shingles(said: Sequence[str]) -> set[tuple[str, ...]]:
    return {tuple(said[i : i + _SHINGLE]) for i in range(len(said) - _SHINGLE + 1)}


def _restated(heard: Iterable[Event], worded: Mapping[str, Sequence[str]]) -> list[str]:
    """Long events most of which earlier events hold, in pieces or as a whole."""
    seen: set[int] = set()  # hashes: a boot file's shingles are many
    found: list[str] = []
    for event in heard:
        own = {hash(shingle) for shingle in _shingles(worded[event.id])}
        long = len(worded[event.id]) >= _LONG
        if long and len(own & seen) >= _RESTATED * len(own):
            found.append(event.id)
        seen |= own
    return found


def _stale(events: Sequence[Event], facts: Iterable[Fact]) -> list[Stale]:
    """Facts that had ended when the last recall that had them was made, without what ended them."""
    last: dict[str, Event] = {}
    for event in sorted(events, key=lambda e: e.sequence):
        if event.kind is Kind.RECALL:
            last.update(dict.fromkeys(event.sources, event))
    found: list[Stale] = []
    for fact in facts:
        if fact.valid_to is None or fact.recorded_to is not None or fact.valid_from is None:
            continue
        # The last of a fact's events is the one that ended it; those before it made it.
        *made, ended = fact.events
        recalls = [last[event] for event in made if event in last]
        if not recalls:
            continue
        recall = max(recalls, key=lambda e: e.sequence)
        if recall.valid_at >= fact.valid_to and ended not in recall.sources:
            found.append(Stale(tuple(made), fact.predicate, recall.id))
    return found
