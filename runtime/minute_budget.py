"""So many of a thing in a minute, for each caller: what costs the token something is not done for the fastest asker."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

_MINUTE: Final = timedelta(minutes=1)


class MinuteBudget:
    """Counts in memory, for one process and one event loop; `clock` gives aware UTC times.

    What was counted at a time that now lies in the future, because the clock was put back, does not count. Callers who
    have not asked for a minute are forgotten.
    """

    def __init__(self, limit: int, *, clock: Callable[[], datetime]) -> None:
        self._limit = limit
        self._clock = clock
        self._taken: dict[str, deque[datetime]] = {}
        self._swept = clock()

    def take(self, caller: str) -> bool:
        """Count one for `caller`; False, and nothing counted, if the minute that ends now has had `limit` of them."""
        now = self._clock()
        if not _in_the_minute(self._swept, now):
            self._taken = {name: taken for name, taken in self._taken.items() if _in_the_minute(taken[-1], now)}
            self._swept = now
        taken = self._taken.get(caller, deque())
        while taken and not _in_the_minute(taken[0], now):
            taken.popleft()
        if len(taken) >= self._limit:
            return False
        taken.append(now)
        self._taken[caller] = taken
        return True

    def __len__(self) -> int:
        """How many callers are remembered."""
        return len(self._taken)


def _in_the_minute(moment: datetime, now: datetime) -> bool:
    """Whether `moment` lies in the minute that ends at `now`."""
    return now - _MINUTE < moment <= now
