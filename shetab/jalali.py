"""Jalali dates, and dates that the link sends without a year.

Card expiry (DE 14) is YYMM of the Jalali calendar; DE 7, 13, 15 and 17 are Gregorian without a year. Both need a moment
`now` to be understood, which the caller passes. Iran has kept UTC+03:30 without summer time since September 2022.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Final

from shetab.errors import ValueFormatError
from shetab.types import Expiry, is_ascii_digits

IRAN_STANDARD_TIME: Final = timezone(timedelta(hours=3, minutes=30), "IRST")

_AHEAD: Final = timedelta(days=30)
_FIRST_YEAR, _LAST_YEAR = 1304, 1468
_ANCHOR_YEAR: Final = 1403
_ANCHOR: Final = date(2024, 3, 20)  # 1 Farvardin 1403


def _days_before(year: int) -> int:
    # The 33-year cycle of 8 leap years, which agrees with the astronomical calendar in the years we accept.
    return 365 * year + (8 * year + 21) // 33


def _new_year(year: int) -> date:
    return _ANCHOR + timedelta(days=_days_before(year) - _days_before(_ANCHOR_YEAR))


def to_gregorian(year: int, month: int, day: int) -> date:
    """Gregorian date of a Jalali date, years 1304 to 1468.

    :raises ValueFormatError: no such date.
    """
    if not (_FIRST_YEAR <= year <= _LAST_YEAR and 1 <= month <= 12 and 1 <= day <= days_in_month(year, month)):
        raise ValueFormatError("Jalali date", f"no such day in the years {_FIRST_YEAR} to {_LAST_YEAR}")
    before_month = 31 * (month - 1) - max(0, month - 7)
    return _new_year(year) + timedelta(days=before_month + day - 1)


def from_gregorian(day: date) -> tuple[int, int, int]:
    """Jalali (year, month, day) of a Gregorian date.

    :raises ValueFormatError: outside the years 1304 to 1468.
    """
    year = day.year - 621
    if day < _new_year(year):
        year -= 1
    if not _FIRST_YEAR <= year <= _LAST_YEAR:
        raise ValueFormatError("Jalali date", f"only the years {_FIRST_YEAR} to {_LAST_YEAR} are known")
    nth = (day - _new_year(year)).days
    month = nth // 31 + 1 if nth < 186 else (nth - 186) // 30 + 7
    return year, month, (day - to_gregorian(year, month, 1)).days + 1


def is_leap(year: int) -> bool:
    """True if Esfand of the Jalali year has 30 days."""
    return _days_before(year + 1) - _days_before(year) == 366


def days_in_month(year: int, month: int) -> int:
    """31 for Farvardin to Shahrivar, 30 for Mehr to Bahman, 29 or 30 for Esfand."""
    if month <= 6:
        return 31
    return 30 if month <= 11 or is_leap(year) else 29


def expires_at(expiry: Expiry, now: datetime) -> datetime:
    """First instant (aware, UTC) at which the card is no longer valid: the end of its month in Iran.

    The century is the one that puts the year within 50 years of `now`.
    """
    yy, month = int(expiry.reveal()[:2]), int(expiry.reveal()[2:])
    this_year = from_gregorian(_day_in_iran(now))[0]
    year = this_year - 50 + (yy - (this_year - 50)) % 100
    year, month = (year, month + 1) if month < 12 else (year + 1, 1)
    first = to_gregorian(year, month, 1)
    return datetime(first.year, first.month, first.day, tzinfo=IRAN_STANDARD_TIME).astimezone(UTC)


def has_expired(expiry: Expiry, now: datetime) -> bool:
    """True from the first instant after the card's last month."""
    return now >= expires_at(expiry, now)


def expiry_after(now: datetime, years: int) -> Expiry:
    """Expiry of a card issued now and valid for `years` Jalali years, through the present month."""
    year, month, _ = from_gregorian(_day_in_iran(now))
    return Expiry(f"{(year + years) % 100:02d}{month:02d}")


def complete_date(mmdd: str, now: datetime) -> date:
    """Gregorian date of DE 13, 15 or 17 (MMDD): the year that puts it nearest to `now` as seen in Iran.

    So 1231 read on 1 January is the day before, and 0101 read on 31 December the day after.

    :raises ValueFormatError: not four digits, or no such day in any year near.
    """
    if len(mmdd) != 4 or not is_ascii_digits(mmdd):
        raise ValueFormatError("date without year", "must be MMDD")
    return _nearest(int(mmdd[:2]), int(mmdd[2:]), _day_in_iran(now))


def local_moment(hhmmss: str, mmdd: str, near: datetime) -> datetime:
    """Moment (aware) of DE 12 and DE 13, with the year that puts it nearest to `near`.

    :raises ValueFormatError: no such moment.
    """
    day = complete_date(mmdd, near)
    try:
        return datetime.strptime(f"{day:%Y%m%d}{hhmmss}", "%Y%m%d%H%M%S").replace(tzinfo=IRAN_STANDARD_TIME)
    except ValueError:
        raise ValueFormatError("time of day", "must be hhmmss") from None


def settlement_date(mmdd: str, now: datetime) -> date:
    """Gregorian date of DE 15 of what is known at `now`: the latest such day that is not more than a month ahead.

    A network counts in a day that is open or near, but what it says of it may come late: an answer to a repeat tells
    the day of the first copy, months ago, which is nearer to the same day of next year.

    :raises ValueFormatError: not four digits, or no such day in the last eight years.
    """
    return latest_date(mmdd, now + _AHEAD)


def latest_date(mmdd: str, now: datetime) -> date:
    """Gregorian date of a day that has been (DE 13 of what was sent before): the latest such day, tomorrow included.

    So what was sent up to a year ago has its year; tomorrow is for clocks that are ahead of this one.

    :raises ValueFormatError: not four digits, or no such day in the last eight years.
    """
    if len(mmdd) != 4 or not is_ascii_digits(mmdd):
        raise ValueFormatError("date without year", "must be MMDD")
    return _latest(int(mmdd[:2]), int(mmdd[2:]), _day_in_iran(now))


def complete_transmission_time(text: str, now: datetime, *, past: bool = False) -> datetime:
    """Moment (aware, UTC) of DE 7 (MMDDhhmmss in UTC), with the year that puts it nearest to `now`.

    With `past`, the moment has been: it is the latest such one, as in `latest_date`.

    :raises ValueFormatError: not ten digits, or no such moment.
    """
    if len(text) != 10 or not is_ascii_digits(text):
        raise ValueFormatError("time without year", "must be MMDDhhmmss")
    day = (_latest if past else _nearest)(int(text[:2]), int(text[2:4]), now.astimezone(UTC).date())
    hour, minute, second = int(text[4:6]), int(text[6:8]), int(text[8:])
    if hour > 23 or minute > 59 or second > 59:
        raise ValueFormatError("time without year", "must be MMDDhhmmss")
    return datetime(day.year, day.month, day.day, hour, minute, second, tzinfo=UTC)


def transmission_time(now: datetime) -> str:
    """DE 7: MMDDhhmmss in UTC."""
    return now.astimezone(UTC).strftime("%m%d%H%M%S")


def local_time_and_date(now: datetime) -> tuple[str, str]:
    """DE 12 (hhmmss) and DE 13 (MMDD) in Iran."""
    local = now.astimezone(IRAN_STANDARD_TIME)
    return local.strftime("%H%M%S"), local.strftime("%m%d")


def _day_in_iran(now: datetime) -> date:
    return now.astimezone(IRAN_STANDARD_TIME).date()


def _latest(month: int, day: int, today: date) -> date:
    last = today + timedelta(days=1)
    for year in range(last.year, last.year - 9, -1):  # 29 February may be eight years ago
        try:
            found = date(year, month, day)
        except ValueError:
            continue
        if found <= last:
            return found
    raise ValueFormatError("date without year", "no such day in the last eight years")


def _nearest(month: int, day: int, today: date) -> date:
    candidates = []
    for year in (today.year - 1, today.year, today.year + 1):
        try:
            candidates.append(date(year, month, day))
        except ValueError:  # 29 February, or no such day at all
            continue
    if not candidates:
        raise ValueFormatError("date without year", "no such day in this year or its neighbours")
    return min(candidates, key=lambda candidate: abs(candidate - today))
