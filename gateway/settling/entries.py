"""Puts a movement of a merchant's money into the book, with the business day to be reconciled for it.

A day that was closed is over for the network, so nothing should come into it any more. If something does (a network
that was cut back to an earlier day), it is entered all the same, nothing may be lost; the operator is told, and the
day is compared again. If its books are made up already, the merchant is advised and paid of it with a later day, and
what the network pays for it is booked when the comparison agrees (`gateway.acquirer.network_pay`).
"""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import ColumnElement, Connection, and_, insert, select, update

from gateway.acquirer import stated
from gateway.acquirer.journal import post, post_movement
from gateway.acquirer.own_movements import settle_shown
from gateway.acquirer.tables import finished_days
from gateway.order import Order
from gateway.routing import SWITCH
from gateway.schema import entries, merchants, reconciliations
from gateway.settling.days import OLDEST, DayState, day_to_enter, end_of
from kwbp.common import instant
from kwbp.settling import Entry
from runtime.after_commit import after_commit
from runtime.database import insert_new
from runtime.logging import get_logger

_log = get_logger("gateway.entries")


def entering(connection: Connection, merchant_id: str) -> None:
    """What comes now into this merchant's book is there before the next sum of it, or after it: no sum is made now.

    Part of a transaction that enters something, or dates what will be entered; to be called before it touches a row.
    """
    _hold(connection, merchant_id, shared=True)


def summing(connection: Connection, merchant_id: str) -> None:
    """Until the end of the transaction nothing comes into this merchant's book; to be called before it is read."""
    _hold(connection, merchant_id, shared=False)


def _hold(connection: Connection, merchant_id: str, *, shared: bool) -> None:
    # SQLite has one transaction that writes. FOR NO KEY UPDATE leaves alone orders that come in for the merchant.
    if connection.dialect.name == "postgresql":
        this = select(merchants.c.merchant_id).where(merchants.c.merchant_id == merchant_id)
        connection.execute(this.with_for_update(read=True) if shared else this.with_for_update(key_share=True))


def enter(connection: Connection, merchant_id: str, entry: Entry, day: date, route: str | None, now: datetime) -> None:
    """Part of the transaction that approves it; posts it to the ledger too.

    :param day: business day that the network counts it in (DE 15). :param route: of the order (`orders.route`).
    """
    route = route or SWITCH
    finished = is_finished(connection, merchant_id, day)
    connection.execute(
        insert(entries).values(
            h_answer=entry.h_answer,
            merchant_id=merchant_id,
            kind=int(entry.kind),
            xid=entry.xid,
            amount=entry.amount,
            date=instant(entry.date),
            business_day=day.isoformat(),
            route=route,
            settled_day=None if finished else day.isoformat(),
        )
    )
    post_movement(connection, merchant_id, route, entry, day, now)
    settle_shown(connection, entry.h_answer, merchant_id, route, day, now)
    watch(connection, merchant_id, day, route, end_of(day))
    _open_again(connection, merchant_id, day, route, now, finished=finished)


def enter_stated(connection: Connection, order: Order, now: datetime) -> None:
    """Part of the transaction in which persons say that a sale stays debited; its merchant's book is not touched."""
    if not stated.is_movement(order):
        return
    posting, route = stated.posting_of(connection, order), stated.route_of(order)
    day = day_to_enter(connection, order.settle_date, order.received_at)
    post(connection, [] if posting is None else [posting], now)
    stated.settle_differences(connection, order)
    watch(connection, order.merchant_id, day, route, end_of(day))
    finished = is_finished(connection, order.merchant_id, day)
    _open_again(connection, order.merchant_id, day, route, now, finished=finished)


def watch(connection: Connection, merchant_id: str, day: date, route: str, next_at: datetime) -> None:
    """Have the day reconciled from `next_at` on; a day that is watched already is left as it is."""
    values = {"merchant_id": merchant_id, "business_day": day.isoformat(), "route": route, "next_at": next_at}
    insert_new(connection, reconciliations, state=DayState.OPEN, attempts=0, **values)


def _open_again(
    connection: Connection, merchant_id: str, day: date, route: str, now: datetime, *, finished: bool
) -> None:
    columns = reconciliations.c
    this = and_(columns.merchant_id == merchant_id, columns.business_day == day.isoformat(), columns.route == route)
    state = connection.execute(select(columns.state).where(this).with_for_update()).scalar_one()
    told = {"merchant": merchant_id, "day": day.isoformat(), "route": route, "finished": finished}
    if day < (now - OLDEST).date():  # nobody else would say that it is never compared, so never paid
        event = "money moved in a business day that is too old to be compared"
        after_commit(connection, lambda: _log.error(event, **told, alarm=True))
    if state != DayState.CLOSED and not finished:
        return
    after_commit(connection, lambda: _log.error("money moved in a business day that is closed", **told, alarm=True))
    compare_anew(connection, this, now)


def compare_anew(connection: Connection, which: ColumnElement[bool], now: datetime) -> None:
    """These days are open, as if nobody had compared them: whether the network is past them is asked anew.

    What is under way now can become a movement of theirs too, so it is not enough that nothing of before is.
    """
    fresh = {"state": DayState.OPEN, "next_at": now, "attempts": 0, "over_at": None, "compared_at": None}
    connection.execute(update(reconciliations).where(which).values(fresh))


def is_finished(connection: Connection, merchant_id: str, day: date) -> bool:
    """Whether the day's books are made up (`gateway.acquirer.day_end`): nothing of it is added or paid any more."""
    columns = finished_days.c
    this = and_(columns.merchant_id == merchant_id, columns.business_day == day.isoformat())
    return connection.execute(select(columns.merchant_id).where(this)).first() is not None
