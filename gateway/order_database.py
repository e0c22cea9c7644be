"""The order book's database: a file with one gateway, or a server that several share; its writer and its readers."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    create_engine,
    event,
    func,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import InterfaceError, OperationalError

from gateway.errors import StoreLockedError
from gateway.limits.counting import Occasion
from gateway.order import Order, OrderKey
from gateway.order_rows import move
from gateway.schema import orders
from gateway.states import OrderState
from gateway.tables import bring_up_to_date
from gateway.trace_numbers import next_stan
from runtime.database import open_database
from runtime.group_writer import DatabaseUnavailableError, GroupWriter

T = TypeVar("T")

LEASE: Final = timedelta(seconds=30)
"""Longer than a run takes from its first step to SENT."""
_READERS: Final = 4
"""Threads that ask a server: as many reads are under way at once."""


class OrderDatabase:
    """Opened by `open`; steps are written by the one writer, and what a loop looks at it asks for by `look`."""

    def __init__(self, target: str | Path, replica: str, lease: timedelta) -> None:
        self.replica: Final = replica
        self._mine: Final = orders.c.runner == replica
        self._lease = lease
        self.url: Final = f"sqlite:///{target}" if isinstance(target, Path) else target
        self._lock = _lock(self.url)
        self._engine = open_database(self.url)
        bring_up_to_date(self._engine)
        self._is_shared = self._engine.dialect.name == "postgresql"
        self._reader = _reader(self._engine)
        self._looking = ThreadPoolExecutor(_READERS, "gateway-reader") if self._is_shared else None
        self.writer = GroupWriter(self._engine, "gateway")
        self.writer.start()

    @classmethod
    def open(cls, target: str | Path, *, replica: str = "gateway", lease: timedelta = LEASE) -> Self:
        """Open or make the order book at `target`: a path (SQLite) or a URL (`runtime.database`).

        :param replica: names this process among those that share the database, and is the same after a restart.
        :param lease: how long nobody else takes up an order that this replica works on and has not sent.
        :raises StoreLockedError: another process has the file open; two would each send the same reversals.
        :raises StoreError: the database is of a version that this one does not know.
        """
        return cls(target, replica, lease)

    @property
    def is_shared(self) -> bool:
        """Whether other gateways may work on the same database."""
        return self._is_shared

    def close(self) -> None:
        """Finish the steps that are queued and let go of the files. May be called twice."""
        self.writer.close()
        if self._looking is not None:
            self._looking.shutdown()
        self._engine.dispose()
        self._reader.dispose()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for reading, outside the writer's transactions. It may block: see `look`.

        :raises DatabaseUnavailableError: the database cannot be reached.
        """
        try:
            with self._reader.connect() as connection:
                yield connection
        except (OperationalError, InterfaceError) as error:
            raise DatabaseUnavailableError("the order book cannot be read") from error

    async def look(self, query: Callable[..., T], *arguments: Any) -> T:
        """What `query(*arguments)` finds, which is `reading`. A file is read at once, a server is asked by a thread."""
        if self._looking is None:
            return query(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._looking, query, *arguments)

    async def answers(self) -> None:
        """Ask the database whether it is there.

        :raises DatabaseUnavailableError: it is not.
        """

        def ask() -> None:
            with self.reading() as connection:
                connection.execute(text("SELECT 1"))

        await self.look(ask)

    async def clock_offset(self, clock: Callable[[], datetime]) -> timedelta:
        """How far `clock` is ahead of the server's; nothing where there is none.

        :raises DatabaseUnavailableError: it cannot be asked.
        """

        def ask() -> timedelta:
            with self.reading() as connection:
                connection.execute(text("SELECT 1"))  # connected: what follows takes no longer than a round trip
                before = clock()
                there: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
                return before + (clock() - before) / 2 - there

        return await self.look(ask) if self._is_shared else timedelta(0)

    async def next_stan(self, acquirer: str, now: datetime) -> str:
        """A trace number for a message that is about no order (sign-on, echo)."""
        return await self.writer.run(lambda connection: next_stan(connection, acquirer, now))

    async def _step(
        self,
        key: OrderKey,
        before: tuple[OrderState, ...],
        after: OrderState,
        now: datetime,
        *also: ColumnElement[bool],
        what: Mapping[str, Any] | None = None,
        occasion: Occasion | None = None,
        **values: Any,
    ) -> Order:
        return await self.writer.run(
            lambda connection: move(connection, key, before, after, now, *also, what=what, occasion=occasion, **values)
        )


def _reader(engine: Engine) -> Engine:
    """For reading alone: no transaction to begin and end, and on SQLite no lock to wait for."""
    if engine.dialect.name == "postgresql":
        return engine.execution_options(isolation_level="AUTOCOMMIT", postgresql_readonly=True)
    reader = create_engine(engine.url, connect_args={"check_same_thread": False, "timeout": 30})
    event.listen(reader, "connect", lambda connection, _: connection.execute("PRAGMA query_only=ON"))
    return reader


def _lock(target: str) -> int | None:
    """A file has one gateway; gateways that share a server do not meet in a lock."""
    url = make_url(target)
    if url.get_backend_name() != "sqlite":
        return None
    path = Path(url.database or "")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise StoreLockedError(f"another gateway has {path.name} open") from None
    return file
