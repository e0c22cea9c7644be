"""Store-and-forward of reversals: money that nobody acknowledged, or nobody knows of, goes back.

An order comes here when its outcome is unknown, when the merchant did not acknowledge its approval in time, or when it
refused it. From REV_QUEUED on it is this module's alone: 0420, then 0421 with the same STAN, RRN and DE 90, with
growing pauses, until the switch acknowledges or a person must look. The queue is the order book, so it survives a
restart. How the attempts of one reversal follow each other is `ReversalRuns`: in this process alone (`LoopRuns`), or
as a durable workflow (`gateway.reversal_workflows`). Neither is believed: whatever drives an attempt, it counts once it
is claimed in the order book, and a look of each gateway begins what the book has due and nobody works on.

Each attempt is counted on the disk before it is sent: after a crash between the two, the next attempt says "repeat",
which a switch must take as a first one if it knows none. The other way round it would see two different reversals.
There is never more than one message of an order under way, nor of one card: a switch that gets the second before it
has finished the first may answer it with an error, and then neither counts.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol

import prometheus_client

from gateway.backoff import pause
from gateway.errors import CardBusyError, LinkDownError, NoAnswerError, StanExhaustedError, StateConflictError
from gateway.order import Order, OrderKey
from gateway.patience import Patience
from gateway.routing import Routes
from gateway.states import OrderState
from gateway.store import OrderStore
from gateway.translation import reversal_request
from runtime.lasting import is_ending
from runtime.logging import get_logger
from runtime.problems import Problem
from shetab.message import Message
from shetab.response_codes import ResponseCodes
from shetab.types import Pan

NO_ANSWER: Final = "no answer"
NO_ACKNOWLEDGEMENT: Final = "no acknowledgement"
NOT_ACCEPTED: Final = "not accepted by the merchant"
LAPSED: Final = "hold lapsed"
NOT_FOUND: Final = "25"
"""DE 39: the network knows no such original."""
_OF_THE_ORDER: Final = frozenset({"no-pan", "decoding-failure", "invalid-request"})
"""Problems for which no later attempt fares better. All others are of keys and services: a key that was disabled, or
whose time is over, is put right by people, and until then nothing is lost."""
_TOGETHER: Final = 32
"""Messages under way at once: they must not crowd payments out of the line."""
_AT_A_LOOK: Final = 256
"""Reversals that one look begins."""
_LATE_ANSWERS: Final = timedelta(days=1)
"""How long an original that the switch did not know may still come in (DE 17 is a day)."""
_ASKED_ABOUT: Final = timedelta(hours=1)
"""How long a hold is let alone that somebody has asked something about."""
_STALE_REQUEST: Final = timedelta(minutes=10)
"""Beyond the window of K7 on both sides: the request could not be run again."""

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
    most_age: timedelta = timedelta(days=1)
    """A reversal of this age whose attempt fails is given to a person."""
    lost_run: float = 60.0
    """A run that has not stored its outcome so long after its deadline never will: the disk was full, say, or it was
    another gateway's that is lost."""
    tidy: float = 30.0
    """How often such runs are looked for."""
    tick: float = 1.0
    """How often the order book is looked through; a new reversal does not wait for it."""


class ReversalRuns(Protocol):
    """Has each reversal worked on until it ends: its attempts one after the other, with the pauses between."""

    def begin(self, due: Sequence[Order]) -> None:
        """See to these, which the order book has due; not twice to one that is seen to already."""

    async def close(self) -> None:
        """End what is under way; it goes on after the next start."""


class Attempts(Protocol):
    """What runs make use of (`Reversals`)."""

    @property
    def tick(self) -> float:
        """Seconds between two looks."""

    async def attempt(self, key: OrderKey, number: int) -> float | None:
        """See `Reversals.attempt`."""


class LoopRuns:
    """Runs in the event loop of this process: a look of the order book is what brings on the next attempt."""

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self._under_way: dict[OrderKey, asyncio.Task[float | None]] = {}

    def begin(self, due: Sequence[Order]) -> None:
        for order in due:
            if order.key not in self._under_way:
                task = asyncio.create_task(self._attempts.attempt(order.key, order.reversal_number))
                self._under_way[order.key] = task
                task.add_done_callback(partial(self._attempted, order.key))

    async def close(self) -> None:
        for task in self._under_way.values():
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    def _attempted(self, key: OrderKey, task: asyncio.Task[float | None]) -> None:
        del self._under_way[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("reversal attempt failed", order=str(key), error=type(error).__name__)


class Reversals:
    """The worker. `run` it as one task; `wake` it when an order has become UNKNOWN."""

    def __init__(
        self,
        settings: ReversalSettings,
        store: OrderStore,
        routes: Routes,
        keys: PanUnsealer,
        codes: ResponseCodes,
        patience: Patience,
        *,
        clock: Callable[[], datetime],
        rng: Callable[[int], bytes],
        checkpoint: Callable[[str], None],
        runs: Callable[[Attempts], ReversalRuns] = LoopRuns,
    ) -> None:
        self._settings = settings
        self._store = store
        self._routes = routes
        self._keys = keys
        self._codes = codes
        self._patience = patience
        self._clock = clock
        self._rng = rng
        self._checkpoint = checkpoint
        self._woken = asyncio.Event()
        self._tidy_at = clock()
        self._places = asyncio.Semaphore(_TOGETHER)
        self._runs = runs(self)
        self._unprepared: Counter[OrderKey] = Counter()
        """How often in a row the key service was not there for a reversal."""
        self._waiting_for_keys: set[OrderKey] = set()
        """Of which it was said already that they wait for people."""

    @property
    def tick(self) -> float:
        """Seconds between two looks."""
        return self._settings.tick

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
                    await self._send_due()
                    await self._tidy()
                except Exception as error:  # disk full, say: the next look may find it better
                    _log.error("reversals could not be looked through", error=type(error).__name__)
                try:
                    async with asyncio.timeout(self._settings.tick):
                        await self._woken.wait()
                except TimeoutError:
                    pass
        finally:
            if is_ending():  # begun again, it goes on with the same runs
                await self._runs.close()

    async def _tidy(self) -> None:
        """What a run that ended before its time left behind: orders half-way, sealed PANs that are of no more use."""
        now = self._clock()
        if now < self._tidy_at:
            return
        settings = self._settings
        self._tidy_at = now + timedelta(seconds=settings.tidy)
        lost = timedelta(seconds=settings.answer_timeout + settings.lost_run)
        for order in await self._recovered(now, now - lost):
            _log.warning("outcome unknown, the run is lost", order=str(order.key), runner=order.runner)
        await self._store.abandon(now, untouched_since=now - _STALE_REQUEST)
        await self._store.forget_pans(now - _LATE_ANSWERS)

    async def _recovered(self, now: datetime, lost: datetime) -> list[Order]:
        """Orders that were SENT before `lost` and whose run is not heard of, now UNKNOWN.

        By two clocks: where the one on the wall is ahead, whatever is under way at this moment would seem lost.
        """
        answer_timeout = timedelta(seconds=self._settings.answer_timeout)
        late = await self._store.look(self._store.sent_before, now - answer_timeout, _AT_A_LOOK)
        stood = [order.key for order in late if self._patience.has_stood(("sent", order.key), answer_timeout)]
        return await self._store.recover(now, sent_before=lost, only=stood) if stood else []

    def _waiting(self) -> list[tuple[Order, str]]:
        """Orders to be reversed, and why; it reads, and may block."""
        now, patience = self._clock(), self._patience
        waiting = [(order, NO_ANSWER) for order in self._store.unknown(_AT_A_LOOK)]
        over = patience.now()
        waiting += [(order, NO_ACKNOWLEDGEMENT) for order in self._store.unacknowledged(now, over, _AT_A_LOOK)]
        elsewhere = self._store.unacknowledged_elsewhere(now, patience.furthest())
        waiting += [(order, NO_ACKNOWLEDGEMENT) for order in elsewhere if patience.is_over(order)]
        return waiting + [(order, LAPSED) for order in self._store.lapsed(now, _AT_A_LOOK)]

    async def _queue(self) -> None:
        waiting = await self._store.look(self._waiting)
        queued = 0
        for first in range(0, len(waiting), _TOGETHER):  # together, so that they share a commit
            some = waiting[first : first + _TOGETHER]
            done = await asyncio.gather(*(self._queue_one(*each) for each in some), return_exceptions=True)
            queued += sum(each is True for each in done)
            faults = [each for each in done if isinstance(each, BaseException)]
            if any(isinstance(each, StanExhaustedError) for each in faults):
                # Those that have their numbers go on; the others at midnight.
                _log.error("no trace number is left for a reversal", orders=len(waiting) - queued, alarm=True)
                return
            if faults:
                raise faults[0]
        if queued >= _AT_A_LOOK:  # there are more
            self.wake()

    async def _queue_one(self, order: Order, reason: str) -> bool:
        try:
            await self._store.queue_reversal(order.key, order.state, reason, self._clock())
        except StateConflictError:
            # Acknowledged in the same moment: the acknowledgement was first. Or a hold that was asked about.
            if reason == LAPSED:
                await self._store.hold_longer(order.key, self._clock() + _ASKED_ABOUT)
            return False
        self._checkpoint("reversal-queued")
        _log.warning("reversal queued", order=str(order.key), reason=reason)
        return True

    def _due(self) -> list[Order]:
        return self._store.due_reversals(self._clock(), _AT_A_LOOK, routes=self._routes.up())

    async def _send_due(self) -> None:
        if self._routes.signed_on:
            self._runs.begin(await self._store.look(self._due))

    async def attempt(self, key: OrderKey, number: int) -> float | None:
        """Make the next attempt of an order's reversal `number`, if it is due and its line is up.

        Whoever calls this may be anybody, and any number of them: an attempt is made by the one that claims it.

        :returns: after how many seconds to call again; None if the reversal has ended.
        """
        async with self._places:
            order = await self._store.found(key)
            if order is None or order.state is not OrderState.REV_QUEUED or order.reversal_number != number:
                return None
            now, tick = self._clock(), self._settings.tick
            if not self._routes.of(order.route).signed_on:
                return tick
            if order.reversal_next_at is not None and order.reversal_next_at > now:
                return self._until(order.reversal_next_at)
            if await self._store.look(self._store.card_is_busy, order, now):
                return tick
            try:
                return await self._attempt(order)
            except (StateConflictError, CardBusyError):
                return tick  # another gateway was quicker, or another reversal of the card

    async def _attempt(self, order: Order) -> float | None:
        settings, key = self._settings, order.key
        try:
            message, raw = await self._prepare(order)
        except Problem as problem:
            is_refused = problem.status < 500 and problem.status != 429
            if problem.type in _OF_THE_ORDER or (is_refused and self._is_over(order)):
                _log.error("a reversal cannot be made", order=str(key), problem=problem.type)
                await self._give_up(order, None, problem.type)
                return None
            if is_refused and key not in self._waiting_for_keys:
                self._waiting_for_keys.add(key)
                _log.error("a reversal waits for a key", order=str(key), problem=problem.type, alarm=True)
            return await self._postpone(order, problem.type)
        self._forget(key)
        wait = pause(
            order.reversal_attempts + 1, first=settings.first_pause, longest=settings.longest_pause, rng=self._rng
        )
        now = self._clock()
        until = now + timedelta(seconds=settings.answer_timeout)
        next_at = until + timedelta(seconds=wait)
        order = await self._store.claim_reversal(order, next_at, now=now, until=until)
        self._checkpoint("reversal-attempt")
        try:
            answer = await self._routes.of(order.route).exchange(message, raw, settings.answer_timeout)
        except (LinkDownError, NoAnswerError) as error:
            _log.warning("reversal not answered", order=str(key), mti=message.mti, error=str(error))
            if self._is_over(order):
                await self._give_up(order, None, NO_ANSWER)
                return None
            return self._until(next_at)
        finally:
            _attempts.labels(message.mti).inc()
        self._checkpoint("reversal-answered")
        return await self._conclude(order, answer[39])

    def _until(self, moment: datetime) -> float:
        return max(0.0, (moment - self._clock()).total_seconds())

    def _is_over(self, order: Order) -> bool:
        """Whether the last attempt was the last one."""
        settings = self._settings
        queued_at = order.reversal_queued_at or order.changed_at
        return order.reversal_attempts >= settings.most_attempts or self._clock() - queued_at >= settings.most_age

    async def _prepare(self, order: Order) -> tuple[Message, bytes]:
        if order.pan_sealed is None:
            raise Problem(409, "no-pan", "the order has no sealed PAN any more")
        pan = await self._keys.unseal_pan(order.xid, order.pan_sealed)
        message = reversal_request(order, pan, self._clock())
        return message, await self._routes.of(order.route).authenticate(message)

    async def _postpone(self, order: Order, reason: str) -> float:
        """Not counted as an attempt: nothing was sent."""
        key = order.key
        self._unprepared[key] += 1
        settings = self._settings
        wait = pause(self._unprepared[key], first=settings.first_pause, longest=settings.longest_pause, rng=self._rng)
        await self._store.postpone_reversal(order, self._clock() + timedelta(seconds=wait))
        _log.warning("reversal postponed", order=str(key), reason=reason)
        return wait

    async def _conclude(self, order: Order, rc: str) -> float | None:
        entry = self._codes.of(rc)
        if entry.reversal == "done":
            found = rc != NOT_FOUND
            ended = await self._store.finish_reversal(order, rc, self._clock(), found_original=found)
            self._checkpoint("reversal-finished")
            if ended.card_id is not None:
                self.wake()  # the card's next one may go
            _ended.labels(ended.state).inc()
            if ended.state is OrderState.REV_FAILED:
                _log.error("the switch does not know an original that it approved", order=str(order.key), alarm=True)
            else:
                _log.info("reversed", order=str(order.key), rc=rc)
            return None
        if entry.reversal == "manual" or self._is_over(order):
            await self._give_up(order, rc, "refused" if entry.reversal == "manual" else "not done in time")
            return None
        _log.warning("reversal to be repeated", order=str(order.key), rc=rc)
        await self._store.reversal_answered(order, rc, self._clock())
        return self._until(order.reversal_next_at or self._clock())

    def _forget(self, key: OrderKey) -> None:
        self._unprepared.pop(key, None)
        self._waiting_for_keys.discard(key)

    async def _give_up(self, order: Order, rc: str | None, reason: str) -> None:
        await self._store.give_up_reversal(order, rc, self._clock(), reason)
        self._forget(order.key)
        _ended.labels(OrderState.REV_FAILED).inc()
        _log.error("a reversal needs a person", order=str(order.key), rc=rc, reason=reason, alarm=True)
