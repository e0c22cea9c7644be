"""Puts a movement of a merchant's money into the book, with the business day to be reconciled for it."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

from sqlalchemy import Connection, insert
from sqlalchemy.dialects.sqlite import insert as insert_or_leave

from gateway.schema import entries, reconciliations
from gateway.settling.days import DayState
from kwbp.common import instant
from kwbp.settling import Entry
from shetab.jalali import IRAN_STANDARD_TIME


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


def watch(connection: Connection, merchant_id: str, day: date, next_at: datetime) -> None:
    """Have the day reconciled from `next_at` on; a day that is watched already is left as it is."""
    connection.execute(
        insert_or_leave(reconciliations)
        .values(merchant_id=merchant_id, business_day=day.isoformat(), state=DayState.OPEN, next_at=next_at, attempts=0)
        .on_conflict_do_nothing()
    )


def end_of(day: date) -> datetime:
    """The first instant after the calendar day in Iran."""
    return datetime.combine(day + timedelta(days=1), time(), IRAN_STANDARD_TIME)
