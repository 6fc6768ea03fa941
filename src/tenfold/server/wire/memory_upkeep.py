"""Summing up, feedback, learning and retention over HTTP: requests and answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tenfold.server.wire.base import Answer, Wire


class ConsolidateRequest(Wire):
    """A conversation, or all in which nothing was said for so many days."""

    conversation: str = ""
    rest_days: Annotated[float, Field(gt=0, le=36_500)] | None = None


class Sentence(Answer):
    """A sentence that a summary quotes, and the event that it is of."""

    event: str
    text: str


class Summary(Answer):
    """A summary and the events that it stands for; `said` is empty where it quotes none."""

    conversation: str
    text: str
    events: list[str]
    said: list[Sentence]
    deriver: str


class SummaryList(Answer):
    """New summaries."""

    object: Literal["list"]
    data: list[Summary]


class FeedbackRequest(Wire):
    """Which of the shown events answered a query; `conversation` where only that was searched."""

    query: Annotated[str, Field(max_length=8192)]
    shown: Annotated[list[str], Field(min_length=1, max_length=100)]
    useful: Annotated[list[str], Field(max_length=31)] = Field(default_factory=list)
    conversation: str = ""


class Learnt(Answer):
    """How learning went; `gain` is a share of useful events among the first ten, `low` its limit.

    `ranks` is the name of what ranks now.
    """

    promoted: bool
    feedback: Annotated[int, Field(ge=0)]
    why: str
    gain: float
    low: float
    ranks: str


class Ranks(Answer):
    """The name of what ranks now."""

    ranks: str


class Retention(Answer):
    """How many days, or how many events, of a scope and kind are kept; "" is every one."""

    scope: str
    kind: str
    days: float | None
    events: int | None


class RetentionList(Answer):
    """The policies of the tenant; the server applies them."""

    object: Literal["list"]
    data: list[Retention]
