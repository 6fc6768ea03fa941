"""Who a value is said of: the record each mention belongs to, and the slot named beside it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tenfold.rewards.catalogue import Catalogue, Meaning
from tenfold.rewards.lexing import Token
from tenfold.rewards.phrases import Found
from tenfold.rewards.said import Scope, Statement, respectively
from tenfold.rewards.sentences import Sentence

_AFTER_SLOT = {"of", "for", "at", "in", "on", "and", "or", "but", "with", "to", "while", "as"}
_COPULAS = {"is", "are", "was", "were", "of", "be", "'s"}
# Words that may stand between a slot's name and its value.
_LINK_WORDS = """
    will at for the a an its it as about approximately around also listed currently on this
    that your only just they you their
"""
_LINKS = _COPULAS.union(_LINK_WORDS.split())
_PREPOSITIONS = {"from", "to", "in", "at", "by"}  # as slots they cannot be told from talk
_PRONOUNS = {"it", "its", "they", "their", "there", "this", "that"}
_ALL = {"all", "each", "every", "everything"}
_BOTH = {"both", "they", "them", "these", "those", "either"}
_BOUNDARIES = {"and", "but", "while", "whereas", "or"}


class Speaker:
    """Follows an answer sentence by sentence and keeps who is spoken of."""

    def __init__(self, text: str, tokens: Sequence[Token], catalogue: Catalogue) -> None:
        self._text = text
        self._tokens = tokens
        self._catalogue = catalogue
        self._named: list[int] = []  # all records named so far, the latest last
        self._current = Scope(catalogue.only_subject())

    def statements(self, sentence: Sentence, found: Sequence[Found[Meaning]]) -> list[Statement]:
        """What a sentence says. Sentences must come in their order."""
        names = [(i, records) for i, f in enumerate(found) if (records := self._names(found, i))]
        by_phrase = dict(names)
        names = [(i, records) for i, records in names if not self._compared(found[i])]
        scope: Scope | None = None
        scope_end = sentence.start  # where the names of the scope end
        spoken: list[Statement] = []
        here: list[int] = []
        previous = sentence.start
        for i, phrase in enumerate(found):
            owners = {m.record for m in phrase.meanings if m.kind == "value"}
            named = None if self._compared(phrase) else by_phrase.get(i)
            as_value = bool(owners & set(scope.records)) if scope and named else False
            if owners or any(m.kind == "flag" for m in phrase.meanings):
                if not named or as_value:
                    spoken.append(
                        self._statement(sentence, found, i, names, scope, scope_end, previous)
                    )
                if owners:
                    previous = phrase.end
            if named:
                joined = scope is not None and self._joined(scope_end, phrase.start)
                kept = scope.records if scope is not None and (joined or as_value) else ()
                scope = Scope(tuple(dict.fromkeys((*kept, *named))), joined or len(named) > 1)
                scope_end = phrase.end
                here += named
        if here:
            self._named += here
            self._current = Scope(tuple(dict.fromkeys(reversed(here))), latest_first=True)
        return respectively(spoken, self._adjacent, open_end=sentence.open)

    def _compared(self, phrase: Found[Meaning]) -> bool:
        """Whether a name is only compared with: "cheaper than Red House", but not "than Red House's
        3.2" and "than Red House (3.2)"."""
        the = phrase.start > 0 and self._tokens[phrase.start - 1].key == "the"
        before = phrase.start - the - 1
        if before < 0 or self._tokens[before].key != "than" or phrase.end >= len(self._tokens):
            return False
        gap = self._text[self._tokens[phrase.end - 1].end : self._tokens[phrase.end].start]
        return "(" not in gap and self._tokens[phrase.end].key != "'s"

    def _adjacent(self, end: int, start: int) -> bool:
        """Whether two values stand side by side in a list."""
        return all(t.key in _BOUNDARIES for t in self._tokens[end:start])

    def _names(self, found: Sequence[Found[Meaning]], i: int) -> tuple[int, ...]:
        """The records that a phrase names: "Blue Door", or "the hotel" where there is one only."""
        phrase = found[i]
        named = tuple(m.record for m in phrase.meanings if m.kind == "name")
        if named:
            return named
        before = self._tokens[phrase.start - 1].key if phrase.start else ""
        if before in ("the", "this", "that", "your"):
            for meaning in phrase.meanings:
                if meaning.kind == "noun" and meaning.yes:
                    records = self._catalogue.nouns[meaning.slot]
                    if len(records) == 1:
                        return tuple(records)
        return ()

    def _joined(self, end: int, start: int) -> bool:
        """Whether nothing but "and" or a comma lies between two names."""
        return end < start + 1 and all(
            t.key in _BOUNDARIES or t.key == "the" for t in self._tokens[end:start]
        )

    def _statement(
        self,
        sentence: Sentence,
        found: Sequence[Found[Meaning]],
        i: int,
        names: Sequence[tuple[int, tuple[int, ...]]],
        scope: Scope | None,
        scope_end: int,
        previous: int,
    ) -> Statement:
        phrase = found[i]
        slot = self._slot_before(found, i, previous) or self._slot_after(found, i, sentence)
        following = next(((found[j].start, r) for j, r in names if j > i), None)
        if scope is None:
            scope = self._inherited(sentence, phrase, following)
            pending = sentence.open and len(self._catalogue.others) > 1
            return Statement(phrase, scope, slot, pending)
        pending = False
        if self._boundary(scope_end, phrase.start) and not self._owned(phrase, scope.records):
            # "In Porto there is Blue Door, and in Lisbon there is Red House."
            pending = sentence.open
            if following and not self._boundary(phrase.end, following[0]):
                scope = Scope(following[1])
        return Statement(phrase, scope, slot, pending)

    def _inherited(
        self,
        sentence: Sentence,
        phrase: Found[Meaning],
        following: tuple[int, tuple[int, ...]] | None,
    ) -> Scope:
        """The scope of a value before which its sentence names nobody."""
        before = {t.key for t in self._tokens[sentence.start : phrase.start]}
        if before & _ALL and len(self._named) > 1:
            return Scope(tuple(dict.fromkeys(reversed(self._named))), joint=True, latest_first=True)
        if before & _BOTH and len(set(self._named)) > 1:
            records = tuple(dict.fromkeys(reversed(self._named)))[:2]
            return Scope(records, joint=True, latest_first=True)
        if following is None or before & _PRONOUNS:
            return self._current
        apart = self._boundary(phrase.end, following[0])
        if apart and self._owned(phrase, self._current.records):
            return self._current
        return Scope(following[1])

    def _owned(self, phrase: Found[Meaning], records: Collection[int]) -> bool:
        return any(m.kind in ("value", "flag") and m.record in records for m in phrase.meanings)

    def _boundary(self, start: int, end: int) -> bool:
        """Whether a new clause begins between two places of a sentence."""
        if any(t.key in _BOUNDARIES for t in self._tokens[start:end]):
            return True
        return any(mark in self.gaps(start, end) for mark in ",;:")

    def gaps(self, start: int, end: int) -> str:
        """What lies between tokens, from before `start` to before `end`."""
        return "".join(
            self._text[self._tokens[i - 1].end : self._tokens[i].start]
            for i in range(max(start, 1), min(end + 1, len(self._tokens)))
        )

    def _slot_before(self, found: Sequence[Found[Meaning]], i: int, previous: int) -> str | None:
        """The slot in "the rating of Blue Door is 4.5", said right before the value."""
        at = found[i].start
        copula = ":" in self._text[self._tokens[at - 1].end : self._tokens[at].start]
        for phrase in reversed(found[:i]):
            between = {t.key for t in self._tokens[phrase.end : at]}
            if phrase.start < previous or not between <= _LINKS:
                return None
            copula = copula or bool(between & _COPULAS)
            if any(m.kind == "slot" for m in phrase.meanings):
                adjacent = phrase.end == found[i].start
                several = "are" in between and self._tokens[phrase.start - 1].key in ("and", "the")
                if not (copula or adjacent) or several:
                    return None
                slot = self._whose_slot(found, phrase)
                return None if slot in _PREPOSITIONS else slot
            if not any(m.kind in ("name", "noun") for m in phrase.meanings):
                return None
            at = phrase.start
        return None

    def _whose_slot(self, found: Sequence[Found[Meaning]], phrase: Found[Meaning]) -> str:
        """The slot that a phrase names; in "the address of the venue" it is the address."""
        start = phrase.start
        while start and self._tokens[start - 1].key in ("of", "the"):
            start -= 1
        before = next((f for f in found if f.end == start < phrase.start - 1), phrase)
        meanings = (*before.meanings, *phrase.meanings)
        return next(m.slot for m in meanings if m.kind == "slot")

    def _slot_after(
        self, found: Sequence[Found[Meaning]], i: int, sentence: Sentence
    ) -> str | None:
        """The slot in "408-971-8523 is the phone number", said right after the value."""
        if i + 1 == len(found):
            return None
        between = [t.key for t in self._tokens[found[i].end : found[i + 1].start]]
        linked = 1 <= len(between) <= 2 and between[0] in ("is", "are", "as")
        at = found[i + 1].end  # "Porto is the origin station" names no origin
        if self._runs_on(at) or (sentence.open and at == sentence.end):
            return None
        if linked and (len(between) == 1 or between[1] in ("the", "its", "their", "a")):
            return next((m.slot for m in found[i + 1].meanings if m.kind == "slot"), None)
        return None

    def _runs_on(self, at: int) -> bool:
        """Whether a noun phrase goes on with this token."""
        return (
            at < len(self._tokens)
            and not self.gaps(at, at).strip()
            and self._tokens[at].key not in _AFTER_SLOT
        )
