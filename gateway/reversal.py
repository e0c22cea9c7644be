"""Store-and-forward of reversals: money that nobody acknowledged, or nobody knows of, goes back.

An order comes here when its outcome is unknown, when the merchant did not acknowledge its approval in time, or when it
refused it. From REV_QUEUED on it is this module's alone: 0420, then 0421 with the same STAN, RRN and DE 90, with
growing pauses, until the switch acknowledges or a person must look. The queue is the order book, so it survives a
restart.

Each attempt is counted on the disk before it is sent: after a crash between the two, the next attempt says "repeat",
which a switch must take as a first one if it knows none. The other way round it would see two different reversals.
There is never more than one message of an order under way: a switch that gets the second before it has finished the
first may answer it with an error, and then neither counts.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol

import prometheus_client

from gateway.backoff import pause
from gateway.errors import LinkDownError, NoAnswerError, StateConflictError
from gateway.link import SwitchLink
from gateway.order import Order, OrderKey
from gateway.states import OrderState
from gateway.store import OrderStore
from gateway.translation import reversal_request
from runtime.logging import get_logger
from runtime.problems import Problem
from shetab.message import Message
from shetab.response_codes import ResponseCodes
from shetab.types import Pan

NO_ANSWER: Final = "no answer"
NO_ACKNOWLEDGEMENT: Final = "no acknowledgement"
NOT_ACCEPTED: Final = "not accepted by the merchant"
_NOT_FOUND: Final = "25"
_TOGETHER: Final = 32
"""Reversals under way at once: they must not crowd payments out of the line."""
_LATE_ANSWERS: Final = timedelta(days=1)
"""How long an original that the switch did not know may still come in (DE 17 is a day)."""
_LOST_RUN: Final = timedelta(minutes=1)
"""A run that has not stored its outcome so long after its deadline never will (the disk was full, say)."""
_STALE_REQUEST: Final = timedelta(minutes=10)
"""Beyond the window of K7 on both sides: the request could not be run again."""
_TIDY_EVERY: Final = timedelta(seconds=30)

_attempts: Final = prometheus_client.Counter("kwbp_gateway_reversal_messages_total", "Reversal messages sent", ["mti"])
_ended: Final = prometheus_client.Counter("kwbp_gateway_reversals_total", "Reversals that ended", ["state"])
_log = get_logger("gateway.reversal")


class PanUnsealer(Protocol):
    """The vault key, in the token."""

    async def unseal_pan(self, xid: bytes, blob: bytes) -> Pan:
        """The PAN that was sealed for the order `xid`."""


@dataclass(frozen=True, slots=True)
class ReversalSettings:
    """The clocks of store-and-forward, in seconds, and when it gives up."""

    answer_timeout: float
    first_pause: float
    longest_pause: float = 300.0
    most_attempts: int = 1000
    tick: float = 1.0
    """How often the order book is looked through; a new reversal does not wait for it."""


class Reversals:
    """The worker. `run` it as one task; `wake` it when an order has become UNKNOWN."""

    def __init__(
        self,
        settings: ReversalSettings,
        store: OrderStore,
        link: SwitchLink,
        keys: PanUnsealer,
        codes: ResponseCodes,
        *,
        clock: Callable[[], datetime],
        rng: Callable[[int], bytes],
        checkpoint: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._link = link
        self._keys = keys
        self._codes = codes
        self._clock = clock
        self._rng = rng
        self._checkpoint = checkpoint
        self._woken = asyncio.Event()
        self._tidy_at = clock()
        self._under_way: dict[OrderKey, asyncio.Task[None]] = {}
        self._unprepared: Counter[OrderKey] = Counter()
        """How often in a row the key service was not there for a reversal."""

    def wake(self) -> None:
        """Look through the order book now."""
        self._woken.set()

    async def run(self) -> None:
        """Queue and send reversals until cancelled. An error of one look or one order never ends it."""
        try:
            while True:
                self._woken.clear()
                try:
                    await self._queue()
                    self._send_due()
                    await self._tidy()
                except Exception as error:  # disk full, say: the next look may find it better
                    _log.error("reversals could not be looked through", error=type(error).__name__)
                try:
                    async with asyncio.timeout(self._settings.tick):
                        await self._woken.wait()
                except TimeoutError:
                    pass
        finally:
            for task in self._under_way.values():
                task.cancel()
            await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    async def _tidy(self) -> None:
        """What a run that ended before its time left behind: orders half-way, sealed PANs that are of no more use."""
        now = self._clock()
        if now < self._tidy_at:
            return
        self._tidy_at = now + _TIDY_EVERY
        await self._store.recover(now, sent_before=now - timedelta(seconds=self._settings.answer_timeout) - _LOST_RUN)
        await self._store.abandon(now, untouched_since=now - _STALE_REQUEST)
        await self._store.forget_pans(now - _LATE_ANSWERS)

    async def _queue(self) -> None:
        waiting = [(order, NO_ANSWER) for order in self._store.in_states(OrderState.UNKNOWN)]
        waiting += [(order, NO_ACKNOWLEDGEMENT) for order in self._store.unacknowledged(self._clock())]
        for order, reason in waiting:
            try:
                await self._store.queue_reversal(order.key, order.state, reason, self._clock())
            except StateConflictError:
                continue  # acknowledged in the same moment: the acknowledgement was first
            self._checkpoint("reversal-queued")
            _log.warning("reversal queued", order=str(order.key), reason=reason)

    def _send_due(self) -> None:
        free = _TOGETHER - len(self._under_way)
        if free <= 0 or not self._link.signed_on:
            return
        # Those under way are still due in the order book until their attempt is counted, so look at more than are free.
        for order in self._store.due_reversals(self._clock(), free + len(self._under_way)):
            if order.key not in self._under_way:
                task = asyncio.create_task(self._attempt(order))
                self._under_way[order.key] = task
                task.add_done_callback(partial(self._attempted, order.key))

    def _attempted(self, key: OrderKey, task: asyncio.Task[None]) -> None:
        del self._under_way[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("reversal attempt failed", order=str(key), error=type(error).__name__)

    async def _attempt(self, order: Order) -> None:
        settings, key = self._settings, order.key
        try:
            message, raw = await self._prepare(order)
        except Problem as problem:
            if problem.status >= 500 or problem.status == 429:
                await self._postpone(key, problem.type)
            else:
                _log.error("a reversal cannot be made", order=str(key), problem=problem.type)
                await self._give_up(key, None)
            return
        self._unprepared.pop(key, None)
        wait = pause(
            order.reversal_attempts + 1, first=settings.first_pause, longest=settings.longest_pause, rng=self._rng
        )
        next_at = self._clock() + timedelta(seconds=settings.answer_timeout + wait)
        order = await self._store.begin_reversal_attempt(key, next_at)
        self._checkpoint("reversal-attempt")
        try:
            answer = await self._link.exchange(message, raw, settings.answer_timeout)
        except (LinkDownError, NoAnswerError) as error:
            _log.warning("reversal not answered", order=str(key), mti=message.mti, error=str(error))
            if order.reversal_attempts >= settings.most_attempts:
                await self._give_up(key, None)
            return
        finally:
            _attempts.labels(message.mti).inc()
        self._checkpoint("reversal-answered")
        await self._conclude(order, answer[39])

    async def _prepare(self, order: Order) -> tuple[Message, bytes]:
        if order.pan_sealed is None:
            raise Problem(409, "no-pan", "the order has no sealed PAN any more")
        pan = await self._keys.unseal_pan(order.xid, order.pan_sealed)
        message = reversal_request(order, pan, self._clock())
        return message, await self._link.authenticate(message)

    async def _postpone(self, key: OrderKey, reason: str) -> None:
        """Not counted as an attempt: nothing was sent."""
        self._unprepared[key] += 1
        settings = self._settings
        wait = pause(self._unprepared[key], first=settings.first_pause, longest=settings.longest_pause, rng=self._rng)
        await self._store.postpone_reversal(key, self._clock() + timedelta(seconds=wait))
        _log.warning("reversal postponed", order=str(key), reason=reason)

    async def _conclude(self, order: Order, rc: str) -> None:
        entry = self._codes.of(rc)
        if entry.reversal == "done":
            found = rc != _NOT_FOUND
            ended = await self._store.finish_reversal(order.key, rc, self._clock(), found_original=found)
            self._checkpoint("reversal-finished")
            _ended.labels(ended.state).inc()
            if ended.state is OrderState.REV_FAILED:
                _log.error("the switch does not know an original that it approved", order=str(order.key), alarm=True)
            else:
                _log.info("reversed", order=str(order.key), rc=rc)
        elif entry.reversal == "manual" or order.reversal_attempts >= self._settings.most_attempts:
            await self._give_up(order.key, rc)
        else:
            _log.warning("reversal to be repeated", order=str(order.key), rc=rc)

    async def _give_up(self, key: OrderKey, rc: str | None) -> None:
        await self._store.give_up_reversal(key, rc, self._clock())
        _ended.labels(OrderState.REV_FAILED).inc()
        _log.error("a reversal needs a person", order=str(key), rc=rc, alarm=True)
