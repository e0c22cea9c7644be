"""So many of a thing in a minute, for each caller: what costs the token something is not done for the fastest asker."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

_MINUTE: Final = timedelta(minutes=1)


class MinuteBudget:
    """Counts in memory, for one process and one event loop; `clock` gives aware UTC times."""

    def __init__(self, limit: int, *, clock: Callable[[], datetime]) -> None:
        self._limit = limit
        self._clock = clock
        self._taken: dict[str, deque[datetime]] = {}

    def take(self, caller: str) -> bool:
        """Count one for `caller`; False, and nothing counted, if the minute that ends now has had `limit` of them."""
        now = self._clock()
        taken = self._taken.setdefault(caller, deque())
        while taken and taken[0] <= now - _MINUTE:
            taken.popleft()
        if len(taken) >= self._limit:
            return False
        taken.append(now)
        return True
