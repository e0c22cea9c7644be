"""Lists of orders for operators: newest first, page by page, by state, merchant and time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, or_, select

from gateway.errors import OrderCommandError
from gateway.operating.history import Step, steps_of
from gateway.operating.tables import resolutions
from gateway.order import Order, OrderKey
from gateway.schema import merchants, orders
from gateway.states import OrderState
from runtime.language import Message

MOST: Final = 500
"""Orders of one page."""
_COLUMNS: Final = (
    *(orders.c.merchant_id, orders.c.xid, orders.c.kind, orders.c.state, orders.c.amount, orders.c.received_at),
    *(orders.c.changed_at, orders.c.masked_pan, orders.c.rc, orders.c.route, orders.c.reversal_reason),
    *(orders.c.reversal_attempts, orders.c.reversal_next_at, orders.c.reversal_rc),
)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which orders: in `state`, of `merchant_id`, received from `since` on and before `until`, all of them if None.

    `after` is the last order (when it was received, its XID) of the page before.
    """

    state: OrderState | None = None
    merchant_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    after: tuple[datetime, bytes] | None = None
    limit: int = 50


def listed(connection: Connection, selection: Selection) -> list[Row[Any]]:
    """Rows of what a list shows, newest first, at most `limit`."""
    wanted = []
    if selection.state is not None:
        wanted.append(orders.c.state == selection.state)
    if selection.merchant_id is not None:
        wanted.append(orders.c.merchant_id == selection.merchant_id)
    if selection.since is not None:
        wanted.append(orders.c.received_at >= selection.since)
    if selection.until is not None:
        wanted.append(orders.c.received_at < selection.until)
    if selection.after is not None:
        at, xid = selection.after
        wanted.append(orders.c.received_at <= at)  # for the index, which has no XID
        wanted.append(or_(orders.c.received_at < at, and_(orders.c.received_at == at, orders.c.xid < xid)))
    newest = (orders.c.received_at.desc(), orders.c.xid.desc())
    return list(connection.execute(select(*_COLUMNS).where(*wanted).order_by(*newest).limit(selection.limit)))


def key_of(connection: Connection, xid: bytes, merchant_id: str | None) -> OrderKey | None:
    """The key of an order by its XID, None if there is none; two merchants may have one of the same XID.

    :raises OrderCommandError: they have, and the merchant was not named.
    """
    known = select(merchants.c.merchant_id)
    if merchant_id is not None:
        known = known.where(merchants.c.merchant_id == merchant_id)
    query = select(orders.c.merchant_id, orders.c.kind).where(orders.c.merchant_id.in_(known), orders.c.xid == xid)
    found = connection.execute(query).all()
    if len(found) > 1:
        raise OrderCommandError("XID", Message("more than one merchant has an order of this XID: name the merchant"))
    return OrderKey(found[0].merchant_id, xid, found[0].kind) if found else None


@dataclass(frozen=True, slots=True)
class Life:
    """An order, its steps, and what persons stated of its last reversal (a row of `resolutions`)."""

    order: Order
    steps: list[Step]
    stated: Row[Any] | None


def life_of(connection: Connection, order: Order) -> Life:
    """All that is known of how the order came to be what it is."""
    mine = (
        resolutions.c.merchant_id == order.merchant_id,
        resolutions.c.xid == order.xid,
        resolutions.c.kind == order.kind,
        resolutions.c.reversal == order.reversal_number,
    )
    stated = connection.execute(select(resolutions).where(*mine)).one_or_none()
    return Life(order, steps_of(connection, order), stated)
