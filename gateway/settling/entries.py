"""Puts a movement of a merchant's money into the book, with the business day to be reconciled for it.

A day that was closed is over for the network, so nothing should come into it any more. If something does (a network
that was cut back to an earlier day), it is entered all the same, nothing may be lost; the operator is told, and a day
that was not advised yet is compared again.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

from sqlalchemy import Connection, and_, insert, select, update
from sqlalchemy.dialects.sqlite import insert as insert_or_leave

from gateway.schema import advices, entries, reconciliations
from gateway.settling.days import DayState
from kwbp.common import instant
from kwbp.settling import Entry
from runtime.logging import get_logger
from shetab.errors import ValueFormatError
from shetab.jalali import IRAN_STANDARD_TIME, complete_date

_log = get_logger("gateway.entries")


def day_of(settle_date: str | None, given: datetime) -> date:
    """The business day of an approval that was dated `given`: its DE 15, else the day in Iran on which it was given.

    DE 15 may be no day of any year near ("0231"): the money has moved all the same, and must be entered.
    """
    if settle_date is not None:
        try:
            return complete_date(settle_date, given)
        except ValueFormatError:
            _log.error("the network's settlement date is no day", settle_date=settle_date, alarm=True)
    return given.astimezone(IRAN_STANDARD_TIME).date()


def enter(connection: Connection, merchant_id: str, entry: Entry, day: date) -> None:
    """Part of the transaction that approves it. :param day: business day that the network counts it in (DE 15)."""
    connection.execute(
        insert(entries).values(
            h_answer=entry.h_answer,
            merchant_id=merchant_id,
            kind=int(entry.kind),
            xid=entry.xid,
            amount=entry.amount,
            date=instant(entry.date),
            business_day=day.isoformat(),
        )
    )
    watch(connection, merchant_id, day, end_of(day))
    _open_again(connection, merchant_id, day)


def watch(connection: Connection, merchant_id: str, day: date, next_at: datetime) -> None:
    """Have the day reconciled from `next_at` on; a day that is watched already is left as it is."""
    connection.execute(
        insert_or_leave(reconciliations)
        .values(merchant_id=merchant_id, business_day=day.isoformat(), state=DayState.OPEN, next_at=next_at, attempts=0)
        .on_conflict_do_nothing()
    )


def _open_again(connection: Connection, merchant_id: str, day: date) -> None:
    this = and_(reconciliations.c.merchant_id == merchant_id, reconciliations.c.business_day == day.isoformat())
    if connection.execute(select(reconciliations.c.state).where(this)).scalar_one() != DayState.CLOSED:
        return
    mine = and_(advices.c.merchant_id == merchant_id, advices.c.business_day == day.isoformat())
    advised = connection.execute(select(advices.c.part).where(mine).limit(1)).first() is not None
    told = {"merchant": merchant_id, "day": day.isoformat(), "advised": advised}
    _log.error("money moved in a business day that is closed", **told, alarm=True)
    if not advised:
        connection.execute(update(reconciliations).where(this).values(state=DayState.OPEN))


def end_of(day: date) -> datetime:
    """The first instant after the calendar day in Iran."""
    return datetime.combine(day + timedelta(days=1), time(), IRAN_STANDARD_TIME)
