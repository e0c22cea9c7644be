"""When people must know about the lines: none is up, half of them have been down for too long, or clocks are apart.

An alarm is one log line when it begins, one when it is over, and a metric in between.
"""

from __future__ import annotations

import asyncio
from typing import Final

import prometheus_client

from runtime.logging import get_logger

_raised: Final = prometheus_client.Gauge(
    "kwbp_gateway_link_alarm", "1 while something is wrong with the lines", ["connector", "alarm"]
)
_log = get_logger("gateway.link")
NONE_UP: Final = "no line up"
HALF_DOWN: Final = "half of the lines down"
CLOCKS_APART: Final = "the network's clock is another"


class LinkAlarms:
    """Told of every change by the link; keeps a timer at most."""

    def __init__(self, connector: str, lines: int, *, after: float) -> None:
        self._connector = connector
        self._lines = lines
        self._after = after
        self._was_up = False
        self._timer: asyncio.TimerHandle | None = None
        self._raised: set[str] = set()

    def look(self, up: int) -> None:
        """`up` lines are signed on now."""
        if up == 0 and self._was_up:  # a line that worked is gone: at once
            self._raise(NONE_UP)
        if up:
            self._was_up = True
            self._clear(NONE_UP)
        if 2 * up <= self._lines and (self._lines > 1 or up == 0):
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(self._after, self._overdue, up)
        else:
            self.stop()
            self._clear(HALF_DOWN)

    def clock(self, *, is_off: bool, ahead: float) -> None:
        """The clock is `ahead` seconds of the network's, which is more than people want, or it is not."""
        if is_off:
            self._raise(CLOCKS_APART, ahead=ahead)
        else:
            self._clear(CLOCKS_APART)

    def stop(self) -> None:
        """No timer from now on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _overdue(self, up: int) -> None:
        self._raise(NONE_UP if up == 0 and not self._was_up else HALF_DOWN)

    def _raise(self, alarm: str, **told: float) -> None:
        if alarm not in self._raised:
            self._raised.add(alarm)
            _raised.labels(self._connector, alarm).set(1)
            _log.error(alarm, connector=self._connector, **told, alarm=True)

    def _clear(self, alarm: str) -> None:
        if alarm in self._raised:
            self._raised.discard(alarm)
            _raised.labels(self._connector, alarm).set(0)
            _log.info("alarm over", connector=self._connector, about=alarm)
