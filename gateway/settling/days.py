"""A merchant's business day: which one money counts in, when it ends, whether it is over."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from enum import StrEnum

from runtime.logging import get_logger
from shetab.errors import ValueFormatError
from shetab.jalali import IRAN_STANDARD_TIME, complete_date

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
    if settle_date is not None:
        try:
            return complete_date(settle_date, given)
        except ValueFormatError:
            _log.error("the network's settlement date is no day", settle_date=settle_date, alarm=True)
    return given.astimezone(IRAN_STANDARD_TIME).date()


def end_of(day: date) -> datetime:
    """The first instant after the calendar day in Iran."""
    return datetime.combine(day + timedelta(days=1), time(), IRAN_STANDARD_TIME)
