"""An exact checker of answers, whole or partial, against the facts of their prompt; the reward
`facts` made of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tenfold.errors import InvalidRequest
from tenfold.rewards.base import Answer, RewardPrompt, RewardSession
from tenfold.rewards.catalogue import Catalogue, Meaning
from tenfold.rewards.facts import Requirement, facts_of, requested
from tenfold.rewards.invention import FUNCTION_WORDS, Known, inventions, passages
from tenfold.rewards.lexing import Token, lex
from tenfold.rewards.phrases import Found
from tenfold.rewards.said import Statement
from tenfold.rewards.sentences import Sentence, settled, split_sentences
from tenfold.rewards.statements import Speaker
from tenfold.types import Message

_NOT = {"no", "not", "without", "never", "neither", "nor", "cannot", "none"}
_DENYING = {"not", "never", "neither", "nor", "cannot"}  # of a value; "no" may just open an answer
# After "not" or "don't" they deny nothing: "not only in Porto", "don't miss Blue Door in Porto".
_AFFIRMING = {"only", "just", "merely", "simply", "miss", "forget", "hesitate", "worry"}
_CLAUSES = {"and", "but", "while", "whereas", "because", "so"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer states: `right` of `required`, and what it leaves out, gets wrong, invents."""

    required: int
    right: int
    missing: tuple[Requirement, ...]
    wrong: tuple[str, ...]
    invented: tuple[str, ...]

    @property
    def score(self) -> float:
        """1 when everything required is said and nothing else is wrong; it may fall below 0."""
        return (self.right - len(self.wrong) - len(self.invented)) / max(1, self.required)

    @property
    def slot_errors(self) -> int:
        """Missing, wrong and invented values."""
        return len(self.missing) + len(self.wrong) + len(self.invented)


class FactsVerifier:
    """Checks answers to one prompt.

    `required` is what an answer must state, by default what the last user message asks for. A
    `lexicon` of ordinary words in lower case lets it doubt every other word. Raises InvalidRequest
    when the messages hold no facts.
    """

    def __init__(
        self,
        messages: Sequence[Message],
        required: Sequence[Requirement] | None = None,
        lexicon: Collection[str] | None = None,
    ) -> None:
        facts = facts_of(messages)
        if not facts.records:
            raise InvalidRequest(
                "the messages hold no facts to check answers against",
                param="messages",
                hint="write them in the system message, one record per line: "
                '"Blue Door is a restaurant. For Blue Door the city is Porto."',
            )
        self.required = tuple(requested(messages, facts) if required is None else required)
        self._catalogue = Catalogue(facts, self.required)
        others = [m.content or "" for m in messages if m.role not in ("system", "developer")]
        users = [m.content or "" for m in messages if m.role == "user"]
        system = [m.content or "" for m in messages if m.role in ("system", "developer")]
        nouns = list(self._catalogue.nouns)
        counts = {len(records) for records in self._catalogue.nouns.values()}
        said = [*others, *facts.instructions]
        self._known = Known([*system, *others], said, counts=counts, nouns=nouns, lexicon=lexicon)
        self._user = Known(users, users, counts=(), nouns=(), lexicon=None)

    def check(self, text: str, *, finished: bool = True) -> Verdict:
        """The verdict on an answer. Of one that is not `finished`, what is still being written at
        the end is left out."""
        tokens = lex(text)
        if not finished:
            count = settled(text, tokens, self._catalogue.tree)
            if count < len(tokens):
                text = text[: tokens[count].start]
                tokens = tokens[:count]
        found = [f for f in self._catalogue.tree.find(tokens) if not _is_talk(text, tokens, f)]
        sentences = split_sentences(text, tokens, found, finished=finished)
        doubtful = inventions(text, tokens, found, sentences, self._known)
        judge = _Judge(self._catalogue, self._user, text, tokens, doubtful)
        speaker = Speaker(text, tokens, self._catalogue)
        for sentence in sentences:
            inside = [f for f in found if sentence.start <= f.start < sentence.end]
            judge.hear(sentence, inside, speaker.statements(sentence, inside))
        return judge.verdict(tuple(dict.fromkeys(passages(text, tokens, doubtful))))


def _is_talk(text: str, tokens: Sequence[Token], phrase: Found[Meaning]) -> bool:
    """Whether a phrase is a word of every day, though a name is spelled so too: "To", "Her"."""
    token = tokens[phrase.start]
    single = phrase.end == phrase.start + 1
    return single and token.key in FUNCTION_WORDS and text[token.start].islower()


class _Judge:
    """Gathers the rights and wrongs of one answer."""

    def __init__(
        self,
        catalogue: Catalogue,
        user: Known,
        text: str,
        tokens: Sequence[Token],
        doubtful: Collection[int],
    ) -> None:
        self._catalogue = catalogue
        self._user = user
        self._text = text
        self._tokens = tokens
        self._doubtful = doubtful
        self._names: list[Found[Meaning]] = []  # of the sentence that is heard
        self._right: set[tuple[int, str]] = set()
        self._unnamed: list[list[tuple[int, str]]] = []  # values said without their slot
        self._wrong: dict[tuple[int, str], str] = {}
        self._nobodys: dict[Sentence, list[Statement]] = {}  # said before anybody was named

    def hear(
        self,
        sentence: Sentence,
        found: Sequence[Found[Meaning]],
        statements: Sequence[Statement],
    ) -> None:
        """Judges a sentence."""
        self._names = [f for f in found if any(m.kind == "name" for m in f.meanings)]
        for phrase in found:
            self._right.update((m.record, "") for m in phrase.meanings if m.kind == "name")
        for statement in statements:
            if any(m.kind == "value" for m in statement.at.meanings):
                self._hear_value(sentence, statement)
            elif not sentence.open and not sentence.question:
                self._hear_flag(sentence, statement)

    def verdict(self, invented: tuple[str, ...]) -> Verdict:
        """The verdict on all that was heard."""
        self._find_owners()
        required = self._catalogue.required
        right = self._right & required.keys()
        for choices in self._unnamed:
            # A value that fills two slots must be said twice.
            right.update([c for c in choices if c in required and c not in right][:1])
        missing = tuple(need for key, need in required.items() if key not in right)
        return Verdict(len(required), len(right), missing, tuple(self._wrong.values()), invented)

    def _hear_value(self, sentence: Sentence, statement: Statement) -> None:
        if not sentence.question and self._denied(sentence, statement.at):
            return  # what a value is not says little of what it is
        catalogue = self._catalogue
        values = [m for m in statement.at.meanings if m.kind == "value"]
        scope = statement.scope.records
        if not scope and len(catalogue.subjects) > 1:  # said of nobody: only the guest's counts
            self._nobodys.setdefault(sentence, []).append(statement)
            own = [m for m in values if m.record == catalogue.guest]
            if own:
                self._credit(sentence, statement, own, scope)
            return
        if not scope:  # nobody was named: it may be any record's, those in question first
            owners = {m.record for m in values if m.record != catalogue.guest}
            scope = tuple(owners & set(catalogue.subjects) or owners)
        own = [m for m in values if m.record in scope or m.record == catalogue.guest]
        said_of = (*scope, catalogue.guest)
        if statement.slot is not None:
            exact = [m for m in own if m.slot == statement.slot]
            contradicted = [r for r in said_of if statement.slot in catalogue.fields[r]]
            if not exact and contradicted:
                if not statement.pending and not self._of_a_stranger(sentence, statement):
                    self._blame(contradicted[0], statement)
                return
            own = exact or own
        if own:
            self._credit(sentence, statement, own, scope)
        elif not (
            statement.pending
            or self._harmless(statement, values)
            or self._of_a_stranger(sentence, statement)
        ):
            self._blame(scope[0] if scope else values[0].record, statement)

    def _of_a_stranger(self, sentence: Sentence, statement: Statement) -> bool:
        """Whether an invented name stands before the value: it is said of that, which is a mistake
        already, and not of whom the sentence named before."""
        start, at = sentence.start, statement.at.start
        start = max([start, *(name.end for name in self._names if name.end <= at)])
        return any(
            i in self._doubtful
            and not self._tokens[i].typed
            and self._text[self._tokens[i].start].isupper()
            for i in range(start, at)
        )

    def _find_owners(self) -> None:
        """Credits sentences said before anybody was named, where all that they say is one
        record's, and of no other, and the answer names that record."""
        for sentence, statements in self._nobodys.items():
            said = [s for s in statements if not s.pending and not self._is_talk(s)]
            owners = set(self._catalogue.subjects)
            for statement in said:
                owners &= {m.record for m in statement.at.meanings if m.kind == "value"}
            if len(owners) == 1 and all((owner, "") in self._right for owner in owners):
                for s in said:
                    own = [m for m in s.at.meanings if m.kind == "value" and m.record in owners]
                    self._credit(sentence, s, own, tuple(owners))
        self._nobodys.clear()

    def _credit(
        self, sentence: Sentence, statement: Statement, own: Sequence[Meaning], scope: Sequence[int]
    ) -> None:
        if statement.pending or (self._is_talk(statement) and statement.slot is None):
            return
        if statement.slot is not None and all(m.slot == statement.slot for m in own):
            first = next((r for r in scope if any(m.record == r for m in own)), None)
            joint = statement.scope.joint
            self._right.update(
                (m.record, m.slot)
                for m in own
                if joint or m.record in (first, self._catalogue.guest)
            )
            return
        # What the guest wants is repeated in whatever sentence names it, of whichever record.
        wanted = [(m.record, m.slot) for m in own if m.record == self._catalogue.guest]
        if wanted and not (len(wanted) > 1 and sentence.open):
            self._unnamed.append(wanted)
        for record in scope:
            choices = [(m.record, m.slot) for m in own if m.record == record]
            if choices and not (len(choices) > 1 and sentence.open):
                self._unnamed.append(choices)
            if choices and not statement.scope.joint:
                return

    def _is_talk(self, statement: Statement) -> bool:
        """Whether a small number counts things in the sentence: "two restaurants", "this one"."""
        phrase = statement.at
        token = self._tokens[phrase.start]
        if phrase.end - phrase.start > 1 or token.key[:2] != "#n":
            return False
        counting = any(m.kind == "value" and m.slot.startswith("number") for m in phrase.meanings)
        if self._text[token.start : token.end].isalpha():
            return not counting
        return self._before_noun(phrase.end)

    def _counts(self, at: int, values: Sequence[Meaning]) -> bool:
        """Whether what follows a number is what a slot counts: "stops" of "number of stops"."""
        if at >= len(self._tokens):
            return False
        following = self._tokens[at].key
        return any(
            m.slot.split()[-1].removesuffix("s") == following.removesuffix("s") for m in values
        )

    def _before_noun(self, at: int) -> bool:
        if at >= len(self._tokens):
            return False
        following = self._tokens[at].key
        return any(following in (n, f"{n}s", f"{n}es") for n in self._catalogue.nouns)

    def _harmless(self, statement: Statement, values: Sequence[Meaning]) -> bool:
        phrase = statement.at
        words = [t.key for t in self._tokens[phrase.start : phrase.end]]
        if self._user.holds(words) or (self._is_talk(statement) and statement.slot is None):
            return True
        if statement.slot is None and len(words) == 1 and words[0][:2] == "#n":
            written = self._text[self._tokens[phrase.start].start]
            if words[0] == "#n1" or (written.isalpha() and not self._counts(phrase.end, values)):
                return True
        return statement.slot is None and all(m.shy for m in values)

    def _hear_flag(self, sentence: Sentence, statement: Statement) -> None:
        said = not self._negated(sentence, statement.at)
        for meaning in statement.at.meanings:
            if meaning.kind != "flag" or meaning.record not in statement.scope.records:
                continue
            if meaning.yes != said:
                self._blame(meaning.record, statement)
                return

    def _negated(self, sentence: Sentence, phrase: Found[Meaning]) -> bool:
        start = phrase.start
        while start > max(sentence.start, phrase.start - 5):
            gap = self._text[self._tokens[start - 1].end : self._tokens[start].start]
            if gap.strip():
                break
            start -= 1
        near = (*self._tokens[start : phrase.start], *self._tokens[phrase.end : phrase.end + 3])
        return any(t.key in _NOT or t.key.endswith("n't") for t in near)

    def _denied(self, sentence: Sentence, phrase: Found[Meaning]) -> bool:
        """Whether a value is said not to be: "isn't in Porto", "Porto is not the city"."""
        tokens, at = self._tokens, phrase.start
        opens = at == sentence.start or tokens[at - 1].key in _CLAUSES or self._stops(at)
        while at > max(sentence.start, phrase.start - 7) and not self._stops(at):
            at -= 1
            if tokens[at].key in _CLAUSES:
                break
            if _denies(tokens[at].key) and tokens[at + 1].key not in _AFFIRMING:
                return True
        after = [t.key for t in tokens[phrase.end : min(phrase.end + 2, sentence.end)]]
        return opens and (
            after[:1] in (["isn't"], ["aren't"]) or after in (["is", "not"], ["are", "not"])
        )

    def _stops(self, at: int) -> bool:
        """Whether punctuation lies before a token."""
        gap = self._text[self._tokens[at - 1].end if at else 0 : self._tokens[at].start]
        return bool(gap.strip(" \n\"'“‘"))

    def _blame(self, record: int, statement: Statement) -> None:
        first, last = self._tokens[statement.at.start], self._tokens[statement.at.end - 1]
        written = self._text[first.start : last.end]
        key = " ".join(t.key for t in self._tokens[statement.at.start : statement.at.end])
        self._wrong.setdefault((record, key), f"{written} ({self._catalogue.names[record]})")


def _denies(key: str) -> bool:
    return key in _DENYING or key.endswith("n't")


class FactsReward:
    """The score of `FactsVerifier`, for whole and partial answers."""

    name = "facts"
    summary = "values of the prompt's facts stated right, minus those wrong or invented"
    partial_ok = True

    def open(self, prompt: RewardPrompt) -> RewardSession:
        """A session for one prompt. Raises InvalidRequest when it holds no facts."""
        return _FactsSession(FactsVerifier(prompt.messages))


class _FactsSession:
    tokens = 0  # it needs no model

    def __init__(self, verifier: FactsVerifier) -> None:
        self._verifier = verifier

    async def score(self, answers: Sequence[Answer]) -> list[float]:
        return [self._verifier.check(a.text, finished=a.finished).score for a in answers]

    async def close(self) -> None:
        return None
