"""One thread writes a database; commits that meet share one sync of the disk.

SQLite has one writer at a time anyway. Instead of letting requests queue for its lock, each with its own commit and its
own sync, they queue here: the thread takes every job that is waiting, runs them in one transaction and syncs once.
An idle database costs one sync a step, a busy one a share of it; no job waits for a timer.

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
from contextlib import nullcontext
from typing import Any, Final, TypeAlias, TypeVar

from prometheus_client import Histogram
from sqlalchemy import Connection, Engine

from runtime.logging import get_logger

T = TypeVar("T")

_LARGEST_GROUP: Final = 256
_GROUP: Final = Histogram(
    "kwbp_commit_group_size",
    "Jobs that shared one commit",
    ["database"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
_log = get_logger("group-writer")

_Job: TypeAlias = "tuple[Callable[[Connection], Any], Future[Any]]"


class DatabaseUnavailableError(Exception):
    """The job was not committed: the writer is closed, the disk full, the database gone."""


class GroupWriter:
    """The only writer of an engine's database. `start` it, `run` jobs from any event loop, `close` it."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=f"{name}-writer", daemon=True)

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

        :raises DatabaseUnavailableError: not committed; whatever `job` raises, with its writes undone.
        """
        return await asyncio.wrap_future(self.submit(job))

    def submit(self, job: Callable[[Connection], T]) -> Future[T]:
        """As `run`, for callers without an event loop."""
        future: Future[T] = Future()
        with self._closing:
            if self._closed:
                raise DatabaseUnavailableError(f"the database {self._name} is closed")
            self._jobs.put((job, future))
        return future

    def _work(self) -> None:
        running = True
        while running:
            group: list[_Job] = []
            job = self._jobs.get()
            while job is not None:
                # A job that nobody waits for any more (its request was cancelled) is not started.
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
                    # What is alone in its transaction needs no savepoint, which takes longer than most jobs.
                    alone = len(group) == 1
                    try:
                        with nullcontext() if alone else connection.begin_nested():
                            result = job(connection)
                    except Exception as error:  # belongs to whoever submitted the job
                        failed.append((future, error))
                        if alone:
                            connection.rollback()
                    else:
                        done.append((future, result))
        except Exception as error:
            _log.error("commit failed", database=self._name, error=type(error).__name__, jobs=len(group))
            for _, future in group:
                future.set_exception(DatabaseUnavailableError(f"the database {self._name} could not commit"))
            return
        _GROUP.labels(self._name).observe(len(group))
        for future, result in done:
            future.set_result(result)
        for future, failure in failed:
            future.set_exception(failure)
