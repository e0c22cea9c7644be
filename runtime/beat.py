"""Work that each process does for itself, every few seconds, whatever the clock on the wall says.

Schedules (`runtime.durable`) are worked through by one replica; what each of them has to look after is done here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, Self

from runtime.logging import get_logger

_log: Final = get_logger("beat")


class Beat:
    """A thread that does `work` every `seconds`, from entering it to leaving it; what it raises is logged, by class."""

    def __init__(self, name: str, seconds: float, work: Callable[[], object]) -> None:
        self._name = name
        self._seconds = seconds
        self._work = work
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: Any) -> None:
        self._stopping.set()
        self._thread.join(self._seconds)  # work that waits for a database is left to itself: it is done again

    def _run(self) -> None:
        failing: str | None = None
        while not self._stopping.wait(self._seconds):
            try:
                self._work()
                failing = None
            except Exception as error:  # a fault of one time must not end all later ones
                if failing != type(error).__name__:  # told once, not every few seconds
                    failing = type(error).__name__
                    _log.error("beat-failed", beat=self._name, error=failing)


class ClockWatch:
    """Whether somebody set the clock, or the machine slept: the clocks on the wall and of the machine parted."""

    def __init__(
        self,
        wall: Callable[[], datetime],
        *,
        tolerance: timedelta = timedelta(seconds=20),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._tolerance = tolerance
        self._seen = (wall(), monotonic())

    def jumped(self) -> bool:
        """Whether the clock was set since the last look, by more than the tolerance."""
        wall, monotonic = self._wall(), self._monotonic()
        parted = wall - self._seen[0] - timedelta(seconds=monotonic - self._seen[1])
        self._seen = (wall, monotonic)
        return abs(parted) > self._tolerance
