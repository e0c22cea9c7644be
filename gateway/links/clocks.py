"""How far the gateway's clock is from the network's, by what its answers say (DE 7); nothing is decided by it.

An answer's DE 7 is a second in which the other end wrote it, which was between our request and our reading of it. So
what is told is how far the clocks are apart at least: 0 as long as they can be the same. DE 12 and 13 of an answer
repeat its request's and say nothing. Nor does a DE 7 that does (a network that repeats it is never known of), nor an
answer to a repeat, which may have been written to its first copy.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Protocol

import prometheus_client

from shetab.errors import ValueFormatError
from shetab.jalali import complete_transmission_time
from shetab.message import Message

_IN_A_ROW: Final = 3
"""Answers that must say so before people are told of either: one may come from a machine of its own."""
_SECOND: Final = timedelta(seconds=1)
_ahead: Final = prometheus_client.Gauge(
    "kwbp_gateway_network_clock_ahead_seconds",
    "How far at least the clock is ahead of the network's (DE 7 of its answers); negative: behind",
    ["connector"],
)


class ClockAlarm(Protocol):
    """Who is told that the clocks are apart, or not any more."""

    def clock(self, *, is_off: bool, ahead: float) -> None:
        """`ahead` in seconds."""


class NetworkClock:
    """Of one connector. `ahead`: seconds, negative if we are behind; None while no answer has said anything."""

    def __init__(self, connector: str, limit: float, alarm: ClockAlarm) -> None:
        self.ahead: float | None = None
        self._metric = _ahead.labels(connector)
        self._limit = timedelta(seconds=limit)
        self._alarm = alarm
        self._beyond = 0
        self._within = 0

    def answered(self, request: Message, answer: Message, sent: datetime, received: datetime) -> None:
        """`sent` and `received` by our clock."""
        said = answer.get(7)
        if said is None or said == request.get(7) or not request.mti.endswith("0") or received < sent:
            return
        try:
            written = complete_transmission_time(said, received)
        except ValueFormatError:
            return
        least, most = sent - written - _SECOND, received - written
        apart = max(least, timedelta(0)) + min(most, timedelta(0))
        is_beyond = abs(apart) > self._limit
        is_within = -self._limit <= least and most <= self._limit
        if not is_beyond and not is_within and self.ahead is not None:
            return  # it was so long under way that it contradicts nothing
        self.ahead = round(apart.total_seconds(), 1)
        self._metric.set(self.ahead)
        self._beyond = self._beyond + 1 if is_beyond else 0
        self._within = self._within + 1 if is_within else 0
        if max(self._beyond, self._within) >= _IN_A_ROW:
            self._alarm.clock(is_off=is_beyond, ahead=self.ahead)
