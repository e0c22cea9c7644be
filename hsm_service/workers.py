"""The threads in which token operations run, so that the event loop never waits for a token or a disk.

An operation holds its thread from the first check to the last record: it waits twice for the disk and once for the
token, and while it waits others use the processor. A few more threads than processors therefore keep the token busy;
one hop a request, not one a step. What would wait for too long is refused at once (503, Retry-After) instead of timing
out at the caller: a queue that only grows helps nobody.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from prometheus_client import Gauge

from runtime.problems import Problem

P = ParamSpec("P")
T = TypeVar("T")

THREADS: Final = 2 * (os.cpu_count() or 1) + 4
QUEUE: Final = 256
"""Operations that may wait for a thread."""

_BUSY: Final = Gauge("kwbp_hsm_operations_in_progress", "Operations of the signing API that run or wait for a thread")


class Workers:
    """A bounded pool of threads with a bounded queue."""

    def __init__(self, threads: int = THREADS, queue: int = QUEUE) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="token")
        self._limit = threads + queue
        self._running = 0

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`work` in a thread of the pool; Problem 503 at once when too many wait already. For one event loop."""
        if self._running >= self._limit:
            raise Problem(503, "overloaded", "too many operations wait already", headers={"Retry-After": "1"})
        self._running += 1
        _BUSY.inc()
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, lambda: work(*args, **kwargs))
        finally:
            self._running -= 1
            _BUSY.dec()

    def close(self) -> None:
        """Waits for what runs; starts nothing more."""
        self._pool.shutdown(wait=True, cancel_futures=True)
