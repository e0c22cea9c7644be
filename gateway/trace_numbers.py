"""System trace audit numbers (DE 11) and retrieval reference numbers (DE 37).

A STAN is unique per acquirer and business day. The counter runs on over midnight, so that a message of 23:59 and one of
00:01 differ too, and wraps from 999999 to 000001; 000000 is never used. Coming round within one day would repeat a
number, so it is refused.

An RRN is unique for ten years: last digit of the year, day of the year, hour, STAN.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Final

from sqlalchemy import Connection, bindparam, select, update

from gateway.errors import StanExhaustedError
from gateway.schema import trace_numbers
from runtime.database import insert_new
from shetab.jalali import IRAN_STANDARD_TIME

_HIGHEST: Final = 999_999
FOR_WHAT_WAS_BEGUN: Final = 50_000
"""Numbers of a day that new orders leave to reversals, and to the line itself: money must go back, and links live."""

# Composed once: composing takes longer than asking SQLite does.
_THIS: Final = trace_numbers.c.acquirer == bindparam("this")
_LOCKED: Final = select(trace_numbers).where(_THIS).with_for_update()
_COUNTED: Final = (
    update(trace_numbers)
    .where(_THIS)
    .values(business_day=bindparam("today"), last=bindparam("new"), used=bindparam("number"))
)


def business_day(now: datetime) -> date:
    """The local calendar day of `now` (aware)."""
    return now.astimezone(IRAN_STANDARD_TIME).date()


def next_stan(connection: Connection, acquirer: str, now: datetime, *, kept: int = 0) -> str:
    """The next trace number of `acquirer`, six digits; part of the caller's transaction.

    :param kept: how many numbers of the day it leaves to others.
    :raises StanExhaustedError: all 999,999 numbers of the day are used, but for those.
    """
    day, this = business_day(now).isoformat(), {"this": acquirer}
    row = connection.execute(_LOCKED, this).one_or_none()
    if row is None:
        if insert_new(connection, trace_numbers, acquirer=acquirer, business_day=day, last=1, used=1):
            return "000001"
        row = connection.execute(_LOCKED, this).one()
    # A clock that was set back stays on the later day: going back could repeat that day's numbers.
    today = max(day, row.business_day)
    used = row.used + 1 if today == row.business_day else 1
    if used > _HIGHEST - kept:
        raise StanExhaustedError(f"acquirer {acquirer} has used all {_HIGHEST - kept} trace numbers of {today}")
    last = row.last % _HIGHEST + 1
    connection.execute(_COUNTED, this | {"today": today, "new": last, "number": used})
    return f"{last:06d}"


def rrn_for(stan: str, now: datetime) -> str:
    """The retrieval reference number that goes with `stan` at `now`: YDDDhhNNNNNN in local time, 12 digits."""
    return now.astimezone(IRAN_STANDARD_TIME).strftime("%Y%j%H")[3:] + stan
