"""The clocks of a case, as pure functions of its row: what is due next, and what people are to be reminded of.

| clock   | runs in                        | at its end                                                              |
| ------- | ------------------------------ | ----------------------------------------------------------------------- |
| decide  | SCREENING, VETTING, AWAITING   | the breach is told; the case goes on (CPS 4.2.3). It stands while held. |
| request | open states                    | the case expires (CPS 4.2.3)                                            |
| judge   | VETTING, AWAITING              | the case is judged anew: an approval lapses, evidence grew too old      |
| accept  | ISSUED                         | what nobody accepted is revoked (CPS 4.4.1)                             |

The first two are reminded of at the marks that the pack sets (`clocks.warn_at`, shares of their time). If several marks
passed at once, because nobody looked, the last one is told alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from cps.model import Pack
from ra.records import Application
from ra.states import DECIDABLE, DECIDING, OPEN, State

_END: Final = 1.0


@dataclass(frozen=True, slots=True)
class Reminder:
    """That `share` of a clock's time is over, which ends at `ends`; `told`: how many of its marks are told then."""

    clock: Literal["decide", "request"]
    share: float
    ends: datetime
    told: int

    @property
    def column(self) -> str:
        """The column that counts the marks told."""
        return "decide_warned" if self.clock == "decide" else "due_warned"


@dataclass(frozen=True, slots=True)
class _Clock:
    name: Literal["decide", "request"]
    start: datetime
    end: datetime
    marks: tuple[float, ...]
    told: int

    def at(self, mark: float) -> datetime:
        return self.start + (self.end - self.start) * mark


def reminder(application: Application, pack: Pack, now: datetime) -> Reminder | None:
    """What is to be told of a case at `now`, if anything."""
    for clock in _running(application, pack):
        passed = sum(clock.at(mark) <= now for mark in clock.marks)
        if passed > clock.told:
            return Reminder(clock.name, clock.marks[passed - 1], clock.end, passed)
    return None


def next_at(application: Application, pack: Pack) -> datetime | None:
    """The first instant at which the clock has something to do for a case; None if never."""
    instants = [clock.at(mark) for clock in _running(application, pack) for mark in clock.marks[clock.told :]]
    if application.state in OPEN:
        instants.append(application.due_at)
    if application.state in DECIDABLE and application.judge_at is not None:
        instants.append(application.judge_at)
    if application.state is State.ISSUED and application.accept_by is not None:
        instants.append(application.accept_by)
    return min(instants, default=None)


def _running(application: Application, pack: Pack) -> list[_Clock]:
    marks = tuple(sorted(pack.clocks.warn_at))
    clocks = []
    if application.state in DECIDING and application.decide_from is not None and application.decide_by is not None:
        told = application.decide_warned
        clocks.append(_Clock("decide", application.decide_from, application.decide_by, (*marks, _END), told))
    if application.state in OPEN - {State.DRAFT}:
        clocks.append(_Clock("request", application.due_from, application.due_at, marks, application.due_warned))
    return clocks
