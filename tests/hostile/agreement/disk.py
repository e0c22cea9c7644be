"""The parties' disks: the real databases, written from the loop itself instead of a thread, and lost with a power cut.

`runtime.group_writer` has a thread, whose speed would decide what a run does. Here a job waits for `latency` virtual
seconds (others go on meanwhile), then its transaction runs. After `cut` nothing is written any more: whoever waits is
to be killed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar
from unittest import mock

from sqlalchemy import Connection, Engine

from runtime.group_writer import DatabaseUnavailableError

T = TypeVar("T")


class LoopWriter:
    """Stands where `GroupWriter` stands."""

    latency: ClassVar[float] = 0.0

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name
        self._closed = False
        self._cut = False

    def start(self) -> None:
        """Nothing to start."""

    def close(self) -> None:
        """Later jobs are refused."""
        self._closed = True

    def cut(self) -> None:
        """The power fails: what is not on the disk never will be."""
        self._cut = True

    async def run(self, job: Callable[[Connection], T]) -> T:
        """As `GroupWriter.run`."""
        await asyncio.sleep(self.latency)
        if self._cut:
            await asyncio.get_running_loop().create_future()
        if self._closed:
            raise DatabaseUnavailableError(f"the database {self._name} is closed")
        with self._engine.begin() as connection:
            return job(connection)

    def submit(self, job: Callable[[Connection], T]) -> Future[T]:
        """As `GroupWriter.submit`, at once."""
        future: Future[T] = Future()
        try:
            with self._engine.begin() as connection:
                future.set_result(job(connection))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def in_the_loop() -> Iterator[None]:
    """Order books that are opened in this block are written by a `LoopWriter`."""
    with (
        mock.patch("gateway.order_database.GroupWriter", LoopWriter),
        mock.patch("storefront.merchant.store.GroupWriter", LoopWriter),
    ):
        yield


def writer_of(store: Any) -> LoopWriter:
    """The writer of an order book that was opened in `in_the_loop`."""
    writer = getattr(store, "writer", None) or store._writer
    assert isinstance(writer, LoopWriter)
    return writer
