"""Sales that stay debited by the word of persons (DEBITED): the network has them, and pays for them.

Their merchant does not: it holds no approval, so they are no entry of its, and none of its days pays them out. What
the network pays is nobody's yet, and goes to suspense (`gateway.acquirer.ledger`), once: a sale that was taken into the
books as a difference before is there already.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, exists, func, select, update

from gateway.acquirer import ledger
from gateway.acquirer.matching import OwnMovement
from gateway.acquirer.tables import corrections, differences
from gateway.order import Order
from gateway.routing import SWITCH
from gateway.schema import orders
from gateway.settling.days import day_of, end_of
from gateway.states import OrderState
from gateway.translation import SALE

_AROUND: Final = timedelta(days=3)
"""The network's business day of an order is not further from the day it was received on."""
DEBIT: Final = "debit"
"""What a settlement list calls a sale."""


def is_movement(order: Order) -> bool:
    """Whether money moved: of a hold it did not."""
    return order.state is OrderState.DEBITED and order.mti == SALE


def route_of(order: Order) -> str:
    """The route that the order went by."""
    return order.route or SWITCH


def day_of_order(order: Order) -> date:
    """The business day that the network counts it in, as far as it has told."""
    return day_of(order.settle_date, order.received_at)


def all_of(connection: Connection, *where: ColumnElement[bool]) -> Iterator[Order]:
    """Every such sale for which `where` holds of its row of `orders`."""
    for row in connection.execute(select(orders).where(orders.c.state == OrderState.DEBITED, *where)):
        order = Order.of(row)
        if is_movement(order):
            yield order


def of_day(connection: Connection, route: str, day: date, merchant_id: str | None = None) -> Iterator[Order]:
    """Those that the network behind `route` counts in `day`, of one merchant or of all."""
    noon = end_of(day) - timedelta(hours=12)
    near: list[ColumnElement[bool]] = [orders.c.received_at.between(noon - _AROUND, noon + _AROUND)]
    if merchant_id is not None:
        near.append(orders.c.merchant_id == merchant_id)
    for order in all_of(connection, *near):
        if route_of(order) == route and day_of_order(order) == day:
            yield order


def own_movement(order: Order) -> OwnMovement:
    """As it is compared with the network's list."""
    numbers = order.stan or "", order.rrn or ""
    return OwnMovement(order.merchant_id, order.terminal_id, *numbers, DEBIT, order.amount, day_of_order(order))


def posting_of(connection: Connection, order: Order) -> ledger.Posting | None:
    """What the ledger says of it; None where a difference was corrected that is this sale, and stood so then."""
    before = and_(
        corrections.c.difference.in_(select(differences.c.number).where(_its_difference(order))),
        corrections.c.decided_at <= order.changed_at,  # what came later says nothing of this posting
    )
    if connection.execute(select(func.sum(corrections.c.excess)).where(before)).scalar_one():
        return None
    return ledger.stated(
        merchant_id=order.merchant_id,
        xid=order.xid,
        route=route_of(order),
        day=day_of_order(order),
        amount=order.amount,
    )


def settle_differences(connection: Connection, order: Order) -> None:
    """What a list showed as nobody's is this sale: nobody has to look at it any more."""
    booked = exists().where(corrections.c.difference == differences.c.number)
    waiting = and_(_its_difference(order), differences.c.state == "OPEN", ~booked)
    connection.execute(update(differences).where(waiting).values(state="GONE"))


def _its_difference(order: Order) -> ColumnElement[bool]:
    columns = differences.c
    return and_(
        columns.route == route_of(order),
        columns.merchant_id == order.merchant_id,
        columns.terminal_id == order.terminal_id,
        columns.stan == order.stan,
        columns.rrn == order.rrn,
        columns.movement == DEBIT,
        columns.own_amount.is_(None),  # missing or reversed here
    )
