"""What is typed and must be seen by nobody: passphrases, PIN2, CVV2.

Where nothing can hide what is typed, nothing is read: Python would take it from standard input all the same, and show
it. A command that is ended while somebody types gives the terminal back as it was.
"""

from __future__ import annotations

import getpass
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

from cli import output
from runtime.language import Message

_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


def hidden(prompt: str) -> str:
    """One line from the terminal, not shown. Ends the command where there is none."""
    with _giving_back_the_terminal(), warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass(prompt)
        except getpass.GetPassWarning:
            output.fail(Message("there is no terminal where it could be typed unseen"))


@contextmanager
def _giving_back_the_terminal() -> Iterator[None]:
    """Let a signal that ends the command end it by way of whoever has changed the terminal."""

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, end) for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
