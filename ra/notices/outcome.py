"""How an attempt at a delivery ended, and what keeps one from lasting for ever."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Delivered:
    """The other side took it."""


@dataclass(frozen=True, slots=True)
class Failed:
    """It did not, or nobody knows whether it did. `trouble`: in our words, never theirs.

    `for_good`: it never will. `away`: nobody there can be spoken to now, so other notices need not try.
    """

    trouble: str
    for_good: bool = False
    away: bool = False


Outcome = Delivered | Failed


@contextlib.contextmanager
def cut_off(seconds: float, connection: Callable[[], socket.socket | None]) -> Iterator[None]:
    """Shut the connection down when the time is over, whatever trickles in: time limits of single reads do not end
    what never pauses long enough."""

    def shut() -> None:
        if (found := connection()) is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(found, socket.SHUT_RDWR)

    timer = threading.Timer(seconds, shut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
