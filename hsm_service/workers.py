"""The threads in which operations run that compute or wait for long: work on keys, plug-ins, large structures.

Signatures that are judged quickly run on the event loop (`hsm_service.steps`). An operation here holds its thread from
the first check to the last record: it waits twice for the disk and once for the token, and while it waits others use
the processor. A few more threads than processors therefore keep the token busy; one hop a request, not one a step. What
would wait for too long is refused at once (503, Retry-After) instead of timing out at the caller: a queue that only
grows helps nobody.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar

from prometheus_client import Gauge

from runtime.problems import Problem

P = ParamSpec("P")
T = TypeVar("T")

THREADS: Final = 2 * (os.cpu_count() or 1) + 4
QUEUE: Final = 256
"""Operations that may wait for a thread."""

_BUSY: Final = Gauge("kwbp_hsm_operations_in_progress", "Operations of the signing API that run or wait for a thread")

_Job: TypeAlias = "tuple[Callable[[], Any], asyncio.AbstractEventLoop, asyncio.Future[Any]]"


class Workers:
    """A bounded pool of threads with a bounded queue, for one event loop."""

    def __init__(self, threads: int = THREADS, queue_limit: int = QUEUE) -> None:
        self._limit = threads + queue_limit
        self._count = threads
        self._running = 0
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._closed = False

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`work` in a thread of the pool; Problem 503 at once when too many wait already, or after `close`."""
        if self._closed or self._running >= self._limit:
            raise Problem(503, "overloaded", "too many operations wait already", headers={"Retry-After": "1"})
        if len(self._threads) < self._count:
            self._start_thread()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._running += 1
        _BUSY.set(self._running)
        try:
            self._jobs.put((partial(work, *args, **kwargs), loop, future))
            return await future
        finally:
            self._running -= 1
            _BUSY.set(self._running)

    def close(self) -> None:
        """Finishes what was begun, then stops the threads. May be called twice."""
        if self._closed:
            return
        self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name=f"token-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, loop, future = job
            if future.cancelled():  # nobody waits for it any more, and nothing was begun
                continue
            try:
                result = work()
            except BaseException as error:
                _tell(loop, _set_exception, future, error)
            else:
                _tell(loop, _set_result, future, result)


def _tell(loop: asyncio.AbstractEventLoop, report: Callable[..., None], *arguments: Any) -> None:
    # A loop that was closed meanwhile has nobody left to tell; the record of the operation is on the disk.
    if not loop.is_closed():
        loop.call_soon_threadsafe(report, *arguments)


def _set_result(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _set_exception(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
