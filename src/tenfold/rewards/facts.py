"""Facts and what is asked of them: the front of `records` and `questions`."""

from __future__ import annotations

from tenfold.rewards.questions import requested
from tenfold.rewards.records import GUEST, Facts, Record, Requirement, facts_of, parse_facts

__all__ = ["GUEST", "Facts", "Record", "Requirement", "facts_of", "parse_facts", "requested"]
