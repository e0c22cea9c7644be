"""An event loop whose clock goes only when it is told to: one run, one order of events, no waiting.

    loop = VirtualLoop()
    loop.advance(0)       # run whatever can run now
    loop.advance(61)      # and let a minute pass: every timer that falls due runs at its moment

What would go to a thread runs in the loop at once, and what would open a connection asks `connect`. Nothing else can
happen between two calls of `advance`, so a run depends on what it is told alone.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from contextvars import ContextVar
from math import inf
from typing import Any

PARTY: ContextVar[str] = ContextVar("party", default="")
"""Whose code runs: inherited by every task, so that a party can be killed with all it has begun."""


class _Selector(selectors.SelectSelector):
    """Waits for nobody; asks the loop what to do when it has nothing to do."""

    def __init__(self, idle: Callable[[float | None], None]) -> None:
        super().__init__()
        self._idle = idle

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._idle(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module. `connect` is called with (protocol, port) and returns the transport."""

    def __init__(self) -> None:
        self._virtual_now = 0.0
        self._horizon = 0.0
        self.tasks: dict[asyncio.Task[Any], str] = {}
        self.connect: Callable[[asyncio.Protocol, int], asyncio.Transport] | None = None
        super().__init__(_Selector(self._idle))
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual_now

    def advance(self, seconds: float) -> None:
        """Run what is ready, then everything that falls due within `seconds`."""
        self._horizon = self._virtual_now + seconds
        self.run_forever()

    def kill(self, party: str) -> None:
        """End every task of a party where it stands."""
        for task, owner in list(self.tasks.items()):
            if owner == party:
                task.cancel()
        self.advance(0)

    def _idle(self, timeout: float | None) -> None:
        if timeout is not None and timeout <= 0:
            return
        due = inf if timeout is None else self._virtual_now + timeout
        if due <= self._horizon:
            self._virtual_now = due
        else:
            self._virtual_now = max(self._virtual_now, self._horizon)
            self.stop()

    def _make_task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
        self.tasks[task] = PARTY.get()
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self.tasks.pop(task, None)
        if not task.cancelled():
            task.exception()  # whoever awaits it has it too; a party that was killed leaves nobody

    def run_in_executor(self, executor: Any, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future = self.create_future()
        try:
            future.set_result(function(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], host: Any = None, port: Any = None, **options: Any
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        if self.connect is None:
            raise ConnectionRefusedError
        protocol = protocol_factory()
        transport = self.connect(protocol, port)
        protocol.connection_made(transport)
        return transport, protocol


def as_party(party: str, begin: Callable[[], Any]) -> Any:
    """Call `begin` as that party: the tasks it makes are the party's."""
    token = PARTY.set(party)
    try:
        return begin()
    finally:
        PARTY.reset(token)
