"""Who says whether an answer to a question of `tenfold eval` is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tenfold.cli.rewards import final_number

if TYPE_CHECKING:
    from tenfold.cli.held_out import HeldOut
    from tenfold.rewards.verifier import FactsVerifier


class Judge(Protocol):
    """Knows what is right for one question."""

    @property
    def key(self) -> Any:
        """What is right, as JSON: results belong to it."""
        ...

    def verdict(self, text: str) -> dict[str, Any]:
        """What goes into the results; `right` is always in it."""
        ...


@dataclass(frozen=True, slots=True)
class NumberJudge:
    """GSM8K: the final number must be this one."""

    gold: str

    @property
    def key(self) -> Any:
        return self.gold

    def verdict(self, text: str) -> dict[str, Any]:
        found = final_number(text)
        return {"gold": self.gold, "found": found, "right": found == self.gold}


@dataclass(frozen=True, slots=True)
class FactsJudge:
    """Held-out questions: every required value must be stated, and nothing wrong beside it."""

    question: HeldOut
    verifier: FactsVerifier

    @property
    def key(self) -> Any:
        return [[r.record, r.slot, r.value] for r in self.question.required]

    def verdict(self, text: str) -> dict[str, Any]:
        found = self.verifier.check(text)
        return {
            "question": self.question.id,
            "set": self.question.set,
            "kind": self.question.kind,
            "required": found.required,
            "slot_errors": found.slot_errors,
            "missing": [f"{m.value} ({m.record})" for m in found.missing],
            "wrong": list(found.wrong),
            "invented": list(found.invented),
            "right": found.slot_errors == 0,
        }
