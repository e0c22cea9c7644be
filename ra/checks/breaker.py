"""Leaves a register alone that does not answer, so that nobody waits for it in vain.

After `threshold` tries in a row without an answer nobody asks for `pause`; then one may try, and an answer opens the
way for all. It is each process's own: that a register is dead is found out in a few tries.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

THRESHOLD: Final = 3
PAUSE: Final = timedelta(seconds=30)


class Breaker:
    """The breaker of one register; safe to use from several threads."""

    def __init__(self, clock: Callable[[], datetime], *, threshold: int = THRESHOLD, pause: timedelta = PAUSE) -> None:
        self._clock = clock
        self._threshold = threshold
        self._pause = pause
        self._lock = threading.Lock()
        self._failed = 0
        self._closed_until: datetime | None = None

    def allows(self) -> bool:
        """Whether somebody may ask now; after a pause only the first who comes, until they tell how it went."""
        with self._lock:
            if self._closed_until is None:
                return True
            now = self._clock()
            if now < self._closed_until:
                return False
            self._closed_until = now + self._pause
            return True

    def answered(self) -> None:
        """There was an answer."""
        with self._lock:
            self._failed, self._closed_until = 0, None

    def failed(self) -> None:
        """There was none."""
        with self._lock:
            self._failed += 1
            if self._failed >= self._threshold:
                self._closed_until = self._clock() + self._pause

    @property
    def reopens_at(self) -> datetime | None:
        """When somebody may ask again; None if at once."""
        with self._lock:
            return self._closed_until
