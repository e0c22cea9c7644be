"""Who is let in, and when it is their turn: before anything of a request is read, judged or signed.

    counted   a rate for each merchant (429); none after the gateway was told to end (503)
    reading   so many bodies of one merchant on their way in (503)
    turn      so many messages worked on at once, in all and of one merchant; the others wait, and a place that falls
              free goes round among the merchants that wait, so that a flood of one holds up nobody else. Whoever has
              waited for `patience` seconds, or finds its own line full, is sent away (503)

Who is sent away is told when to come back (Retry-After), and counted. Nothing of what it sent was judged: the same
bytes may be sent again.

The counts are of this process. Replicas count each for itself, so n of them let in n times as much. A restart is no
fresh burst: right after it every merchant has but a part of its own (`cold`). What must outlive a restart is counted
where it is kept: limits of money in the order book, passwords of a card at its bank.
"""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from typing import Final

from prometheus_client import Counter, Gauge

from runtime.flood_settings import FloodSettings
from runtime.logging import get_logger
from runtime.problems import Problem
from runtime.token_bucket import take, whole_seconds

_SOON: Final = 1  # second
_LATER: Final = 5
_shed: Final = Counter("kwbp_gateway_shed_total", "Requests sent away before they were judged", ["reason"])
_working: Final = Gauge("kwbp_gateway_messages_in_progress", "Messages of merchants that are worked on")
_waiting: Final = Gauge("kwbp_gateway_messages_waiting", "Messages of merchants that wait for their turn")
_log = get_logger("gateway.admission")

for _reason in ("rate", "reading", "queue", "patience", "draining"):
    _shed.labels(_reason)  # shown from the start, so that an alarm's rate has a beginning


class Admission:
    """For one event loop."""

    def __init__(self, settings: FloodSettings, *, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._clock = clock
        capacity = settings.merchant.burst * settings.merchant.every
        self._cold_until = clock() + capacity
        self._cold_full_at = clock() + capacity * (1 - settings.cold)
        self._buckets: OrderedDict[str, datetime] = OrderedDict()
        self._reading: Tally[str] = Tally()
        self._working: Tally[str] = Tally()
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether the gateway was told to end."""
        return self._ended

    @property
    def working(self) -> int:
        """How many messages are worked on."""
        return self._working.total()

    def end(self) -> None:
        """Let nobody in any more; what was let in has its turn. Safe in a signal handler."""
        self._ended = True

    def count(self, merchant: str) -> None:
        """Count one request of `merchant`; raises Problem 429 or 503."""
        if self._ended:
            raise _away("draining", 503, "stopping", "the gateway is about to end; send the same to another", _LATER)
        now = self._clock()
        self._forget(now)
        known = self._buckets.pop(merchant, None)
        if known is None and now < self._cold_until:
            known = self._cold_full_at
        full_at, wait = take(self._settings.merchant, known, now)
        self._buckets[merchant] = full_at
        if wait > timedelta(0):
            raise _away("rate", 429, "too-many-requests", "too many requests of this merchant", whole_seconds(wait))

    def _forget(self, now: datetime) -> None:
        """Two that are full, so that nobody waits for a sweep; a full bucket needs no memory, once nothing is cold."""
        for _ in range(2):
            oldest = next(iter(self._buckets), None)
            if oldest is None or self._buckets[oldest] > now or now < self._cold_until:
                return
            del self._buckets[oldest]

    @contextmanager
    def reading(self, merchant: str) -> Iterator[None]:
        """While a body of `merchant` comes in; raises Problem 503."""
        if self._reading[merchant] >= self._settings.reading_of_one:
            raise _away("reading", 503, "overloaded", "too many messages of this merchant are on their way in", _SOON)
        self._reading[merchant] += 1
        try:
            yield
        finally:
            _less(self._reading, merchant)

    @asynccontextmanager
    async def turn(self, merchant: str) -> AsyncIterator[None]:
        """While a message of `merchant` is worked on; waits for its turn, or raises Problem 503."""
        if self._lines or not self._has_place(merchant):
            await self._wait(merchant)
        else:
            self._working[merchant] += 1
        _working.set(self.working)
        try:
            yield
        finally:
            _less(self._working, merchant)
            self._pass_on()
            _working.set(self.working)

    def _has_place(self, merchant: str) -> bool:
        settings = self._settings
        return self.working < settings.at_once and self._working[merchant] < settings.at_once_of_one

    async def _wait(self, merchant: str) -> None:
        line = self._lines.setdefault(merchant, deque())
        if len(line) >= self._settings.waiting_of_one:
            self._drop_empty(merchant)
            raise _away("queue", 503, "overloaded", "too many messages of this merchant wait already", _SOON)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(place)
        _waiting.inc()
        self._pass_on()
        try:
            async with asyncio.timeout(self._settings.patience):
                await place
        except BaseException as error:
            self._leave(merchant, place)
            if isinstance(error, TimeoutError):
                raise _away("patience", 503, "overloaded", "the gateway has more work than it can do", _LATER) from None
            raise
        finally:
            _waiting.dec()

    def _leave(self, merchant: str, place: asyncio.Future[None]) -> None:
        if place.done() and not place.cancelled():  # it was given in the same moment
            _less(self._working, merchant)
        elif place in (line := self._lines.get(merchant, deque())):
            line.remove(place)
        self._drop_empty(merchant)
        self._pass_on()

    def _drop_empty(self, merchant: str) -> None:
        if merchant in self._lines and not self._lines[merchant]:
            del self._lines[merchant]

    def _pass_on(self) -> None:
        """Free places go to the merchants that wait, one each in turn."""
        for merchant in list(self._lines):
            if self.working >= self._settings.at_once:
                return
            self._give(merchant)

    def _give(self, merchant: str) -> None:
        line = self._lines[merchant]
        while line and line[0].done():
            line.popleft()
        if line and self._has_place(merchant):
            self._working[merchant] += 1  # here, not when the waiter wakes: the place must not be given twice
            line.popleft().set_result(None)
            self._lines.move_to_end(merchant)
        self._drop_empty(merchant)


def _less(tally: Tally[str], merchant: str) -> None:
    tally[merchant] -= 1
    if not tally[merchant]:
        del tally[merchant]


def _away(reason: str, status: int, slug: str, detail: str, seconds: int) -> Problem:
    _shed.labels(reason).inc()
    return Problem(status, slug, detail, headers={"retry-after": str(seconds)})
