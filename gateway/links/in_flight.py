"""Requests that wait for their answer, of all lines together, by the composite key of the dialect.

STAN alone tells nothing apart: numbers repeat after a day, and a late answer would pass for another's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.errors import LinkDownError, NoAnswerError
from shetab.dialect import Dialect
from shetab.message import Message

Judge: TypeAlias = Callable[[Message, bytes, bytes], Awaitable[bool | None]]
"""Says of what may be an answer (the message, what its MAC is of, the MAC) whether the MAC is right: see `ports`."""

_WHOSE: Final = (33, 53, 70)
"""Who sends a management request, which key it is about, and what it wants: no two that cross have these in common."""


@dataclass(slots=True)
class Waiting:
    """A request, the number of the line that it went out on, and who waits for its answer."""

    request: Message
    line: int
    answer: asyncio.Future[Message]
    judge: Judge | None = None
    """Who waits has the MAC of an answer checked in a way of their own, of one message at a time."""


class InFlight:
    """Used in one event loop."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._waiting: dict[tuple[str, ...], Waiting] = {}
        self._nothing = asyncio.Event()
        self._nothing.set()

    def __len__(self) -> int:
        return len(self._waiting)

    @contextmanager
    def entered(self, request: Message, line: int, judge: Judge | None = None) -> Iterator[asyncio.Future[Message]]:
        """The future of the answer; on leaving, the request waits no more.

        :raises LinkDownError: another request of this key is in flight: their answers could not be told apart.
        """
        key = self._dialect.match_key(request)
        if key in self._waiting:
            raise LinkDownError("a message with the same key is in flight")
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[key] = Waiting(request, line, answer, judge)
        self._nothing.clear()
        try:
            yield answer
        finally:
            del self._waiting[key]
            if not self._waiting:
                self._nothing.set()

    def find(self, answer: Message) -> Waiting | None:
        """The request that has the key of `answer` and has none yet."""
        waiting = self._waiting.get(self._dialect.match_key(answer))
        return None if waiting is None or waiting.answer.done() else waiting

    def holds(self, request: Message) -> bool:
        """Whether a request that came is one of our own. One key makes the MACs of both directions: to answer it would
        be to answer ourselves.

        The other end numbers its requests by itself, so one of them can have the key of ours by chance.
        """
        waiting = self._waiting.get(self._dialect.match_key(request))
        return waiting is not None and all(request.get(field) == waiting.request.get(field) for field in _WHOSE)

    def of_line(self, line: int) -> list[Waiting]:
        """What went out on a line and waits."""
        return [waiting for waiting in self._waiting.values() if waiting.line == line]

    async def none_left(self, within: float) -> bool:
        """Wait until nothing is in flight; whether that came about."""
        try:
            async with asyncio.timeout(within):
                await self._nothing.wait()
        except TimeoutError:
            return False
        return True


def abandon(waiting: list[Waiting]) -> None:
    """Tell who waits that no answer will come."""
    for each in waiting:
        if not each.answer.done():
            each.answer.set_exception(NoAnswerError("the connection to the switch broke"))
