"""A merchant's business day: which one money counts in, when it ends, whether it is over."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from enum import StrEnum
from functools import partial
from typing import Final

from sqlalchemy import Connection

from runtime.after_commit import after_commit
from runtime.logging import get_logger
from shetab.errors import ValueFormatError
from shetab.jalali import IRAN_STANDARD_TIME, settlement_date

OLDEST: Final = timedelta(days=150)
"""Days of longer ago are not compared any more: DE 15 has no year."""

_log = get_logger("gateway.days")


class DayState(StrEnum):
    """State of a merchant's business day; the value is what the database holds."""

    OPEN = "OPEN"
    CLOSED = "CLOSED"
    """Over, nothing of it is undecided, and gateway and switch have the same totals.

    An advice can be made of it; then it never changes again.
    """


def day_of(settle_date: str | None, given: datetime) -> date:
    """The business day of an approval that was dated `given`: its DE 15, else the day in Iran on which it was given.

    DE 15 may be no day of any year near ("0231"): the money has moved all the same, and must be entered.
    """
    return _said(settle_date, given) or given.astimezone(IRAN_STANDARD_TIME).date()


def day_to_enter(connection: Connection, settle_date: str | None, given: datetime) -> date:
    """As `day_of`, in the transaction that enters the money; the operator is told of a DE 15 that is no day."""
    if settle_date is not None and _said(settle_date, given) is None:
        told = {"settle_date": settle_date, "alarm": True}
        after_commit(connection, partial(_log.error, "the network's settlement date is no day", **told))
    return day_of(settle_date, given)


def _said(settle_date: str | None, given: datetime) -> date | None:
    try:
        return None if settle_date is None else settlement_date(settle_date, given)
    except ValueFormatError:
        return None


def end_of(day: date) -> datetime:
    """The first instant after the calendar day in Iran."""
    return datetime.combine(day + timedelta(days=1), time(), IRAN_STANDARD_TIME)
