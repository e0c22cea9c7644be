"""The clock of the time-stamp authority: the machine's, as long as nothing speaks against it.

The wall clock is compared with the monotonic one. Where they part by more than a second beyond what slewing explains,
somebody set the clock or the machine slept: no time is given until both have agreed for ten seconds. And no time is
given before the last one that was, so that genTime never goes back. The HSM service compares with its own clock, which
finds what one process cannot see, and remembers over restarts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

STEP: Final = 1.0
"""Seconds by which the clocks may part between two looks."""
SLEW: Final = 0.001
"""And for each second between them: NTP slews at most half of it."""
SETTLE: Final = 10.0
"""Seconds of agreement after which a clock that jumped is believed again."""


class TimeDoubtfulError(Exception):
    """What time it is cannot be said at the moment."""


class TrustedClock:
    """Belongs to one event loop."""

    def __init__(
        self,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._seen = (wall(), monotonic())
        self._doubtful_until = self._seen[1]
        self._given: datetime | None = None

    def now(self) -> datetime:
        """The time (aware UTC), whose second is never before that of the last; raises TimeDoubtfulError."""
        wall, monotonic = self._wall(), self._monotonic()
        seen_wall, seen_monotonic = self._seen
        elapsed = monotonic - seen_monotonic
        parted = (wall - seen_wall).total_seconds() - elapsed
        self._seen = (wall, monotonic)
        if abs(parted) > STEP + SLEW * elapsed:
            self._doubtful_until = monotonic + SETTLE
        if monotonic < self._doubtful_until:
            raise TimeDoubtfulError("the clock jumped")
        if self._given is not None and wall.replace(microsecond=0) < self._given:
            raise TimeDoubtfulError("the clock went back")
        self._given = wall.replace(microsecond=0)
        return wall
