"""Days, moments and numbers as people type them: a day of either calendar, digits of any script."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, date, datetime, time
from typing import Final

import typer

from cli import output
from runtime.language import Message
from shetab.errors import ValueFormatError
from shetab.jalali import to_gregorian

_DAY: Final = re.compile(r"([0-9]{4})[-/]([0-9]{1,2})[-/]([0-9]{1,2})", re.ASCII)
_MOMENT: Final = re.compile(r"(\S+?)(?:[T ]+([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?)?", re.ASCII)
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,18}", re.ASCII)
_LAST_JALALI: Final = 1599
"""Years up to here are of the Jalali calendar, those after it of the Gregorian: neither reaches the other's here."""

HELP: Final = "2026-03-21, or of the Jalali calendar 1405/01/01."


def business_day(text: str | date) -> date:
    """The day that `text` names; typer's `parser`.

    :raises typer.BadParameter: it names none.
    """
    if isinstance(text, date):
        return text
    found = _DAY.fullmatch(plain_digits(text.strip()))
    if found is None:
        raise typer.BadParameter(_told())
    year, month, day = map(int, found.groups())
    try:
        return to_gregorian(year, month, day) if year <= _LAST_JALALI else date(year, month, day)
    except (ValueFormatError, ValueError):
        raise typer.BadParameter(_told()) from None


def moment(text: str | datetime) -> datetime:
    """The moment (aware, UTC) that `text` names: the beginning of a day, or its hour and minute; typer's `parser`.

    :raises typer.BadParameter: it names none.
    """
    if isinstance(text, datetime):
        return text
    found = _MOMENT.fullmatch(plain_digits(text.strip()))
    if found is None:
        raise typer.BadParameter(_told())
    day, hour, minute, second = found.groups(default="0")
    try:
        at = time(int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError:
        raise typer.BadParameter(_told()) from None
    return datetime.combine(business_day(day), at)


def whole(text: str | int) -> int:
    """The whole number that `text` says, with its sign, in digits of any script; typer's `parser`.

    :raises typer.BadParameter: it says none.
    """
    if isinstance(text, int):
        return text
    if not _INTEGER.fullmatch(written := plain_digits(text.strip())):
        raise typer.BadParameter(output.said(Message("a whole number is expected, without separators")))
    return int(written)


def number(text: str | int) -> int:
    """As `whole`, of what is numbered from 1.

    :raises typer.BadParameter: it says none.
    """
    if not 1 <= (found := whole(text)) < 2**31:
        raise typer.BadParameter(output.said(Message("numbers begin with 1")))
    return found


def plain_digits(text: str) -> str:
    """`text` with the digits of every script as 0 to 9."""
    return "".join(str(unicodedata.decimal(each, each)) for each in text)


def _told() -> str:
    return output.said(Message("a day is YYYY-MM-DD, or of the Jalali calendar YYYY/MM/DD"))
