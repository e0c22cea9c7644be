"""Work of an event loop that lasts as long as its service: if it ends before it is cancelled, it is begun again.

A loop that looks for what is due keeps its errors to itself. Should one escape all the same, its task would end without
a word: an exception that nobody retrieves is not told before the task is forgotten. What it was to do would stay undone
until the next start, while everything else seems to be well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from prometheus_client import Counter

from runtime.logging import get_logger

_FIRST: Final = 1.0
_LONGEST: Final = 60.0
_ended = Counter("kwbp_work_ended_total", "Lasting work that ended by itself and was begun again", ["work"])
_log = get_logger("lasting")


async def lasting(name: str, work: Callable[[], Awaitable[None]], *, pause: float = _FIRST) -> None:
    """Do `work` until cancelled; the operator is told, by class and place, what ended it, and it is begun again.

    :param name: for people, and the metric's label.
    :param pause: seconds between the first end and the next beginning; up to a minute if it ends at once again.
    """
    await _kept_up(name, work, pause, "work ended by itself and is begun again")


async def until_done(name: str, work: Callable[[], Awaitable[None]], *, pause: float = _FIRST) -> None:
    """As `lasting`, for work that ends: it is begun again only where it failed."""
    await _kept_up(name, work, pause, "work failed and is begun again", may_end=True)


def is_ending() -> bool:
    """Whether whoever asks was cancelled, so that its work will not be begun again: for `finally`."""
    this = asyncio.current_task()
    return this is not None and this.cancelling() > 0


async def _kept_up(
    name: str, work: Callable[[], Awaitable[None]], first: float, told: str, *, may_end: bool = False
) -> None:
    _ended.labels(name)  # shown from the beginning: a counter that appears with its first count was never seen to grow
    clock, wait = asyncio.get_running_loop().time, first
    while True:
        begun = clock()
        error: BaseException | None = None
        try:
            await work()
        except asyncio.CancelledError as cancelled:  # of this task, or of something that it waited for
            if is_ending():
                raise
            error = cancelled
        except Exception as raised:  # whatever it is: nobody else would ever see it
            error = raised
        if error is None and may_end:
            return
        if clock() - begun > _LONGEST:
            wait = first
        _ended.labels(name).inc()
        _log.error(told, work=name, **_told(error), alarm=True)
        if is_ending():  # it was cancelled and came to another end: it is over all the same
            raise asyncio.CancelledError
        await asyncio.sleep(wait)
        wait = min(2 * wait, _LONGEST)


def _told(error: BaseException | None) -> dict[str, str | None]:
    """Its class, and where it was raised; never what it says, which may quote anything."""
    if error is None:
        return {"error": None, "place": None}
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = trace and f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
    return {"error": type(error).__name__, "place": place}
