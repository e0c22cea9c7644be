"""What an operator must know of orders without asking: how many are open, how old the oldest is, and when to look.

Counted are the states that somebody still has to do something about; they are few, however many orders there were.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from prometheus_client import Gauge
from sqlalchemy import Connection, func, select

from gateway.limits.counting import forget
from gateway.routing import SWITCH
from gateway.schema import orders
from gateway.states import OrderState
from gateway.store import OrderStore
from runtime.logging import get_logger
from runtime.settings import OrderAlarms

_OPEN: Final = (
    *(OrderState.RECEIVED, OrderState.VERIFIED, OrderState.SENT, OrderState.APPROVED),
    *(OrderState.UNKNOWN, OrderState.REV_QUEUED, OrderState.REV_FAILED),
)
_EVERY: Final = 30.0
"""Seconds between two looks."""
_COUNTERS_KEPT: Final = timedelta(days=3)
"""Longer than the longest window: an order of the day before yesterday may be given back yet."""

_open: Final = Gauge("kwbp_gateway_open_orders_count", "Orders that are not at their end", ["state"])
_unknown: Final = Gauge("kwbp_gateway_unknown_outcomes_count", "Orders whose outcome is open: UNKNOWN or REV_QUEUED")
_reversal_age: Final = Gauge("kwbp_gateway_oldest_reversal_age_seconds", "How long the oldest reversal is queued")
_waiting_age: Final = Gauge(
    "kwbp_gateway_oldest_unacknowledged_age_seconds", "How long the oldest approval waits for its AuthAck"
)
_most_attempts: Final = Gauge("kwbp_gateway_reversal_attempts_count", "Attempts of the reversal that has most of them")
_alarmed: Final = Gauge("kwbp_gateway_order_alarm_bool", "1 while a threshold of [gateway.alarms] is passed", ["what"])
_log = get_logger("gateway.operating")


@dataclass(frozen=True, slots=True)
class Found:
    """What one look found. Ages are None where there is nothing."""

    counts: dict[OrderState, int]
    reversal_age: timedelta | None
    unacknowledged_age: timedelta | None
    attempts: int
    homeless: int
    """Reversals, queued or to be, that nobody attempts: no connector of the settings is theirs."""

    @property
    def unknown(self) -> int:
        """Orders whose outcome is open."""
        return self.counts[OrderState.UNKNOWN] + self.counts[OrderState.REV_QUEUED]


def look(connection: Connection, now: datetime, connectors: Collection[str]) -> Found:
    """Count what is open; `connectors` are those of the settings."""
    per_state = select(orders.c.state, func.count()).where(orders.c.state.in_(_OPEN)).group_by(orders.c.state)
    counts = dict.fromkeys(_OPEN, 0)
    counts |= {OrderState(state): count for state, count in connection.execute(per_state)}
    queued = select(func.min(orders.c.reversal_queued_at), func.max(orders.c.reversal_attempts)).where(
        orders.c.state == OrderState.REV_QUEUED
    )
    oldest, attempts = connection.execute(queued).one()
    approved = select(func.min(orders.c.changed_at)).where(orders.c.state == OrderState.APPROVED)
    waiting = connection.execute(approved).scalar_one()
    homeless = select(func.count()).where(
        orders.c.state.in_((OrderState.UNKNOWN, OrderState.REV_QUEUED)), orders.c.route.not_in(connectors)
    )
    return Found(
        counts,
        None if oldest is None else now - oldest,
        None if waiting is None else now - waiting,
        attempts or 0,
        connection.execute(homeless).scalar_one(),
    )


class OrderWatch:
    """`run` it as a task."""

    def __init__(
        self,
        store: OrderStore,
        alarms: OrderAlarms,
        *,
        clock: Callable[[], datetime],
        connectors: Collection[str] = (SWITCH,),
    ) -> None:
        self._store = store
        self._alarms = alarms
        self._clock = clock
        self._connectors = connectors
        self._passed: set[str] = set()

    async def run(self) -> None:
        """Look, again and again, until cancelled."""
        while True:
            try:
                await self.look()
            except Exception as error:  # the database is away: somebody else tells so
                _log.warning("orders could not be counted", error=type(error).__name__)
            await asyncio.sleep(_EVERY)

    async def look(self) -> Found:
        """Look once: metrics, alarms; counters of limits that are of no more use are forgotten."""
        now = self._clock()
        found = await self._store.look(self._read, now)
        for state, count in found.counts.items():
            _open.labels(state).set(count)
        _unknown.set(found.unknown)
        _reversal_age.set(_seconds(found.reversal_age))
        _waiting_age.set(_seconds(found.unacknowledged_age))
        _most_attempts.set(found.attempts)
        self._judge(found)
        await self._store.writer.run(lambda connection: forget(connection, now - _COUNTERS_KEPT))
        return found

    def _read(self, now: datetime) -> Found:
        with self._store.reading() as connection:
            return look(connection, now, self._connectors)

    def _judge(self, found: Found) -> None:
        alarms = self._alarms
        figures: dict[str, tuple[float, float]] = {
            "unknown outcomes": (found.unknown, alarms.unknown),
            "age of the oldest reversal, seconds": (
                _seconds(found.reversal_age),
                alarms.reversal_age.total_seconds(),
            ),
            "attempts of one reversal": (found.attempts, alarms.attempts),
            "reversals that a person must look at": (found.counts[OrderState.REV_FAILED], alarms.failed),
            "reversals whose connector is not in the settings": (found.homeless, 1),
        }
        passed = {what for what, (figure, threshold) in figures.items() if figure >= threshold}
        for what in figures:
            _alarmed.labels(what).set(what in passed)
        for what in sorted(passed - self._passed):
            figure, threshold = figures[what]
            _log.error("look at the orders", what=what, figure=figure, threshold=threshold, alarm=True)
        self._passed = passed


def _seconds(age: timedelta | None) -> float:
    return 0.0 if age is None else age.total_seconds()
