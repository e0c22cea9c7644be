"""The network's business day (DE 15): which day a movement of money is counted in.

It is the calendar day in Iran, unless somebody at the counter has set it: a cut-over that comes early or late.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from shetab.jalali import IRAN_STANDARD_TIME
from switch.schema import business_days

_DAY: Final = select(business_days.c.day)


def current(connection: Connection, now: datetime) -> date:
    """The day that is open at `now` (aware)."""
    day = connection.execute(_DAY).scalar_one_or_none()
    return day or now.astimezone(IRAN_STANDARD_TIME).date()


def set_day(connection: Connection, day: date | None) -> None:
    """Cut over to `day`; None: follow the calendar again."""
    connection.execute(delete(business_days))
    if day is not None:
        connection.execute(insert(business_days).values(id=1, day=day))
