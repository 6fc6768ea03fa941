"""House rules: lines of the system message that determine what a human turn must state.

People in the data choose freely which slots they mention when they suggest or confirm something.
A model cannot guess that, so the system message says it, as the owner of a concierge would:
"When you suggest a bus, say the departure time and the price."
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .dialogues import NAME_SLOTS, Turn
from .facts import GUEST, listed, slot_words, with_article

Signature = tuple[str, ...]  # slot words in the order in which they are first said


def signature(turn: Turn, act: str) -> Signature:
    """Return the slots that ``turn`` states with ``act``, without the name of what it offers.

    They stand in the order in which the turn says them: what goes through the rule in its order
    leaves nothing out.
    """
    said = [int(hole) for hole in re.findall(r"\{(\d+)\}", turn.text)]
    known = [pair for pair in turn.acts.get(act, ()) if pair[1] in said]
    pairs = sorted(known, key=lambda pair: said.index(pair[1]))
    slots = [slot for slot, _ in pairs if act != "OFFER" or slot not in NAME_SLOTS]
    return tuple(dict.fromkeys(slot_words(slot) for slot in slots))


@dataclass(slots=True)
class HouseRules:
    """What to ask before a suggestion, to say with it, and to confirm before booking, by noun."""

    ask: dict[str, Signature] = field(default_factory=dict)
    say: dict[str, Signature] = field(default_factory=dict)
    confirm: dict[str, Signature] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Write the rules, a line for each noun."""
        out = []
        for noun in dict.fromkeys([*self.ask, *self.say, *self.confirm]):
            a_noun = with_article(noun)
            sentences = []
            if self.ask.get(noun):
                sentences.append(f"Before you suggest {a_noun}, ask for {listed(self.ask[noun])}.")
            if self.say.get(noun):
                sentences.append(f"When you suggest {a_noun}, say {listed(self.say[noun])}.")
            if self.confirm.get(noun):
                sentences.append(f"Before you book {a_noun}, confirm {listed(self.confirm[noun])}.")
            if sentences:
                out.append(" ".join(sentences))
        return out


def read_rules(turns: Sequence[Turn]) -> tuple[HouseRules, int]:
    """Return the rules that ``turns`` follow, and how many turns follow them.

    Turns are counted up to the first that suggests other slots than an earlier one did.
    """
    rules = HouseRules()
    for position, turn in enumerate(turns):
        if turn.speaker != "system":
            continue
        if "OFFER" in turn.acts:
            said = signature(turn, "OFFER")
            if set(rules.say.setdefault(turn.noun, said)) != set(said):
                return rules, position - 1
        if "CONFIRM" in turn.acts:
            rules.confirm.setdefault(turn.noun, signature(turn, "CONFIRM"))
        if turn.needs and ("OFFER" in turn.acts):
            rules.ask.setdefault(turn.noun, tuple(slot_words(slot) for slot, _ in turn.needs))
    return rules, len(turns)


def kind_of_turn(turn: Turn, before: Turn, rules: HouseRules) -> str:
    """Return what determines the values of ``turn``: a rule, a question, or nothing ("")."""
    acts = {act for act in turn.acts if act != "INFORM_COUNT"}
    if acts == {"OFFER"} and set(signature(turn, "OFFER")) == set(rules.say.get(turn.noun, ())):
        return "offer"
    if acts == {"CONFIRM"} and set(signature(turn, "CONFIRM")) == set(
        rules.confirm.get(turn.noun, ())
    ):
        return "confirm"
    informed = {slot for slot, _ in turn.acts.get("INFORM", ())} | set(turn.flags)
    if acts == {"INFORM"} and informed == set(before.asked):
        return "inform"
    return ""


def required_values(
    turn: Turn, kind: str, owners: Mapping[int, str], written: Mapping[int, str]
) -> list[tuple[str, str, str]]:
    """Return the (record, slot words, value) that ``turn`` must state.

    ``owners`` names the record that holds a value, by hole; what nobody has, and all that is
    confirmed, is what the guest wants.
    """
    if not kind:
        return []
    out = []
    for act, pairs in turn.acts.items():
        for slot, hole in pairs:
            if act == "INFORM_COUNT":
                continue
            if slot in NAME_SLOTS:
                out.append((written[hole], "", written[hole]))
            else:
                owner = GUEST if kind == "confirm" else owners.get(hole, GUEST)
                out.append((owner, slot_words(slot), written[hole]))
    return out
