"""One thread writes the order book; commits of payments that meet share one sync of the disk.

SQLite has one writer at a time anyway. Instead of letting payments queue for its lock, each with its own commit and its
own sync, they queue here: the thread takes every job that is waiting, runs them in one transaction and syncs once.
An idle book costs one sync a step, a busy one a share of it; no job waits for a timer.

Each job keeps its own fate: it runs in a savepoint, so one that fails (a lost compare-and-set, say) is undone and told
so, and takes nobody with it. A job's future is resolved only after the commit that holds it: whoever awaits it may act
on it, even if the machine loses power the next moment.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeAlias, TypeVar

from prometheus_client import Histogram
from sqlalchemy import Connection, Engine

from gateway.errors import StoreUnavailableError
from runtime.logging import get_logger

T = TypeVar("T")

_LARGEST_GROUP: Final = 256
_GROUP: Final = Histogram(
    "kwbp_gateway_commit_group_size",
    "Steps of orders that shared one commit",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
_log = get_logger("gateway.writer")

_Job: TypeAlias = "tuple[Callable[[Connection], Any], Future[Any]]"


class GroupWriter:
    """The only writer of an engine's database. `start` it, `run` jobs from any event loop, `close` it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="order-book-writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Finish what is queued, then stop. Later jobs are refused. May be called twice."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
        self._thread.join()

    async def run(self, job: Callable[[Connection], T]) -> T:
        """Run `job` in a transaction and return its result once that transaction is on the disk.

        `job` may not touch anything but its connection: it runs in the writer's thread, between other jobs.

        :raises StoreUnavailableError: not committed (closed, disk full, …).
        :raises Exception: whatever `job` raises; its writes are undone.
        """
        return await asyncio.wrap_future(self.submit(job))

    def submit(self, job: Callable[[Connection], T]) -> Future[T]:
        """As `run`, for callers without an event loop."""
        future: Future[T] = Future()
        with self._closing:
            if self._closed:
                raise StoreUnavailableError("the order book is closed")
            self._jobs.put((job, future))
        return future

    def _work(self) -> None:
        running = True
        while running:
            group: list[_Job] = []
            job = self._jobs.get()
            while job is not None:
                # A job that nobody waits for any more (its payment was cancelled) is not started.
                if job[1].set_running_or_notify_cancel():
                    group.append(job)
                if len(group) == _LARGEST_GROUP or self._jobs.empty():
                    break
                job = self._jobs.get()
            running = job is not None
            if group:
                self._commit(group)

    def _commit(self, group: list[_Job]) -> None:
        done: list[tuple[Future[Any], Any]] = []
        failed: list[tuple[Future[Any], Exception]] = []
        try:
            with self._engine.begin() as connection:
                for job, future in group:
                    try:
                        with connection.begin_nested():
                            result = job(connection)
                    except Exception as error:  # belongs to whoever submitted the job
                        failed.append((future, error))
                    else:
                        done.append((future, result))
        except Exception as error:
            _log.error("commit failed", error=type(error).__name__, steps=len(group))
            for _, future in group:
                future.set_exception(StoreUnavailableError("the order book could not commit"))
            return
        _GROUP.observe(len(group))
        for future, result in done:
            future.set_result(result)
        for future, fault in failed:
            future.set_exception(fault)
