"""What has not come to its end: orders by state, business days, differences and payouts. Counted from the database, so
replicas agree.

Only rows of open states are looked at, by index: the cost does not grow with the orders that are done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from prometheus_client import Gauge
from sqlalchemy import Connection, and_, exists, func, select

from gateway.acquirer.payout import PayoutState
from gateway.acquirer.tables import differences, payouts
from gateway.schema import orders, reconciliations
from gateway.settling.days import DayState
from gateway.states import OrderState
from gateway.store import OrderStore

OPEN: Final = (
    OrderState.RECEIVED,
    OrderState.VERIFIED,
    OrderState.SENT,
    OrderState.APPROVED,
    OrderState.UNKNOWN,
    OrderState.REV_QUEUED,
    OrderState.REV_FAILED,
)
"""States in which somebody or something still has to act."""
_days: Final = Gauge("kwbp_gateway_open_days_count", "Business days of merchants that are not closed")
_overdue: Final = Gauge(
    "kwbp_gateway_open_day_overdue_seconds", "How long the oldest open day has been over for the network"
)
_differences: Final = Gauge(
    "kwbp_gateway_open_differences_count", "Differences between the networks' lists and our books that nobody decided"
)
_returned: Final = Gauge(
    "kwbp_gateway_returned_payouts_count", "Payouts that the bank returned and that were not made again"
)
_unanswered: Final = Gauge(
    "kwbp_gateway_oldest_unanswered_payout_seconds",
    "How long ago the oldest payout was sent that the bank is silent on",
)


@dataclass(frozen=True, slots=True)
class OpenWork:
    """`orders` by state, with the time at which the oldest of each got there."""

    orders: Mapping[OrderState, int]
    since: Mapping[OrderState, datetime]
    days: int
    oldest_day: date | None
    over_since: datetime | None
    differences: int
    returned_payouts: int
    unanswered_since: datetime | None


async def open_work(store: OrderStore, now: datetime) -> OpenWork:
    """Count, and set the metrics of days and of the acquirer's money (those of orders: `gateway.operating`).

    :raises DatabaseUnavailableError: it cannot be read.
    """

    def counted() -> OpenWork:
        with store.reading() as connection:
            return _counted(connection)

    found = await store.look(counted)
    _days.set(found.days)
    _overdue.set(_age(found.over_since, now))
    _differences.set(found.differences)
    _returned.set(found.returned_payouts)
    _unanswered.set(_age(found.unanswered_since, now))
    return found


def _age(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())


def _counted(connection: Connection) -> OpenWork:
    columns = orders.c
    by_state = (
        select(columns.state, func.count().label("number"), func.min(columns.changed_at).label("since"))
        .where(columns.state.in_(OPEN))
        .group_by(columns.state)
    )
    rows = {OrderState(row.state): row for row in connection.execute(by_state)}
    open_days = reconciliations.c.state == DayState.OPEN
    days = connection.execute(
        select(func.count().label("number"), func.min(reconciliations.c.business_day).label("oldest")).where(open_days)
    ).one()
    over = select(func.min(reconciliations.c.over_at)).where(and_(open_days, reconciliations.c.over_at.is_not(None)))
    return OpenWork(
        orders={state: row.number for state, row in rows.items()},
        since={state: row.since for state, row in rows.items()},
        days=days.number,
        oldest_day=None if days.oldest is None else date.fromisoformat(days.oldest),
        over_since=connection.execute(over).scalar_one(),
        differences=connection.execute(
            select(func.count()).select_from(differences).where(differences.c.state == "OPEN")
        ).scalar_one(),
        returned_payouts=_returned_payouts(connection),
        unanswered_since=connection.execute(
            select(func.min(payouts.c.sent_at)).where(payouts.c.state == PayoutState.SENT)
        ).scalar_one(),
    )


def _returned_payouts(connection: Connection) -> int:
    later = payouts.alias()
    same = and_(later.c.merchant_id == payouts.c.merchant_id, later.c.business_day == payouts.c.business_day)
    again = exists().where(same, later.c.attempt > payouts.c.attempt)
    waiting = and_(payouts.c.state == PayoutState.RETURNED, ~again)
    return connection.execute(select(func.count()).select_from(payouts).where(waiting)).scalar_one()
