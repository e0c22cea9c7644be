"""One thread of a process writes a database; commits that meet share one sync of the disk.

SQLite has one writer at a time anyway. Instead of letting requests queue for its lock, each with its own commit and its
own sync, they queue here: the thread takes every job that is waiting, runs them in one transaction and syncs once.
An idle database costs one sync a step, a busy one a share of it; no job waits for a timer.

Each job keeps its own fate: one that fails (a lost compare-and-set, say) is undone and told so, and takes nobody with
it. A job's future is resolved only after the commit that holds it: whoever awaits it may act on it, even if the machine
loses power the next moment. Jobs seldom fail, and a savepoint takes longer than most of them: a group first runs
without, and from its start again, each in a savepoint, if one fails.

A PostgreSQL may have other writers. A transaction that ran into one of them (a deadlock) is run again from its start
too. Jobs bear it: they touch nothing but their connection, and what they have to say they hand over
(`runtime.after_commit`).
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from typing import Any, Final, TypeAlias, TypeVar

from prometheus_client import Histogram
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from runtime.after_commit import Said, Say, collecting
from runtime.logging import get_logger

T = TypeVar("T")

_LARGEST_GROUP: Final = 256
_MOST_TRIES: Final = 5
_RAN_INTO_ANOTHER: Final = frozenset({"40001", "40P01"})
"""SQLSTATE: serialization_failure, deadlock_detected. Nothing was committed."""
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


class _OneFailed(Exception):
    """A job of a group that runs without savepoints failed: nothing of the group was committed."""


class _TornError(Exception):
    """The transaction has ended under its jobs; nothing that they have done may be told as done."""


class GroupWriter:
    """The only writer of an engine's database. `start` it, `run` jobs from any event loop, `close` it."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._kept: Connection | None = None
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

        `job` may not touch anything but its connection: it runs in the writer's thread, between other jobs, and perhaps
        once more.

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
        self._let_go()

    def _commit(self, group: list[_Job]) -> None:
        tries, apart = 1, False
        while True:
            try:
                done, failed, said = self._transaction(group, apart=apart)
                break
            except _OneFailed:
                apart = True
            except BaseException as error:  # whatever it is: nobody may wait for ever
                if tries < _MOST_TRIES and _ran_into_another(error):
                    tries += 1
                    continue
                _log.error("commit failed", database=self._name, error=type(error).__name__, jobs=len(group))
                for _, future in group:
                    future.set_exception(DatabaseUnavailableError(f"the database {self._name} could not commit"))
                return
        _GROUP.labels(self._name).observe(len(group))
        for say in said:
            try:
                say()
            except Exception as error:  # what was committed is told to those who wait, whatever becomes of a log line
                _log.error("a job could not be heard", database=self._name, error=type(error).__name__)
        for future, result in done:
            future.set_result(result)
        for future, failure in failed:
            future.set_exception(failure)

    def _transaction(
        self, group: list[_Job], *, apart: bool
    ) -> tuple[list[tuple[Future[Any], Any]], list[tuple[Future[Any], Exception]], list[Say]]:
        done: list[tuple[Future[Any], Any]] = []
        failed: list[tuple[Future[Any], Exception]] = []
        said: list[Say] = []
        with self._begin() as connection:
            alone = len(group) == 1
            for job, future in group:
                of_job = Said()
                try:
                    with connection.begin_nested() if apart else nullcontext(), collecting(connection, of_job):
                        result = job(connection)
                        _require_whole(connection)
                except Exception as error:  # belongs to whoever submitted the job
                    if _ran_into_another(error) or _is_lost(error):
                        raise
                    if apart:
                        _require_whole(connection)
                    if not (alone or apart):
                        raise _OneFailed from error
                    failed.append((future, self._told(error)))
                    said += of_job.refused
                    if alone:
                        connection.rollback()
                else:
                    done.append((future, result))
                    said += of_job.refused + of_job.done
        return done, failed, said

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        """A transaction. A file's connection is kept: to fetch it each time takes longer than most jobs.

        That to a server is fetched each time, and looked at: it may have been cut.
        """
        if self._engine.dialect.name != "sqlite":
            with self._engine.begin() as connection:
                yield connection
            return
        if self._kept is None:
            self._kept = self._engine.connect()
        try:
            with self._kept.begin():
                yield self._kept
        except BaseException:
            self._let_go()
            raise

    def _let_go(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    def _told(self, error: Exception) -> Exception:
        """A database's own trouble (a full disk, a lock not had in time) is told as such."""
        if not isinstance(error, OperationalError | InterfaceError | _TornError):
            return error
        told = DatabaseUnavailableError(f"the database {self._name} could not do it")
        told.__cause__ = error
        return told


def _require_whole(connection: Connection) -> None:
    """Raises _TornError if the transaction has ended, or can only be undone.

    SQLite ends one by itself when it cannot undo a statement (a full disk, no memory): what comes then is committed
    piece by piece, and the commit of the rest does nothing and says nothing. So does PostgreSQL's after an error that a
    job has kept to itself.
    """
    raw: Any = connection.connection.driver_connection
    is_sqlite = connection.dialect.name == "sqlite"
    if not (raw.in_transaction if is_sqlite else raw.info.transaction_status.name == "INTRANS"):
        raise _TornError("the transaction of a job has ended before its commit")


def _ran_into_another(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in _RAN_INTO_ANOTHER


def _is_lost(error: Exception) -> bool:
    return isinstance(error, DBAPIError) and error.connection_invalidated
