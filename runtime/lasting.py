"""Work of an event loop that lasts as long as its service: if it ends before it is cancelled, it is begun again.

A loop that looks for what is due keeps its errors to itself. Should one escape all the same, its task would end without
a word: an exception that nobody retrieves is not told before the task is forgotten. What it was to do would stay undone
until the next start, while everything else seems to be well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from prometheus_client import Counter

from runtime.logging import get_logger

_ended = Counter("kwbp_work_ended_total", "Lasting work that ended by itself and was begun again", ["work"])
_log = get_logger("lasting")


async def lasting(name: str, work: Callable[[], Awaitable[None]], *, pause: float = 1.0) -> None:
    """Do `work` until cancelled; the operator is told, by class, of whatever ended it, and it is begun again.

    :param name: for people, and the metric's label.
    :param pause: seconds between an end and the next beginning.
    """
    _ended.labels(name)  # shown from the beginning: a counter that appears with its first count was never seen to grow
    while True:
        error = await _end_of(work)
        _ended.labels(name).inc()
        _log.error("work ended by itself and is begun again", work=name, error=error, alarm=True)
        await asyncio.sleep(pause)


async def until_done(name: str, work: Callable[[], Awaitable[None]], *, pause: float = 1.0) -> None:
    """As `lasting`, for work that ends: it is begun again only where it failed."""
    _ended.labels(name)
    while (error := await _end_of(work)) is not None:
        _ended.labels(name).inc()
        _log.error("work failed and is begun again", work=name, error=error, alarm=True)
        await asyncio.sleep(pause)


async def _end_of(work: Callable[[], Awaitable[None]]) -> str | None:
    """The class of what ended it; None if it came to its end.

    :raises asyncio.CancelledError: this task was cancelled. That of something it waited for is an error like others.
    """
    try:
        await work()
    except asyncio.CancelledError as error:
        this = asyncio.current_task()
        assert this is not None
        if this.cancelling():
            raise
        return type(error).__name__
    except Exception as error:  # whatever it is: nobody else would ever see it
        return type(error).__name__
    return None
