"""How long things have stood, by a clock that nobody sets: before a promised time is over, nothing is taken back.

An approval is the merchant's until `ackBy`. By the clock on the wall alone that would be over at once when the clock is
set forward, and early when it was ahead all the time. So an approval is taken back once the clock says so, and

    it was answered on this machine, since its start   as long has passed as was promised. Stored with the answer, so
                                                       this counts after a restart too, and for each gateway here
    elsewhere, or before the machine was started anew  this gateway has seen it due for a whole T_ack: nothing here
                                                       knows how long it has stood; who answered it will be quicker

A machine that was set back to an earlier state (a snapshot) has the name of its start still, and counts less than it
did. What it promised may lie days ahead then, further than anything is promised: that counts as from elsewhere.

What was promised is reckoned by the merchant's own clock: from the date of its request to `ackBy`. If the gateway's
clock is ahead (K7 bounds by how much), so is `ackBy`, and the merchant may take it at its word.
"""

from __future__ import annotations

from collections.abc import Hashable
from datetime import datetime, timedelta
from typing import Final

from gateway.order import Order, Promise
from runtime.uptime import Uptime

_MOST: Final = timedelta(hours=1)
"""Beyond T_ack nothing is promised for longer: K7 bounds by minutes how far the clocks are apart, and how old a request
is that is worked on."""


class Patience:
    """Of one process. `whole`: T_ack."""

    def __init__(self, uptime: Uptime, whole: timedelta) -> None:
        self._uptime = uptime
        self._whole = whole
        self._seen: dict[Hashable, float] = {}

    def promise(self, *, asked: datetime, ack_by: datetime) -> Promise:
        """What is promised now with `ack_by`; `asked` is the date of the merchant's request, by its clock."""
        wait = min(max(self._whole, ack_by - asked), self._whole + _MOST)
        return Promise(self._uptime.boot, int((self._uptime.seconds() + wait.total_seconds()) * 1000))

    def now(self) -> Promise:
        """What is over by now of this machine's promises."""
        return Promise(self._uptime.boot, int(self._uptime.seconds() * 1000))

    def furthest(self) -> Promise:
        """What is beyond this was not promised by what is counted here."""
        return Promise(self._uptime.boot, self.now().until + int((self._whole + _MOST).total_seconds() * 1000))

    def is_over(self, order: Order) -> bool:
        """Whether an approval has stood as long as it must, whose `ack_by` has come by the clock on the wall."""
        until = order.ack_until if order.ack_boot == self._uptime.boot else None
        if until is not None and until <= self.furthest().until:
            return until <= self.now().until
        return self.has_stood(order.key, self._whole)

    def has_stood(self, what: Hashable, least: timedelta) -> bool:
        """Whether `what` was asked about so long ago already, for the first time."""
        now = self._uptime.seconds()
        since = self._seen.setdefault(what, now)
        # What was not asked about again has come to its end by itself.
        while self._seen and now - (oldest := next(iter(self._seen.items())))[1] > 4 * self._whole.total_seconds():
            del self._seen[oldest[0]]
        return now - since >= least.total_seconds()
