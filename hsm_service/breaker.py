"""Whether a token is asked at all, and when it is tried again.

    CLOSED      it serves
    OPEN        it is away: who asks is refused at once; the next attempt comes after the back-off
    HALF_OPEN   it was started again and is on trial; who asks is still refused

The back-off doubles from `first` to `longest` seconds and starts from `first` again only when a call of a caller
succeeded: a token that logs in and then fails every call is not tried ten times a second.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

FAILURES: Final = 3
"""So many failures in a row, of a kind that may also pass by itself, and the token counts as lost."""


class State(IntEnum):
    """The numbers are those that the metric shows."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Breaker:
    """State of one token. Changed by the thread that supervises it, read by all."""

    def __init__(self, *, failures: int = FAILURES, first: float = 0.1, longest: float = 2.0) -> None:
        self.state = State.OPEN
        self._limit = failures
        self._first = first
        self._longest = longest
        self._failures = 0
        self._delay = first

    def try_again(self) -> None:
        """An attempt begins."""
        self.state = State.HALF_OPEN

    def close(self) -> None:
        """The trial went well."""
        self._failures = 0
        self.state = State.CLOSED

    def open(self) -> float:
        """The token is away; seconds to wait before the next attempt."""
        self.state = State.OPEN
        delay = self._delay
        self._delay = min(2 * delay, self._longest)
        return delay

    def succeeded(self) -> None:
        """A call of a caller was answered."""
        self._failures = 0
        self._delay = self._first

    def failed(self) -> bool:
        """A call failed through the token's fault; whether that was once too often."""
        self._failures += 1
        return self._failures >= self._limit
