"""The queue as it goes over the wire."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import Field

from cps.model import MemberClass
from ra.states import State
from ra.wire import ApplicationSummary, Wire


class QueuePage(Wire):
    """A page of the queue. `next` is where the next one begins, None: this was the last.

    `total` is how many cases all pages have; None: more than 1 000, and nobody counted them.
    """

    applications: tuple[ApplicationSummary, ...]
    next: str | None
    total: int | None


class StateCount(Wire):
    """How many cases of a class are in a state."""

    state: State
    member_class: MemberClass = Field(alias="class")
    cases: int


class RejectionCount(Wire):
    """How many cases of a class officers have rejected for a reason, by its code in the statement."""

    code: str
    member_class: MemberClass = Field(alias="class")
    cases: int


class WaitingView(Wire):
    """Cases that wait for one step. `oldest`: when the first of them was opened; `late`: how many are overdue."""

    step: str
    member_class: MemberClass = Field(alias="class")
    by: tuple[str, ...]
    cases: int
    oldest: datetime
    late: int


class AgeView(Wire):
    """Cases that wait for people, younger than `below` and as old as the limit before; None: all that are older."""

    below: timedelta | None
    cases: int


class StatisticsView(Wire):
    """The queue at one instant. `late` cases should be decided by now (CPS 4.2.3), `next_day` within a day."""

    at: datetime
    states: tuple[StateCount, ...]
    waiting: tuple[WaitingView, ...]
    ages: tuple[AgeView, ...]
    late: int
    next_day: int
    rejections: tuple[RejectionCount, ...]
