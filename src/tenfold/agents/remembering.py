"""A chat that remembers: what was said before goes into the prompt, what is said now is kept.

    from tenfold import LLM
    from tenfold.agents.remembering import MemoryUse, chat
    from tenfold.memory import Memory

    with LLM("concierge") as llm:
        memory = Memory.open("memories", member="ada")
        told = chat(llm, memory, [{"role": "user", "content": "My city is Porto."}])
        print(told.answer.text, told.recalled.events, told.remembered)

`recalled`, `informed` and `remember` are its steps, for who runs a model otherwise. What is
recalled is data: quoted turns between marks (see `memory.packing`), or facts in the sentences of a
facts block, whose values hold neither a line break nor a sentence. In both, the tokenizer's own
tokens are spelled apart, so that stored text cannot end the system message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from tenfold.errors import InvalidRequest
from tenfold.memory.derive.facts import Fact
from tenfold.memory.derive.grammar import RULES
from tenfold.memory.events import PRIVATE, Event, Kind, NewEvent, Scope
from tenfold.memory.memory import Memory, recall_of
from tenfold.rewards.facts import GUEST
from tenfold.types import Completion, Message, SamplingParams, as_messages

if TYPE_CHECKING:
    from tenfold.models.tokenizer import Tokenizer
    from tenfold.search.llm import LLM

Form = Literal["turns", "facts"]
BUDGET = 512  # tokens of what is recalled
ANSWER = 256  # tokens that are left to an answer whose length nothing limits
LONGEST_KEY = 200  # characters; each turn's own key has a few more
_FRAME = 16  # tokens that a message's frame and the lines between may take
# What is said with a verb ("lives in") is no value of a slot.
_RELATIONS = {rule.predicate for rule in RULES} - {"", "name", "age"}


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """What a chat does with its member's memory.

    `form` is how it is told what was recalled: `turns`, quoted and cited as [n], or `facts`, what
    is believed of the member ("For the guest the city is Porto."). With `key`, a request that is
    sent again is remembered once. Raises InvalidRequest.
    """

    recall: bool = True
    remember: bool = True
    conversation: str = ""
    key: str = ""
    budget: int = BUDGET
    form: Form = "turns"
    scope: Scope = PRIVATE

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise InvalidRequest(f"budget is {self.budget} tokens, at least 1", param="budget")
        if len(self.key) > LONGEST_KEY:
            raise InvalidRequest(
                f"key has {len(self.key)} characters, {LONGEST_KEY} at most", param="key"
            )
        if self.form not in ("turns", "facts"):
            raise InvalidRequest(
                f"there is no form {self.form!r}", param="form", hint="turns, facts"
            )


@dataclass(frozen=True, slots=True)
class Recalled:
    """Text for a prompt, and the events it came from; of turns, [n] cites `events[n - 1]`.

    `kept` is how the log will have it: `remember` writes it with the turns that it was told for.
    """

    text: str = ""
    events: tuple[str, ...] = ()
    tokens: int = 0
    kept: NewEvent | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """An answer, what it was told from memory, and the ids of the turns that were remembered."""

    answer: Completion
    recalled: Recalled
    remembered: tuple[str, ...]


NOTHING = Recalled()


def chat(
    llm: LLM,
    memory: Memory,
    messages: Sequence[Message | Mapping[str, Any]],
    use: MemoryUse | None = None,
    params: SamplingParams | None = None,
    **options: Any,
) -> Told:
    """Answers with what memory knows, and remembers the new turns with the answer.

    `options` are those of `LLM.chat` (strategy, reward, budget). Raises what it raises, and
    InvalidRequest for turns that no memory takes; nothing is remembered then.
    """
    use, params, given = use or MemoryUse(), params or llm.default_params(), as_messages(messages)
    new = turns(given, use) if use.remember else []
    found = NOTHING
    if use.recall:
        front = llm.asynchronous
        prompt = len(front.chat_request(given, params).prompt_ids)
        free = room(front.context_length, prompt, params.max_tokens, use)
        found = recalled(memory, given, use, free, front.model.tokenizer)
    answer = llm.chat(informed(given, found), params, **options)
    kept = remember(memory, new, answer.text, use, found) if use.remember else []
    return Told(answer, found, tuple(e.id for e in kept))


def room(context: int, prompt: int, answer: int | None, use: MemoryUse) -> int:
    """How many tokens may be recalled so that a prompt that fits still does, with its answer."""
    free = context - prompt - _FRAME
    return max(0, min(use.budget, free - min(answer or ANSWER, free // 2)))


def recalled(
    memory: Memory, messages: Sequence[Message], use: MemoryUse, budget: int, tokenizer: Tokenizer
) -> Recalled:
    """What answers the last user turn, in at most `budget` tokens.

    What the messages say already is left out. Nothing is written: `remember` does, so that a chat
    that failed, or is not to be remembered, leaves no trace.
    """
    asked = next((m.content for m in reversed(messages) if m.role == "user"), None)
    if not asked or not asked.strip() or budget <= 0:
        return NOTHING
    spell = _speller(tokenizer)

    def count(text: str) -> int:
        return len(tokenizer.encode(spell(text)))

    if use.form == "facts":
        found = _facts(memory, messages, budget, count)
    else:
        seen = frozenset(m.content for m in messages if m.content)
        packed = memory.recall(asked, budget, count, seen=seen, keep=False)
        if not packed.citations:
            return NOTHING
        kept = recall_of(packed.text, packed.sources)
        found = Recalled(packed.text, tuple(packed.citations.values()), packed.tokens, kept)
    return replace(found, text=spell(found.text))


def _speller(tokenizer: Tokenizer) -> Callable[[str], str]:
    """Writes a text so that no special token stands in it: "<|end|>" becomes "< |end|>"."""
    added = (str(t.content) for t in tokenizer.backend.get_added_tokens_decoder().values())
    marks = sorted((t for t in added if len(t) > 1), key=len, reverse=True)
    if not marks:
        return lambda text: text
    pattern = re.compile("|".join(map(re.escape, marks)))
    return lambda text: pattern.sub(lambda m: f"{m[0][0]} {m[0][1:]}", text)


def _facts(
    memory: Memory, messages: Sequence[Message], budget: int, count: Callable[[str], int]
) -> Recalled:
    """What is believed of the member; what the messages name comes first, then the newest.

    By their own words alone: anybody may share claims about a name, or have almost the same one.
    """
    words = "\n".join(m.content for m in messages if m.content).casefold()
    known = [f for f in memory.facts(memory.member, by=memory.member) if tellable(f)]
    known.sort(key=lambda f: f.recorded_from, reverse=True)
    known.sort(key=lambda f: f.predicate not in words)
    chosen: list[Fact] = []
    text, tokens = "", 0
    for fact in known:
        trial = " ".join(sentence(f) for f in [*chosen, fact])
        size = count(trial)
        if size <= budget:
            chosen, text, tokens = [*chosen, fact], trial, size
    if not chosen:
        return NOTHING
    sources = tuple(dict.fromkeys(e for f in chosen for e in f.events))
    return Recalled(text, sources, tokens, recall_of(text, sources))


def tellable(fact: Fact) -> bool:
    """Whether a fact can be told as a value of the member: an attribute, held and undisputed."""
    return fact.predicate not in _RELATIONS and not fact.denied and not fact.disputed


def sentence(fact: Fact) -> str:
    """The fact in the words of a facts block, which the embedded models read."""
    return f"For {GUEST} the {fact.predicate} is {' '.join(fact.object.split())}."


def informed(messages: Sequence[Message], found: Recalled) -> list[Message]:
    """The messages with what was recalled at the end of the system message, which may be new."""
    if not found.text:
        return list(messages)
    if messages and messages[0].role in ("system", "developer"):
        first = messages[0]
        told = "\n\n".join(part for part in (first.content, found.text) if part)
        return [replace(first, content=told), *messages[1:]]
    return [Message("system", found.text), *messages]


def turns(messages: Sequence[Message], use: MemoryUse) -> list[NewEvent]:
    """The turns since the last answer, as they will be remembered.

    Earlier ones were said in earlier requests. Raises InvalidRequest for one that is no event.
    """
    last = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=-1)
    new: list[NewEvent] = []
    for place, message in enumerate(messages[last + 1 :], last + 1):
        if message.role in ("user", "tool") and message.content and message.content.strip():
            try:
                new.append(_event(message, use, len(new)))
            except InvalidRequest as e:
                raise InvalidRequest(
                    f"message {place} cannot be remembered: {e.message}",
                    param=f"messages.{place}.content" if e.param == "text" else e.param,
                    hint=e.hint,
                ) from None
    return new


def remember(
    memory: Memory,
    new: Sequence[NewEvent],
    answer: str | None,
    use: MemoryUse,
    found: Recalled = NOTHING,
) -> list[Event]:
    """Remembers turns, the answer to them and, for the record, what was recalled for it.

    In one transaction; on disk when it returns. The turns and the answer are returned. With a key
    that was used before for the same turns, what was remembered then is: the first answer stands.
    Raises InvalidRequest where the key was used for other turns.
    """
    said = list(new)
    if answer and answer.strip():
        said.append(_event(Message("assistant", answer), use, len(new)))
    if not said:
        return []
    recall = [replace(found.kept, key=f"{use.key}:told" if use.key else "")] if found.kept else []
    # Sent again, what was told and answered may differ; what was told may be erased by now.
    tries = [[*said, *recall], said, list(new)]
    for events in tries[:-1]:
        try:
            return memory.add_all(events)[: len(said)]
        except InvalidRequest as e:
            if e.param not in ("key", "sources"):
                raise
    return memory.add_all(tries[-1])


def _event(message: Message, use: MemoryUse, number: int) -> NewEvent:
    return NewEvent(
        message.content or "",
        role=message.role,
        conversation=use.conversation,
        kind=Kind.TOOL if message.role == "tool" else Kind.OBSERVATION,
        scope=use.scope,
        key=f"{use.key}:{number}" if use.key else "",
        provenance={"speaker": message.name} if message.name else {},
    )
